//! Which text does a language model get to read? Passages in, a cited context within a token budget out.
//!
//! Invariants: best first; passages of one document that overlap become one; nothing is said twice; every passage has
//! a number, and a citation that leads back to its bytes; the whole, markup included, never counts more tokens than
//! the budget; what is cut ends at a sentence and says so.
//!
//! It does not search, and it does not know the model's tokenizer: the caller counts.

use std::sync::Arc;

use quiverdb_storage::is_titled;
use serde::Serialize;

/// What stands at the end of a passage that was cut.
const CUT_MARK: &str = " […]";

/// A passage to be put into a context: `document.text[start..end] == text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The document's id.
    pub document: String,
    /// The document's title.
    pub title: Option<String>,
    /// The headings above the passage; may be empty.
    pub heading: String,
    /// Its first byte in the document's text.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// The page on which it begins, where the document has pages ([`crate::Hit::page`]).
    pub page: Option<usize>,
    /// Its text.
    pub text: String,
}

/// How a context is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContextFormat {
    /// `[1] Title > Heading (document)` and the passage, blank lines between.
    #[default]
    Text,
    /// `<context><passage number="1" document="...">...</passage></context>`.
    Xml,
    /// `{"passages": [{"number": 1, "document": ..., "text": ...}]}`.
    Json,
}

impl ContextFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Xml, Self::Json];

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Xml => "xml",
            Self::Json => "json",
        }
    }
}

/// How the answers to a query become a context.
#[derive(Clone)]
pub struct ContextOptions {
    pub(crate) budget_tokens: usize,
    pub(crate) format: ContextFormat,
    pub(crate) neighbours: u32,
    pub(crate) count: Option<Arc<CountTokens>>,
}

/// How many tokens a text has.
pub type CountTokens = dyn Fn(&str) -> usize + Send + Sync;

impl ContextOptions {
    /// A context of at most so many tokens, as text.
    pub fn new(budget_tokens: usize) -> Self {
        Self { budget_tokens, format: ContextFormat::Text, neighbours: 0, count: None }
    }

    /// How it is written.
    #[must_use]
    pub fn format(mut self, format: ContextFormat) -> Self {
        self.format = format;
        self
    }

    /// Of what the hits leave of the budget, up to so many passages before and after each hit are read as well: first
    /// those next to the best hit, in the end those farthest from the last. With those that touch they become one.
    #[must_use]
    pub fn neighbours(mut self, neighbours: u32) -> Self {
        self.neighbours = neighbours;
        self
    }

    /// Counts as the reader of the context does. Without it, tokens are those of the collection's own model, which are
    /// about as many for the same language.
    #[must_use]
    pub fn count(mut self, count: impl Fn(&str) -> usize + Send + Sync + 'static) -> Self {
        self.count = Some(Arc::new(count));
        self
    }
}

impl std::fmt::Debug for ContextOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { budget_tokens, format, neighbours, count } = self;
        formatter
            .debug_struct("ContextOptions")
            .field("budget_tokens", budget_tokens)
            .field("format", format)
            .field("neighbours", neighbours)
            .field("count", &count.as_ref().map(|_| ".."))
            .finish()
    }
}

/// A context and where each of its passages comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Context {
    /// What to hand to the model.
    pub text: String,
    /// In order of their numbers.
    pub citations: Vec<Citation>,
    /// The tokens of `text`, as the caller counts them.
    pub tokens: usize,
}

/// Where a passage of a context comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Citation {
    /// The number that the context cites it by, from 1.
    pub number: usize,
    /// The document's id.
    pub document: String,
    /// Its first byte in the document's text.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// The page on which it begins, where the document has pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<usize>,
}

/// Builds a context of at most `budget_tokens`, as `count` counts them, from passages in order of relevance.
///
/// Passages are taken until one does not fit; that one is cut at the end of a sentence, or left out where not even its
/// first sentence fits (the very first is then cut at a word). Where not even the empty frame of a format fits, the
/// text is empty.
///
/// Cost: the context so far is counted once a passage.
pub fn context(
    passages: &[Passage],
    budget_tokens: usize,
    count: &dyn Fn(&str) -> usize,
    format: ContextFormat,
) -> Context {
    let mut blocks: Vec<Passage> = Vec::new();
    let fits = |blocks: &[Passage]| count(&render(blocks, format)) <= budget_tokens;
    for passage in passages.iter().filter(|passage| !passage.text.trim().is_empty()) {
        let Some(with) = add(&blocks, passage) else { continue };
        if fits(&with) {
            blocks = with;
            continue;
        }
        if with.len() > blocks.len()
            && let Some(with) = add_cut(&blocks, passage, &fits)
        {
            blocks = with;
        }
        break;
    }
    let text = render(&blocks, format);
    let tokens = count(&text);
    if tokens > budget_tokens {
        return Context { text: String::new(), citations: Vec::new(), tokens: 0 };
    }
    let cite = |(at, block): (usize, &Passage)| Citation {
        number: at + 1,
        document: block.document.clone(),
        start: block.start,
        end: block.end,
        page: block.page,
    };
    Context { text, citations: blocks.iter().enumerate().map(cite).collect(), tokens }
}

