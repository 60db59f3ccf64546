//! Where do words and lines end, by the places of their glyphs?
//!
//! A page says where glyphs stand, not what a space is. A gap of more than a seventh of the size is one (letters of a word
//! stand closer, and the narrowest spaces of justified text are about a fifth); another baseline is another line, and a
//! step of much more than a line is a paragraph. The order is that of the file: columns stay apart where the file
//! draws one after the other, which almost all do.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::kurbo::{Affine, Point, Vec2};

/// A gap wider than this part of the size is a space.
const SPACE: f64 = 0.15;
/// A step across the line of more than this part of the size begins another line.
const LINE: f64 = 0.5;
/// A step of more than this many sizes begins a paragraph.
const PARAGRAPH: f64 = 1.75;

/// The text of a page in the making.
#[derive(Default)]
pub(super) struct Layout {
    text: String,
    last: Option<Placed>,
    /// Where the last run began: strokes draw what was filled once more.
    last_run: Option<(Point, u32)>,
    pub(super) known: usize,
    pub(super) unknown: usize,
}

/// A glyph's place: its baseline from `start` to `end`, and its size.
#[derive(Clone, Copy)]
struct Placed {
    start: Point,
    end: Point,
    size: f64,
}

impl Layout {
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn run(&mut self, run: &GlyphRun<'_, '_>, transform: Affine, is_stroke: bool) {
        let Some(first) = run.glyphs().first() else { return };
        let begin = (transform * first.transform() * Point::ORIGIN, first.char_code());
        if is_stroke && self.last_run == Some(begin) {
            return;
        }
        self.last_run = Some(begin);
        for glyph in run.glyphs() {
            let advance = match &**glyph {
                Glyph::Outline(outline) => outline.advance_width(),
                Glyph::Type3(drawn) => drawn.advance_width(),
            };
            let place = transform * glyph.transform();
            let start = place * Point::ORIGIN;
            let end = place * Point::new(f64::from(advance.unwrap_or(500.0)), 0.0);
            let size = (place * Point::new(0.0, 1_000.0) - start).hypot();
            if [start.x, start.y, end.x, end.y, size].iter().all(|number| number.is_finite()) {
                self.glyph(Placed { start, end, size }, glyph.as_unicode());
            }
        }
    }

    fn glyph(&mut self, place: Placed, character: Option<BfString>) {
        let text = match character {
            Some(BfString::Char(character)) => String::from(character),
            Some(BfString::String(text)) => text,
            None => String::new(),
        };
        let is_unknown = text.chars().all(|character| character == '\0' || is_private(character));
        self.unknown += usize::from(is_unknown);
        self.known += usize::from(!is_unknown);
        let text = if is_unknown { char::REPLACEMENT_CHARACTER.to_string() } else { text };
        if text.chars().all(char::is_whitespace) {
            self.space();
            // A space may be as wide as it likes; what follows is measured from its end.
            self.last = self.last.map(|last| if last.is_beside(&place) { place } else { last });
            return;
        }
        match self.last.map_or(Step::None, |last| last.step(&place)) {
            Step::None => {}
            Step::Space => self.space(),
            Step::Line => self.line(&text),
            Step::Paragraph => {
                self.trim();
                self.text.push_str("\n\n");
            }
        }
        text.chars().for_each(|character| self.push(character));
        self.last = Some(place);
    }

    fn push(&mut self, character: char) {
        match character {
            'ﬀ' => self.text.push_str("ff"),
            'ﬁ' => self.text.push_str("fi"),
            'ﬂ' => self.text.push_str("fl"),
            'ﬃ' => self.text.push_str("ffi"),
            'ﬄ' => self.text.push_str("ffl"),
            'ﬅ' | 'ﬆ' => self.text.push_str("st"),
            character if character.is_whitespace() => self.space(),
            character if character.is_control() => {}
            character => self.text.push(character),
        }
    }

    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(char::is_whitespace) {
            self.text.push(' ');
        }
    }

    fn trim(&mut self) {
        self.text.truncate(self.text.trim_end().len());
    }

    /// Begins a line; a word that the last one ended in the middle of goes on.
    fn line(&mut self, next: &str) {
        self.trim();
        let mut before = self.text.chars().rev();
        let mark = before.next();
        let is_word = before.next().is_some_and(char::is_alphabetic) && next.starts_with(char::is_lowercase);
        match mark {
            Some(hyphen @ ('-' | '\u{2010}' | '\u{ad}')) if is_word => {
                self.text.truncate(self.text.len() - hyphen.len_utf8());
            }
            Some(_) => self.text.push('\n'),
            None => {}
        }
    }

    pub(super) fn finish(mut self) -> String {
        self.trim();
        self.text
    }
}

enum Step {
    None,
    Space,
    Line,
    Paragraph,
}

impl Placed {
    /// How far a glyph stands from this one, along the line and across it, in sizes.
    fn offset(&self, next: &Self) -> (f64, f64) {
        let along = (self.end - self.start).normalize_or_right();
        let step = next.start - self.end;
        let size = self.size.max(next.size).max(1e-6);
        (step.dot(along) / size, step.dot(Vec2::new(-along.y, along.x)) / size)
    }

    fn is_beside(&self, next: &Self) -> bool {
        let (along, across) = self.offset(next);
        across.abs() < LINE && along > -1.0
    }

    fn step(&self, next: &Self) -> Step {
        let (along, across) = self.offset(next);
        match across.abs() {
            across if across > PARAGRAPH => Step::Paragraph,
            across if across > LINE => Step::Line,
            // Back to the left on the same line: a table's next cell, or a second column.
            _ if along < -1.0 => Step::Line,
            _ if along > SPACE => Step::Space,
            _ => Step::None,
        }
    }
}

trait Direction {
    fn normalize_or_right(self) -> Vec2;
}

impl Direction for Vec2 {
    /// A direction of length 1; of glyphs without width, to the right.
    fn normalize_or_right(self) -> Vec2 {
        if self.hypot() > 1e-9 { self / self.hypot() } else { Vec2::new(1.0, 0.0) }
    }
}

/// Whether fonts alone know what the character looks like.
fn is_private(character: char) -> bool {
    matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'.. | '\u{fffd}')
}
