//! Which text does a web page show its reader?
//!
//! HTML becomes Markdown: headings, lists, tables and code keep their shape, so that passages know the headings above
//! them; links keep their words. What a reader does not read is left out: scripts, navigation, headers and footers of the
//! site, forms, what is hidden, cookie banners that are marked as such. A page with a `main` element is that element.
//! Where nothing would be left, everything stays.
//!
//! It works on tags as they come and builds no tree: any nesting costs linear time and no stack. It is no browser: what
//! scripts would write is not there.

mod elements;
mod markdown;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::{Map, Value};

use self::elements::{Attributes, Tag};
use self::markdown::{Keep, Writer};
use super::Extract;
use super::encoding::decode_marked_up;

/// What a page is, and what it says.
pub(super) struct Page {
    pub(super) text: String,
    pub(super) title: Option<String>,
    /// `lang`, `description` and `author`, where the page names them.
    pub(super) metadata: Map<String, Value>,
}

/// The document of an HTML or XHTML file.
pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    let decoded = decode_marked_up(bytes);
    let Page { text, title, mut metadata } = page(&decoded.text, is_xhtml(&decoded.text));
    if let Some(encoding) = decoded.encoding {
        metadata.insert("encoding".to_owned(), Value::String(encoding.to_owned()));
    }
    Ok(Extract { text, title, metadata, lossy: decoded.lossy })
}

/// Whether a text calls itself XML: there, tags that close themselves are closed, and scripts hold no markup.
fn is_xhtml(text: &str) -> bool {
    text.trim_start().starts_with("<?xml")
}

/// Reads a page. Cost: the tags are read twice, or once more for each kind of content that turns out to be all there is.
pub(super) fn page(html: &str, is_xml: bool) -> Page {
    let survey = survey(html, is_xml);
    let keeps = [Keep::Main, Keep::Body, Keep::Everything];
    let first = if survey.has_main { 0 } else { 1 };
    let mut text = String::new();
    for keep in &keeps[first..] {
        text = write(html, is_xml, *keep, &survey.layout_tables);
        if !text.trim().is_empty() {
            break;
        }
    }
    Page { text, title: survey.title, metadata: survey.metadata }
}

fn write(html: &str, is_xml: bool, keep: Keep, layout_tables: &[bool]) -> String {
    let mut writer = Writer::new(keep, layout_tables);
    for token in tokens(html, is_xml) {
        match token {
            Piece::Open(tag, attributes, closed) => writer.open(tag, &attributes, closed && is_xml),
            Piece::Close(tag) => writer.close(tag),
            Piece::Text(text) => writer.text(&text),
        }
    }
    writer.finish()
}

enum Piece {
    Open(Tag, Attributes, bool),
    Close(Tag),
    Text(String),
}

fn tokens(html: &str, is_xml: bool) -> impl Iterator<Item = Piece> {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(!is_xml);
    Tokenizer::new_with_emitter(html, emitter).filter_map(|token| {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let attributes = tag.attributes.into_iter().map(|(name, value)| (text_of(&name), text_of(&value)));
                Some(Piece::Open(Tag::named(&tag.name), attributes.collect(), tag.self_closing))
            }
            Token::EndTag(tag) => Some(Piece::Close(Tag::named(&tag.name))),
            Token::String(text) => Some(Piece::Text(text_of(&text))),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => None,
        }
    })
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is known of a page before its text is written.
#[derive(Default)]
struct Survey {
    has_main: bool,
    title: Option<String>,
    metadata: Map<String, Value>,
    /// For each table, in their order: whether it only puts things beside each other, because it holds headings or further
    /// tables.
    layout_tables: Vec<bool>,
}

/// Tables inside each other that are told apart.
const TABLES_MAX: usize = 64;

fn survey(html: &str, is_xml: bool) -> Survey {
    let mut survey = Survey::default();
    let mut open: Vec<usize> = Vec::new();
    let (mut in_title, mut title) = (false, String::new());
    let mut drawing = 0usize;
    for token in tokens(html, is_xml) {
        match token {
            Piece::Open(tag, attributes, closed) => {
                // Pictures have titles of their own.
                drawing += usize::from(tag.is_drawing() && !closed);
                in_title |= tag.is("title") && drawing == 0 && survey.title.is_none();
                survey.see(tag, &attributes, &mut open);
            }
            Piece::Close(tag) => {
                drawing = drawing.saturating_sub(usize::from(tag.is_drawing()));
                if tag.is("table") {
                    open.pop();
                }
                if in_title && tag.is("title") {
                    in_title = false;
                    survey.title = one_line(&title);
                }
            }
            Piece::Text(text) if in_title => title.push_str(&text),
            Piece::Text(_) => {}
        }
    }
    survey
}

impl Survey {
    fn see(&mut self, tag: Tag, attributes: &Attributes, open: &mut Vec<usize>) {
        let given = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        self.has_main |= tag.is("main") || given("role") == Some("main");
        match tag.name() {
            "html" => {
                self.note("lang", given("lang").or_else(|| given("xml:lang")));
            }
            "meta" => match given("name").unwrap_or_default().to_ascii_lowercase().as_str() {
                "description" => self.note("description", given("content")),
                "author" => self.note("author", given("content")),
                _ => {}
            },
            "table" => {
                let is_layout = matches!(given("role"), Some("presentation" | "none"));
                open.iter().for_each(|&outer| self.layout_tables[outer] = true);
                self.layout_tables.push(is_layout);
                if open.len() < TABLES_MAX {
                    open.push(self.layout_tables.len() - 1);
                }
            }
            _ if tag.heading().is_some() => open.iter().for_each(|&outer| self.layout_tables[outer] = true),
            _ => {}
        }
    }

    /// Remembers the first value of a name that is not blank.
    fn note(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.and_then(one_line) {
            self.metadata.entry(name).or_insert(Value::String(value));
        }
    }
}

/// The words of a text with a space between each; `None` where there are none. At most 1,000 bytes.
pub(super) fn one_line(text: &str) -> Option<String> {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(1_000));
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests;
