//! What does this line from the command line ask for?
//!
//! `or := and (OR and)*`, `and := not (AND not)*`, `not := NOT not | "(" or ")" | EXISTS field | field condition`.
//!
//! Invariants: parentheses and `NOT` count as levels while reading, so the stack is bounded; every error names the
//! character where it was met.

use serde_json::{Number, Value};

use super::field::{Field, shown};
use super::parse::sorted;
use super::scalar::Scalar;
use super::{Budget, DEPTH_MAX, Node, Test, too_deep};
use crate::{Error, Result};

pub(super) fn from_text(text: &str) -> Result<Node> {
    let mut parser = Parser { text, at: 0, token: Token::End, token_at: 0, budget: Budget::default() };
    parser.advance()?;
    let node = parser.or(0)?;
    if parser.token == Token::End { Ok(node) } else { Err(parser.expected("AND, OR or the end")) }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A bare word: a keyword or a name.
    Word(String),
    /// A name in backquotes.
    Name(String),
    /// Text in double quotes: a name or a value, as the place wants.
    Quoted(String),
    /// Text in single quotes.
    Text(String),
    Number(Number),
    /// A parenthesis, a comma or a comparison.
    Sign(&'static str),
    End,
}

/// The longer ones first.
const SIGNS: [&str; 11] = ["!=", "<>", "<=", ">=", "==", "=", "<", ">", "(", ")", ","];

struct Parser<'a> {
    text: &'a str,
    /// Where the rest begins, after `token`.
    at: usize,
    token: Token,
    token_at: usize,
    budget: Budget,
}

