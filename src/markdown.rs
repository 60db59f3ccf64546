//! Where are the headings of this Markdown text?
//!
//! A scanner over lines, after CommonMark: ATX (`## Title`) and setext (underlined) headings, not those in fenced
//! code, HTML comments and front matter. It is a little more generous with fences than CommonMark (any indentation),
//! because fences in list items are more common than shell comments that show one. Linear, no recursion.
//!
//! It knows nothing of chunks.

/// A heading and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    /// 1 to 6.
    pub(crate) level: usize,
    /// The first byte of its first line.
    pub(crate) start: usize,
    /// Its words, without markup.
    pub(crate) title: String,
    /// Whether it is an ATX heading with blank lines (or the text's edges) around it, as people write Markdown.
    pub(crate) free_standing: bool,
}

/// The longest title kept, in bytes: it goes before every chunk of its section.
const TITLE_BYTES_MAX: usize = 160;
/// How much of a heading is read for its title.
const TITLE_SOURCE_BYTES_MAX: usize = 1024;

/// The words of the first heading of a Markdown text.
pub(crate) fn first_heading(text: &str) -> Option<String> {
    Scanner::new(text).find(|heading| !heading.title.is_empty()).map(|heading| heading.title)
}

/// All headings, in order.
pub(crate) fn headings(text: &str) -> Vec<Heading> {
    Scanner::new(text).collect()
}

/// Whether a piece of Markdown shows a reader any word below its headings: comments, tags and link targets (`[x]: url`)
/// show none.
pub(crate) fn has_prose(piece: &str) -> bool {
    let mut rest = piece;
    while let Some(open) = rest.find('<') {
        if shows_words(&rest[..open]) {
            return true;
        }
        let inside = &rest[open..];
        let close = if inside.starts_with("<!--") { "-->" } else { ">" };
        match inside.find(close) {
            Some(at) => rest = &inside[at + close.len()..],
            // A comment may be cut; a lone `<` is a sign like others.
            None if close == "-->" => return false,
            None => rest = &inside[1..],
        }
    }
    shows_words(rest)
}

fn shows_words(text: &str) -> bool {
    let is_target = |line: &str| line.starts_with('[') && line.contains("]:");
    let mut lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#') && !is_target(line));
    lines.any(|line| line.contains(char::is_alphanumeric))
}

/// A guess for texts whose media type nobody knows: Markdown where a heading stands free. Comments of shell and
/// Python scripts mostly do not.
pub(crate) fn looks_like_markdown(text: &str) -> bool {
    !text.starts_with("#!") && Scanner::new(text).any(|heading| heading.free_standing)
}

/// What a line may be part of.
enum Block {
    /// Between paragraphs.
    None,
    /// A paragraph that began at this byte and could become a setext heading.
    Paragraph(usize),
    /// Fenced code: the fence's character and length.
    Fence(u8, usize),
    /// An HTML comment that is still open.
    Comment,
}

struct Scanner<'a> {
    text: &'a str,
    position: usize,
    block: Block,
    blank_before: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        let position = front_matter_end(text);
        Self { text, position, block: Block::None, blank_before: true }
    }

    /// The next line with its start, line break taken off.
    fn line(&mut self) -> Option<(usize, &'a str)> {
        let start = self.position;
        if start >= self.text.len() {
            return None;
        }
        let rest = &self.text[start..];
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.position += length;
        let line = if start == 0 { rest[..length].trim_start_matches('\u{feff}') } else { &rest[..length] };
        Some((start, line.trim_end()))
    }

    fn blank_after(&self) -> bool {
        let rest = &self.text[self.position..];
        rest.split('\n').next().is_none_or(|line| line.trim().is_empty())
    }

    /// Takes one line in; a heading comes out where it ends one.
    fn take(&mut self, start: usize, line: &str) -> Option<Heading> {
        match self.block {
            Block::Fence(mark, length) => {
                if is_closing_fence(line, mark, length) {
                    self.block = Block::None;
                }
                None
            }
            Block::Comment => {
                if line.contains("-->") {
                    self.block = Block::None;
                }
                None
            }
            Block::None => self.take_fresh(start, line, None),
            Block::Paragraph(paragraph) => match underline_level(line) {
                Some(level) => {
                    self.block = Block::None;
                    let title = plain_title(&self.text[paragraph..start]);
                    Some(Heading { level, start: paragraph, title, free_standing: false })
                }
                None => self.take_fresh(start, line, Some(paragraph)),
            },
        }
    }

    fn take_fresh(&mut self, start: usize, line: &str, paragraph: Option<usize>) -> Option<Heading> {
        let content = line.trim_start();
        if let Some((mark, length)) = opening_fence(content) {
            self.block = Block::Fence(mark, length);
        } else if content.starts_with("<!--") {
            self.block = if content.contains("-->") { Block::None } else { Block::Comment };
        } else if let Some((level, title)) = atx(line) {
            self.block = Block::None;
            let free_standing = self.blank_before && self.blank_after();
            return Some(Heading { level, start, title: plain_title(title), free_standing });
        } else if let Some(paragraph) = paragraph.filter(|_| !content.is_empty() && !begins_container(content)) {
            self.block = Block::Paragraph(paragraph);
        } else if begins_paragraph(line) {
            self.block = Block::Paragraph(start);
        } else {
            self.block = Block::None;
        }
        None
    }
}

