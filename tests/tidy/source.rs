//! What does the source tree say, without its comments and strings?
//!
//! A small reader of Rust: enough to see modules, paths and lengths, no more. It never judges; `tidy.rs` does.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A path relative to the repository, with forward slashes.
pub(super) fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Every file below this folder, in order of its path; without build output, databases and version control.
pub(super) fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let derived = matches!(name.as_str(), "target" | ".git") || name.ends_with(".db");
            match path.is_dir() {
                true if !derived => folders.push(path),
                true => {}
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// The Rust files below these folders.
pub(super) fn rust_files(folders: &[&str]) -> Vec<PathBuf> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    folders.iter().flat_map(|folder| files_below(folder)).filter(is_rust).collect()
}

/// A piece of code: a word (identifier, keyword or number), `::`, a single mark, or a string with its first quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// The tokens of a file; comments, characters and raw strings are left out.
pub(super) fn tokens(path: &Path) -> Vec<Token> {
    tokenize(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

pub(super) fn tokenize(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let (mut at, mut line, mut found) = (0, 1, Vec::new());
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if source[at..].starts_with("//") => source[at..].find('\n').map_or(bytes.len(), |n| at + n),
            b'/' if source[at..].starts_with("/*") => end_of_block_comment(bytes, at),
            b'"' => {
                let end = end_of_string(bytes, at + 1);
                found.push(Token { text: source[at..end - 1].to_owned(), line });
                end
            }
            b'\'' => end_of_character_or_lifetime(source, at),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let end = end_of_word(bytes, at);
                let raw_quote = raw_string_quote(bytes, at, end);
                let word = &source[at..end];
                match raw_quote {
                    Some(hashes) => end_of_raw_string(source, end + hashes + 1, hashes),
                    None => {
                        found.push(Token { text: word.to_owned(), line });
                        end
                    }
                }
            }
            b':' if source[at..].starts_with("::") => {
                found.push(Token { text: "::".into(), line });
                at + 2
            }
            byte if byte.is_ascii_punctuation() => {
                found.push(Token { text: char::from(byte).to_string(), line });
                at + 1
            }
            _ => at + 1,
        };
        line += bytes[at..end].iter().filter(|byte| **byte == b'\n').count();
        at = end;
    }
    found
}

fn end_of_word(bytes: &[u8], from: usize) -> usize {
    let rest = bytes[from..].iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    rest.map_or(bytes.len(), |n| from + n)
}

fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The number of hashes, where the word `r`, `br` or `cr` opens a raw string.
fn raw_string_quote(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    if !matches!(&bytes[start..end], b"r" | b"br" | b"cr") {
        return None;
    }
    let hashes = bytes[end..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(end + hashes) == Some(&b'"')).then_some(hashes)
}

fn end_of_raw_string(source: &str, from: usize, hashes: usize) -> usize {
    let close = format!("\"{}", "#".repeat(hashes));
    source[from..].find(&close).map_or(source.len(), |n| from + n + close.len())
}

