//! Which text do the pages of this PDF show?
//!
//! The glyphs of each page, in the order in which the file draws them, put together to words and lines by their places.
//! Pages are parted by a form feed, as `pdftotext` does it, so that the number of a passage's page is the number of form
//! feeds before it, plus one; `pages` in the metadata says how many there are.
//!
//! Such files come from anywhere, so the work is fenced in: a thread of its own with a deep stack, a deadline, limits on
//! what streams may inflate to, and every panic is a reason to reject the file. Words hyphenated at the end of a line are
//! joined. Text in pictures is not read.

mod layout;
mod streams;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hayro_interpret::font::GlyphRun;
use hayro_interpret::hayro_syntax::page::Page;
use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro_interpret::kurbo::{BezPath, Rect};
use hayro_interpret::{
    BlendMode, ClipPath, Context, Device, DrawMode, DrawProps, Image, ImageDrawProps, InterpreterCache,
    InterpreterSettings, RenderContent, SoftMask, TransformExt as _, interpret_page,
};
use serde_json::{Map, Value};

use self::layout::Layout;
use super::{Extract, PAGE_BREAK};

/// How long a file may take; a page takes some milliseconds.
const TIME_MAX: Duration = Duration::from_secs(60);
/// How long is waited beyond that for the thread to notice.
const GRACE: Duration = Duration::from_secs(5);
/// The stack of the thread: objects may lie 512 deep in each other.
const STACK_BYTES: usize = 64 << 20;
const PAGES_MAX: usize = 100_000;
const TEXT_BYTES_MAX: usize = 256 << 20;

/// The document of a PDF file.
pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    streams::check(bytes)?;
    let bytes = bytes.to_vec();
    let (send, receive) = mpsc::sync_channel(1);
    let deadline = Instant::now() + TIME_MAX;
    let work = move || {
        let text = catch_unwind(AssertUnwindSafe(|| extract(bytes, deadline)));
        let text = text.unwrap_or_else(|cause| Err(stopped(cause.downcast_ref::<Stop>().copied())));
        // Where nobody waits any more there is nobody to tell.
        let _ = send.send(text);
    };
    let thread = std::thread::Builder::new().name("pdf".to_owned()).stack_size(STACK_BYTES).spawn(work);
    thread.map_err(|error| format!("no thread could be started to read it ({error}); try again"))?;
    receive.recv_timeout(TIME_MAX + GRACE).unwrap_or_else(|_| Err(stopped(Some(Stop::Late))))
}

/// Why a file is not read to its end.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Late,
    Long,
}

fn stopped(why: Option<Stop>) -> String {
    match why {
        Some(Stop::Late) => {
            let seconds = TIME_MAX.as_secs();
            format!(
                "its pages are not read after {seconds} s; print it to a new PDF, or convert it to text with pdftotext"
            )
        }
        Some(Stop::Long) => format!("it has more than {} MiB of text; split it", TEXT_BYTES_MAX >> 20),
        None => "it is damaged in a way that the reader of PDFs does not survive; print it to a new PDF".to_owned(),
    }
}

fn extract(bytes: Vec<u8>, deadline: Instant) -> Result<Extract, String> {
    let pdf = Pdf::new(bytes).map_err(|error| unreadable(&error))?;
    let pages = pdf.pages();
    match pages.len() {
        0 => return Err("it has no pages, or is damaged; print it to a new PDF".to_owned()),
        count if count > PAGES_MAX => {
            return Err(format!("it has {count} pages; {PAGES_MAX} are read at most. Split it"));
        }
        _ => {}
    }
    let cache = InterpreterCache::new();
    let mut text = String::new();
    let mut tally = Tally::default();
    for (number, page) in pages.iter().enumerate() {
        if number > 0 {
            text.push_str(PAGE_BREAK);
        }
        let on_page = read_page(&pdf, page, &cache, deadline, &mut tally);
        text.push_str(&on_page);
        if text.len() > TEXT_BYTES_MAX {
            return Err(stopped(Some(Stop::Long)));
        }
    }
    tally.judge(pages.len(), &text)?;
    let mut metadata = Map::new();
    metadata.insert("pages".to_owned(), pages.len().into());
    if tally.pictures > 0 {
        metadata.insert("pages_without_text".to_owned(), tally.pictures.into());
    }
    let said = pdf.metadata();
    if let Some(author) = said.author.as_deref().and_then(words) {
        metadata.insert("author".to_owned(), Value::String(author));
    }
    let title = said.title.as_deref().and_then(words);
    Ok(Extract { text, title, metadata, lossy: tally.is_lossy() })
}

