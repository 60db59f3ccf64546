//! Is the tree still the map? Reads the sources and holds them to their own rules.
//!
//! Each test lists every violation with its place, so that one run shows all there is to mend. An exception stands in
//! a table with its reason, and an exception that nothing needs any more is a violation, too.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use source::{Token, files_below, name_of, root, rust_files, tokens};

/// The order of imports in the library and the binary: a module imports what stands above it. Modules of the first
/// row may import each other; those of any other row do not know each other.
const ORDER: [&[&str]; 10] = [
    &["types", "error", "config", "images", "markdown", "moment"],
    &["models"],
    &["chunk", "embed", "rerank", "fuse", "formats"],
    &["spaces", "cache"],
    &["parts"],
    &["ingest", "query", "context", "eval"],
    &["import", "export", "reembed"],
    &["db"],
    &["server", "mcp", "nonblocking", "cli"],
    &["main"],
];

/// Imports against the order, each with its reason.
const EXCEPTIONS: [(&str, &str, &str); 4] = [
    ("config", "embed", "a collection is configured with its model, so its configuration names the trait and its spec"),
    ("types", "rerank", "a query is asked with its reranker, so it names how"),
    (
        "server",
        "mcp",
        "the Model Context Protocol is spoken over HTTP, too, behind the server's guards and within its limits",
    ),
    ("rerank", "embed", "cross-encoders run on the engines and tokenizers of embedders"),
];

/// Crates that stay behind one folder, so that their types do not leak.
const LAYERS: [(&str, &[&str]); 24] = [
    ("redb", &["storage/src/"]),
    ("tantivy", &["storage/src/text/"]),
    ("tantivy_fst", &["storage/src/text/"]),
    ("candle_core", &["src/embed/candle/"]),
    ("candle_nn", &["src/embed/candle/"]),
    ("ort", &["src/embed/onnx/"]),
    ("image", &["src/images.rs"]),
    ("tokenizers", &["src/embed/transformer/"]),
    ("text_splitter", &["src/chunk/"]),
    ("ureq", &["src/models/", "tests/server.rs", "tests/server/"]),
    ("hf_hub", &["src/models/cache.rs"]),
    ("html5gum", &["src/formats/html/"]),
    ("quick_xml", &["src/formats/office/"]),
    ("zip", &["src/formats/office/"]),
    ("hayro_interpret", &["src/formats/pdf/"]),
    ("notify", &["src/cli/watch.rs"]),
    ("axum", &["src/server/", "src/server.rs"]),
    ("hyper", &["src/server/"]),
    ("tokio", &["src/server/", "src/server.rs", "src/mcp", "src/nonblocking.rs", "examples/"]),
    ("utoipa", &["src/server/"]),
    ("rmcp", &["src/mcp"]),
    ("clap", &["src/cli/"]),
    ("indicatif", &["src/cli/"]),
    ("anyhow", &["src/cli/", "src/main.rs", "examples/", "tests/", "benches/"]),
];

/// Where the time of day is read. Nothing may be ordered, kept or removed by it, because clocks jump, but for documents that
/// are to be gone by a time of day.
const CLOCKS: [(&str, &str); 4] = [
    (
        "src/moment.rs",
        "when a file was changed is part of its document's metadata; when a document expires is written so",
    ),
    ("src/types.rs", "a document says when it expires"),
    ("storage/src/clock.rs", "a document is hidden from the moment on that it names, and swept by writes"),
    ("storage/src/files.rs", "it is hashed, with a key by chance, into the number that tells databases apart"),
];

/// What the repository's first folder may hold besides dot-files.
const TOP_LEVEL: [&str; 13] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "storage",
    "benches",
    "tests",
    "examples",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "NOTICE",
    "CHANGELOG.md",
    "target",
];

const RUST: [&str; 5] = ["src", "storage", "tests", "examples", "benches"];
const FUNCTION_LINES_MAX: usize = 70;

/// Fails with all violations at once.
fn expect_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "{} to mend:\n  {}", violations.len(), violations.join("\n  "));
}

/// Who imports whom, with the first place of each import.
type Edges = BTreeMap<(String, String), String>;

