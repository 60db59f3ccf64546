//! What files and folders become, odd ones included.

#![allow(clippy::unwrap_used)]

use std::fs;

use tempfile::TempDir;

use serde_json::json;

use super::super::load;
use super::*;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn one(name: &str, bytes: &[u8]) -> Loaded {
    let folder = folder(&[(name, bytes)]);
    let mut loaded: Vec<Loaded> = load(&folder.path().join(name)).collect();
    assert_eq!(loaded.len(), 1);
    loaded.remove(0)
}

#[test]
fn a_file_becomes_a_document_with_its_name_as_id() {
    let folder = folder(&[("sub/notes.md", b"intro\n\n# The `title`\n\ntext\n")]);
    let path = folder.path().join("sub/notes.md");
    let mut loader = load(&path);
    let document = loader.next().unwrap().unwrap();
    assert_eq!(document.id, "notes.md".into());
    assert_eq!(document.title.as_deref(), Some("The title"));
    assert_eq!(document.text, "intro\n\n# The `title`\n\ntext\n");
    assert_eq!(document.metadata["source"], path.to_str().unwrap());
    assert_eq!(document.metadata["media_type"], "text/markdown");
    let modified = document.metadata["modified"].as_str().unwrap();
    assert!(modified.len() == 20 && modified.ends_with('Z'), "{modified}");
    assert!(loader.next().is_none());
    assert_eq!((loader.files_read(), loader.lossy()), (1, 0));
}

#[test]
fn an_empty_file_is_an_empty_document() {
    assert_eq!(one("empty.txt", b"").unwrap().text, "");
}

#[test]
fn what_is_no_text_is_rejected_with_the_reason() {
    let reasons: [(&str, &[u8], &[&str]); 4] = [
        ("a.txt", b"ab\x00c", &["binary file", "convert it to text", ".ignore"]),
        ("a.DOC", b"\xd0\xcf", &[".DOC files are not supported by this version", ".docx"]),
        ("a.xls", b"a,b", &[".xls", "xlsx"]),
        ("a.weird", b"\xff", &["neither text in UTF-8 nor of a known kind", "rename it to .txt"]),
    ];
    for (name, bytes, words) in reasons {
        let reason = one(name, bytes).unwrap_err().reason;
        assert!(words.iter().all(|word| reason.contains(word)), "{name}: {reason}");
        assert_eq!(super::super::read(name, bytes).unwrap_err().reason, reason);
    }
    assert_eq!(one("a.weird", b"fine").unwrap().metadata["media_type"], "text/plain");
}

#[cfg(not(feature = "documents"))]
#[test]
fn a_reader_that_is_not_here_is_named_by_its_feature() {
    for name in ["a.html", "a.docx", "a.epub"] {
        let reason = one(name, b"<p>").unwrap_err().reason;
        assert!(reason.contains("feature `documents`") && reason.contains("--features documents"), "{reason}");
    }
}

#[cfg(not(feature = "pdf"))]
#[test]
fn a_pdf_says_which_feature_would_read_it() {
    assert!(one("a.pdf", b"%PDF-1.4").unwrap_err().reason.contains("--features pdf"));
    assert!(one("report", b"%PDF-1.4").unwrap_err().reason.contains("--features pdf"), "by its bytes");
}

#[cfg(feature = "documents")]
#[test]
fn a_page_is_read_whatever_its_name_says() {
    let document = one("page", b"<!doctype html><title>T</title><p>Words").unwrap();
    assert_eq!((document.text.as_str(), document.title.as_deref()), ("Words\n", Some("T")));
    assert_eq!(document.metadata["media_type"], "text/html");
}

#[test]
fn code_says_its_language() {
    assert_eq!(one("a.kt", b"fun x() = 1").unwrap().metadata["language"], "kotlin");
    assert_eq!(one("a.cpp", b"int x;").unwrap().metadata["language"], "cpp");
    assert_eq!(one("a.md", b"# x").unwrap().metadata.get("language"), None);
}

#[test]
fn bytes_with_a_name_become_what_the_file_would() {
    let document = super::super::read("sub/a.md", b"# A\n").unwrap();
    let expected = json!({"source": "sub/a.md", "media_type": "text/markdown"});
    assert_eq!((document.id, document.metadata), ("sub/a.md".into(), expected));
    let json = super::super::read("a.json", b"[{\"text\": \"x\"}]").unwrap();
    assert_eq!(json.metadata["media_type"], "application/json");
    assert!(super::super::read("a.jsonl", b"{}").unwrap_err().reason.contains("`load_jsonl`"));
}