/// The blocks with one passage more: joined to those that it overlaps, at the place of the best of them. `None` where
/// it says nothing new.
fn add(blocks: &[Passage], passage: &Passage) -> Option<Vec<Passage>> {
    if blocks.iter().any(|block| block.text.trim() == passage.text.trim() || contains(block, passage)) {
        return None;
    }
    let mut place = None;
    let mut merged = passage.clone();
    let mut with: Vec<Passage> = Vec::with_capacity(blocks.len() + 1);
    for block in blocks {
        match merge(block, &merged) {
            Some(union) => {
                // The better passage names the heading.
                let named = if place.is_none() { block.clone() } else { merged };
                place.get_or_insert(with.len());
                let Passage { document, title, heading, .. } = named;
                merged = Passage { document, title, heading, ..union };
            }
            None => with.push(block.clone()),
        }
    }
    with.insert(place.unwrap_or(with.len()), merged);
    Some(with)
}

fn contains(block: &Passage, passage: &Passage) -> bool {
    block.document == passage.document && block.start <= passage.start && passage.end <= block.end
}

/// Two passages of one document that overlap or touch, as one; `None` where they do neither.
fn merge(a: &Passage, b: &Passage) -> Option<Passage> {
    let (first, second) = if a.start <= b.start { (a, b) } else { (b, a) };
    let whole = |passage: &Passage| passage.end.checked_sub(passage.start) == Some(passage.text.len());
    if a.document != b.document || second.start > first.end || !whole(first) || !whole(second) {
        return None;
    }
    let mut union = first.clone();
    if second.end > first.end {
        union.text.push_str(second.text.get(first.end - second.start..)?);
        union.end = second.end;
    }
    Some(union)
}

/// The blocks with the longest beginning of a passage that fits.
fn add_cut(blocks: &[Passage], passage: &Passage, fits: &dyn Fn(&[Passage]) -> bool) -> Option<Vec<Passage>> {
    let with_cut = |end: usize| {
        let mut cut = passage.clone();
        cut.text.truncate(end);
        cut.text.push_str(CUT_MARK);
        cut.end = passage.start + end;
        [blocks, &[cut]].concat()
    };
    let longest = |ends: Vec<usize>| {
        // Longer beginnings have more tokens; where a tokenizer disagrees a little, a shorter cut is found.
        let fitting = ends.partition_point(|end| fits(&with_cut(*end)));
        fitting.checked_sub(1).map(|at| with_cut(ends[at])).filter(|with| fits(with))
    };
    longest(sentence_ends(&passage.text)).or_else(|| match blocks {
        [] => longest(word_ends(&passage.text)),
        [_, ..] => None,
    })
}

/// Where sentences and paragraphs end, the end of the text not among them.
fn sentence_ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let spaced = characters.peek().is_some_and(|(_, next)| next.is_whitespace());
        match character {
            '。' | '！' | '？' => ends.push(end),
            '.' | '!' | '?' | '…' if spaced => ends.push(end),
            '\n' if characters.peek().is_some_and(|(_, next)| *next == '\n') => ends.push(text[..at].trim_end().len()),
            _ => {}
        }
    }
    ends.retain(|end| *end > 0 && *end < text.trim_end().len());
    ends.dedup();
    ends
}

fn word_ends(text: &str) -> Vec<usize> {
    let mut ends: Vec<usize> = text
        .char_indices()
        .filter(|(_, character)| character.is_whitespace())
        .map(|(at, _)| text[..at].trim_end().len())
        .collect();
    ends.retain(|end| *end > 0);
    ends.dedup();
    ends
}

fn render(blocks: &[Passage], format: ContextFormat) -> String {
    match format {
        ContextFormat::Text => render_text(blocks),
        ContextFormat::Xml => render_xml(blocks),
        ContextFormat::Json => render_json(blocks),
    }
}

