//! What is in the PDF files of the fixtures, and what hostile ones do.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::*;

const TIDES: &[u8] = include_bytes!("../../../tests/fixtures/documents/tides.pdf");

fn reason(bytes: &[u8]) -> String {
    read(bytes).err().unwrap()
}

#[test]
fn pages_become_words_and_lines_with_form_feeds_between() {
    let extract = read(TIDES).unwrap();
    let expected = "Tides of the North Sea\n\nThe tide rises twice a day because the moon pulls\nat the water on the near side. \
                    Harbour masters keep information about the difference in tables.\n\nAnother paragraph is about \
                    lighthouses.\n\n\u{c}The sun\n\nA spring tide comes when sun and moon stand in line;\na neap tide when they stand \
                    at a right angle.";
    assert_eq!(extract.text, expected);
    assert_eq!(extract.title.as_deref(), Some("Tides – a primer"));
    assert_eq!(Value::Object(extract.metadata), serde_json::json!({"pages": 2, "author": "Ada Marsh"}));
    assert!(!extract.lossy);
}

#[test]
fn what_cannot_be_read_says_why() {
    let locked = include_bytes!("../../../tests/fixtures/documents/locked.pdf");
    assert!(reason(locked).contains("encrypted with a password"), "{}", reason(locked));
    let scan = include_bytes!("../../../tests/fixtures/documents/scan.pdf");
    assert!(reason(scan).starts_with("its page shows pictures and no text; run text recognition"), "{}", reason(scan));
    assert!(reason(b"%PDF-1.4\nnothing").contains("no PDF, or only a part of one"));
    assert!(reason(b"").contains("no PDF"));
}

/// A file with one page whose content is this stream.
fn page(dictionary: &str, content: &[u8], more: &str) -> Vec<u8> {
    let head = format!(
        "%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1>>\nendobj\n\
         3 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>/Font<</A\
         <</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>\nendobj\n{more}\n4 0 obj\n<<{dictionary}/Length {}>>\nstream\n",
        content.len()
    );
    [head.as_bytes(), content, b"\nendstream\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF"].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn streams_that_inflate_without_end_are_refused() {
    let text = page("", b"BT /A 5 Tf (Seen) Tj ET", "");
    assert_eq!(read(&text).unwrap().text, "Seen", "the frame of this test holds");
    let spaces = deflated(&vec![b' '; 300 << 20]);
    assert!(reason(&page("/Filter/FlateDecode", &spaces, "")).contains("inflate to more than 256 MiB"));
    let twice = deflated(&deflated(b"BT ET"));
    assert!(reason(&page("/Filter[/FlateDecode /FlateDecode]", &twice, "")).contains("packed twice"));
}

/// Forms that draw each other: each calls itself ten times, fifty deep.
#[test]
fn pages_that_never_end_are_given_up_in_time() {
    let form = "<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>/Length 40>>";
    let calls = "/F Do ".repeat(10);
    let more = format!("5 0 obj\n{form}\nstream\n{calls}\nendstream\nendobj");
    let bytes = page("", b"/F Do", &more);
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| extract(bytes, begun + Duration::from_millis(500))));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let refused = outcome.map_or(true, |outcome| outcome.is_err());
    assert!(refused, "it has no text, at least");
}