#[cfg(unix)]
#[test]
fn a_file_beyond_the_limit_is_rejected_unread() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.txt");
    // Nothing but a hole: it takes no room on the disk.
    fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let reason = load(&path).next().unwrap().unwrap_err().reason;
    assert!(reason.contains("256 MiB are read at most"), "{reason}");
}

#[test]
fn some_files_of_a_folder_have_the_ids_that_all_have() {
    let folder = folder(&[("a/b.txt", b"b"), ("a/c.txt", b"c")]);
    let some = super::super::load_some(folder.path(), vec![folder.path().join("a/c.txt")]);
    let ids: Vec<String> = some.map(|document| document.unwrap().id.to_string()).collect();
    assert_eq!(ids, ["a/c.txt"]);
}

#[test]
fn a_missing_file_is_rejected_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let loaded: Vec<Loaded> = load(&folder.path().join("gone.txt")).collect();
    let rejected = loaded[0].as_ref().unwrap_err();
    assert!(rejected.source.ends_with("gone.txt") && rejected.reason.starts_with("cannot be read: "), "{rejected:?}");
}

#[test]
fn text_in_an_old_encoding_says_so() {
    let folder =
        folder(&[("old.txt", b"gr\xfcn"), ("new.txt", "\u{feff}grün".as_bytes()), ("wide.txt", b"\xff\xfeg\x00")]);
    let mut old = load(&folder.path().join("old.txt"));
    let document = old.next().unwrap().unwrap();
    if cfg!(feature = "documents") {
        assert_eq!((document.text.as_str(), &document.metadata["encoding"]), ("grün", &json!("windows-1252")));
    } else {
        assert_eq!((document.text.as_str(), &document.metadata["lossy"]), ("gr\u{fffd}n", &json!(true)));
    }
    assert_eq!(old.lossy(), u64::from(!cfg!(feature = "documents")));
    let new = load(&folder.path().join("new.txt")).next().unwrap().unwrap();
    assert_eq!((new.text.as_str(), new.metadata.get("lossy")), ("grün", None));
    assert_eq!(load(&folder.path().join("wide.txt")).next().unwrap().unwrap().text, "g");
}

#[test]
fn json_lines_become_documents_that_know_their_source() {
    let folder = folder(&[("rows.jsonl", b"{\"text\":\"a\"}\n{}\n{\"id\":3,\"text\":\"c\",\"source\":\"own\"}\n")]);
    let path = folder.path().join("rows.jsonl");
    let loaded: Vec<Loaded> = load(&path).collect();
    let first = loaded[0].as_ref().unwrap();
    assert_eq!((&first.id, &first.metadata), (&"rows.jsonl#1".into(), &json!({"source": path.to_str().unwrap()})));
    assert_eq!(loaded[1].as_ref().unwrap_err().source, "rows.jsonl:2");
    assert_eq!(loaded[2].as_ref().unwrap().metadata["source"], "own");
}

#[test]
fn json_lines_in_utf16_are_read() {
    let wide: Vec<u8> =
        "\u{feff}{\"text\":\"ü\"}\n".encode_utf16().flat_map(|unit| [unit as u8, (unit >> 8) as u8]).collect();
    assert_eq!(one("rows.jsonl", &wide).unwrap().text, "ü");
}

#[test]
fn json_is_documents_where_it_looks_like_documents() {
    let folder = folder(&[
        ("a.json", b"[{\"id\":1,\"text\":\"x\"},{\"id\":2}]"),
        ("b.json", b"{\"name\":1}"),
        ("c.json", b"broken, and never meant to be JSON"),
    ]);
    let many: Vec<Loaded> = load(&folder.path().join("a.json")).collect();
    assert_eq!(many[0].as_ref().unwrap().id, 1.into());
    assert!(many[1].as_ref().unwrap_err().reason.starts_with("document 2: it has neither"));
    for name in ["b.json", "c.json"] {
        let text = load(&folder.path().join(name)).next().unwrap().unwrap();
        assert_eq!(text.metadata["media_type"], "application/json");
    }
}

#[test]
fn half_written_json_is_rejected_and_no_text() {
    for (half, line) in [("[{\"id\":1,\"text\":\"x\"},\n{\"id\":2,\"te", 2), (" {broken", 1), ("", 1), ("\n", 2)] {
        let rejected = one("a.json", half.as_bytes()).unwrap_err();
        assert!(rejected.reason.starts_with(&format!("not valid JSON at line {line} (")), "{half:?}: {rejected:?}");
        assert!(rejected.reason.ends_with("rename it to .txt to add it as text"), "{rejected:?}");
        assert!(rejected.source.ends_with("a.json"), "{rejected:?}");
    }
}

