//! Which text does an e-book (.epub) hold?
//!
//! The chapters in the order of the book's spine, each a web page without its boilerplate; the table of contents is none.

use std::collections::HashMap;

use super::archive::{Archive, joined};
use super::xml::{Event, walk};
use super::{described, extract};
use crate::formats::Extract;
use crate::formats::html;

pub(super) fn read(bytes: &[u8]) -> Result<Extract, String> {
    let mut archive = Archive::open(bytes)?;
    let container = archive.needed("META-INF/container.xml")?;
    let mut package = None;
    walk(&container, |event| {
        if let Event::Start(element) = event
            && element.name() == "rootfile"
        {
            package = package.take().or_else(|| element.attribute("full-path"));
        }
    })?;
    let package = package.ok_or("it names no package, so its chapters cannot be found; convert it to HTML")?;
    let folder = package.rsplit_once('/').map_or("", |(folder, _)| folder);
    let xml = archive.needed(&package)?;
    let mut text = String::new();
    for chapter in chapters(&xml)? {
        let Some(xhtml) = archive.part(&joined(folder, &percent_decoded(&chapter)))? else { continue };
        let page = html::page(&xhtml, true).text;
        if !page.trim().is_empty() {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(&page);
        }
    }
    if text.is_empty() && archive.has("META-INF/encryption.xml") {
        return Err("its chapters are encrypted; convert a copy without protection".into());
    }
    let (title, metadata) = described(&xml)?;
    Ok(extract(text, title, metadata))
}

/// The files of the chapters in reading order.
fn chapters(package: &str) -> Result<Vec<String>, String> {
    let (mut files, mut order) = (HashMap::new(), Vec::new());
    walk(package, |event| {
        let Event::Start(element) = event else { return };
        match element.name() {
            "item" => {
                let is_contents =
                    element.attribute("properties").is_some_and(|all| all.split_whitespace().any(|one| one == "nav"));
                if let (Some(id), Some(file), false) = (element.attribute("id"), element.attribute("href"), is_contents)
                {
                    files.insert(id, file);
                }
            }
            "itemref" => order.extend(element.attribute("idref")),
            _ => {}
        }
    })?;
    // A chapter stands in the book once, however often the spine names it.
    Ok(order.iter().filter_map(|id| files.remove(id)).collect())
}

/// `a%20b` as `a b`; what is no UTF-8 then stays.
fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
}
