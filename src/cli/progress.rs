//! What does a person see while waiting, and how is the work stopped?
//!
//! Bars are drawn on stderr, and only where that is a terminal. Ctrl-C lets the batch at hand finish; a second one ends
//! the process at once, as does the first where nothing listens.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Ctrl-C was pressed.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Listens for Ctrl-C from now on and returns the flag that it sets.
pub(crate) fn stop_on_ctrl_c() -> &'static AtomicBool {
    // Should there be no handler to install, Ctrl-C ends the process at once, which loses no committed document.
    let _ = ctrlc::set_handler(|| {
        if STOPPED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    &STOPPED
}

/// Whether Ctrl-C was pressed.
pub(crate) fn is_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// No more batches come: the next Ctrl-C ends the process at once.
pub(crate) fn stop_listening() -> bool {
    STOPPED.swap(true, Ordering::Relaxed)
}

/// A line that says how far work of unknown length has come.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    let bar = bar(None);
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar for `total` steps.
pub(crate) fn steps(total: u64, message: &str) -> ProgressBar {
    let bar = bar(Some(total));
    bar.set_message(message.to_owned());
    bar
}

/// A bar for bytes that come over the network.
#[cfg(feature = "hub")]
pub(crate) fn bytes(total: u64) -> ProgressBar {
    let bar = bar(Some(total));
    match ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let template = match total {
        Some(_) => "{msg} {bar:30} {human_pos}/{human_len} {eta}",
        None => "{spinner} {msg} {elapsed}",
    };
    let bar = ProgressBar::with_draw_target(total, target);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
