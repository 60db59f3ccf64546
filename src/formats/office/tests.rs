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
                    - Bitter ones\n  - Saaz\n\n| Hop | Bitterness |\n| --- | --- |\n| Saaz | 4 \\| 5 |\n\nDried in a kiln.\n";
    assert_eq!(extract.text, expected);
    assert_eq!(extract.title.as_deref(), Some("How beer is brewed"));
    assert_eq!(Value::Object(extract.metadata), json!({"author": "Ada Marsh", "lang": "en-GB"}));
}

#[test]
fn open_documents_are_read_without_what_was_deleted() {
    let extract = opendocument::read(fixture!("bees.odt")).unwrap();
    let expected = "# Bees\n\nA hive has  one queen (Rarely two.).\n\n- Workers\n  - Nurses\n\n## Honey\n\n## Harvest\n\n\
                    | Year | kg |  |\n| --- | --- | --- |\n| 2023 | 31 | 31 |\n";
    assert_eq!(extract.text, expected);
    assert_eq!((extract.title.as_deref(), extract.metadata.len()), (Some("On bees"), 0));
    let slides = opendocument::read(fixture!("dance.odp")).unwrap();
    assert_eq!(slides.text, "Why bees dance\n\u{c}The angle to the sun\n");
    assert_eq!(slides.metadata["pages"], 2);
}

#[test]
fn sheets_are_tables_with_dates() {
    let extract = sheets::read(fixture!("rain.xlsx")).unwrap();
    let expected = "## Rainfall\n\n| Day | Millimetres |  | Remark |\n| --- | --- | --- | --- |\n| 2024-02-29 | 12.5 |  | true |\n| 2024-03-01 18:00 | 25 |\n";
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

/// A sheet of these rows of XML.
fn sheet(rows: &str) -> Vec<u8> {
    let workbook = "<workbook><sheets><sheet name=\"S\" r:id=\"r1\"/></sheets></workbook>";
    let relations = "<Relationships><Relationship Id=\"r1\" Target=\"sheet.xml\"/></Relationships>";
    archive(&[
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
        ("xl/sheet.xml", format!("<worksheet><sheetData>{rows}</sheetData></worksheet>").as_bytes()),
    ])
}

#[test]
fn cells_in_far_columns_are_kept_and_those_beyond_the_last_refused() {
    let row = |place: &str| format!("<row><c r=\"A1\"><v>1</v></c><c r=\"{place}1\"><v>far</v></c></row>");
    // Columns 1,001 and 16,384.
    for (place, columns) in [("ALM", 1_001), ("XFD", 16_384)] {
        let text = sheets::read(&sheet(&row(place))).unwrap().text;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].ends_with("| far |"), "{place}");
        assert_eq!(lines[3].matches("---").count(), columns);
    }
    let reason = sheets::read(&sheet(&row("XFE"))).err().unwrap();
    assert!(reason.contains("column 16385") && reason.contains("save it as CSV"), "{reason}");
}

#[test]
fn a_header_is_as_wide_as_the_widest_row() {
    let rows = "<row><c><v>a</v></c></row><row/><row><c><v>1</v></c><c><v>2</v></c><c><v>3</v></c></row>";
    let text = sheets::read(&sheet(rows)).unwrap().text;
    assert_eq!(text, "## S\n\n| a |  |  |\n| --- | --- | --- |\n| 1 | 2 | 3 |\n");
}

/// Each of 100 rows has its one cell at the right end of the sheet: 5 MB of blank cells from 5 kB.
#[test]
fn a_sheet_of_blank_cells_is_refused() {
    let rows = "<row><c r=\"XFD1\"><v>1</v></c></row>".repeat(100);
    let reason = sheets::read(&sheet(&rows)).err().unwrap();
    assert!(reason.contains("4 MiB") && reason.contains("blank cells"), "{reason}");
}

#[test]
fn cells_and_rows_that_are_repeated_are_all_there() {
    let table = |rows: &str| archive(&[("content.xml", format!("<table name=\"T\">{rows}</table>").as_bytes())]);
    let cell = |often: usize, text: &str| {
        format!("<table-cell number-columns-repeated=\"{often}\"><p>{text}</p></table-cell>")
    };
    let rows = format!(
        "<table-row number-rows-repeated=\"2\">{}{}{}</table-row><table-row number-rows-repeated=\"1048574\">{}</table-row>",
        cell(300, ""),
        cell(150, "x"),
        cell(15_934, ""),
        cell(16_384, "")
    );
    let text = opendocument::read(&table(&rows)).unwrap().text;
    let row = format!("|{}{}", "  |".repeat(300), " x |".repeat(150));
    assert_eq!(text, format!("## T\n\n{row}\n|{}\n{row}\n", " --- |".repeat(450)));
    let wide = format!("<table-row>{}</table-row>", cell(16_385, "x"));
    assert!(opendocument::read(&table(&wide)).err().unwrap().contains("column 16385"));
    let heavy = format!("<table-row>{}</table-row>", cell(16_000, &"x".repeat(300)));
    assert!(opendocument::read(&table(&heavy)).err().unwrap().contains("4 MiB"));
    let endless = format!("<table-row number-rows-repeated=\"99999999999\">{}</table-row>", cell(1_000, "x"));
    assert!(opendocument::read(&table(&endless)).err().unwrap().contains("4 MiB"));
}

/// Each of these cells is taken by itself. What is refused is the text of the row, before the row ends: so a cell beyond the
/// last column, which comes after them, is not what is told of.
#[test]
fn a_row_is_refused_at_the_cell_with_which_it_is_too_long() {
    let text = "x".repeat(300);
    let cells = format!("<table-cell number-columns-repeated=\"5000\"><p>{text}</p></table-cell>").repeat(3);
    let beyond = "<table-cell number-columns-repeated=\"2000\"><p>y</p></table-cell>";
    let sheet_of = |row: &str| archive(&[("content.xml", format!("<table>{row}</table>").as_bytes())]);
    let reason = opendocument::read(&sheet_of(&format!("<table-row>{cells}{beyond}</table-row>"))).err().unwrap();
    assert!(reason.contains("4 MiB"), "{reason}");
    // Of one column, too, and where no row is ever written.
    let reason = opendocument::read(&sheet_of(&cells)).err().unwrap();
    assert!(reason.contains("4 MiB"), "{reason}");
    let cells = format!("<c r=\"A1\" t=\"str\"><v>{}</v></c>", "x".repeat(1 << 20)).repeat(5);
    let reason = sheets::read(&sheet(&format!("<row>{cells}<c r=\"XFE1\"><v>y</v></c></row>"))).err().unwrap();
    assert!(reason.contains("4 MiB"), "{reason}");
}
