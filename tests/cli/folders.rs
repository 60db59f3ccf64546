//! Are folders of all kinds of files read, and kept in step?

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Shell;

/// Copies the fixtures into the folder `docs`.
fn write_documents(shell: &Shell) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents");
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        shell.write(&format!("docs/{}", entry.file_name().to_str().unwrap()), fs::read(entry.path()).unwrap());
    }
}

#[test]
fn a_folder_of_all_kinds_is_searched() {
    let shell = Shell::new();
    write_documents(&shell);
    shell.write(
        "docs/main.rs",
        "/// Weighs a whale in tonnes.\nfn weigh(whale: &Whale) -> f64 {\n    whale.mass / 1e3\n}\n",
    );
    let report = shell.run(&["add", "docs", "--json"]).expect(4).json();
    let rejected: Vec<&str> =
        report["rejected"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    let pdfs_read = cfg!(feature = "pdf");
    assert_eq!(rejected.len(), if pdfs_read { 2 } else { 3 }, "{report:#}");
    let expected = if pdfs_read { ["encrypted", "text recognition"] } else { ["--features pdf"; 2] };
    assert!(expected.iter().all(|words| rejected.iter().any(|reason| reason.contains(words))), "{rejected:?}");
    let best = |query: &str| shell.json(&["search", query, "--json", "-k", "1"])["hits"][0].clone();
    for (query, id, media_type, words) in [
        ("what do polyps build?", "reef.html", "text/html", "Coral reefs"),
        (
            "how is malt dried?",
            "beer.docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "Malt",
        ),
        ("a hive of honey, the harvest in kg", "bees.odt", "application/vnd.oasis.opendocument.text", "queen"),
        (
            "rainfall millimetres",
            "rain.xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "2024-02-29",
        ),
        ("keeper lit the lamp", "lighthouse.epub", "application/epub+zip", "dusk"),
        ("weigh a whale", "main.rs", "text/x-rust", "fn weigh"),
    ] {
        let hit = best(query);
        assert_eq!((&hit["document"], &hit["metadata"]["media_type"]), (&json!(id), &json!(media_type)), "{query}");
        assert!(hit["text"].as_str().unwrap().contains(words), "{hit:#}");
    }
    let lava = best("runny lava flows far");
    assert_eq!(
        (&lava["document"], &lava["page"], &lava["heading"]),
        (&json!("volcano.pptx"), &json!(2), &json!("Lava"))
    );
    let shown = shell.run(&["search", "runny lava flows far", "-k", "1"]).expect(0).stdout;
    assert!(shown.contains("volcano.pptx, page 2"), "{shown}");
    let shown = shell.run(&["search", "what do polyps build?", "-k", "1"]).expect(0).stdout;
    assert!(shown.contains(" reef.html  "), "a line of a page that was converted: {shown}");
    let by_language = shell.json(&["search", "whale", "--filter", "language = 'rust'", "--json"]);
    assert_eq!(by_language["hits"].as_array().unwrap().len(), 1);
    assert_eq!(shell.run(&["add", "docs", "--json"]).expect(4).json()["chunks_embedded"], 0);
}

#[cfg(feature = "pdf")]
#[test]
fn passages_of_a_pdf_know_their_page() {
    let shell = Shell::new();
    write_documents(&shell);
    shell.run(&["collections", "create", "default", "--chunk-tokens", "32", "--chunk-overlap", "0"]).expect(0);
    shell.run(&["add", "docs/tides.pdf"]).expect(0);
    let hit = shell.json(&["search", "spring tide sun and moon in line", "--json", "-k", "1"])["hits"][0].clone();
    assert_eq!(
        (&hit["page"], &hit["title"], &hit["metadata"]["pages"]),
        (&json!(2), &json!("Tides – a primer"), &json!(2))
    );
}

#[test]
fn a_renamed_file_keeps_its_passages_and_loses_its_old_name() {
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs"]).expect(0);
    fs::rename(shell.path("docs/bread.md"), shell.path("docs/rust/baking.md")).unwrap();
    fs::rename(shell.path("docs/rust"), shell.path("docs/all")).unwrap();
    let report = shell.json(&["add", "docs", "--sync", "--json"]);
    assert_eq!((&report["added"], &report["removed"], &report["unchanged"]), (&json!(2), &json!(2), &json!(1)));
    shell.run(&["get", "all/baking.md", "all/threads.md", "ice.txt"]).expect(0);
    shell.run(&["get", "bread.md"]).expect_refusal(2, &["bread.md"]);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_listed_and_not_taken_for_gone() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    let shell = Shell::new();
    shell.write_docs();
    shell.run(&["add", "docs"]).expect(0);
    let closed = shell.path("docs/ice.txt");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(shell.path("docs").join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "x").unwrap();
    symlink(shell.path("docs"), shell.path("docs/rust/loop")).unwrap();
    let is_root = fs::read(&closed).is_ok();
    let report = shell.run(&["add", "docs", "--sync", "--json"]).expect(4).json();
    assert_eq!(report["removed"], 0, "{report:#}");
    assert_eq!(report["rejected"].as_array().unwrap().len(), if is_root { 2 } else { 3 }, "{report:#}");
    shell.run(&["get", "ice.txt"]).expect(0);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn named_files_of_a_kind_that_is_never_taken_are_rejections() {
    let shell = Shell::new();
    shell.write("notes.rtf", "{\\rtf1 text}");
    shell.write("photo.png", b"\x89PNG\r\n\x1a\n\0\0");
    shell.write("odd.bin", [0, 159, 146, 150, 0]);
    for names in [&["notes.rtf"][..], &["photo.png"], &["odd.bin"], &["notes.rtf", "photo.png", "odd.bin"]] {
        let run = shell.run(&[&["add", "--json"], names].concat()).expect(4);
        let rejected = run.json()["rejected"].as_array().unwrap().len();
        assert_eq!((rejected, run.json()["added"].as_u64()), (names.len(), Some(0)), "{names:?}");
    }
    shell.run(&["add", "--dry-run", "notes.rtf"]).expect(4);
}

/// `quiver add --watch` at work; it is killed with the test.
pub(super) struct Watch {
    child: Child,
    lines: Receiver<String>,
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = mpsc::channel();
    let stream = BufReader::new(stream);
    std::thread::spawn(move || stream.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    lines
}

/// How long a change may take to show.
const PATIENCE: Duration = Duration::from_secs(90);

impl Watch {
    pub(super) fn start(shell: &Shell, arguments: &[&str]) -> Self {
        let mut child = shell.command(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The same, and what it tells on stderr.
    fn start_with_notes(shell: &Shell, arguments: &[&str]) -> (Self, Receiver<String>) {
        let mut child = shell.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, notes) = (lines_of(child.stdout.take().unwrap()), lines_of(child.stderr.take().unwrap()));
        (Self { child, lines }, notes)
    }

    fn text(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of the watch")
    }

    pub(super) fn line(&mut self) -> Value {
        let line = self.text();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?} is no JSON ({error})"))
    }

    /// Lines until one satisfies.
    pub(super) fn until(&mut self, satisfies: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let line = self.line();
            if satisfies(&line) {
                return line;
            }
            assert!(begun.elapsed() < PATIENCE, "{line:#}");
        }
    }
}

/// Writes a file in one step, so that nobody sees a half.
pub(super) fn put(shell: &Shell, name: &str, text: impl AsRef<[u8]>) {
    shell.write("aside", text);
    fs::rename(shell.path("aside"), shell.path(name)).unwrap();
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watched_folder_is_kept_in_step() {
    let shell = Shell::new();
    shell.write_docs();
    shell.write("docs/rows.jsonl", "{\"id\": \"a\", \"text\": \"one\"}\n{\"id\": \"b\", \"text\": \"two\"}\n");
    let mut watch = Watch::start(&shell, &["add", "docs", "--watch", "--json"]);
    let first = watch.line();
    assert_eq!((&first["added"], &first["files"]), (&json!(5), &json!([])), "{first:#}");
    put(&shell, "docs/new.html", "<h1>Tea</h1><p>Let it draw.");
    let added = watch.until(|line| line["added"] == 1);
    assert!(added["files"][0].as_str().unwrap().ends_with("docs/new.html"), "{added:#}");
    put(&shell, "docs/rows.jsonl", "{\"id\": \"a\", \"text\": \"changed\"}\n");
    let changed = watch.until(|line| line["removed"] == 1);
    assert_eq!((&changed["replaced"], &changed["added"]), (&json!(1), &json!(0)), "{changed:#}");
    fs::rename(shell.path("docs/rust"), shell.path("docs/crabs")).unwrap();
    let renamed = watch.until(|line| line["removed"] == 1);
    assert_eq!(renamed["added"], 1, "{renamed:#}");
    put(&shell, "docs/.quiverignore", "ice.txt\n");
    watch.until(|line| line["removed"] == 1);
    // Between changes others may search.
    let ids = shell.run(&["get", "crabs/threads.md", "new.html", "a", "bread.md"]).expect(0);
    assert!(ids.stdout.contains("changed"), "{}", ids.stdout);
    shell.run(&["get", "ice.txt"]).expect_refusal(2, &["ice.txt"]);
}

#[test]
fn a_watched_folder_that_goes_away_takes_nothing_with_it() {
    let shell = Shell::new();
    shell.write_docs();
    let mut watch = Watch::start(&shell, &["add", "docs", "--watch", "--json"]);
    watch.line();
    fs::rename(shell.path("docs"), shell.path("elsewhere")).unwrap();
    fs::rename(shell.path("elsewhere"), shell.path("docs")).unwrap();
    put(&shell, "docs/bread.md", "# Bread\n\nRye.\n");
    watch.until(|line| line["replaced"] == 1);
    shell.run(&["get", "ice.txt", "rust/threads.md"]).expect(0);
}

/// Without its own watch it would be seen by the look that comes each minute, and of that nothing is said.
#[test]
fn a_watched_folder_that_is_made_again_is_watched_again() {
    let shell = Shell::new();
    shell.write_docs();
    let (mut watch, told) = Watch::start_with_notes(&shell, &["add", "docs", "--watch", "--json"]);
    watch.line();
    let until_told = |words: &str| while !told.recv_timeout(PATIENCE).expect(words).contains(words) {};
    until_told("watching");
    // In one step, so that no look finds it with half of its files.
    fs::rename(shell.path("docs"), shell.path("trash")).unwrap();
    fs::remove_dir_all(shell.path("trash")).unwrap();
    until_told("docs is gone; its documents stay");
    shell.run(&["get", "ice.txt"]).expect(0);
    fs::create_dir(shell.path("docs")).unwrap();
    put(&shell, "docs/bread.md", "# Bread\n\nRye.\n");
    until_told("docs is there again, and watched");
    let again = watch.until(|line| line["replaced"] == 1);
    // What the new folder lacks is gone.
    let removed = if again["removed"] == 2 { again } else { watch.until(|line| line["removed"] == 2) };
    assert_eq!(removed["rejected"], json!([]));
    put(&shell, "docs/tea.md", "# Tea\n\nLet it draw.\n");
    watch.until(|line| line["added"] == 1);
    fs::remove_dir_all(shell.path("docs")).unwrap();
    fs::create_dir(shell.path("docs")).unwrap();
    until_told("docs is there again, and watched");
    put(&shell, "docs/coffee.md", "# Coffee\n\nGrind it.\n");
    watch.until(|line| line["added"] == 1);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_watch_well() {
    let shell = Shell::new();
    shell.write_docs();
    let mut watch = Watch::start(&shell, &["add", "docs", "--watch"]);
    let line = watch.text();
    assert!(line.starts_with("documents: 3 added"), "{line}");
    let interrupted =
        std::process::Command::new("kill").args(["-INT", &watch.child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let shell = Shell::new();
    shell.run(&["add", "-", "--watch"]).expect_refusal(2, &["--watch", "stdin"]);
    shell.run(&["add", ".", "--watch", "--dry-run"]).expect_refusal(2, &["--dry-run"]);
}
