//! What does this query ask for? Words, phrases, prefixes and fuzzy words, wanted, required or excluded.
//!
//! ```text
//! list        = choice { choice }                 any of them, unless some are required
//! choice      = conjunction { "OR" conjunction }
//! conjunction = item { "AND" item }
//! item        = [ "+" | "-" | "NOT" ] atom        required, excluded
//! atom        = "(" list ")" | '"' words '"' [ "~" places ] | word [ "*" | "~" [ "1" | "2" ] ]
//! ```
//!
//! `AND` binds closer than `OR`, and `OR` closer than a space; in lower case they are words like others. A list with
//! required parts holds where these do, and its other parts only add to the score. Within quotes all signs are plain.
//!
//! Invariants: depth, clauses and bytes are bounded, so no input overflows the stack (tantivy's parser does); every group
//! asks for something, so that what a query finds has a score above 0; every error names the character where it is and
//! what would be right. Nothing here knows the collection: its analyzer comes in when the query is answered.

use super::analyzer::is_unspaced;
use super::pattern::FUZZY_LETTERS_MAX;
use super::{Analyzer, AnalyzerSettings, Language};
use crate::{Error, Result};

/// The longest query in this syntax.
const BYTES_MAX: usize = 4 << 10;
/// Parentheses within parentheses.
const DEPTH_MAX: usize = 32;
/// Words, phrases and groups of one query.
const CLAUSES_MAX: usize = 256;
/// How far apart the words of a phrase may be asked to stand.
const SLOP_MAX: u32 = 100;
/// Words shorter than this may differ in one letter, longer ones in two, unless the query says.
const LONG_WORD_LETTERS: usize = 6;

/// A query of the text index in its syntax.
///
/// | written | finds |
/// |---|---|
/// | `data race` | either word, the more the better |
/// | `"data race"`, `"data race"~3` | these words next to each other in this order; with up to 3 others between |
/// | `thread*` | words that begin so |
/// | `mutx~`, `mutx~2` | words that differ in a letter or two: one changed, added, missing, or two swapped |
/// | `+async -tokio` | required; excluded |
/// | `(send OR sync) AND NOT raw` | groups |
///
/// A prefix and a fuzzy word are compared, lowered and without accents, with the terms of the index, which are stems:
/// `thread*` also finds what `thread` does, and `running*` what `running` does; but one that ends within an ending finds
/// nothing of its word: not `runni*`, and not `happine*`, because the index has `run` and `happi`. Leave the ending out
/// (`run*`), or make the collection without a language. Words such as `the` and `not` are in the index like others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextQuery {
    pub(super) root: Group,
}

/// Parts of which at least one is not excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group(pub(super) Vec<(Occur, Clause)>);

/// How a part takes part in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occur {
    Must,
    Should,
    Not,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Clause {
    Word(String),
    Phrase { text: String, slop: u32 },
    Prefix { written: String, folded: String },
    Fuzzy { written: String, folded: String, distance: u8 },
    Group(Group),
}

impl TextQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the place where it is not of the syntax, and for one of more than 4 KiB, 256 parts
    /// or 32 levels.
    ///
    /// ```
    /// use quiverdb_storage::TextQuery;
    ///
    /// let query = TextQuery::parse("+thread* \"data race\" -(tokio OR async)").unwrap();
    /// assert_eq!(query.plain_words(), "thread data race");
    /// assert!(TextQuery::parse("\"data race").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > BYTES_MAX {
            return Err(Error::invalid(format!(
                "the query has {} bytes; in the query syntax it may have {BYTES_MAX}. Ask with a shorter one",
                text.len()
            )));
        }
        let mut parser = Parser { text, at: 0, clauses: 0 };
        let root = parser.list(0)?;
        match parser.next_token() {
            (_, Token::End) => Ok(Self { root }),
            (start, _) => Err(parser.wrong(start, "`)` closes nothing; leave it out, or put `(` before")),
        }
    }

    /// The words that it asks for, without signs and without what it excludes, joined by spaces: what to embed.
    pub fn plain_words(&self) -> String {
        let mut words = Vec::new();
        self.root.positive(&mut |clause| {
            words.push(match clause {
                Clause::Word(word) => word.as_str(),
                Clause::Phrase { text, .. } => text.trim(),
                Clause::Prefix { written, .. } | Clause::Fuzzy { written, .. } => written,
                Clause::Group(_) => return,
            });
        });
        words.join(" ")
    }
}