fn end_of_block_comment(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// `'a'`, `'\u{780}'` and `'"'` are characters; `'a` is a lifetime.
fn end_of_character_or_lifetime(source: &str, at: usize) -> usize {
    let rest = &source[at + 1..];
    if let Some(escaped) = rest.strip_prefix('\\') {
        return escaped[1..].find('\'').map_or(source.len(), |n| at + 4 + n);
    }
    let mut characters = rest.chars();
    match (characters.next(), characters.next()) {
        (Some(character), Some('\'')) => at + 2 + character.len_utf8(),
        _ => at + 1,
    }
}

/// Leaves out what is compiled for tests only: they may import what they like.
pub(super) fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match test_attribute(&tokens[at..]) {
            Some(length) => at = end_of_item(&tokens, at + length),
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

/// The length of `#[cfg(test)]` or `#[cfg(all(test, ..))]`, where the tokens begin with it.
fn test_attribute(tokens: &[Token]) -> Option<usize> {
    let words: Vec<&str> = tokens.iter().take(7).map(|token| token.text.as_str()).collect();
    let opens = words.starts_with(&["#", "[", "cfg", "(", "test"])
        || words.starts_with(&["#", "[", "cfg", "(", "all", "(", "test"]);
    let end = || tokens.iter().position(|token| token.text == "]");
    if opens { end().map(|at| at + 1) } else { None }
}

/// The end of the item that begins here: its semicolon, or its closing brace.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The modules that a file declares in files of their own: `mod name;`, with the file that `#[path = ".."]` names.
pub(super) fn declared_modules(tokens: &[Token]) -> Vec<(String, Option<String>)> {
    let declared = |at: usize| tokens[at].text == "mod" && tokens.get(at + 2).is_some_and(|token| token.text == ";");
    let path = |at: usize| {
        let before: Vec<&str> = tokens[at.saturating_sub(6)..at].iter().map(|token| token.text.as_str()).collect();
        match before.as_slice() {
            ["#", "[", "path", "=", file, "]"] => file.strip_prefix('"').map(str::to_owned),
            _ => None,
        }
    };
    (0..tokens.len()).filter(|at| declared(*at)).map(|at| (tokens[at + 1].text.clone(), path(at))).collect()
}

/// The first segments of every path that starts at the crate's root, with their lines: `crate::a::b`,
/// `use crate::{a, b::c}`, and `super::a` where it leads there from the module at this depth.
pub(super) fn root_segments(tokens: &[Token], depth: usize) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut braces = 0;
    // The braces that were open when each module within the file began.
    let mut inline: Vec<usize> = Vec::new();
    for at in 0..tokens.len() {
        let starts = at == 0 || tokens[at - 1].text != "::";
        match tokens[at].text.as_str() {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    inline.push(braces);
                }
                braces += 1;
            }
            "}" => {
                braces -= 1;
                inline.pop_if(|outside| *outside == braces);
            }
            "crate" if starts => first_segments(tokens, at + 1, &mut found),
            "super" if starts => {
                let mut supers = 1;
                while tokens.get(at + 2 * supers).is_some_and(|token| token.text == "super") {
                    supers += 1;
                }
                if supers == depth + inline.len() {
                    first_segments(tokens, at + 2 * supers - 1, &mut found);
                }
            }
            _ => {}
        }
    }
    found
}

/// What follows a path's beginning: `::name`, or `::{name, name::..}`.
fn first_segments(tokens: &[Token], at: usize, found: &mut Vec<(String, usize)>) {
    let text = |at: usize| tokens.get(at).map(|token| token.text.as_str());
    if text(at) != Some("::") {
        return;
    }
    if text(at + 1) != Some("{") {
        found.extend(tokens.get(at + 1).map(|token| (token.text.clone(), token.line)));
        return;
    }
    let mut depth = 0;
    for at in at + 1..tokens.len() {
        let token = &tokens[at];
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return;
        }
        let opens = matches!(tokens[at - 1].text.as_str(), "{" | ",");
        if depth == 1 && opens && token.text != "{" {
            found.push((token.text.clone(), token.line));
        }
    }
}

/// Names of other crates that a file reaches into: the word before `::` where a path starts, or after `use`.
pub(super) fn path_starts(tokens: &[Token]) -> Vec<(String, usize)> {
    let starts = |at: usize| at == 0 || tokens[at - 1].text != "::";
    let leads = |at: usize| tokens.get(at + 1).is_some_and(|token| token.text == "::");
    (0..tokens.len())
        .filter(|at| starts(*at) && leads(*at))
        .map(|at| (tokens[at].text.clone(), tokens[at].line))
        .collect()
}

#[test]
fn the_reader_leaves_out_comments_and_strings() {
    let source = "use crate::{a::B, c}; // crate::no\nlet s = r#\"crate::\"no\"#; 'x'; '\"'; fn f<'a>() { super::d::e(\"crate::\\\"no\") }";
    let found: Vec<String> = root_segments(&tokenize(source), 1).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, ["a", "c", "d"]);
}

#[test]
fn the_reader_leaves_out_tests() {
    let source = "use crate::a; #[cfg(all(test, x))] mod tests { use crate::b; fn f() {} } fn g() { crate::c::d() }";
    let found: Vec<String> =
        root_segments(&without_tests(tokenize(source)), 1).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, ["a", "c"]);
}

#[test]
fn the_reader_counts_the_modules_within_a_file() {
    let source = "mod inner { use super::super::a; use super::b; } use super::c; #[path = \"x.rs\"] mod d; mod e;";
    let tokens = tokenize(source);
    let found: Vec<String> = root_segments(&tokens, 1).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, ["a", "c"]);
    assert_eq!(declared_modules(&tokens), [("d".into(), Some("x.rs".into())), ("e".into(), None)]);
}