fn render_text(blocks: &[Passage]) -> String {
    let one = |(at, block): (usize, &Passage)| {
        let place = place(block.title.as_deref(), &block.heading);
        let source = match block.page {
            Some(page) => format!("{}, page {page}", block.document),
            None => block.document.clone(),
        };
        let name = if place.is_empty() { source } else { format!("{place} ({source})") };
        format!("[{}] {}\n{}", at + 1, name.replace(['\n', '\r'], " "), block.text.trim_end())
    };
    blocks.iter().enumerate().map(one).collect::<Vec<_>>().join("\n\n")
}

/// Title and headings as one path; a title that the headings begin with is not said twice.
pub fn place(title: Option<&str>, heading: &str) -> String {
    match (title.unwrap_or_default(), heading) {
        ("", heading) => heading.to_owned(),
        (title, "") => title.to_owned(),
        (title, heading) if is_titled(heading, title) => heading.to_owned(),
        (title, heading) => format!("{title} > {heading}"),
    }
}

fn render_xml(blocks: &[Passage]) -> String {
    let mut xml = String::from("<context>\n");
    for (at, Passage { document, title, heading, start, end, page, text }) in blocks.iter().enumerate() {
        xml.push_str(&format!("<passage number=\"{}\" document=\"{}\"", at + 1, xml_escaped(document, true)));
        if let Some(title) = title {
            xml.push_str(&format!(" title=\"{}\"", xml_escaped(title, true)));
        }
        if !heading.is_empty() {
            xml.push_str(&format!(" heading=\"{}\"", xml_escaped(heading, true)));
        }
        if let Some(page) = page {
            xml.push_str(&format!(" page=\"{page}\""));
        }
        xml.push_str(&format!(" start=\"{start}\" end=\"{end}\">\n{}\n</passage>\n", xml_escaped(text, false)));
    }
    xml.push_str("</context>");
    xml
}

/// Text for XML 1.0: markup escaped; characters that XML cannot hold at all become U+FFFD.
fn xml_escaped(text: &str, attribute: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' if attribute => escaped.push_str("&quot;"),
            '\n' | '\t' if !attribute => escaped.push(character),
            '\n' | '\t' | '\r' => escaped.push_str(&format!("&#{};", u32::from(character))),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[derive(Serialize)]
struct JsonContext<'a> {
    passages: Vec<JsonPassage<'a>>,
}

#[derive(Serialize)]
struct JsonPassage<'a> {
    number: usize,
    document: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    heading: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<usize>,
    start: usize,
    end: usize,
    text: &'a str,
}

