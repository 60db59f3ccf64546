//! Which text does an OpenDocument file (.odt, .ods, .odp) hold?
//!
//! Sheets have their name as a heading; slides are pages. Notes stand where their sign stands.

use super::archive::Archive;
use super::draft::{Cells, Draft};
use super::xml::{Element, Event, walk};
use super::{extract, properties};
use crate::formats::{Extract, pages_of};

/// A row of spaces is so long at most; none of it is seen but one.
const SPACES_MAX: usize = 100;

pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    let mut archive = Archive::open(bytes)?;
    let content = archive.needed("content.xml")?;
    let mut body = Body::default();
    walk(&content, |event| body.take(&event))?;
    let (title, mut metadata) = properties(&mut archive, "meta.xml")?;
    let text = body.draft.finish()?;
    if body.slides > 0 {
        metadata.insert("pages".to_owned(), pages_of(&text).into());
    }
    Ok(extract(text, title, metadata))
}

#[derive(Default)]
struct Body {
    draft: Draft,
    /// The text of paragraphs that are open: a note stands inside of one.
    paragraph: String,
    paragraphs: usize,
    level: Option<usize>,
    lists: usize,
    tables: usize,
    row: Cells,
    /// Where the next cell of the row stands.
    column: usize,
    /// The cell at hand, and how many there are of it and of its row.
    cell: Option<String>,
    repeated: usize,
    rows: usize,
    slides: usize,
    /// Elements that hold what nobody is meant to read.
    hidden: usize,
}

impl Body {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(element) if is_hidden(element.name()) => self.hidden += 1,
            Event::End(name) if is_hidden(name) => self.hidden = self.hidden.saturating_sub(1),
            _ if self.hidden > 0 => {}
            Event::Start(element) => self.begin(element),
            Event::Text(text) if self.paragraphs > 0 => self.paragraph.push_str(text),
            Event::Text(_) => {}
            Event::End(name) => self.end(name),
        }
    }

    fn begin(&mut self, element: &Element<'_>) {
        let number = |name: &str| element.attribute(name).and_then(|value| value.parse::<usize>().ok());
        match element.name() {
            "p" | "h" => {
                self.paragraphs += 1;
                if element.name() == "h" {
                    self.level = Some(number("outline-level").unwrap_or(1));
                }
            }
            "s" => (0..number("c").unwrap_or(1).min(SPACES_MAX)).for_each(|_| self.paragraph.push(' ')),
            "tab" => self.paragraph.push('\t'),
            "line-break" => self.paragraph.push('\n'),
            "note" => self.paragraph.push_str(" ("),
            "list" => self.lists += 1,
            "table" => {
                self.tables += 1;
                if self.tables == 1 {
                    self.draft.end_block();
                }
                if self.paragraphs == 0 && self.tables == 1 {
                    self.draft.heading(2, &element.attribute("name").unwrap_or_default());
                }
            }
            "table-row" if self.tables == 1 => {
                self.row.clear();
                self.column = 0;
                self.rows = number("number-rows-repeated").unwrap_or(1);
            }
            "table-cell" | "covered-table-cell" if self.tables == 1 => {
                self.cell = Some(String::new());
                self.repeated = number("number-columns-repeated").unwrap_or(1);
            }
            "page" => {
                if self.slides > 0 {
                    self.draft.page_break();
                }
                self.slides += 1;
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "p" | "h" => {
                self.paragraphs = self.paragraphs.saturating_sub(1);
                if self.paragraphs == 0 {
                    self.end_paragraph();
                }
            }
            "note" => self.paragraph.push(')'),
            "list" => {
                self.lists = self.lists.saturating_sub(1);
                if self.lists == 0 {
                    self.draft.end_block();
                }
            }
            "table-cell" | "covered-table-cell" if self.tables == 1 => self.end_cell(),
            "table-row" if self.tables == 1 => self.end_row(),
            "table" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.draft.end_block();
                }
            }
            _ => {}
        }
    }

    fn end_cell(&mut self) {
        let cell = self.cell.take().unwrap_or_default();
        self.row.put(self.column, self.repeated, &cell, &mut self.draft);
        self.column = self.column.saturating_add(self.repeated);
    }

    /// A blank row stands for all that follow it to the end of the sheet.
    fn end_row(&mut self) {
        self.row.write(self.rows, &mut self.draft);
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        let level = self.level.take();
        match self.cell.as_mut().filter(|_| self.tables > 0) {
            Some(cell) => {
                cell.push(' ');
                cell.push_str(&text);
            }
            None => match (level, self.lists) {
                (Some(level), _) => self.draft.heading(level, &text),
                (None, 0) => self.draft.paragraph(&text),
                (None, depth) => self.draft.item(depth - 1, &text),
            },
        }
    }
}

/// Deleted text, remarks in the margin, signs of notes, and what stands on every page.
fn is_hidden(name: &str) -> bool {
    matches!(
        name,
        "tracked-changes" | "annotation" | "note-citation" | "automatic-styles" | "date-time-decl" | "footer-decl"
    )
}
