//! What queries are read as, what is refused and how, and that nothing makes the parser panic.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A query in a form that shows how it was read.
fn read(query: &str) -> String {
    group(&TextQuery::parse(query).unwrap().root)
}

fn group(group: &Group) -> String {
    let sign = |occur: &Occur| match occur {
        Occur::Must => "+",
        Occur::Should => "",
        Occur::Not => "-",
    };
    let parts = group.0.iter().map(|(occur, part)| sign(occur).to_owned() + &clause(part));
    parts.collect::<Vec<_>>().join(" ")
}

fn clause(part: &Clause) -> String {
    match part {
        Clause::Word(word) => word.clone(),
        Clause::Phrase { text, slop } => format!("\"{text}\"~{slop}"),
        Clause::Prefix { folded, .. } => format!("{folded}*"),
        Clause::Fuzzy { folded, distance, .. } => format!("{folded}~{distance}"),
        Clause::Group(inner) => format!("({})", group(inner)),
    }
}

fn refusal(query: &str) -> String {
    match TextQuery::parse(query) {
        Ok(read) => panic!("{query} was read as {}", group(&read.root)),
        Err(error) => error.to_string(),
    }
}

#[test]
fn operators_are_read() {
    for (query, expected) in [
        ("data race", "data race"),
        ("\"data race\" \"a b\"~3x", "\"data race\"~0 \"a b\"~3 x"),
        ("“data race”", "\"data race\"~0"),
        ("THREAD* Häus*", "thread* haus*"),
        ("mutx~ threads~ mutx~2", "mutx~1 threads~2 mutx~2"),
        ("+async -tokio NOT std", "+async -tokio -std"),
        ("a AND b", "(+a +b)"),
        ("a b AND c OR d", "a ((+b +c) d)"),
        ("a OR b AND NOT c", "(a (+b -c))"),
        ("(a OR b) AND c", "(+(a b) +c)"),
        ("((a))(b)", "a b"),
        ("-(a OR b) c", "-(a b) c"),
        ("+(a -b) c", "+(a -b) c"),
        ("and or not", "and or not"),
        ("e-mail C++ x~y ~/notes", "e-mail C++ x~y ~/notes"),
        ("\"a AND (b* -c\"", "\"a AND (b* -c\"~0"),
        ("東京* 東*", "東京* 東*"),
        ("東京都*", "東京都"),
        ("a\u{3000}b\n\tc", "a b c"),
    ] {
        assert_eq!(read(query), expected, "{query}");
    }
}

#[test]
fn mistakes_are_refused_with_their_place_and_what_would_be_right() {
    for (query, place, words) in [
        ("", 1, "at least one word"),
        ("  ", 3, "at least one word"),
        ("data \"race", 6, "put `\"` at its end"),
        ("(a OR (b c)", 12, "put `)` at its end"),
        ("a b) c", 4, "closes nothing"),
        ("ä ()", 4, "between the parentheses"),
        ("a AND", 6, "add one"),
        ("AND a", 1, "\"AND\""),
        ("a OR OR b", 6, "\"OR\""),
        ("-a -b", 1, "all is excluded"),
        ("c (-a -b)", 4, "all is excluded"),
        ("NOT a", 1, "all is excluded"),
        ("a OR -b", 1, "without a sign"),
        ("+-a", 2, "two signs"),
        ("rust - async", 6, "right before its word"),
        ("th*ad", 1, "end of a word"),
        ("a t*", 3, "two letters"),
        ("x e-mail*", 3, "takes one word"),
        ("ab~", 1, "3 to 32 letters"),
        ("mutex~3", 1, "takes 1 or 2"),
        ("東京都~", 1, "takes one word"),
        ("東京~", 1, "script with spaces"),
        ("a 🚀", 3, "no letter or digit"),
        ("\"...\"", 1, "put words there"),
        ("\"a b\"~x", 6, "0 to 100"),
        ("\"a b\"~101", 6, "0 to 100"),
    ] {
        let refusal = refusal(query);
        assert!(refusal.contains(&format!("character {place}:")) && refusal.contains(words), "{query}: {refusal}");
    }
}

#[test]
fn queries_are_bounded() {
    let nested = |depth: usize| format!("{}a b{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(read(&nested(DEPTH_MAX)), "(a b)");
    assert!(refusal(&nested(DEPTH_MAX + 1)).contains("32 deep"));
    assert!(refusal(&"(".repeat(BYTES_MAX)).contains("32 deep"));
    assert_eq!(read(&"a ".repeat(CLAUSES_MAX)).len(), 2 * CLAUSES_MAX - 1);
    assert!(refusal(&"a ".repeat(CLAUSES_MAX + 1)).contains("256 parts"));
    assert!(refusal(&"a".repeat(BYTES_MAX + 1)).contains("4097 bytes"));
    assert!(refusal(&format!("{}~", "a".repeat(33))).contains("this has 33"));
}

#[test]
fn plain_words_are_those_asked_for() {
    let words = |query| TextQuery::parse(query).unwrap().plain_words();
    assert_eq!(words("+Thread* \" data race \"~2 -(tokio OR async)"), "Thread data race");
    assert_eq!(words("(mutx~1 OR lock) AND NOT \"spin lock\""), "mutx lock");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_it_panic(query in "\\PC{0,60}|([-+*~()\"aB東1 ]|AND|OR|NOT|é){0,80}") {
        if let Ok(query) = TextQuery::parse(&query) {
            prop_assert!(!query.plain_words().is_empty());
        }
    }
}
