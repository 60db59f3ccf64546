//! How are paragraphs, lists and tables put together as Markdown?
//!
//! The first row of a table is its header, as wide as the widest row: readers of Markdown drop the cells of a row that are
//! beyond its header. What is too much to be written has the file refused: nothing is left out in silence.

use crate::formats::FILE_BYTES_MAX;

/// Columns of a table, as many as sheets have (.xlsx and .ods).
const COLUMNS_MAX: usize = 16_384;
/// The longest text: a cell far to the right has a blank one for each column before it, so a small file may say much.
/// Those of tests are smaller, to be at it soon.
const TEXT_BYTES_MAX: usize = if cfg!(test) { 4 << 20 } else { FILE_BYTES_MAX as usize };

/// A Markdown text in the making.
#[derive(Default)]
pub(super) struct Draft {
    out: String,
    open: Open,
    /// Why the file cannot be taken.
    refused: Option<String>,
}

/// What was written last, which the next item or row continues.
#[derive(Clone, Copy, Default, PartialEq)]
enum Open {
    #[default]
    Nothing,
    List,
    /// A table: where its rows begin, and the columns of its widest row and of its header.
    Table {
        start: usize,
        columns: usize,
        header: usize,
    },
}

impl Draft {
    pub(super) fn heading(&mut self, level: usize, title: &str) {
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        if !title.is_empty() {
            self.block(&format!("{} {title}", "#".repeat(level.clamp(1, 6))));
        }
    }

