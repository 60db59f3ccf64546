//! What is in the office files of the fixtures, and what hostile ones do.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/documents/", $name))
    };
}

fn archive(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_word_document_keeps_headings_lists_tables_and_notes() {
    let extract = word::read(fixture!("beer.docx")).unwrap();
    let expected = "# Brewing beer\n\n# Malt\n\nMalt is dried & crushed.\n\nOnce only.\n\n\\# no heading\n\n## Hops\n\n\
                    - Bitter ones\n  - Saaz\n\n| Hop | Bitterness |\n| Saaz | 4 \\| 5 |\n\nDried in a kiln.\n";
    assert_eq!(extract.text, expected);
    assert_eq!(extract.title.as_deref(), Some("How beer is brewed"));
    assert_eq!(Value::Object(extract.metadata), json!({"author": "Ada Marsh", "lang": "en-GB"}));
}

#[test]
fn open_documents_are_read_without_what_was_deleted() {
    let extract = opendocument::read(fixture!("bees.odt")).unwrap();
    let expected = "# Bees\n\nA hive has  one queen (Rarely two.).\n\n- Workers\n  - Nurses\n\n## Honey\n\n## Harvest\n\n\
                    | Year | kg |\n| 2023 | 31 | 31 |\n";
    assert_eq!(extract.text, expected);
    assert_eq!((extract.title.as_deref(), extract.metadata.len()), (Some("On bees"), 0));
    let slides = opendocument::read(fixture!("dance.odp")).unwrap();
    assert_eq!(slides.text, "Why bees dance\n\u{c}The angle to the sun\n");
    assert_eq!(slides.metadata["pages"], 2);
}

#[test]
fn sheets_are_tables_with_dates() {
    let extract = sheets::read(fixture!("rain.xlsx")).unwrap();
    let expected = "## Rainfall\n\n| Day | Millimetres |  | Remark |\n| 2024-02-29 | 12.5 |  | true |\n| 2024-03-01 18:00 | 25 |\n";
    assert_eq!(extract.text, expected);
}

#[test]
fn slides_are_pages_in_their_order_with_notes() {
    let extract = slides::read(fixture!("volcano.pptx")).unwrap();
    let expected = "## Volcanoes\n\nThey stand where plates of the crust part or meet, and over hot spots of the mantle.\n\u{c}## Lava\n\nRunny lava flows far from the crater before it cools and turns to stone.\n\n  - Basalt\n\nShow the film of Etna.\n";
    assert_eq!(extract.text, expected);
    assert_eq!(extract.metadata["pages"], 2);
}

#[test]
fn books_are_their_chapters_in_reading_order() {
    let extract = epub::read(fixture!("lighthouse.epub")).unwrap();
    let expected = "# The lamp\n\nThe keeper lit the lamp at dusk.\n\n# The storm\n\nWaves broke over the gallery.\n";
    assert_eq!(extract.text, expected);
    assert_eq!(extract.title.as_deref(), Some("The Lighthouse"));
}

#[test]
fn archives_that_inflate_without_end_are_refused() {
    for size in [20 << 20, 80 << 20] {
        let bomb = archive(&[("word/document.xml", &vec![b' '; size])]);
        let reason = word::read(&bomb).err().unwrap();
        assert!(reason.contains("inflates to") && reason.contains("250 to one"), "{reason}");
    }
}

#[test]
fn what_is_no_such_archive_says_why() {
    let reason = |bytes: &[u8]| word::read(bytes).err().unwrap();
    assert!(reason(b"no zip").contains("no whole archive"));
    assert!(reason(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1").contains("encrypted, or of a version of Office before 2007"));
    assert!(reason(&archive(&[("a", b"b")])).contains("has no part word/document.xml"));
    assert!(reason(&archive(&[("word/document.xml", b"<w:p><w:t>a</w:t")])).contains("breaks off at byte"));
}

/// Deep elements, entities inside each other, names that lead out of the archive.
#[test]
fn hostile_xml_costs_nothing() {
    let deep = format!("<w:document>{}<w:p><w:t>x</w:t></w:p>", "<w:tbl><w:tr><w:tc>".repeat(100_000));
    assert!(word::read(&archive(&[("word/document.xml", deep.as_bytes())])).is_ok());
    let laughs = "<!DOCTYPE a [<!ENTITY b \"c c\"><!ENTITY d \"&b;&b;\">]><w:p><w:t>&d;</w:t></w:p>";
    assert_eq!(word::read(&archive(&[("word/document.xml", laughs.as_bytes())])).unwrap().text, "&d;\n");
    assert_eq!(archive::joined("ppt/slides", "../../../etc/passwd"), "etc/passwd");
    assert_eq!(archive::joined("xl", "/xl/a.xml"), "xl/a.xml");
}