fn imports(source_folder: &str) -> Edges {
    let reexports = reexports(&root().join(source_folder).join("lib.rs"));
    let mut edges = Edges::new();
    for path in rust_files(&[source_folder]) {
        let name = name_of(&path);
        let inside = name.strip_prefix(source_folder).unwrap().trim_start_matches('/').trim_end_matches(".rs");
        let module: Vec<&str> = inside.split('/').filter(|part| *part != "mod").collect();
        if inside == "lib" || module.iter().any(|part| part.ends_with("tests")) {
            continue;
        }
        let depth = if inside == "main" { 0 } else { module.len() };
        for (segment, line) in source::root_segments(&source::without_tests(tokens(&path)), depth) {
            let Some(target) = resolve(&segment, source_folder, &reexports) else {
                panic!("{name}:{line}: `crate::{segment}` is neither a module nor re-exported by lib.rs");
            };
            if !target.is_empty() && target != module[0] {
                edges.entry((module[0].to_owned(), target)).or_insert_with(|| format!("{name}:{line}"));
            }
        }
    }
    edges
}

/// The module that a first segment belongs to; empty where it is another crate's.
fn resolve(segment: &str, source_folder: &str, reexports: &BTreeMap<String, String>) -> Option<String> {
    let folder = root().join(source_folder);
    if folder.join(format!("{segment}.rs")).is_file() || folder.join(segment).is_dir() {
        return Some(segment.to_owned());
    }
    reexports.get(segment).cloned()
}

/// `pub use module::{Name, Name}` of the front door: name -> module, or -> nothing for another crate's names.
fn reexports(lib: &Path) -> BTreeMap<String, String> {
    let tokens = tokens(lib);
    let mut found = BTreeMap::new();
    for at in 0..tokens.len() {
        if tokens[at].text != "use" {
            continue;
        }
        let end = (at..tokens.len()).find(|end| tokens[*end].text == ";").unwrap_or(tokens.len());
        let path: Vec<&str> = tokens[at + 1..end].iter().map(|token| token.text.as_str()).collect();
        let path = if path.first() == Some(&"self") { &path[2..] } else { &path[..] };
        let Some(first) = path.first() else { continue };
        let beside = |name: String| lib.with_file_name(name);
        let ours = beside(format!("{first}.rs")).is_file() || beside((*first).to_owned()).is_dir();
        let module = if ours { (*first).to_owned() } else { String::new() };
        for name in path.iter().skip(1).filter(|word| word.starts_with(char::is_alphanumeric)) {
            found.insert((*name).to_owned(), module.clone());
        }
    }
    found
}

fn row_of(module: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&module))
}

#[test]
fn modules_import_only_what_stands_above_them() {
    let mut violations = Vec::new();
    let mut unused: BTreeSet<(String, String)> =
        EXCEPTIONS.iter().map(|(from, to, _)| ((*from).to_owned(), (*to).to_owned())).collect();
    for (edge, place) in imports("src") {
        let (from, to) = &edge;
        let (Some(row), Some(imported)) = (row_of(from), row_of(to)) else {
            violations.push(format!("{place}: `{from}` or `{to}` has no place in the order of imports"));
            continue;
        };
        let in_order = imported < row || (imported == 0 && row == 0);
        if !in_order && !unused.remove(&edge) {
            violations.push(format!("{place}: `{from}` must not import `{to}`"));
        }
    }
    violations
        .extend(unused.iter().map(|(from, to)| format!("the exception `{from}` -> `{to}` is not needed any more")));
    expect_none(violations);
}

#[test]
fn no_module_is_part_of_an_import_cycle() {
    let mut violations = Vec::new();
    for folder in ["src", "storage/src"] {
        let edges = imports(folder);
        for ((from, to), place) in &edges {
            if reaches(&edges, to, from) {
                violations.push(format!("{place}: `{from}` imports `{to}`, which leads back to it"));
            }
        }
    }
    expect_none(violations);
}

fn reaches(edges: &Edges, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module.clone()) {
            open.extend(edges.keys().filter(|(importer, _)| *importer == module).map(|(_, imported)| imported.clone()));
        }
    }
    false
}