#[test]
fn the_loader_knows_the_file_of_its_last_document() {
    let folder = folder(&[("rows.jsonl", b"{\"text\":\"a\",\"source\":\"elsewhere\"}\n")]);
    let path = folder.path().join("rows.jsonl");
    let mut loader = load(&path);
    assert!(loader.next().unwrap().is_ok());
    assert_eq!(loader.file(), path);
}

#[cfg(not(feature = "cli"))]
#[test]
fn a_folder_says_which_feature_would_read_it() {
    let folder = folder(&[("a.txt", b"a")]);
    let loaded: Vec<Loaded> = load(folder.path()).collect();
    assert!(loaded[0].as_ref().unwrap_err().reason.contains("`cli`"));
}

#[cfg(feature = "cli")]
mod folders {
    use super::*;

    fn ids(folder: &Path) -> Vec<String> {
        load(folder).filter_map(Result::ok).map(|document| document.id.to_string()).collect()
    }

    #[test]
    fn ids_are_relative_with_slashes_and_in_order() {
        let folder = folder(&[("b.txt", b"b"), ("a/z.md", b"z"), ("a/b/c.rs", b"c"), ("LICENSE", b"l")]);
        assert_eq!(ids(folder.path()), ["LICENSE", "a/b/c.rs", "a/z.md", "b.txt"]);
    }

    #[test]
    fn odd_names_are_kept() {
        let names = [" lead", "a b.txt", "line\nbreak.txt", "ünï 漢字.md", "😀"];
        let folder = folder(&names.map(|name| (name, name.as_bytes())));
        let mut expected = names.map(str::to_owned);
        expected.sort();
        assert_eq!(ids(folder.path()), expected);
    }

    #[test]
    fn hidden_and_ignored_files_and_databases_are_passed_over() {
        let folder = folder(&[
            (".hidden.txt", b"h"),
            (".git/config", b"g"),
            (".gitignore", b"*.log\n"),
            (".ignore", b"skipped/\n"),
            (".quiverignore", b"*.tmp\n"),
            ("a.tmp", b"t"),
            ("a.log", b"l"),
            ("skipped/b.txt", b"b"),
            ("quiver.db/data.redb", b"r"),
            ("quiver.db/note.txt", b"n"),
            ("kept.txt", b"k"),
        ]);
        assert_eq!(ids(folder.path()), ["kept.txt"]);
    }

    #[test]
    fn rejected_files_do_not_stop_the_rest() {
        let folder =
            folder(&[("a.bin", b"\x00"), ("b.xls", b"x,y"), ("c.txt", b"c"), ("d.jsonl", b"{\"text\":\"d\"}")]);
        let mut loader = load(folder.path());
        let loaded: Vec<Loaded> = loader.by_ref().collect();
        let reasons: Vec<&str> =
            loaded.iter().filter_map(|loaded| loaded.as_ref().err()).map(|rejected| rejected.reason.as_str()).collect();
        assert!(reasons[0].starts_with("binary file;") && reasons[1].starts_with(".xls files"), "{reasons:?}");
        assert_eq!(reasons.len(), 2);
        assert_eq!(loaded.len(), 4);
        assert_eq!(loader.files_read(), 3, "that of no reader is not opened");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_to_files_only() {
        use std::os::unix::fs::symlink;
        let folder = folder(&[("real/a.txt", b"a")]);
        symlink(folder.path().join("real/a.txt"), folder.path().join("link.txt")).unwrap();
        symlink(folder.path(), folder.path().join("real/loop")).unwrap();
        symlink("nowhere", folder.path().join("broken")).unwrap();
        let loaded: Vec<Loaded> = load(folder.path()).collect();
        assert_eq!(ids(folder.path()), ["link.txt", "real/a.txt"]);
        let reasons: Vec<&str> =
            loaded.iter().filter_map(|loaded| loaded.as_ref().err()).map(|rejected| rejected.reason.as_str()).collect();
        assert_eq!(reasons, ["a link to nothing", "links to folders are not followed; give that folder itself"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_unicode_is_rejected() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "x").unwrap();
        let loaded: Vec<Loaded> = load(folder.path()).collect();
        assert!(loaded[0].as_ref().unwrap_err().reason.contains("rename it"));
    }
}