impl Iterator for Scanner<'_> {
    type Item = Heading;

    fn next(&mut self) -> Option<Heading> {
        loop {
            let (start, line) = self.line()?;
            let heading = self.take(start, line);
            self.blank_before = line.is_empty();
            if heading.is_some() {
                return heading;
            }
        }
    }
}

/// Where YAML front matter (between `---` lines at the very top) ends; 0 where there is none.
fn front_matter_end(text: &str) -> usize {
    let body = text.trim_start_matches('\u{feff}');
    let mut position = text.len() - body.len();
    for (number, line) in body.split_inclusive('\n').enumerate() {
        position += line.len();
        match (number, line.trim_end()) {
            (0, "---") => {}
            (0, _) => return 0,
            (_, "---" | "...") => return position,
            // A text that opens with a rule is no front matter; its blank line comes soon.
            (1, "") => return 0,
            (_, _) => {}
        }
    }
    0
}

/// Lines with four or more columns of indentation are code.
fn is_indented(line: &str) -> bool {
    line.starts_with("    ") || line.starts_with('\t')
}

/// The level and the raw title of an ATX heading.
fn atx(line: &str) -> Option<(usize, &str)> {
    if is_indented(line) {
        return None;
    }
    let content = line.trim_start_matches(' ');
    let title = content.trim_start_matches('#');
    let level = content.len() - title.len();
    if !(1..=6).contains(&level) || !(title.is_empty() || title.starts_with([' ', '\t'])) {
        return None;
    }
    let title = title.trim();
    let without = title.trim_end_matches('#');
    // Closing marks count only after a space: `# C#` keeps its own.
    let title = if without.is_empty() || without.ends_with([' ', '\t']) { without.trim_end() } else { title };
    Some((level, title))
}

/// The level that a setext underline gives to the paragraph above it.
fn underline_level(line: &str) -> Option<usize> {
    let marks = line.trim();
    match marks.bytes().next() {
        _ if is_indented(line) => None,
        Some(b'=') if marks.bytes().all(|byte| byte == b'=') => Some(1),
        Some(b'-') if marks.bytes().all(|byte| byte == b'-') => Some(2),
        Some(_) | None => None,
    }
}

/// Whether a line may begin a paragraph, as far as setext headings go: no list item, quote, table row or code.
fn begins_paragraph(line: &str) -> bool {
    let content = line.trim_start();
    !(content.is_empty() || is_indented(line) || begins_container(content) || underline_level(line).is_some())
}

/// Whether a line (without indentation) opens a list item, a quote, a table row or HTML.
fn begins_container(content: &str) -> bool {
    let digits = content.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = digits > 0 && (content[digits..].starts_with(". ") || content[digits..].starts_with(") "));
    numbered || content.starts_with(['>', '|', '<']) || ["- ", "* ", "+ "].iter().any(|mark| content.starts_with(mark))
}

/// The mark and length of a fence that this line (without indentation) opens.
fn opening_fence(content: &str) -> Option<(u8, usize)> {
    let mark = *content.as_bytes().first().filter(|mark| matches!(mark, b'`' | b'~'))?;
    let length = content.bytes().take_while(|&byte| byte == mark).count();
    // Backticks after the fence make it inline code.
    (length >= 3 && !(mark == b'`' && content[length..].contains('`'))).then_some((mark, length))
}

fn is_closing_fence(line: &str, mark: u8, length: usize) -> bool {
    let content = line.trim();
    content.len() >= length && content.bytes().all(|byte| byte == mark)
}