fn unreadable(error: &LoadPdfError) -> String {
    match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => {
            "it is encrypted with a password; save a copy without one".to_owned()
        }
        LoadPdfError::Decryption(_) => {
            "it is encrypted in a way that is not known here; save a copy without".to_owned()
        }
        LoadPdfError::Invalid => "it is no PDF, or only a part of one; copy it again".to_owned(),
    }
}

fn read_page<'a>(
    pdf: &'a Pdf,
    page: &Page<'a>,
    cache: &InterpreterCache<'a>,
    deadline: Instant,
    tally: &mut Tally,
) -> String {
    let settings = InterpreterSettings { render_content: RenderContent::PAGE, ..InterpreterSettings::default() };
    let (width, height) = page.render_dimensions();
    let bounds = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
    let mut context = Context::new(page.initial_transform(true).to_kurbo(), bounds, cache, pdf.xref(), settings);
    let mut reader = Reader { layout: Layout::default(), deadline, has_picture: false, calls: 0 };
    interpret_page(page, &mut context, &mut reader);
    tally.known += reader.layout.known;
    tally.unknown += reader.layout.unknown;
    let text = reader.layout.finish();
    tally.pictures += usize::from(text.is_empty() && reader.has_picture);
    text
}

/// What there was to read, and what not.
#[derive(Default)]
struct Tally {
    /// Glyphs whose character is known.
    known: usize,
    unknown: usize,
    /// Pages that are a picture.
    pictures: usize,
}

impl Tally {
    fn judge(&self, pages: usize, text: &str) -> Result<(), String> {
        let ocr = "run text recognition over it, with ocrmypdf for one";
        if text.trim().is_empty() && self.unknown == 0 {
            let pages = if pages == 1 { "its page shows".to_owned() } else { format!("its {pages} pages show") };
            let what = if self.pictures > 0 { "pictures and no text" } else { "no text" };
            return Err(format!("{pages} {what}; {ocr}"));
        }
        if self.unknown > self.known {
            let all = self.known + self.unknown;
            let unknown = self.unknown;
            return Err(format!("its fonts do not say which characters {unknown} of its {all} glyphs are; {ocr}"));
        }
        Ok(())
    }

    /// One in a hundred is more than bullets and ornaments.
    fn is_lossy(&self) -> bool {
        self.unknown * 100 > self.known
    }
}

/// The words of a string of the file's own metadata: UTF-16 or UTF-8 with a mark, or else about Latin-1.
fn words(bytes: &[u8]) -> Option<String> {
    let text = if bytes.starts_with(&[0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe]) {
        super::encoding::decode(bytes.to_vec()).text
    } else if let Some(text) = bytes.strip_prefix("\u{feff}".as_bytes()) {
        String::from_utf8_lossy(text).into_owned()
    } else {
        bytes.iter().map(|byte| char::from(*byte)).collect()
    };
    let mut line = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    line.truncate(line.floor_char_boundary(1_000));
    (!line.is_empty()).then_some(line)
}

/// Takes the glyphs of a page, and looks at the clock.
struct Reader {
    layout: Layout,
    deadline: Instant,
    has_picture: bool,
    calls: u32,
}

/// Calls between two looks at the clock.
const CALLS: u32 = 64;

impl Reader {
    /// The interpreter cannot be asked to stop; unwinding through it is caught above.
    fn check(&mut self) {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(CALLS) && Instant::now() > self.deadline {
            resume_unwind(Box::new(Stop::Late));
        }
        if self.layout.len() > TEXT_BYTES_MAX {
            resume_unwind(Box::new(Stop::Long));
        }
    }
}

impl<'a> Device<'a> for Reader {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, mode: &DrawMode) {
        self.check();
        self.layout.run(run, props.transform, matches!(mode, DrawMode::Stroke(_)));
    }

    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {
        self.check();
        self.has_picture = true;
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {
        self.check();
    }

    fn push_clip_path(&mut self, _: &ClipPath) {
        self.check();
    }

    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {
        self.check();
    }

    fn pop_clip(&mut self) {}

    fn pop_transparency_group(&mut self) {}
}

#[cfg(test)]
mod tests;
