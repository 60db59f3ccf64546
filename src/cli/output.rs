//! How does a result look to people, and how to programs?
//!
//! Invariants: nothing but results is written to stdout; colours and shortening happen on a terminal only; control
//! characters of documents never reach a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::Value;

/// A word that the query asked for.
pub(crate) const MATCH: Style = AnsiColor::Red.on_default().bold();
/// A name: a document, a collection.
pub(crate) const NAME: Style = Style::new().bold();
/// What is good to know but not the point.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// The word `error`.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();

/// Text is never wider, because long lines are hard to read.
const WIDTH_MAX: usize = 100;

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Text, with colours on a terminal.
    People,
    /// One JSON value.
    Json,
    /// One JSON value a line.
    Jsonl,
}

/// Where results go.
pub(crate) struct Output {
    pub(crate) format: Format,
}

impl Output {
    /// Shows a result: as a whole, as its parts line by line, or as text for people.
    pub(crate) fn show<Whole: Serialize, Part: Serialize>(
        &self,
        whole: &Whole,
        parts: &[Part],
        people: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::People => self.text(&people()),
            Format::Json => self.value(whole),
            Format::Jsonl => self.values(parts),
        }
    }

    /// One JSON value on one line.
    pub(crate) fn value(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.values(std::slice::from_ref(value))
    }

    /// JSON values, a line each.
    pub(crate) fn values(&self, values: &[impl Serialize]) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        for value in values {
            serde_json::to_writer(&mut lines, value)?;
            lines.push(b'\n');
        }
        self.bytes(&lines)
    }

    /// Text as it stands; its styles are dropped where stdout is no terminal or NO_COLOR is set.
    pub(crate) fn text(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = anstream::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        Ok(stdout.flush()?)
    }

    /// Bytes exactly as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        self.format == Format::People && io::stdout().is_terminal()
    }

    /// The columns that text may take.
    pub(crate) fn width(&self) -> usize {
        let columns = terminal_size::terminal_size().map_or(WIDTH_MAX, |(width, _)| usize::from(width.0));
        columns.clamp(20, WIDTH_MAX)
    }
}

/// A line on stderr. Where stderr is gone there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// `text` in a style.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{}{text}{}", style.render(), style.render_reset())
}

/// The text without what could steer a terminal; tabs become spaces, line breaks stay.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    // Marks that turn the direction of writing make a line say what it does not hold.
    let turns = |character: char| matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let steers = |character: char| (character.is_control() && character != '\n') || turns(character);
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => clean.push_str("    "),
            // The end of a page is white space as well.
            '\r' | '\u{c}' => {}
            character if steers(character) => clean.push('\u{fffd}'),
            character => clean.push(character),
        }
    }
    Cow::Owned(clean)
}

/// A JSON value for people: strings without quotes.
pub(crate) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 hit`, `2 hits`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Milliseconds as people say them.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 0.995 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1e3),
        ms => {
            let seconds = (ms / 1e3).round() as u64;
            format!("{} min {:02} s", seconds / 60, seconds % 60)
        }
    }
}

/// Bytes as people say them, in powers of 1000.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1e3;
    }
    format!("{value:.1} TB")
}

/// A table: a header, rows, and for each column whether it is aligned to the right.
pub(crate) struct Table {
    header: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns; those that begin with `>` are aligned to the right.
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        let right = columns.iter().map(|column| column.starts_with('>')).collect();
        let header = columns.iter().map(|column| column.trim_start_matches('>')).collect();
        Self { header, right, rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| harmless(&cell).into_owned()).collect());
    }

    /// The table as text, its header faint.
    pub(crate) fn render(&self) -> String {
        let width = |text: &str| text.chars().count();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| width(&row[column]));
                cells.chain([width(self.header[column])]).max().unwrap_or(0)
            })
            .collect();
        let line = |cells: &[&str]| {
            let mut line = String::new();
            for (column, cell) in cells.iter().enumerate() {
                let padding = " ".repeat(widths[column] - width(cell));
                let (before, after) = if self.right[column] { (padding.as_str(), "") } else { ("", padding.as_str()) };
                let _ = write!(line, "{}{before}{cell}{after}", if column == 0 { "" } else { "  " });
            }
            line.trim_end().to_owned()
        };
        let mut text = styled(FAINT, &line(&self.header)) + "\n";
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            text += &line(&cells);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_thousands_separators() {
        let shown: Vec<String> = [0, 999, 1_000, 12_345, 1_234_567].into_iter().map(thousands).collect();
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn counts_have_a_plural() {
        assert_eq!([count(0, "hit"), count(1, "hit"), count(2_000, "hit")], ["0 hits", "1 hit", "2,000 hits"]);
    }

    #[test]
    fn durations_choose_their_unit() {
        let shown: Vec<String> = [0.02, 2.14, 250.0, 1_250.0, 125_000.0].into_iter().map(duration).collect();
        assert_eq!(shown, ["20 µs", "2.1 ms", "250 ms", "1.2 s", "2 min 05 s"]);
    }

    #[test]
    fn sizes_choose_their_unit() {
        let shown: Vec<String> = [12, 1_500, 2_000_000, 3_400_000_000].into_iter().map(size).collect();
        assert_eq!(shown, ["12 bytes", "1.5 kB", "2.0 MB", "3.4 GB"]);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mb\tc\r\nd\u{7f}"), "a\u{fffd}[31mb    c\nd\u{fffd}");
        assert_eq!(harmless("plain\ntext"), "plain\ntext");
        assert_eq!(harmless("one\n\n\u{c}two"), "one\n\ntwo");
    }

    #[test]
    fn tables_align_their_columns() {
        let mut table = Table::new(&["name", ">documents"]);
        table.row(["notes".into(), "7".into()]);
        table.row(["a".into(), "1,000".into()]);
        let plain = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(plain, "name   documents\nnotes          7\na          1,000\n");
    }
}