/// The words of a title: without emphasis, code marks, link targets, HTML tags and `{#anchors}`.
fn plain_title(raw: &str) -> String {
    let raw = &raw[..raw.floor_char_boundary(TITLE_SOURCE_BYTES_MAX)];
    let raw = match raw.trim_end().strip_suffix('}').and_then(|head| head.rfind("{#").or_else(|| head.rfind("{."))) {
        Some(at) => &raw[..at],
        None => raw,
    };
    let mut title = String::with_capacity(raw.len().min(TITLE_BYTES_MAX));
    let mut rest = raw;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '`' | '*' => {}
            '\u{feff}' => {}
            '<' if rest.starts_with(|next: char| next.is_ascii_alphabetic() || next == '/') => match rest.find('>') {
                Some(at) => rest = &rest[at + 1..],
                None => title.push('<'),
            },
            '!' if rest.starts_with('[') => {}
            '[' if rest.contains("](") => {}
            ']' if rest.starts_with('(') => rest = rest.find(')').map_or(rest, |at| &rest[at + 1..]),
            '\\' => {
                let kept = rest.chars().next().filter(char::is_ascii_punctuation);
                title.push(kept.unwrap_or('\\'));
                rest = &rest[kept.map_or(0, char::len_utf8)..];
            }
            _ if character.is_whitespace() => {
                if !title.is_empty() && !title.ends_with(' ') {
                    title.push(' ');
                }
            }
            _ => title.push(character),
        }
        if title.len() > TITLE_BYTES_MAX {
            title.truncate(title.floor_char_boundary(TITLE_BYTES_MAX));
            title.push('…');
            break;
        }
    }
    title.truncate(title.trim_end().len());
    title
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, usize, String)> {
        headings(text).into_iter().map(|heading| (heading.level, heading.start, heading.title)).collect()
    }

    fn titles(text: &str) -> Vec<(usize, String)> {
        headings(text).into_iter().map(|heading| (heading.level, heading.title)).collect()
    }

    #[test]
    fn atx_headings_are_found_with_level_place_and_title() {
        let text = "intro\n# One #\n\n###   C# and F#\n#not\n####### seven\n    # code\n   ## Two\n#\n";
        let expected = [(1, 6, "One"), (3, 15, "C# and F#"), (2, 61, "Two"), (1, 71, "")];
        assert_eq!(found(text), expected.map(|(level, start, title)| (level, start, title.to_owned())));
    }

    #[test]
    fn setext_headings_are_found_and_rules_and_lists_are_not() {
        let text = "Title\n=====\n\ntwo\nlines\n---\n\n- item\n---\n\n---\n\n| a |\n---\n\n> quote\n===\n";
        assert_eq!(titles(text), [(1, "Title".to_owned()), (2, "two lines".to_owned())]);
    }

    #[test]
    fn comments_tags_and_link_targets_are_no_prose() {
        for piece in
            ["<!-- Old headings. -->\n\n<a id=\"x\"></a>", "[a]: https://b.c\n  [d]: e", "---", "", "<!-- cut", "# A"]
        {
            assert!(!has_prose(piece), "{piece}");
        }
        for piece in ["<!-- a --> word", "<b>word</b>", "a < b", "[a](b) [c]", "語", "<p", "1"] {
            assert!(has_prose(piece), "{piece}");
        }
    }

    #[test]
    fn code_comments_and_front_matter_hold_no_headings() {
        let text =
            "---\ntitle: x\n# no\n---\n```sh\n# no\n~~~\n```\n<!--\n# no\n-->\n  ````\n# no\n```\n````\n# yes\r\n";
        assert_eq!(titles(text), [(1, "yes".to_owned())]);
        assert_eq!(titles("---\n\n# yes\n\n---\n"), [(1, "yes".to_owned())], "a rule is not front matter");
        assert_eq!(titles("``` `` ```\n# yes"), [(1, "yes".to_owned())], "inline code is no fence");
    }

    #[test]
    fn a_byte_order_mark_hides_nothing() {
        assert_eq!(found("\u{feff}# One\r\ntext"), [(1, 0, "One".to_owned())]);
        assert_eq!(titles("\u{feff}---\na: b\n---\n# One"), [(1, "One".to_owned())]);
    }

    #[test]
    fn titles_are_words() {
        assert_eq!(plain_title("The `match` **Control** [Flow](ch.md) {#flow}"), "The match Control Flow");
        assert_eq!(plain_title("<a id=\"x\"></a>Vec<T> \\*a ![i](p.png)"), "Vec *a i");
        assert_eq!(plain_title("a < b"), "a < b");
        assert_eq!(plain_title(&"é".repeat(200)).len(), TITLE_BYTES_MAX + 3);
    }

    #[test]
    fn scripts_do_not_look_like_markdown() {
        assert!(looks_like_markdown("# Title\n\ntext"));
        assert!(looks_like_markdown("text\n\n## Title\n"));
        assert!(!looks_like_markdown("#!/bin/sh\n\n# Title\n\nls"));
        assert!(!looks_like_markdown("import x\n\n# explain\ny = 1"));
        assert!(!looks_like_markdown("text\n"));
    }

    #[test]
    fn the_first_heading_with_words_is_the_title() {
        assert_eq!(first_heading("#\n\n## Two").as_deref(), Some("Two"));
        assert_eq!(first_heading("no"), None);
    }
}