#[test]
fn the_library_does_not_know_the_command_line() {
    let modules = source::declared_modules(&tokens(&root().join("src/lib.rs")));
    let edges: Vec<_> = modules.iter().filter(|(module, _)| ["cli", "main"].contains(&module.as_str())).collect();
    assert!(edges.is_empty(), "src/lib.rs declares {edges:?}; these belong to the binary");
}

#[test]
fn foreign_types_stay_in_their_layer() {
    let mut violations = Vec::new();
    for path in rust_files(&RUST) {
        let name = name_of(&path);
        for (word, line) in source::path_starts(&source::without_tests(tokens(&path))) {
            let layer = LAYERS.iter().find(|(name, _)| *name == word);
            if let Some((_, folders)) =
                layer.filter(|(_, folders)| !folders.iter().any(|folder| name.starts_with(folder)))
            {
                violations.push(format!("{name}:{line}: `{word}` belongs in {}", folders.join(" or ")));
            }
        }
    }
    expect_none(violations);
}

#[test]
fn nothing_is_ordered_by_the_time_of_day() {
    let reads = |path: &&PathBuf| {
        let tokens = source::without_tests(tokens(path));
        tokens.iter().any(|token| ["SystemTime", "UNIX_EPOCH"].contains(&token.text.as_str()))
    };
    let found: Vec<String> =
        rust_files(&["src", "storage/src"]).iter().filter(reads).map(|path| name_of(path)).collect();
    assert_eq!(found, CLOCKS.map(|(file, _)| file), "who reads the clock says here what for");
}

#[test]
fn every_table_stands_on_one_screen() {
    let defined = |three: &[Token]| three[0].text.ends_with("TableDefinition") && three[2].text == "new";
    let defines = |path: &PathBuf| source::without_tests(tokens(path)).windows(3).any(defined);
    let files: Vec<String> =
        rust_files(&["storage/src"]).iter().filter(|path| defines(path)).map(|p| name_of(p)).collect();
    assert_eq!(files, ["storage/src/tables.rs"]);
}

#[test]
fn every_file_opens_with_its_question() {
    let questions = ["//! ", "#![doc = include_str!(\"../FORMAT.md\")]"];
    let opens = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        questions.iter().any(|question| text.starts_with(question))
    };
    let files = rust_files(&RUST);
    assert!(files.len() > 20, "only {} files found: is this the repository?", files.len());
    expect_none(files.iter().filter(|path| !opens(path)).map(|path| name_of(path)).collect());
}