impl Group {
    /// Calls `each` for the parts that are asked for, in their order; groups are walked through.
    pub(super) fn positive<'a>(&'a self, each: &mut dyn FnMut(&'a Clause)) {
        for (occur, clause) in &self.0 {
            match (occur, clause) {
                (Occur::Not, _) => {}
                (_, Clause::Group(group)) => group.positive(each),
                (_, clause) => each(clause),
            }
        }
    }
}

/// How a word is split and lowered in any collection.
fn plain_terms(word: &str) -> Vec<String> {
    let settings = AnalyzerSettings { language: Language::None, split_identifiers: false };
    Analyzer::new(&settings).word_terms(word)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Quote,
    Sign(Occur),
    Word(&'a str),
    End,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    clauses: usize,
}

impl<'a> Parser<'a> {
    /// Reads until what does not belong to a list, and leaves that.
    fn list(&mut self, depth: usize) -> Result<Group> {
        let start = self.at;
        let mut parts = Vec::new();
        loop {
            let (at, token) = self.peek();
            match token {
                Token::End if depth > 0 => return Err(self.wrong(at, "a `(` is not closed; put `)` at its end")),
                Token::Close | Token::End => break,
                Token::Open | Token::Quote | Token::Sign(_) | Token::Word(_) => parts.push(self.choice(depth)?),
            }
        }
        self.group(parts, start)
    }

    fn choice(&mut self, depth: usize) -> Result<(Occur, Clause)> {
        let start = self.at;
        let mut parts = vec![self.conjunction(depth)?];
        while self.takes("OR") {
            parts.push(self.conjunction(depth)?);
        }
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        if parts.iter().any(|(occur, _)| *occur != Occur::Should) {
            return Err(self.wrong(
                start,
                "`OR` joins parts without a sign; put `+`, `-` or `NOT` before parentheses around all of it",
            ));
        }
        Ok((Occur::Should, Clause::Group(self.group(parts, start)?)))
    }

    fn conjunction(&mut self, depth: usize) -> Result<(Occur, Clause)> {
        let start = self.at;
        let mut parts = vec![self.item(depth)?];
        while self.takes("AND") {
            parts.push(self.item(depth)?);
        }
        if parts.len() == 1 {
            return Ok(parts.swap_remove(0));
        }
        for (occur, _) in parts.iter_mut().filter(|(occur, _)| *occur == Occur::Should) {
            *occur = Occur::Must;
        }
        Ok((Occur::Should, Clause::Group(self.group(parts, start)?)))
    }

    fn item(&mut self, depth: usize) -> Result<(Occur, Clause)> {
        let (start, token) = self.peek();
        let occur = match token {
            Token::Sign(occur) => {
                self.next_token();
                if self.text[self.at..].starts_with(char::is_whitespace) {
                    return Err(
                        self.wrong(start, "a sign stands right before its word, as in `-word`; else leave it out")
                    );
                }
                occur
            }
            Token::Word("NOT") => {
                self.next_token();
                Occur::Not
            }
            Token::Open | Token::Close | Token::Quote | Token::Word(_) | Token::End => Occur::Should,
        };
        self.clauses += 1;
        if self.clauses > CLAUSES_MAX {
            return Err(self.wrong(start, &format!("a query has {CLAUSES_MAX} parts at most; ask with fewer")));
        }
        Ok((occur, self.atom(depth)?))
    }

    fn atom(&mut self, depth: usize) -> Result<Clause> {
        let (start, token) = self.next_token();
        match token {
            Token::Open if depth == DEPTH_MAX => {
                Err(self.wrong(start, &format!("parentheses stand {DEPTH_MAX} deep at most; ask with fewer")))
            }
            Token::Open => {
                let mut group = self.list(depth + 1)?;
                self.next_token();
                // Parentheses around one part are no group of their own.
                match group.0.as_slice() {
                    [_] => Ok(group.0.swap_remove(0).1),
                    _ => Ok(Clause::Group(group)),
                }
            }
            Token::Quote => self.phrase(start),
            Token::Word(word @ ("AND" | "OR" | "NOT")) => {
                Err(self
                    .wrong(start, &format!("`{word}` stands where a word is due; as a word it is written \"{word}\"")))
            }
            Token::Word(word) => self.word(start, word),
            Token::Close => Err(self.wrong(start, "`)` stands where a word is due; put one before")),
            Token::End => Err(self.wrong(start, "the query ends where a word is due; add one")),
            Token::Sign(_) => Err(self.wrong(start, "two signs in a row; keep one, or put the word in quotes")),
        }
    }

    /// Reads on after the opening quote.
    fn phrase(&mut self, start: usize) -> Result<Clause> {
        let rest = &self.text[self.at..];
        let Some(end) = rest.find(is_quote) else {
            return Err(self.wrong(start, "the quote is not closed; put `\"` at its end"));
        };
        let text = &rest[..end];
        self.at += end + rest[end..].chars().next().map_or(0, char::len_utf8);
        if plain_terms(text).is_empty() {
            return Err(self.wrong(start, "nothing between the quotes is a letter or digit; put words there"));
        }
        Ok(Clause::Phrase { text: text.to_owned(), slop: self.slop()? })
    }

    /// Reads `~3` where it follows a phrase.
    fn slop(&mut self) -> Result<u32> {
        let Some(rest) = self.text[self.at..].strip_prefix('~') else { return Ok(0) };
        let start = self.at;
        let digits = &rest[..rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len())];
        self.at += 1 + digits.len();
        let slop = digits.parse().ok().filter(|slop| *slop <= SLOP_MAX);
        slop.ok_or_else(|| {
            let message = format!("after a phrase, `~` takes the words that may stand between, 0 to {SLOP_MAX}");
            self.wrong(start, &message)
        })
    }

    fn word(&self, start: usize, word: &str) -> Result<Clause> {
        let (body, distance) = match word.rsplit_once('~') {
            Some((body, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => (body, Some(digits)),
            Some(_) | None => (word, None),
        };
        let prefix = distance.is_none().then(|| body.strip_suffix('*')).flatten();
        if prefix.unwrap_or(body).contains('*') {
            return Err(
                self.wrong(start, "`*` stands at the end of a word, as in `thread*`; else put the word in quotes")
            );
        }
        if plain_terms(body).is_empty() {
            return Err(
                self.wrong(start, &format!("`{}` has no letter or digit to look for; leave it out", shown(word)))
            );
        }
        match (prefix, distance) {
            (Some(prefix), _) => self.prefix(start, prefix),
            (None, Some(digits)) => self.fuzzy(start, body, digits),
            (None, None) => Ok(Clause::Word(body.to_owned())),
        }
    }

    fn prefix(&self, start: usize, body: &str) -> Result<Clause> {
        let mut terms = plain_terms(body);
        // Where words are not separated, what begins so holds it, and more than a pair is a phrase of pairs.
        let unspaced = body.chars().all(is_unspaced);
        if unspaced && terms.len() > 1 {
            return Ok(Clause::Word(body.to_owned()));
        }
        let folded = self.single(start, "*", &mut terms)?;
        if folded.chars().count() < 2 && !unspaced {
            return Err(self.wrong(start, "`*` takes two letters at least; write more of the word"));
        }
        Ok(Clause::Prefix { written: body.to_owned(), folded })
    }

    fn fuzzy(&self, start: usize, body: &str, digits: &str) -> Result<Clause> {
        let folded = self.single(start, "~", &mut plain_terms(body))?;
        let letters = folded.chars().count();
        if folded.chars().any(is_unspaced) {
            return Err(self.wrong(start, "`~` takes words of a script with spaces; leave it out here"));
        }
        let distance: u8 = match digits {
            "" => usual_distance(letters),
            "1" => 1,
            "2" => 2,
            _ => return Err(self.wrong(start, "`~` takes 1 or 2, the letters that may differ")),
        };
        let fewest = usize::from(distance) + 2;
        if !(fewest..=FUZZY_LETTERS_MAX).contains(&letters) {
            let message =
                format!("`~{distance}` takes words of {fewest} to {FUZZY_LETTERS_MAX} letters; this has {letters}");
            return Err(self.wrong(start, &message));
        }
        Ok(Clause::Fuzzy { written: body.to_owned(), folded, distance })
    }

    fn single(&self, start: usize, sign: &str, terms: &mut Vec<String>) -> Result<String> {
        match terms.as_slice() {
            [_] => Ok(terms.swap_remove(0)),
            _ => Err(self.wrong(start, &format!("`{sign}` takes one word; `{}` are {}", terms.join(" "), terms.len()))),
        }
    }

    /// The parts as a group, of which at least one must be asked for.
    fn group(&self, parts: Vec<(Occur, Clause)>, start: usize) -> Result<Group> {
        if parts.is_empty() {
            let message = if self.text.trim().is_empty() {
                "the query is empty; ask with at least one word"
            } else {
                "nothing stands between the parentheses; put a word there, or put them in quotes"
            };
            return Err(self.wrong(start, message));
        }
        if parts.iter().all(|(occur, _)| *occur == Occur::Not) {
            return Err(self.wrong(start, "all is excluded here; add a word to look for beside what is excluded"));
        }
        Ok(Group(parts))
    }

    /// Whether this operator comes next; it is then passed over.
    fn takes(&mut self, operator: &str) -> bool {
        let found = matches!(self.peek(), (_, Token::Word(word)) if word == operator);
        if found {
            self.next_token();
        }
        found
    }

    fn peek(&mut self) -> (usize, Token<'a>) {
        let before = self.at;
        let found = self.next_token();
        self.at = before;
        found
    }

    /// The next token and where it begins.
    fn next_token(&mut self) -> (usize, Token<'a>) {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            self.at = start;
            return (start, Token::End);
        };
        let (length, token) = match first {
            '(' => (1, Token::Open),
            ')' => (1, Token::Close),
            '+' => (1, Token::Sign(Occur::Must)),
            '-' => (1, Token::Sign(Occur::Not)),
            _ if is_quote(first) => (first.len_utf8(), Token::Quote),
            _ => {
                let ends = |character: char| {
                    character.is_whitespace() || matches!(character, '(' | ')') || is_quote(character)
                };
                let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
                (word.len(), Token::Word(word))
            }
        };
        self.at = start + length;
        (start, token)
    }

    fn wrong(&self, at: usize, what: &str) -> Error {
        let rest = &self.text[at..];
        let at = at + (rest.len() - rest.trim_start().len());
        let character = self.text[..at].chars().count() + 1;
        Error::invalid(format!("query, character {character}: {what}"))
    }
}

/// How many letters may differ in a word of so many.
pub(super) fn usual_distance(letters: usize) -> u8 {
    if letters < LONG_WORD_LETTERS { 1 } else { 2 }
}

/// Straight quotes and those that text processors put in their place.
fn is_quote(character: char) -> bool {
    matches!(character, '"' | '\u{201C}' | '\u{201D}' | '\u{201E}')
}

/// A word in a message.
fn shown(word: &str) -> &str {
    &word[..word.floor_char_boundary(40)]
}

#[cfg(test)]
#[path = "syntax_tests.rs"]
mod tests;