fn render_json(blocks: &[Passage]) -> String {
    let passages = blocks.iter().enumerate().map(|(at, block)| {
        let Passage { document, title, heading, start, end, page, text } = block;
        let (number, title) = (at + 1, title.as_deref());
        JsonPassage { number, document, title, heading, page: *page, start: *start, end: *end, text }
    });
    let context = JsonContext { passages: passages.collect() };
    // Strings and numbers only: there is nothing in it that JSON could not hold.
    serde_json::to_string(&context).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "One is first. Two is second. Three is third. Four is fourth.";

    fn passage(document: &str, start: usize, end: usize) -> Passage {
        let text = DOCUMENT[start..end].to_owned();
        Passage { document: document.into(), title: None, heading: String::new(), start, end, page: None, text }
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn ranges(context: &Context) -> Vec<(usize, usize)> {
        context.citations.iter().map(|citation| (citation.start, citation.end)).collect()
    }

    #[test]
    fn passages_are_cited_best_first() {
        let built = context(&[passage("b", 29, 44), passage("a", 0, 13)], 100, &words, ContextFormat::Text);
        assert_eq!(built.text, "[1] b\nThree is third.\n\n[2] a\nOne is first.");
        let numbers: Vec<(usize, &str)> = built.citations.iter().map(|c| (c.number, c.document.as_str())).collect();
        assert_eq!(numbers, [(1, "b"), (2, "a")]);
        assert_eq!(built.tokens, words(&built.text));
    }

    #[test]
    fn overlapping_passages_of_a_document_become_one() {
        let passages = [passage("a", 14, 44), passage("b", 45, 60), passage("a", 0, 28)];
        let built = context(&passages, 100, &words, ContextFormat::Text);
        assert_eq!(ranges(&built), [(0, 44), (45, 60)]);
        assert!(built.text.starts_with("[1] a\nOne is first. Two is second. Three is third.\n"));
    }

    #[test]
    fn a_passage_that_bridges_two_joins_all_three_at_the_best_place() {
        let passages = [passage("a", 45, 60), passage("b", 29, 44), passage("a", 0, 13), passage("a", 10, 50)];
        let built = context(&passages, 100, &words, ContextFormat::Text);
        assert_eq!(ranges(&built), [(0, 60), (29, 44)]);
        assert!(built.text.contains(DOCUMENT));
    }

    #[test]
    fn nothing_is_said_twice() {
        let passages = [passage("a", 0, 28), passage("a", 0, 13), passage("copy", 0, 28), passage("a", 0, 28)];
        assert_eq!(ranges(&context(&passages, 100, &words, ContextFormat::Text)), [(0, 28)]);
    }

    #[test]
    fn the_budget_holds_in_every_format() {
        let passages = [passage("a", 0, 60), passage("b", 0, 28), passage("c", 29, 60), passage("a&b", 14, 44)];
        for format in [ContextFormat::Text, ContextFormat::Xml, ContextFormat::Json] {
            for budget in 0..60 {
                for count in [&words as &dyn Fn(&str) -> usize, &str::len] {
                    let built = context(&passages, budget, count, format);
                    assert!(
                        built.tokens <= budget && built.tokens == count(&built.text),
                        "{format:?} {budget} {built:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_last_passage_is_cut_at_a_sentence_and_says_so() {
        let built = context(&[passage("a", 0, 13), passage("b", 14, 60)], 13, &words, ContextFormat::Text);
        assert_eq!(built.text, "[1] a\nOne is first.\n\n[2] b\nTwo is second. […]");
        assert_eq!(ranges(&built), [(0, 13), (14, 28)]);
    }

    #[test]
    fn the_first_passage_is_cut_at_a_word_if_need_be() {
        let built = context(&[passage("a", 0, 60)], 5, &words, ContextFormat::Text);
        assert_eq!(built.text, "[1] a\nOne is […]");
        assert_eq!(ranges(&built), [(0, 6)]);
    }

    #[test]
    fn a_passage_whose_first_sentence_does_not_fit_is_left_out() {
        let built = context(&[passage("a", 0, 13), passage("b", 14, 60)], 8, &words, ContextFormat::Text);
        assert_eq!(built.text, "[1] a\nOne is first.");
    }

    #[test]
    fn xml_is_escaped() {
        let odd = Passage {
            document: "a\"<b>".into(),
            title: Some("x & y\n".into()),
            heading: "H > I".into(),
            start: 0,
            end: 12,
            page: Some(3),
            text: "if a < b \0&".into(),
        };
        let built = context(&[odd], 100, &words, ContextFormat::Xml);
        let expected = "<context>\n<passage number=\"1\" document=\"a&quot;&lt;b&gt;\" title=\"x &amp; y&#10;\" \
                        heading=\"H &gt; I\" page=\"3\" start=\"0\" end=\"12\">\nif a &lt; b \u{fffd}&amp;\n</passage>\n</context>";
        assert_eq!(built.text, expected);
    }

    #[test]
    fn json_can_be_read_back() {
        let built = context(&[passage("a\"", 0, 13)], 100, &words, ContextFormat::Json);
        let value: serde_json::Value = serde_json::from_str(&built.text).unwrap_or_default();
        let expected =
            serde_json::json!({"number": 1, "document": "a\"", "start": 0, "end": 13, "text": "One is first."});
        assert_eq!(value["passages"][0], expected);
    }

    #[test]
    fn titles_and_headings_are_named_once() {
        let mut titled = passage("a.md", 0, 13);
        titled.title = Some("Book".into());
        titled.heading = "Book > One".into();
        let built = context(std::slice::from_ref(&titled), 100, &words, ContextFormat::Text);
        assert!(built.text.starts_with("[1] Book > One (a.md)\n"));
        titled.heading = "Part".into();
        titled.page = Some(7);
        let built = context(&[titled], 100, &words, ContextFormat::Text);
        assert!(built.text.starts_with("[1] Book > Part (a.md, page 7)\n"));
        assert_eq!(built.citations[0].page, Some(7));
        assert_eq!(place(Some("Book"), "Bookshelves > Oak"), "Book > Bookshelves > Oak");
        assert_eq!(
            (place(None, "Part"), place(Some("Book"), ""), place(Some(""), "")),
            ("Part".into(), "Book".into(), String::new())
        );
    }

    #[test]
    fn no_passages_give_an_empty_frame() {
        assert_eq!(context(&[], 100, &words, ContextFormat::Text).text, "");
        assert_eq!(context(&[], 100, &words, ContextFormat::Json).text, "{\"passages\":[]}");
        assert_eq!(context(&[], 0, &words, ContextFormat::Json).text, "");
    }
}
