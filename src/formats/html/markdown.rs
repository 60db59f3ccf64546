//! How are elements written as Markdown?
//!
//! Elements that are open stand in a list of limited length, because end tags are missing, wrong or in another order: an
//! end tag closes the nearest open element of its name and all that was opened since, but does not reach out of a table
//! cell. Invariant: what is written is text of the page and the marks that Markdown needs, and nothing that Markdown would
//! take for a heading is one by chance.

use super::elements::{Attributes, Tag, code_language, is_aside};

/// Elements inside each other that are told apart; browsers stop at 512, too. What is deeper counts as text of the
/// element around it.
const DEPTH_MAX: usize = 512;
/// The deepest indentation of lists.
const LIST_DEPTH_MAX: usize = 8;

/// Which part of a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// What stands in `main` and is no boilerplate.
    Main,
    /// All but boilerplate.
    Body,
    /// All that is text.
    Everything,
}

/// Why text inside an element is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    No,
    /// All of it.
    All,
    /// All but headings: a site's header may hold the title of the page.
    AllButHeadings,
}

/// An element that is open.
struct Open {
    tag: Tag,
    skip: Skip,
    is_main: bool,
    /// Where a form's text begins in what is written; of other elements, nothing.
    form_start: Option<usize>,
    /// Of a list, whether it is numbered, and the number of its last item.
    list: Option<(bool, usize)>,
    /// Whether it is a table whose cells are cells, or such a cell.
    is_grid: bool,
}

pub(super) struct Writer<'a> {
    out: String,
    open: Vec<Open>,
    keep: Keep,
    layout_tables: &'a [bool],
    tables_seen: usize,
    skipped_all: usize,
    skipped_but_headings: usize,
    mains: usize,
    lists: usize,
    headings: usize,
    cells: usize,
    /// Line breaks that are due before the next text.
    breaks: usize,
    space: bool,
    /// A mark (of a list item, a heading, a cell) was written, and its text is yet to come.
    marked: bool,
    /// The text of a `pre`, its language and how deep it began.
    pre: Option<Preformatted>,
    /// The cells of the row at hand, and how many of them are headers; `None` outside of tables.
    row: Option<(usize, usize)>,
    first_row: bool,
    /// A form is dropped unless something in it is worth reading.
    form_has_text: bool,
}

struct Preformatted {
    text: String,
    language: String,
    depth: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(keep: Keep, layout_tables: &'a [bool]) -> Self {
        Self {
            out: String::new(),
            open: Vec::new(),
            keep,
            layout_tables,
            tables_seen: 0,
            skipped_all: 0,
            skipped_but_headings: 0,
            mains: 0,
            lists: 0,
            headings: 0,
            cells: 0,
            breaks: 0,
            space: false,
            marked: false,
            pre: None,
            row: None,
            first_row: false,
            form_has_text: false,
        }
    }

    /// What was written, closed as at the end of the page.
    pub(super) fn finish(mut self) -> String {
        self.close_down_to(0);
        let end = self.out.trim_end().len();
        self.out.truncate(end);
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out
    }

    fn writes(&self) -> bool {
        self.skipped_all == 0
            && (self.skipped_but_headings == 0 || self.headings > 0)
            && (self.keep != Keep::Main || self.mains > 0)
    }