impl Parser<'_> {
    fn or(&mut self, depth: usize) -> Result<Node> {
        let first = self.and(depth)?;
        if !self.keyword("OR") {
            return Ok(first);
        }
        self.budget.condition()?;
        let mut parts = vec![first];
        while self.accept("OR")? {
            parts.push(self.and(depth)?);
        }
        Ok(Node::Or(parts))
    }

    fn and(&mut self, depth: usize) -> Result<Node> {
        let first = self.not(depth)?;
        if !self.keyword("AND") {
            return Ok(first);
        }
        self.budget.condition()?;
        let mut parts = vec![first];
        while self.accept("AND")? {
            parts.push(self.not(depth)?);
        }
        Ok(Node::And(parts))
    }

    fn not(&mut self, depth: usize) -> Result<Node> {
        if depth > DEPTH_MAX {
            return Err(too_deep(&format!("the filter at character {}", self.character(self.token_at))));
        }
        if self.accept("NOT")? {
            self.budget.condition()?;
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.sign("(")? {
            let inner = self.or(depth + 1)?;
            self.require(")")?;
            return Ok(inner);
        }
        self.budget.condition()?;
        if self.accept("EXISTS")? {
            return Ok(Node::Condition(self.field()?, Test::Exists(true)));
        }
        let field = self.field()?;
        Ok(Node::Condition(field, self.test()?))
    }

    fn field(&mut self) -> Result<Field> {
        let name = match &self.token {
            Token::Word(word) if !is_keyword(word) => word,
            Token::Name(name) | Token::Quoted(name) => name,
            Token::Word(_) | Token::Text(_) | Token::Number(_) | Token::Sign(_) | Token::End => {
                return Err(self.expected("a field name (in backquotes where it is a keyword or has special signs)"));
            }
        };
        let field = Field::parse(name).map_err(|error| self.located(&error))?;
        self.advance()?;
        Ok(field)
    }

    fn test(&mut self) -> Result<Test> {
        if let Token::Sign(sign @ ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=")) = self.token {
            self.advance()?;
            return self.comparison(sign);
        }
        if self.accept("NOT")? {
            if self.accept("IN")? {
                return Ok(Test::NotIn(self.list()?));
            }
            return Err(self.expected("IN (to negate another condition, write NOT before the field)"));
        }
        if self.accept("IN")? {
            return Ok(Test::In(self.list()?));
        }
        if self.accept("PREFIX")? {
            return match self.value()? {
                Scalar::Text(prefix) => Ok(Test::Prefix(prefix)),
                Scalar::Null | Scalar::Bool(_) | Scalar::Number(_) => Err(self.refuse("PREFIX takes text in quotes")),
            };
        }
        if self.accept("CONTAINS")? {
            return Ok(Test::Contains(self.value()?));
        }
        Err(self.expected("an operator: =, !=, <, <=, >, >=, IN, NOT IN, PREFIX or CONTAINS"))
    }

    fn comparison(&mut self, sign: &str) -> Result<Test> {
        let value = self.value()?;
        let test = match sign {
            "=" | "==" => return Ok(Test::Equals(value)),
            "!=" | "<>" => return Ok(Test::Differs(value)),
            "<" => Test::Below,
            "<=" => Test::AtMost,
            ">" => Test::Above,
            _ => Test::AtLeast,
        };
        match value {
            Scalar::Number(_) | Scalar::Text(_) => Ok(test(value)),
            Scalar::Null | Scalar::Bool(_) => {
                Err(self.refuse(&format!("`{sign}` compares with a number or with text in quotes")))
            }
        }
    }

    fn list(&mut self) -> Result<Vec<Scalar>> {
        self.require("(")?;
        let mut values = Vec::new();
        if self.sign(")")? {
            return Ok(values);
        }
        loop {
            self.budget.value()?;
            values.push(self.value()?);
            if self.sign(")")? {
                return Ok(sorted(values));
            }
            self.require(",")?;
        }
    }

    fn value(&mut self) -> Result<Scalar> {
        let value = match &self.token {
            Token::Text(text) | Token::Quoted(text) => Scalar::Text(text.clone()),
            Token::Number(number) => Scalar::Number(number.clone()),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => Scalar::Bool(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => Scalar::Bool(false),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => Scalar::Null,
            Token::Word(_) | Token::Name(_) | Token::Sign(_) | Token::End => {
                return Err(self.expected("a value: a number, true, false, null, or text in single quotes"));
            }
        };
        self.advance()?;
        Ok(value)
    }

    fn keyword(&self, keyword: &str) -> bool {
        matches!(&self.token, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn accept(&mut self, keyword: &str) -> Result<bool> {
        let found = self.keyword(keyword);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn sign(&mut self, sign: &str) -> Result<bool> {
        let found = matches!(self.token, Token::Sign(found) if found == sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn require(&mut self, sign: &str) -> Result<()> {
        if self.sign(sign)? { Ok(()) } else { Err(self.expected(&format!("`{sign}`"))) }
    }

    fn advance(&mut self) -> Result<()> {
        let rest = self.text[self.at..].trim_start();
        self.token_at = self.text.len() - rest.len();
        let (token, length) = self.read(rest)?;
        self.at = self.token_at + length;
        self.token = token;
        Ok(())
    }

    /// The first token of the rest, and its length.
    fn read(&self, rest: &str) -> Result<(Token, usize)> {
        let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            return Ok((Token::Sign(sign), sign.len()));
        }
        match first {
            '\'' => self.quoted(rest, first).map(|(text, length)| (Token::Text(text), length)),
            '"' => self.quoted(rest, first).map(|(text, length)| (Token::Quoted(text), length)),
            '`' => self.quoted(rest, first).map(|(text, length)| (Token::Name(text), length)),
            '0'..='9' | '-' | '+' => self.number(rest),
            first if is_name(first) => {
                let length = rest.find(|c| !is_name(c) && c != '-').unwrap_or(rest.len());
                Ok((Token::Word(rest[..length].to_owned()), length))
            }
            _ => Err(self.refuse(&format!("`{}` means nothing here", shown(&first.to_string())))),
        }
    }

    /// Text between quotes, where a quote within is doubled.
    fn quoted(&self, rest: &str, quote: char) -> Result<(String, usize)> {
        let mut text = String::new();
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character != quote {
                text.push(character);
            } else if characters.next_if(|&(_, next)| next == quote).is_some() {
                text.push(quote);
            } else {
                return Ok((text, at + quote.len_utf8()));
            }
        }
        Err(self.refuse(&format!("the text that begins with {quote} has no {quote} at its end")))
    }

    fn number(&self, rest: &str) -> Result<(Token, usize)> {
        let length = rest.find(|c: char| !is_name(c) && !matches!(c, '-' | '+')).unwrap_or(rest.len());
        let digits = rest[..length].strip_prefix('+').unwrap_or(&rest[..length]);
        match serde_json::from_str(digits) {
            Ok(Value::Number(number)) => Ok((Token::Number(number), length)),
            Ok(_) | Err(_) => Err(self.refuse(&format!(
                "`{}` is no number; text stands in single quotes, and a field name that begins so in backquotes",
                shown(&rest[..length])
            ))),
        }
    }

    fn expected(&self, what: &str) -> Error {
        let found = match &self.token {
            Token::Word(text) | Token::Name(text) | Token::Quoted(text) | Token::Text(text) => {
                format!("`{}`", shown(text))
            }
            Token::Number(number) => format!("`{number}`"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".to_owned(),
        };
        self.refuse(&format!("expected {what}, found {found}"))
    }

    fn refuse(&self, what: &str) -> Error {
        Error::invalid(format!("filter, at character {}: {what}", self.character(self.token_at)))
    }

    fn located(&self, error: &Error) -> Error {
        self.refuse(&error.to_string())
    }

    /// Counted from 1.
    fn character(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '.' | '$')
}

fn is_keyword(word: &str) -> bool {
    ["AND", "OR", "NOT", "IN", "EXISTS", "PREFIX", "CONTAINS", "TRUE", "FALSE", "NULL"]
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword))
}
