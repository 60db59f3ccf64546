//! Which text do word processors, slides, sheets and e-books hold?
//!
//! All of these are zip archives of XML; the parts with text are read and written as Markdown, so that passages know the
//! headings above them. What changes tracking deleted, and the headers and footers of pages, are left out.
//!
//! An archive may claim anything: parts are read to a limit, and what inflates as no text does is refused.

mod archive;
mod draft;
mod epub;
mod opendocument;
mod sheets;
mod slides;
mod word;
mod xml;

use serde_json::{Map, Value};

use self::archive::Archive;
use super::html::one_line;
use super::{Extract, Reading};

/// The readers of .docx, .xlsx, .pptx, .odt, .ods, .odp and .epub.
pub(super) const READINGS: [Option<Reading>; 7] = [
    Some(word::read),
    Some(sheets::read),
    Some(slides::read),
    Some(opendocument::read),
    Some(opendocument::read),
    Some(opendocument::read),
    Some(epub::read),
];

/// Title, author, language and description of `docProps/core.xml` and its likes.
fn properties(archive: &mut Archive<'_>, part: &str) -> Result<(Option<String>, Map<String, Value>), String> {
    let Some(xml) = archive.part(part)? else { return Ok((None, Map::new())) };
    described(&xml)
}

/// The Dublin Core in some XML.
fn described(xml: &str) -> Result<(Option<String>, Map<String, Value>), String> {
    let (mut title, mut metadata) = (None, Map::new());
    let (mut name, mut words) = (String::new(), String::new());
    xml::walk(xml, |event| match event {
        xml::Event::Start(element) => {
            element.name().clone_into(&mut name);
            words.clear();
        }
        xml::Event::Text(text) => words.push_str(text),
        xml::Event::End(ended) if ended == name => {
            let key = match ended {
                "title" => {
                    title = title.take().or_else(|| one_line(&words));
                    return;
                }
                "creator" | "initial-creator" => "author",
                "language" => "lang",
                "description" => "description",
                _ => return,
            };
            if let Some(words) = one_line(&words) {
                metadata.entry(key).or_insert(Value::String(words));
            }
        }
        xml::Event::End(_) => {}
    })?;
    Ok((title, metadata))
}

fn extract(text: String, title: Option<String>, metadata: Map<String, Value>) -> Extract {
    Extract { text, title, metadata, lossy: false }
}

#[cfg(test)]
mod tests;