    pub(super) fn open(&mut self, tag: Tag, attributes: &Attributes, is_closed: bool) {
        self.close_implied(tag);
        let skip = self.skip(tag, attributes);
        match tag.name() {
            "br" => self.due(1),
            "hr" => self.due(2),
            "img" => {
                let alt = attributes.iter().find(|(name, _)| name == "alt").map_or("", |(_, text)| text.as_str());
                if self.keep == Keep::Everything || !is_aside(tag, attributes) {
                    self.text(alt);
                }
            }
            _ => {}
        }
        if self.pre.is_some() && self.pre.as_ref().is_some_and(|pre| pre.language.is_empty()) {
            let language = code_language(attributes).unwrap_or_default().to_owned();
            self.pre.iter_mut().for_each(|pre| pre.language.clone_from(&language));
        }
        let is_main = tag.is("main") || attributes.iter().any(|(name, value)| name == "role" && value == "main");
        let is_of_use = !tag.is_inline() || skip != Skip::No || is_main || self.skipped_all > 0;
        if tag.is_void() || is_closed || !is_of_use || self.open.len() >= DEPTH_MAX {
            if tag.is("table") {
                self.tables_seen += 1;
            }
            return;
        }
        self.skipped_all += usize::from(skip == Skip::All);
        self.skipped_but_headings += usize::from(skip == Skip::AllButHeadings);
        self.mains += usize::from(is_main);
        let mut open = Open { tag, skip, is_main, form_start: None, list: None, is_grid: false };
        if skip == Skip::No {
            self.begin(&mut open, attributes);
        } else if tag.is("table") {
            self.tables_seen += 1;
        }
        self.open.push(open);
    }

    fn skip(&self, tag: Tag, attributes: &Attributes) -> Skip {
        if tag.is_never_text() {
            return Skip::All;
        }
        let is_page = matches!(tag.name(), "html" | "body" | "main");
        if self.keep == Keep::Everything || is_page {
            return Skip::No;
        }
        let in_part = || self.open.iter().any(|open| open.tag.is_part());
        match tag.name() {
            "header" if !in_part() => Skip::AllButHeadings,
            "footer" if !in_part() => Skip::All,
            _ if tag.is_control() || is_aside(tag, attributes) => Skip::All,
            _ => Skip::No,
        }
    }

    /// Writes what stands before the text of an element.
    fn begin(&mut self, open: &mut Open, attributes: &Attributes) {
        match open.tag.name() {
            "ul" | "ol" | "menu" => {
                self.due(if self.lists > 0 { 1 } else { 2 });
                let start = attributes
                    .iter()
                    .find(|(name, _)| name == "start")
                    .and_then(|(_, start)| start.parse::<usize>().ok());
                self.lists += 1;
                open.list = Some((open.tag.is("ol"), start.unwrap_or(1).saturating_sub(1)));
            }
            "li" => self.begin_item(),
            "pre" if self.pre.is_none() && self.cells == 0 && self.headings == 0 => {
                self.due(2);
                let language = code_language(attributes).unwrap_or_default().to_owned();
                self.pre = Some(Preformatted { text: String::new(), language, depth: self.open.len() });
            }
            "table" => {
                let is_layout = self.layout_tables.get(self.tables_seen).copied().unwrap_or(true);
                self.tables_seen += 1;
                open.is_grid = !is_layout && self.cells == 0;
                self.first_row = true;
                self.due(2);
            }
            "tr" => {
                self.due(1);
                self.row = self.in_grid().then_some((0, 0));
            }
            "td" | "th" if self.in_grid() && self.writes() => open.is_grid = self.begin_cell(open.tag.is("th")),
            "form" => {
                self.due(2);
                open.form_start = Some(self.out.len());
                self.form_has_text = false;
            }
            _ => match open.tag.heading() {
                Some(level) => {
                    self.form_has_text = true;
                    self.due(2);
                    self.headings += 1;
                    if self.headings == 1 && self.cells == 0 {
                        self.mark(&format!("{} ", "#".repeat(level)));
                    }
                }
                None => self.due(block_breaks(open.tag)),
            },
        }
    }

    fn in_grid(&self) -> bool {
        self.open.iter().rev().find(|open| open.tag.is("table")).is_some_and(|table| table.is_grid)
    }

