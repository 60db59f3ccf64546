//! Which text does a sheet (.xlsx) hold?
//!
//! Each sheet is a heading and its rows are rows of a table. Values are shown as they are stored, the last computed one of
//! a formula; numbers that are formatted as dates are written as dates.

use std::borrow::Cow;
use std::collections::HashMap;

use super::archive::{Archive, relations};
use super::draft::{Cells, Draft};
use super::xml::{Element, Event, walk};
use super::{extract, properties};
use crate::formats::Extract;
use crate::moment::day_of;

/// The day 0 of sheets, 1899-12-30, counted from 1970-01-01.
const DAY_ZERO: i64 = -25_569;

pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    let mut archive = Archive::open(bytes)?;
    let workbook = archive.needed("xl/workbook.xml")?;
    let targets: HashMap<String, String> = relations(&mut archive, "xl/workbook.xml")?.into_iter().collect();
    let mut sheets = Vec::new();
    walk(&workbook, |event| {
        if let Event::Start(element) = event
            && element.name() == "sheet"
        {
            let id = element.attribute("id").and_then(|id| targets.get(&id).cloned());
            sheets.push((element.attribute("name").unwrap_or_default(), id));
        }
    })?;
    let strings = match archive.part("xl/sharedStrings.xml")? {
        Some(xml) => shared_strings(&xml)?,
        None => Vec::new(),
    };
    let dates = match archive.part("xl/styles.xml")? {
        Some(xml) => date_styles(&xml)?,
        None => Vec::new(),
    };
    let mut draft = Draft::default();
    for (name, part) in sheets {
        let Some(xml) = part.map_or(Ok(None), |part| archive.part(&part))? else { continue };
        draft.heading(2, &name);
        let mut sheet =
            Sheet { strings: &strings, dates: &dates, draft: &mut draft, cell: Cell::default(), row: Cells::default() };
        walk(&xml, |event| sheet.take(&event))?;
        draft.end_block();
    }
    let (title, metadata) = properties(&mut archive, "docProps/core.xml")?;
    Ok(extract(draft.finish()?, title, metadata))
}

fn shared_strings(xml: &str) -> Result<Vec<String>, String> {
    let mut strings = Vec::new();
    let (mut in_text, mut hints) = (false, 0usize);
    walk(xml, |event| match event {
        Event::Start(element) => match element.name() {
            "si" => strings.push(String::new()),
            "t" => in_text = hints == 0,
            // How to pronounce it.
            "rPh" => hints += 1,
            _ => {}
        },
        Event::Text(text) if in_text => strings.iter_mut().last().into_iter().for_each(|string| string.push_str(text)),
        Event::Text(_) => {}
        Event::End("t") => in_text = false,
        Event::End("rPh") => hints = hints.saturating_sub(1),
        Event::End(_) => {}
    })?;
    Ok(strings)
}

/// For each style of cells, whether it shows a date.
fn date_styles(xml: &str) -> Result<Vec<bool>, String> {
    let (mut own, mut styles, mut in_cells) = (HashMap::new(), Vec::new(), false);
    walk(xml, |event| match event {
        Event::Start(element) => match element.name() {
            "numFmt" => {
                let code = element.attribute("formatCode").unwrap_or_default();
                own.insert(element.attribute("numFmtId").unwrap_or_default(), is_date_format(&code));
            }
            "cellXfs" => in_cells = true,
            "xf" if in_cells => {
                let id = element.attribute("numFmtId").unwrap_or_default();
                let built_in = matches!(id.parse::<u32>(), Ok(14..=17 | 22));
                styles.push(own.get(&id).copied().unwrap_or(built_in));
            }
            _ => {}
        },
        Event::End("cellXfs") => in_cells = false,
        Event::End(_) | Event::Text(_) => {}
    })?;
    Ok(styles)
}

/// Whether a format of numbers has a year or a day in it, outside of quoted words and `[colours]`.
fn is_date_format(code: &str) -> bool {
    let mut quoted = false;
    let mut bracketed = false;
    code.chars().any(|character| {
        match character {
            '"' => quoted = !quoted,
            '[' => bracketed = true,
            ']' => bracketed = false,
            _ => {}
        }
        !quoted && !bracketed && matches!(character, 'y' | 'Y' | 'd' | 'D')
    })
}

#[derive(Default)]
struct Cell {
    kind: String,
    style: usize,
    value: String,
    in_value: bool,
    column: usize,
}

struct Sheet<'a> {
    strings: &'a [String],
    dates: &'a [bool],
    draft: &'a mut Draft,
    cell: Cell,
    row: Cells,
}

impl Sheet<'_> {
    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(element) => match element.name() {
                "row" => self.row.clear(),
                "c" => self.begin_cell(element),
                "v" | "t" => self.cell.in_value = true,
                _ => {}
            },
            Event::Text(text) if self.cell.in_value => self.cell.value.push_str(text),
            Event::Text(_) => {}
            Event::End("v" | "t") => self.cell.in_value = false,
            Event::End("c") => self.end_cell(),
            Event::End("row") => self.row.write(1, self.draft),
            Event::End(_) => {}
        }
    }

    fn begin_cell(&mut self, element: &Element<'_>) {
        let column = element.attribute("r").and_then(|place| column(&place)).unwrap_or(self.row.columns());
        let style = element.attribute("s").and_then(|style| style.parse().ok()).unwrap_or(usize::MAX);
        let kind = element.attribute("t").unwrap_or_default();
        self.cell = Cell { kind, style, column, ..Cell::default() };
    }

    fn end_cell(&mut self) {
        let Cell { kind, style, value, column, .. } = std::mem::take(&mut self.cell);
        if value.is_empty() {
            return;
        }
        let text = match kind.as_str() {
            // A long text that many cells share is copied by none before it is known to be taken.
            "s" => {
                value.trim().parse::<usize>().ok().and_then(|at| self.strings.get(at)).map_or("", String::as_str).into()
            }
            "b" => Cow::from(if value.trim() == "1" { "true" } else { "false" }),
            "" | "n" if self.dates.get(style) == Some(&true) => date(&value).unwrap_or(value).into(),
            _ => value.into(),
        };
        self.row.put(column, 1, &text, self.draft);
    }
}

/// `C5` is in column 2.
fn column(place: &str) -> Option<usize> {
    let letters = place.bytes().take_while(u8::is_ascii_uppercase).take(4);
    letters.fold(None, |column, letter| {
        Some(column.map_or(0, |column: usize| (column + 1) * 26) + usize::from(letter - b'A'))
    })
}

/// A day since the day 0 as people sort it; its time to the minute where it has one.
fn date(value: &str) -> Option<String> {
    let days: f64 = value.trim().parse().ok()?;
    if !(1.0..2_958_466.0).contains(&days) {
        return None;
    }
    let day = day_of(days as i64 + DAY_ZERO)?;
    let minutes = (days.fract() * 1_440.0).round() as u32;
    Some(if minutes.is_multiple_of(1_440) { day } else { format!("{day} {:02}:{:02}", minutes / 60, minutes % 60) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_letters_and_days_are_dates() {
        assert_eq!([column("A1"), column("Z9"), column("AA10"), column("12")], [Some(0), Some(25), Some(26), None]);
        assert_eq!(date("45351.5").as_deref(), Some("2024-02-29 12:00"));
        assert_eq!(date("1e9"), None);
        assert!(is_date_format("yyyy\\-mm\\-dd") && !is_date_format("[Red]0.00\" days\""));
    }
}
