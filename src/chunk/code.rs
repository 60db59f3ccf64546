//! Which passages does a program have?
//!
//! The largest items, statements and blocks of its syntax tree that fit into a chunk, by tree-sitter's grammars (feature
//! `code`); a window of the text is parsed at a time, and what a window begins in the middle of is parsed as well as can be.
//! A comment before an item is a sibling of it, so it may end one passage; the overlap repeats it where it belongs. Without
//! the feature, and of languages without a grammar here, lines as of any text. It does not name the item.

use super::measure::Measure;
use super::split::{Syntax, split};
use super::{Chunk, Limits};
use crate::config::CodeLanguage;

pub(super) fn chunks(measure: &Measure<'_>, limits: Limits, language: CodeLanguage) -> Vec<Chunk> {
    split(measure, 0..measure.text.len(), limits, syntax(language))
        .into_iter()
        .map(|range| Chunk { start: range.start, end: range.end, heading: String::new() })
        .collect()
}

#[cfg(feature = "code")]
fn syntax(language: CodeLanguage) -> Syntax {
    Syntax::Code(language)
}

#[cfg(not(feature = "code"))]
fn syntax(_: CodeLanguage) -> Syntax {
    Syntax::Plain
}

/// The grammar of a language.
#[cfg(feature = "code")]
pub(super) fn grammar(language: CodeLanguage) -> tree_sitter_language::LanguageFn {
    match language {
        CodeLanguage::Bash => tree_sitter_bash::LANGUAGE,
        CodeLanguage::C => tree_sitter_c::LANGUAGE,
        CodeLanguage::CSharp => tree_sitter_c_sharp::LANGUAGE,
        CodeLanguage::Cpp => tree_sitter_cpp::LANGUAGE,
        CodeLanguage::Go => tree_sitter_go::LANGUAGE,
        CodeLanguage::Java => tree_sitter_java::LANGUAGE,
        CodeLanguage::JavaScript => tree_sitter_javascript::LANGUAGE,
        CodeLanguage::Php => tree_sitter_php::LANGUAGE_PHP,
        CodeLanguage::Python => tree_sitter_python::LANGUAGE,
        CodeLanguage::Ruby => tree_sitter_ruby::LANGUAGE,
        CodeLanguage::Rust => tree_sitter_rust::LANGUAGE,
        CodeLanguage::TypeScript => tree_sitter_typescript::LANGUAGE_TSX,
    }
}