#[test]
fn no_file_is_dead() {
    let mut alive = BTreeSet::new();
    let mut open: Vec<PathBuf> = ["src/lib.rs", "src/main.rs", "storage/src/lib.rs", "tests/main.rs"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    while let Some(path) = open.pop() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let owns_folder = matches!(stem.as_str(), "lib" | "main" | "mod");
        let folder = if owns_folder { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        for (module, file) in source::declared_modules(&tokens(&path)) {
            let given = file.map(|file| path.with_file_name(file));
            let usual = [folder.join(format!("{module}.rs")), folder.join(&module).join("mod.rs")];
            open.extend(given.into_iter().chain(usual).filter(|candidate| candidate.is_file()));
        }
        alive.insert(name_of(&path));
    }
    let all = rust_files(&["src", "storage/src", "tests"]);
    let dead = all.iter().map(|path| name_of(path)).filter(|name| !alive.contains(name));
    expect_none(dead.map(|name| format!("{name}: no `mod` declaration leads here")).collect());
}

#[test]
fn no_module_is_called_after_nothing_in_particular() {
    let vague = ["util", "utils", "helper", "helpers", "manager", "misc", "common"];
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    expect_none(rust_files(&RUST).iter().filter(|p| vague.contains(&stem(p).as_str())).map(|p| name_of(p)).collect());
}

#[test]
fn functions_fit_on_a_screen() {
    let mut violations = Vec::new();
    for path in rust_files(&RUST) {
        let tokens = tokens(&path);
        for at in 0..tokens.len().saturating_sub(1) {
            if tokens[at].text == "fn" && tokens[at + 1].text.starts_with(char::is_alphabetic) {
                let lines = lines_of_function(&tokens, at);
                if lines > FUNCTION_LINES_MAX {
                    let place = format!("{}:{}", name_of(&path), tokens[at].line);
                    violations.push(format!("{place}: `{}` has {lines} lines", tokens[at + 1].text));
                }
            }
        }
    }
    expect_none(violations);
}

/// From `fn` to the closing brace; a function without a body has one line.
fn lines_of_function(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    // Brackets of array types hide their semicolons.
    let mut brackets = 0;
    for token in &tokens[start..] {
        match token.text.as_str() {
            "[" | "(" => brackets += 1,
            "]" | ")" => brackets -= 1,
            "{" => depth += 1,
            "}" if depth == 1 => return token.line - tokens[start].line + 1,
            "}" => depth -= 1,
            ";" if depth == 0 && brackets == 0 => return 1,
            _ => {}
        }
    }
    1
}

#[test]
fn the_first_folder_is_clean() {
    let entries = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let known = |name: &String| name.starts_with('.') || name.ends_with(".db") || TOP_LEVEL.contains(&name.as_str());
    expect_none(entries.filter(|name| !known(name)).collect());
}

/// The README draws the tree of `src/`: a fenced block with a line that starts with `src/`, then one line or more for
/// each entry, indented by two spaces, names first, each ending in `.rs` or `/`.
#[test]
fn the_readme_draws_the_tree_as_it_is() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut lines = readme.lines().skip_while(|line| !line.starts_with("src/")).skip(1);
    let mut drawn = BTreeSet::new();
    for line in lines.by_ref().take_while(|line| line.starts_with("  ") || line.trim().is_empty()) {
        let is_entry = |word: &&str| word.ends_with(".rs") || word.ends_with('/');
        if line.starts_with("  ") && !line.starts_with("   ") {
            drawn
                .extend(line.split_whitespace().take_while(is_entry).map(|word| word.trim_end_matches('/').to_owned()));
        }
    }
    let entries = fs::read_dir(root().join("src")).unwrap();
    let actual: BTreeSet<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let missing: Vec<_> = actual.difference(&drawn).collect();
    let gone: Vec<_> = drawn.difference(&actual).collect();
    assert!(missing.is_empty() && gone.is_empty(), "README.md's tree of src/ lacks {missing:?} and still has {gone:?}");
}

#[test]
fn the_readme_is_compiled_by_the_doc_tests() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let after = lib.split("#[cfg(doctest)]").nth(1).unwrap_or_default();
    let wired = concat!("#[doc = include_str!(\"../README", ".md\")]");
    let wired_there = after.lines().take(3).any(|line| line.trim() == wired);
    assert!(wired_there, "src/lib.rs must hand README.md to the doc tests: `#[cfg(doctest)]`, then `{wired}`");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let fences: Vec<&str> = readme.lines().filter(|line| line.starts_with("```rust")).collect();
    assert!(!fences.is_empty(), "README.md shows no Rust");
    let idle: Vec<_> =
        fences.iter().filter(|fence| fence.contains("ignore") || fence.contains("compile_fail")).collect();
    assert!(idle.is_empty(), "README.md has Rust that is not compiled: {idle:?}");
}

#[test]
fn the_readme_shows_the_command_that_continuous_integration_runs() {
    let test_command = "cargo test --features cli";
    for name in ["README.md", ".ci/run"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        assert!(text.contains(test_command), "{name} does not run `{test_command}`");
    }
}

/// Nothing names the machine that it was written on, or the hosts of package registries. Text quoted unchanged from
/// elsewhere and the lock file, which Cargo writes, are left out, and so is `.ci`, which belongs to a machine.
#[test]
fn no_text_names_a_machine_or_a_registry() {
    let needles = [
        concat!("/wo", "rk/"),
        concat!("/tm", "p/w/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("../sha", "red"),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("npmjs", ".org"),
        concat!("goproxy", ".io"),
        concat!("proxy.golang", ".org"),
    ];
    let mut violations = Vec::new();
    for path in files_below("") {
        let name = name_of(&path);
        let quoted = name == "Cargo.lock" || name.starts_with(".ci/") || name.starts_with("examples/rust-book/");
        let Some(text) = fs::read(&path).ok().filter(|_| !quoted).and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if let Some(needle) = needles.iter().find(|needle| line.contains(**needle)) {
                violations.push(format!("{name}:{}: names `{needle}`", number + 1));
            }
        }
    }
    expect_none(violations);
}
