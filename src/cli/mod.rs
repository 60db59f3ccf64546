//! What does the command line do with a verb, and how does it end?
//!
//! Invariants: results go to stdout and everything else to stderr; the exit code tells whose turn it is (0 done, 1 the
//! world's fault, 2 the caller's, 3 ours, 4 partly done); verbs know the library's public API and not each other.

mod add;
mod args;
mod bench;
mod collections;
mod distill;
mod documents;
mod embed;
mod embed_columns;
mod eval;
mod export;
mod filter_hints;
mod hub;
mod import;
mod intake;
mod latency;
mod mcp;
mod models;
mod operate;
mod output;
mod passage;
mod pictures;
mod progress;
mod reembed;
mod rerank;
mod sample;
mod search;
mod serve;
mod session;
mod sources;
mod watch;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use quiverdb::Blame;

use self::args::{Arguments, Verb};
use self::output::{Format, Output, note};
use self::session::{Mistake, Outcome, Session};

/// Reads the command line, does what it asks, and returns the exit code.
pub(crate) fn run() -> ExitCode {
    let parsed = Arguments::command()
        .try_get_matches()
        .and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, matches.value_source("db"))));
    let (arguments, path_from) = match parsed {
        Ok(parsed) => parsed,
        Err(usage) => return explain_usage(&usage),
    };
    let format = match (arguments.json, arguments.jsonl) {
        (true, _) => Format::Json,
        (false, true) => Format::Jsonl,
        (false, false) => Format::People,
    };
    let session = Session {
        path: arguments.db,
        path_is_given: path_from == Some(ValueSource::CommandLine),
        output: Output { format },
        runtime: arguments.runtime.runtime(),
        embedding_cache: arguments.embedding_cache,
    };
    hub::show_fetching();
    // A panic over damaged pages is caught below and becomes an error; only one that arrives here is told.
    std::panic::set_hook(Box::new(|_| {}));
    match catch_unwind(AssertUnwindSafe(|| dispatch(&session, arguments.verb))) {
        Ok(Ok(outcome)) => ExitCode::from(outcome.code()),
        Ok(Err(error)) => ExitCode::from(explain(&error)),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
            ExitCode::from(explain(&anyhow::anyhow!("this is a bug in quiver, please report it: {text}")))
        }
    }
}

fn dispatch(session: &Session, verb: Verb) -> anyhow::Result<Outcome> {
    match verb {
        Verb::Search(arguments) => search::run(session, &arguments),
        Verb::Add(arguments) => add::run(session, &arguments),
        Verb::Get(arguments) => documents::get(session, &arguments),
        Verb::Delete(arguments) => documents::delete(session, &arguments),
        Verb::Collections(arguments) => collections::run(session, arguments.verb),
        Verb::Stats => operate::stats(session),
        Verb::Check { repair } => operate::check(session, repair),
        Verb::Compact { drop_cache } => operate::compact(session, drop_cache),
        Verb::Dump => operate::dump(session),
        Verb::Backup { folder } => operate::backup(session, &folder),
        Verb::Restore { folder, replace } => operate::restore(session, &folder, replace),
        Verb::Embed(arguments) => embed::run(session, &arguments),
        Verb::Rerank(arguments) => rerank::run(session, &arguments),
        Verb::Models(arguments) => models::run(session, arguments.verb),
        Verb::Eval(arguments) => eval::run(session, &arguments),
        Verb::Bench(arguments) => bench::run(session, &arguments.verb),
        Verb::Import(arguments) => import::run(session, &arguments),
        Verb::Export(arguments) => export::run(session, &arguments),
        Verb::Reembed(arguments) => reembed::run(session, &arguments),
        Verb::Serve(arguments) => serve::run(session, &arguments),
        Verb::Mcp(arguments) => mcp::run(session, arguments),
    }
}

/// Help and version are results (0); everything else that clap has to say is a mistake of the caller's (2).
fn explain_usage(usage: &clap::Error) -> ExitCode {
    // Where even that cannot be printed, the exit code has to do.
    let _ = usage.print();
    ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
}

/// Says what went wrong and returns the exit code of whose fault it is.
fn explain(error: &anyhow::Error) -> u8 {
    if is_closed_pipe(error) {
        return 0;
    }
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // A transparent error and its source read the same.
        if !message.contains(&text) {
            message = if message.is_empty() { text } else { format!("{message}: {text}") };
        }
    }
    let (red, plain) = (output::ERROR.render(), output::ERROR.render_reset());
    note(&format!("{red}error:{plain} {}", message.trim_end().replace('\n', " ")));
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<Mistake>()?.hint.as_deref());
    if let Some(hint) = hint.or_else(|| error.chain().find_map(|cause| way_out(cause.downcast_ref()?))) {
        note(&format!("hint: {hint}"));
    }
    exit_code(error)
}

/// Which options would help where the library can name none.
fn way_out(error: &quiverdb::Error) -> Option<&'static str> {
    matches!(error, quiverdb::Error::ModelMismatch { .. }).then_some(
        "leave out --model, choose another collection with -c NAME, or change its model: quiver reembed --model M",
    )
}

fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<quiverdb::Error>() {
            return match error.blame() {
                Blame::World => 1,
                Blame::Caller => 2,
                Blame::Ours => 3,
            };
        }
        if cause.is::<Mistake>() {
            return 2;
        }
        if cause.is::<std::io::Error>() {
            return 1;
        }
    }
    3
}

/// `quiver ... | head` closes our stdout early; that is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |cause: &std::io::Error| cause.kind() == ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_whose_fault_it_is() {
        let world = anyhow::Error::from(std::io::Error::from(ErrorKind::PermissionDenied)).context("reading");
        assert_eq!(exit_code(&world), 1);
        assert_eq!(exit_code(&anyhow::Error::from(Mistake::new("no such thing"))), 2);
        assert_eq!(exit_code(&anyhow::Error::from(quiverdb::Error::InvalidInput("k".into()))), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("a bug")), 3);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let closed = anyhow::Error::from(std::io::Error::from(ErrorKind::BrokenPipe)).context("writing");
        assert!(is_closed_pipe(&closed));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