    /// A paragraph; its own line breaks stay.
    pub(super) fn paragraph(&mut self, text: &str) {
        let lines: Vec<String> =
            text.lines().map(|line| escaped(line.trim())).filter(|line| !line.is_empty()).collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    /// An item of a list; 0 is the outermost.
    pub(super) fn item(&mut self, depth: usize, text: &str) {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !text.is_empty() {
            if self.open != Open::List {
                self.begin();
            }
            self.line(&format!("{}- {text}", "  ".repeat(depth.min(8))));
            self.open = Open::List;
        }
    }

    /// A row of a table; blank ones are left out. `false` where nothing is taken any more.
    pub(super) fn row(&mut self, cells: &[String]) -> bool {
        let filled = cells.iter().rposition(|cell| !cell.trim().is_empty()).map_or(0, |last| last + 1);
        if filled > COLUMNS_MAX {
            self.refuse(too_wide(filled));
        }
        if filled > 0 && self.refused.is_none() {
            self.write_row(&cells[..filled]);
        }
        self.refused.is_none()
    }

    fn write_row(&mut self, cells: &[String]) {
        let mut row = String::from("|");
        for cell in cells {
            row.push(' ');
            row.push_str(&cell.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"));
            row.push_str(" |");
        }
        if let Open::Table { columns, .. } = &mut self.open {
            *columns = cells.len().max(*columns);
            self.line(&row);
        } else {
            self.begin();
            let start = self.out.len();
            self.line(&row);
            self.line(&format!("|{}", " --- |".repeat(cells.len())));
            self.open = Open::Table { start, columns: cells.len(), header: cells.len() };
        }
        if self.out.len() > TEXT_BYTES_MAX {
            self.refuse(too_long());
        }
    }

    /// What follows begins anew after a blank line.
    pub(super) fn end_block(&mut self) {
        if let Open::Table { start, columns, header } = self.open
            && header < columns
        {
            let lines: Vec<&str> = self.out[start..].splitn(3, '\n').collect();
            if let &[names, marks, rows] = lines.as_slice() {
                let (blank, mark) = ("  |".repeat(columns - header), " --- |".repeat(columns - header));
                let widened = format!("{names}{blank}\n{marks}{mark}\n{rows}");
                self.out.truncate(start);
                self.out.push_str(&widened);
            }
        }
        self.open = Open::Nothing;
    }

    /// What follows stands on the next page.
    pub(super) fn page_break(&mut self) {
        self.end_block();
        self.out.push('\u{c}');
    }

    /// The file cannot be taken, for the first of these reasons.
    pub(super) fn refuse(&mut self, reason: String) {
        self.refused.get_or_insert(reason);
    }

    fn block(&mut self, text: &str) {
        self.begin();
        self.line(text);
    }

    /// Ends what was open and leaves a blank line behind it.
    fn begin(&mut self) {
        self.end_block();
        if !self.out.is_empty() && !self.out.ends_with('\u{c}') {
            self.out.push('\n');
        }
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// The text, or why there is none.
    pub(super) fn finish(mut self) -> Result<String, String> {
        self.end_block();
        self.refused.map_or(Ok(self.out), Err)
    }
}

/// A row of a sheet in the making: blank but for the cells that were put in. Of a row that is too wide or says too much no
/// cell is copied, since a few bytes of a file may ask for gigabytes.
#[derive(Default)]
pub(super) struct Cells {
    row: Vec<String>,
    /// Of all cells that were put in.
    bytes: usize,
}

impl Cells {
    /// Begins the next row.
    pub(super) fn clear(&mut self) {
        self.row.clear();
        self.bytes = 0;
    }

    /// How many columns there are up to the last filled cell.
    pub(super) fn columns(&self) -> usize {
        self.row.len()
    }

    /// Puts a text in so many columns, counted from 0; a blank one says nothing. Has the draft refused where that is too much,
    /// and does nothing where it is already.
    pub(super) fn put(&mut self, column: usize, often: usize, text: &str, draft: &mut Draft) {
        if draft.refused.is_some() || often == 0 || text.trim().is_empty() {
            return;
        }
        let columns = column.saturating_add(often);
        if columns > COLUMNS_MAX {
            return draft.refuse(too_wide(columns));
        }
        self.bytes = self.bytes.saturating_add(text.len().saturating_mul(often));
        if self.bytes > TEXT_BYTES_MAX {
            return draft.refuse(too_long());
        }
        if self.row.len() < columns {
            self.row.resize(columns, String::new());
        }
        self.row[column..columns].fill(text.to_owned());
    }

    /// Writes the row so often; a blank one not at all.
    pub(super) fn write(&self, often: usize, draft: &mut Draft) {
        let often = if self.row.is_empty() { 0 } else { often };
        for _ in 0..often {
            if !draft.row(&self.row) {
                break;
            }
        }
    }
}

/// Why a table is not taken that has a cell in this column, counted from 1.
fn too_wide(column: usize) -> String {
    format!(
        "a table has a cell in column {column}, and {COLUMNS_MAX} columns are the most; split the table, or save it as CSV"
    )
}

/// Why a text is not taken.
fn too_long() -> String {
    format!(
        "its tables come to more than {} MiB of text, blank cells counted; save them as CSV, or delete cells that stand far from \
         the others",
        TEXT_BYTES_MAX >> 20
    )
}

/// A line of prose that Markdown takes for nothing else.
fn escaped(line: &str) -> String {
    let is_mark = line.starts_with(['#', '=', '`', '~', '<']) || line.starts_with("--");
    if is_mark { format!("\\{line}") } else { line.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_row_never_holds_more_than_a_text_may() {
        let (mut cells, mut draft) = (Cells::default(), Draft::default());
        let text = "x".repeat(1_000);
        for column in 0..10 {
            cells.put(column * 1_000, 1_000, &text, &mut draft);
        }
        assert_eq!(cells.columns(), 4_000);
        assert_eq!(cells.row.iter().map(String::len).sum::<usize>(), 4_000_000);
        assert!(draft.finish().unwrap_err().contains("4 MiB"));
        // A cell that is put in again and again counts each time; the next row begins anew.
        let mut draft = Draft::default();
        for _ in 0..3 {
            cells.clear();
            (0..4).for_each(|_| cells.put(0, 1_000, &text, &mut draft));
        }
        assert!(draft.refused.is_none());
        cells.put(0, 1_000, &text, &mut draft);
        assert!(draft.refused.is_some());
    }
}