    fn begin_item(&mut self) {
        self.due(1);
        let depth = self.lists.clamp(1, LIST_DEPTH_MAX);
        let list = self.open.iter_mut().rev().find_map(|open| open.list.as_mut());
        let mark = match list {
            Some((true, number)) => {
                *number += 1;
                format!("{number}. ")
            }
            Some((false, _)) | None => "- ".to_owned(),
        };
        if self.cells == 0 && self.headings == 0 {
            self.mark(&format!("{}{mark}", "  ".repeat(depth - 1)));
        }
    }

    /// Whether there is a row that the cell is part of.
    fn begin_cell(&mut self, is_header: bool) -> bool {
        let Some((cells, headers)) = &mut self.row else { return false };
        let mark = if *cells == 0 { "| " } else { " | " };
        *cells += 1;
        *headers += usize::from(is_header);
        if *cells == 1 {
            self.mark(mark);
        } else {
            self.space = false;
            self.out.push_str(mark);
            self.marked = true;
        }
        self.cells += 1;
        true
    }

    /// A mark stands at the beginning of a line.
    fn mark(&mut self, mark: &str) {
        if !self.writes() {
            return;
        }
        if self.marked && self.breaks <= 1 {
            // A list whose item begins with a list: both marks in one line would be read as one.
            self.out.push('\n');
            self.breaks = 0;
        }
        self.flush_breaks();
        self.out.push_str(mark);
        self.marked = true;
        self.space = false;
    }

    /// So many line breaks are due before the next text; in headings and cells a space is.
    fn due(&mut self, breaks: usize) {
        if let Some(pre) = &mut self.pre {
            if breaks > 0 && !pre.text.ends_with('\n') {
                pre.text.push('\n');
            }
        } else if self.headings > 0 || self.cells > 0 {
            self.space |= breaks > 0;
        } else if !self.marked {
            self.breaks = self.breaks.max(breaks);
        }
    }

