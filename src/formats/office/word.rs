//! Which text does a Word document (.docx) hold?
//!
//! Paragraphs whose style, or a style that it is based on, has an outline level are headings; numbered and bulleted
//! paragraphs are items. Footnotes and endnotes follow the text.

use std::collections::HashMap;

use super::archive::Archive;
use super::draft::Draft;
use super::xml::{Element, Event, Fallbacks, walk};
use super::{extract, properties};
use crate::formats::Extract;

/// Styles that are based on each other, at most so many.
const STYLES_DEEP_MAX: usize = 16;

pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    let mut archive = Archive::open(bytes)?;
    let document = archive.needed("word/document.xml")?;
    let levels = match archive.part("word/styles.xml")? {
        Some(styles) => outline_levels(&styles)?,
        None => HashMap::new(),
    };
    let mut body = Body { levels, ..Body::default() };
    walk(&document, |event| body.take(&event))?;
    for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(notes) = archive.part(notes)? {
            body.draft.end_block();
            walk(&notes, |event| body.take(&event))?;
        }
    }
    let (title, metadata) = properties(&mut archive, "docProps/core.xml")?;
    Ok(extract(body.draft.finish()?, title, metadata))
}

/// The level of each style that is one of headings, from 1.
fn outline_levels(styles: &str) -> Result<HashMap<String, usize>, String> {
    let mut levels: HashMap<String, usize> = HashMap::new();
    let mut based: Vec<(String, String)> = Vec::new();
    let mut style = String::new();
    walk(styles, |event| {
        let Event::Start(element) = event else { return };
        let value = element.attribute("val").unwrap_or_default();
        match element.name() {
            "style" => style = element.attribute("styleId").unwrap_or_default(),
            "name" => {
                let number = value.to_lowercase().strip_prefix("heading ").and_then(|level| level.parse().ok());
                let level = number.or_else(|| (value.eq_ignore_ascii_case("title")).then_some(1));
                level.into_iter().for_each(|level| {
                    levels.insert(style.clone(), level);
                });
            }
            "outlineLvl" => {
                if let Some(level) = value.parse().ok().filter(|level: &usize| *level < 9) {
                    levels.insert(style.clone(), level + 1);
                }
            }
            "basedOn" => based.push((style.clone(), value)),
            _ => {}
        }
    })?;
    for _ in 0..STYLES_DEEP_MAX {
        for (style, base) in &based {
            if let Some(&level) = levels.get(base) {
                levels.entry(style.clone()).or_insert(level);
            }
        }
    }
    Ok(levels)
}

/// What was read of the body so far.
#[derive(Default)]
struct Body {
    levels: HashMap<String, usize>,
    draft: Draft,
    paragraph: String,
    in_text: bool,
    level: Option<usize>,
    item: Option<usize>,
    /// Tables that are open; the cells of the outermost.
    tables: usize,
    row: Vec<String>,
    /// Alternatives to what was read already.
    fallbacks: Fallbacks,
}

impl Body {
    fn take(&mut self, event: &Event<'_>) {
        if self.fallbacks.hold(event) {
            return;
        }
        match event {
            Event::Start(element) => self.begin(element),
            Event::Text(text) if self.in_text => self.paragraph.push_str(text),
            Event::Text(_) => {}
            Event::End(name) => self.end(name),
        }
    }

    fn begin(&mut self, element: &Element<'_>) {
        let value = || element.attribute("val").unwrap_or_default();
        match element.name() {
            "t" => self.in_text = true,
            "tab" => self.paragraph.push('\t'),
            "br" | "cr" => self.paragraph.push('\n'),
            "noBreakHyphen" => self.paragraph.push('-'),
            "pStyle" => self.level = self.levels.get(&value()).copied(),
            "outlineLvl" => self.level = value().parse().ok().filter(|level: &usize| *level < 9).map(|level| level + 1),
            "ilvl" => self.item = value().parse().ok(),
            "tbl" => {
                self.tables += 1;
                if self.tables == 1 {
                    self.draft.end_block();
                }
            }
            "tr" if self.tables == 1 => self.row.clear(),
            "tc" if self.tables == 1 => self.row.push(String::new()),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tr" if self.tables == 1 => {
                self.draft.row(&std::mem::take(&mut self.row));
            }
            "tbl" => {
                self.tables = self.tables.saturating_sub(1);
                if self.tables == 0 {
                    self.draft.end_block();
                }
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        let (level, item) = (self.level.take(), self.item.take());
        match (self.row.last_mut().filter(|_| self.tables > 0), level, item) {
            (Some(cell), _, _) => {
                cell.push(' ');
                cell.push_str(&text);
            }
            (None, Some(level), _) => self.draft.heading(level, &text),
            (None, None, Some(depth)) => self.draft.item(depth, &text),
            (None, None, None) => self.draft.paragraph(&text),
        }
    }
}
