//! Does the `quiver` command keep its contract? Verbs, exit codes, JSON shapes; results on stdout, all else on stderr.

mod adding;
mod benches;
mod exporting;
mod folders;
#[cfg(feature = "parquet")]
mod importing;
mod pictures;
mod reembed;
mod upkeep;
mod verbs;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::scenes::{folder, long_text};

/// A working directory with the command in it; the database is `quiver.db` unless an argument says otherwise.
struct Shell {
    folder: tempfile::TempDir,
}

/// What a command printed and how it ended.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
    line: String,
}

impl Shell {
    fn new() -> Self {
        Self { folder: folder() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quiver"));
        command.args(arguments).current_dir(self.folder.path());
        command.env_remove("QUIVER_DB").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap(), arguments)
    }

    fn feed(&self, arguments: &[&str], input: &str) -> Run {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Run::of(child.wait_with_output().unwrap(), arguments)
    }

    /// The JSON value that a command prints when all is well.
    fn json(&self, arguments: &[&str]) -> Value {
        self.run(arguments).expect(0).json()
    }

    /// Three files in the folder `docs`, one of them in a folder below.
    fn write_docs(&self) {
        self.write("docs/bread.md", "# Bread\n\nLet the dough rise overnight, then bake it in a hot oven.\n");
        self.write("docs/rust/threads.md", "# Threads\n\nShare data between threads with a mutex or a channel.\n");
        self.write("docs/ice.txt", long_text("glaciers", 12));
    }
}

impl Run {
    fn of(output: std::process::Output, arguments: &[&str]) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command prints UTF-8");
        let code = output.status.code().expect("the command ends by itself");
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr), line: arguments.join(" ") }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "quiver {}\n{}{}", self.line, self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "quiver {}\n{}", self.line, self.stderr);
        self
    }

    /// Refused: nothing on stdout, and these words on stderr.
    #[track_caller]
    fn expect_refusal(self, code: i32, words: &[&str]) {
        let run = self.expect(code);
        assert_eq!(run.stdout, "", "quiver {} printed a result and failed", run.line);
        for word in words {
            assert!(run.stderr.contains(word), "quiver {} does not say `{word}`: {}", run.line, run.stderr);
        }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("quiver {} printed no JSON ({error}): {}", self.line, self.stdout))
    }

    #[track_caller]
    fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The names of an object's fields, in their order.
fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

#[track_caller]
fn expect_fields(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "`{name}` is missing in {value}");
    }
}

fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
