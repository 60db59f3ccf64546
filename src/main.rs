//! The `quiver` command: flags -> config -> db.
//!
//! Everything it does, the library does; this program only reads flags, shows results and turns errors into exit
//! codes.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