    fn flush_breaks(&mut self) {
        if self.breaks > 0 {
            let end = self.out.trim_end_matches(' ').len();
            self.out.truncate(end);
            let there = self.out.bytes().rev().take_while(|byte| *byte == b'\n').count();
            if !self.out.is_empty() {
                (there..self.breaks).for_each(|_| self.out.push('\n'));
            }
            self.breaks = 0;
            self.space = false;
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        if !self.writes() {
            return;
        }
        if let Some(pre) = &mut self.pre {
            pre.text.push_str(&text.replace("\r\n", "\n"));
            return;
        }
        for (number, word) in text.split(is_space).enumerate() {
            self.space |= number > 0;
            if !word.is_empty() {
                self.word(word);
            }
        }
    }

    fn word(&mut self, word: &str) {
        self.flush_breaks();
        let at_line_start = self.out.is_empty() || self.out.ends_with('\n');
        if self.space && !at_line_start && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
        self.space = false;
        // Markdown would take these for a heading, a rule, a fence or a comment.
        if at_line_start && (word.starts_with(['#', '=', '`', '~', '<']) || word.starts_with("--")) {
            self.out.push('\\');
        }
        self.marked = false;
        if self.cells > 0 && word.contains('|') {
            self.out.push_str(&word.replace('|', "\\|"));
        } else {
            self.out.push_str(word);
        }
    }

    pub(super) fn close(&mut self, tag: Tag) {
        if tag.is("p") && !self.open.iter().any(|open| open.tag.is("p")) {
            self.due(2);
        }
        let leaves_cells =
            matches!(tag.name(), "table" | "thead" | "tbody" | "tfoot" | "tr" | "body" | "html" | "main");
        for at in (0..self.open.len()).rev() {
            let here = self.open[at].tag;
            if here == tag && !tag.is_void() {
                return self.close_down_to(at);
            }
            if !leaves_cells && matches!(here.name(), "td" | "th" | "caption" | "table") {
                return;
            }
        }
    }

    /// Closes what an element that begins cannot stand in, end tag or not.
    fn close_implied(&mut self, tag: Tag) {
        let (closes, within): (&[&str], &[&str]) = match tag.name() {
            "li" => (&["li"], &["ul", "ol", "menu", "td", "th"]),
            "dt" | "dd" => (&["dt", "dd"], &["dl", "td", "th"]),
            "tr" => (&["tr"], &["table"]),
            "td" | "th" => (&["td", "th"], &["tr", "table"]),
            "thead" | "tbody" | "tfoot" => (&["thead", "tbody", "tfoot"], &["table"]),
            "body" => (&["head"], &[]),
            _ if tag.is_inline() || tag.is_void() => return,
            // Nothing but inline elements stands in a paragraph.
            _ => (&["p"], &[""]),
        };
        for at in (0..self.open.len()).rev() {
            let here = self.open[at].tag.name();
            if closes.contains(&here) {
                return self.close_down_to(at);
            }
            if within.contains(&here) || (closes == ["p"] && !self.open[at].tag.is_inline()) {
                return;
            }
        }
    }

    fn close_down_to(&mut self, at: usize) {
        while self.open.len() > at {
            let Some(open) = self.open.pop() else { return };
            if open.skip == Skip::No {
                self.end(&open);
            }
            self.skipped_all -= usize::from(open.skip == Skip::All);
            self.skipped_but_headings -= usize::from(open.skip == Skip::AllButHeadings);
            self.mains -= usize::from(open.is_main);
        }
    }

    /// Writes what stands after the text of an element.
    fn end(&mut self, open: &Open) {
        if self.pre.as_ref().is_some_and(|pre| pre.depth == self.open.len()) {
            return self.end_pre();
        }
        match open.tag.name() {
            "li" => {
                self.marked = false;
                self.due(1);
            }
            "ul" | "ol" | "menu" => {
                self.lists -= 1;
                self.due(if self.lists > 0 { 1 } else { 2 });
            }
            "td" | "th" if open.is_grid => {
                self.cells -= 1;
                self.marked = false;
                self.space = false;
            }
            "tr" => self.end_row(),
            "form" => {
                if let Some(start) = open.form_start.filter(|_| !self.form_has_text && self.keep != Keep::Everything) {
                    self.out.truncate(start);
                    self.marked = false;
                }
                self.due(2);
            }
            _ if open.tag.heading().is_some() => {
                self.headings = self.headings.saturating_sub(1);
                if self.headings == 0 {
                    self.marked = false;
                }
                self.due(2);
            }
            name => {
                self.form_has_text |= name == "p" && !self.out.is_empty();
                self.due(block_breaks(open.tag));
            }
        }
    }

    fn end_row(&mut self) {
        let Some((cells, headers)) = self.row.take() else { return self.due(1) };
        if cells > 0 && self.writes() {
            self.out.push_str(" |");
            if self.first_row && headers == cells {
                self.out.push('\n');
                self.out.push_str(&"| --- ".repeat(cells.min(1_000)));
                self.out.push('|');
            }
        }
        self.first_row = false;
        self.marked = false;
        self.due(1);
    }

    fn end_pre(&mut self) {
        let Some(Preformatted { text, language, .. }) = self.pre.take() else { return };
        let text = text.strip_prefix('\n').unwrap_or(&text).trim_end();
        if !text.is_empty() {
            let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
            let fence = "`".repeat(3.max(longest + 1));
            self.marked = false;
            self.breaks = 2;
            self.flush_breaks();
            self.form_has_text = true;
            self.out.extend([fence.as_str(), &language, "\n", text, "\n", &fence]);
        }
        self.breaks = 2;
    }
}

/// White space that HTML collapses; a no-break space is none.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// The line breaks around an element.
fn block_breaks(tag: Tag) -> usize {
    match tag.name() {
        "p" | "blockquote" | "figure" | "dl" | "table" | "article" | "section" | "main" | "details" | "form" => 2,
        _ if tag.is_inline() => 0,
        "html" | "body" | "head" => 0,
        _ => 1,
    }
}
