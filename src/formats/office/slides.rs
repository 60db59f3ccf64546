//! Which text do slides (.pptx) hold?
//!
//! Each slide is a page; its title is a heading, and the speaker's notes follow.

use std::collections::HashMap;

use super::archive::{Archive, relations};
use super::draft::Draft;
use super::xml::{Element, Event, Fallbacks, walk};
use super::{extract, properties};
use crate::formats::{Extract, pages_of};

pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    let mut archive = Archive::open(bytes)?;
    let presentation = archive.needed("ppt/presentation.xml")?;
    let targets: HashMap<String, String> = relations(&mut archive, "ppt/presentation.xml")?.into_iter().collect();
    let mut slides = Vec::new();
    walk(&presentation, |event| {
        if let Event::Start(element) = event
            && element.name() == "sldId"
        {
            // It has an id of its own, and `r:id`, whose prefix is gone here: the one that leads somewhere counts.
            slides.extend(element.attributes("id").find_map(|id| targets.get(&id).cloned()));
        }
    })?;
    let mut draft = Draft::default();
    for (number, slide) in slides.iter().enumerate() {
        if number > 0 {
            draft.page_break();
        }
        let Some(xml) = archive.part(slide)? else { continue };
        let mut shapes = Shapes::of(&mut draft);
        walk(&xml, |event| shapes.take(&event))?;
        draft.end_block();
        let notes = relations(&mut archive, slide)?.into_iter().find(|(_, target)| target.contains("notesSlide"));
        if let Some(xml) = notes.map_or(Ok(None), |(_, notes)| archive.part(&notes))? {
            let mut shapes = Shapes::of(&mut draft);
            walk(&xml, |event| shapes.take(&event))?;
        }
    }
    let (title, mut metadata) = properties(&mut archive, "docProps/core.xml")?;
    let text = draft.finish()?;
    metadata.insert("pages".to_owned(), pages_of(&text).into());
    Ok(extract(text, title, metadata))
}

/// The shapes of a slide, as far as they were read.
struct Shapes<'a> {
    draft: &'a mut Draft,
    paragraph: String,
    in_text: bool,
    is_title: bool,
    /// Numbers of slides, dates and footers, which say nothing.
    is_furniture: bool,
    depth: Option<usize>,
    tables: usize,
    row: Vec<String>,
    fallbacks: Fallbacks,
}

impl<'a> Shapes<'a> {
    fn of(draft: &'a mut Draft) -> Self {
        Self {
            draft,
            paragraph: String::new(),
            in_text: false,
            is_title: false,
            is_furniture: false,
            depth: None,
            tables: 0,
            row: Vec::new(),
            fallbacks: Fallbacks::default(),
        }
    }

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
        match element.name() {
            "t" => self.in_text = true,
            "br" => self.paragraph.push(' '),
            "sp" | "graphicFrame" => (self.is_title, self.is_furniture) = (false, false),
            "ph" => {
                let kind = element.attribute("type").unwrap_or_default();
                self.is_title = matches!(kind.as_str(), "title" | "ctrTitle");
                self.is_furniture = matches!(kind.as_str(), "sldNum" | "dt" | "ftr" | "hdr");
            }
            "pPr" => self.depth = element.attribute("lvl").and_then(|level| level.parse().ok()),
            "tbl" => {
                self.tables += 1;
                self.draft.end_block();
            }
            "tr" => self.row.clear(),
            "tc" => self.row.push(String::new()),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tr" => {
                self.draft.row(&std::mem::take(&mut self.row));
            }
            "tbl" => {
                self.tables = self.tables.saturating_sub(1);
                self.draft.end_block();
            }
            _ => {}
        }
    }

    fn end_paragraph(&mut self) {
        let text = std::mem::take(&mut self.paragraph);
        let depth = self.depth.take();
        match self.row.last_mut().filter(|_| self.tables > 0) {
            _ if self.is_furniture => {}
            Some(cell) => {
                cell.push(' ');
                cell.push_str(&text);
            }
            None if self.is_title => self.draft.heading(2, &text),
            None => match depth {
                Some(depth) => self.draft.item(depth, &text),
                None => self.draft.paragraph(&text),
            },
        }
    }
}
