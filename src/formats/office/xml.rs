//! Which elements and which words follow each other in this XML?
//!
//! Names are given without their prefixes: these formats mean the same by any prefix. End tags need not match, and
//! entities that nobody declared stay as they are written. Nothing is fetched and no entity is expanded into more.

use quick_xml::events::{BytesStart, Event as Raw};
use quick_xml::{Reader, XmlVersion};

/// An element that begins.
pub(super) struct Element<'a>(&'a BytesStart<'a>);

impl Element<'_> {
    pub(super) fn name(&self) -> &str {
        local(self.0.name().0)
    }

    /// The value of the first attribute of this name.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        self.attributes(name).next()
    }

    /// The values of all attributes of this name, whatever their prefixes.
    pub(super) fn attributes(&self, name: &str) -> impl Iterator<Item = String> {
        let attributes = self.0.attributes().filter_map(std::result::Result::ok);
        let named = attributes.filter(move |attribute| local(attribute.key.0) == name);
        named.filter_map(|attribute| Some(attribute.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned()))
    }
}

pub(super) enum Event<'a> {
    Start(Element<'a>),
    /// Also after elements that close themselves.
    End(&'a str),
    Text(&'a str),
}

/// What stands in `Fallback` says again, for old readers, what stands beside it.
#[derive(Default)]
pub(super) struct Fallbacks {
    open: usize,
}

impl Fallbacks {
    /// Whether this event is part of one. To be asked of every event.
    pub(super) fn hold(&mut self, event: &Event<'_>) -> bool {
        match event {
            Event::Start(element) if element.name() == "Fallback" => self.open += 1,
            Event::End("Fallback") => self.open = self.open.saturating_sub(1),
            Event::Start(_) | Event::End(_) | Event::Text(_) => return self.open > 0,
        }
        true
    }
}

/// Tells of every element and text, in their order.
pub(super) fn walk(xml: &str, mut tell: impl FnMut(Event<'_>)) -> Result<(), String> {
    let mut reader = Reader::from_str(xml);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    loop {
        match reader.read_event() {
            Ok(Raw::Start(element)) => tell(Event::Start(Element(&element))),
            Ok(Raw::Empty(element)) => {
                tell(Event::Start(Element(&element)));
                tell(Event::End(local(element.name().0)));
            }
            Ok(Raw::End(element)) => tell(Event::End(local(element.name().0))),
            Ok(Raw::Text(text)) => tell(Event::Text(&text)),
            Ok(Raw::CData(text)) => tell(Event::Text(&text)),
            Ok(Raw::GeneralRef(entity)) => {
                let number = entity.resolve_char_ref().ok().flatten().map(String::from);
                let known = number.or_else(|| quick_xml::escape::resolve_predefined_entity(&entity).map(str::to_owned));
                tell(Event::Text(&known.unwrap_or_else(|| format!("&{};", &*entity))));
            }
            Ok(Raw::Eof) => return Ok(()),
            Ok(Raw::Comment(_) | Raw::Decl(_) | Raw::PI(_) | Raw::DocType(_)) => {}
            Err(error) => {
                let at = reader.buffer_position();
                return Err(format!("its XML breaks off at byte {at} of a part ({error}); save or copy it again"));
            }
        }
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}
