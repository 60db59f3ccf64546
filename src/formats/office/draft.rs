//! How are paragraphs, lists and tables put together as Markdown?

/// Columns of a table that are written.
const COLUMNS_MAX: usize = 1_000;

/// A Markdown text in the making.
#[derive(Default)]
pub(super) struct Draft {
    out: String,
    /// Whether what was written last is a list or a table, which the next item or row continues.
    is_open: bool,
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
            self.line(&format!("{}- {text}", "  ".repeat(depth.min(8))));
        }
    }

    /// A row of a table; blank ones are left out.
    pub(super) fn row(&mut self, cells: &[String]) {
        let filled = cells.iter().rposition(|cell| !cell.trim().is_empty()).map_or(0, |last| last + 1);
        if filled == 0 {
            return;
        }
        let mut row = String::from("|");
        for cell in &cells[..filled.min(COLUMNS_MAX)] {
            row.push(' ');
            row.push_str(&cell.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"));
            row.push_str(" |");
        }
        self.line(&row);
    }

    /// What follows begins anew after a blank line.
    pub(super) fn end_block(&mut self) {
        self.is_open = false;
    }

    /// What follows stands on the next page.
    pub(super) fn page_break(&mut self) {
        self.out.push('\u{c}');
        self.is_open = false;
    }

    fn block(&mut self, text: &str) {
        self.is_open = false;
        self.line(text);
        self.is_open = false;
    }

    fn line(&mut self, text: &str) {
        if !self.is_open && !self.out.is_empty() && !self.out.ends_with('\u{c}') {
            self.out.push('\n');
        }
        self.out.push_str(text);
        self.out.push('\n');
        self.is_open = true;
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// A line of prose that Markdown takes for nothing else.
fn escaped(line: &str) -> String {
    let is_mark = line.starts_with(['#', '=', '`', '~', '<']) || line.starts_with("--");
    if is_mark { format!("\\{line}") } else { line.to_owned() }
}
