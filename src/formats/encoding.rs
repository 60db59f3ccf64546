//! Which text do these bytes hold?
//!
//! UTF-8, with or without a byte order mark, and UTF-16 with one, or plainly so. With the feature `documents` also what a
//! web page says it is written in, and old encodings by their frequencies; such a text says which in its metadata. The
//! mark is no part of the text: byte offsets count from the text that is stored. Bytes that are no text of that encoding
//! become U+FFFD, and the caller is told.

/// How far into a file a NUL byte is looked for.
const BINARY_PROBE_BYTES: usize = 8 * 1024;

/// A text, and how it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// Whether bytes of it had to be replaced.
    pub(super) lossy: bool,
    /// The encoding, where it was not said by a mark and is not UTF-8.
    pub(super) encoding: Option<&'static str>,
}

/// Whether the bytes begin with UTF-16's byte order mark.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// Whether the bytes are UTF-16, with a mark or without.
pub(super) fn is_wide(bytes: &[u8]) -> bool {
    is_utf16(bytes) || unmarked_utf16(bytes).is_some()
}

/// Whether the bytes look like no text: a NUL near their beginning.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    !is_wide(bytes) && bytes.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0)
}

/// The text of a whole file.
pub(super) fn decode(mut bytes: Vec<u8>) -> Decoded {
    if is_utf16(&bytes) {
        return decode_utf16(&bytes[2..], bytes[0] == 0xfe);
    }
    if let Some(big) = unmarked_utf16(&bytes) {
        return Decoded { encoding: Some(if big { "UTF-16BE" } else { "UTF-16LE" }), ..decode_utf16(&bytes, big) };
    }
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Decoded { text, lossy: false, encoding: None },
        Err(error) => old(error.as_bytes()).unwrap_or_else(|| Decoded {
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            lossy: true,
            encoding: None,
        }),
    }
}

/// UTF-16 without a mark, and whether its first byte is the high one: text that has NULs in every other place and nowhere
/// else, as ASCII has in UTF-16.
fn unmarked_utf16(bytes: &[u8]) -> Option<bool> {
    let probe = &bytes[..bytes.len().min(BINARY_PROBE_BYTES) & !1];
    if probe.len() < 8 || bytes.len() % 2 == 1 {
        return None;
    }
    let nuls = |first: usize| probe.iter().skip(first).step_by(2).filter(|byte| **byte == 0).count();
    let (high, low) = (nuls(0), nuls(1));
    let most = probe.len() / 2 * 2 / 3;
    match (high > most && low == 0, low > most && high == 0) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        (false, false) => None,
    }
}

fn decode_utf16(bytes: &[u8], big: bool) -> Decoded {
    let mut pairs = bytes.chunks_exact(2);
    let units = pairs.by_ref().map(|pair| {
        let (low, high) = if big { (pair[1], pair[0]) } else { (pair[0], pair[1]) };
        u16::from(low) | u16::from(high) << 8
    });
    let mut lossy = bytes.len() % 2 == 1;
    let mut text = String::with_capacity(bytes.len() / 2);
    for unit in char::decode_utf16(units) {
        lossy |= unit.is_err();
        text.push(unit.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    if bytes.len() % 2 == 1 {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    Decoded { text, lossy, encoding: None }
}

/// A text that is no UTF-8 in the encoding that its bytes are most frequent in. `None` where it is UTF-8 with damage: as
/// many characters of several bytes as bytes that fit into none.
#[cfg(feature = "documents")]
fn old(bytes: &[u8]) -> Option<Decoded> {
    let damage = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
    let is_wide = |byte: &&u8| **byte >= 0xc0;
    let wide: usize = bytes.utf8_chunks().map(|chunk| chunk.valid().as_bytes().iter().filter(is_wide).count()).sum();
    if wide >= damage {
        return None;
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let encoding = detector.guess(None, chardetng::Utf8Detection::Deny);
    let (text, lossy) = encoding.decode_without_bom_handling(bytes);
    Some(Decoded { text: text.into_owned(), lossy, encoding: Some(encoding.name()) })
}

#[cfg(not(feature = "documents"))]
fn old(_: &[u8]) -> Option<Decoded> {
    None
}

/// How far into a page its own word for its encoding is looked for; browsers look 1,024 bytes far.
#[cfg(feature = "documents")]
const DECLARATION_BYTES: usize = 4 * 1024;

/// The text of a page of HTML or XML. A mark goes before proper UTF-8, that before what the page says, that before a guess.
#[cfg(feature = "documents")]
pub(super) fn decode_marked_up(bytes: &[u8]) -> Decoded {
    let says = declared(&bytes[..bytes.len().min(DECLARATION_BYTES)]);
    let says = says.and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    // Wide pages cannot say so in bytes of ASCII; what claims it is UTF-8.
    let says = says.filter(|encoding| *encoding != encoding_rs::UTF_16LE && *encoding != encoding_rs::UTF_16BE);
    let is_utf8 = |says: &encoding_rs::Encoding| std::str::from_utf8(bytes).is_ok() && says != encoding_rs::ISO_2022_JP;
    match says {
        Some(encoding) if encoding != encoding_rs::UTF_8 && !is_utf16(bytes) && !is_utf8(encoding) => {
            let (text, lossy) = encoding.decode_without_bom_handling(bytes);
            Decoded { text: text.into_owned(), lossy, encoding: Some(encoding.name()) }
        }
        Some(_) | None => decode(bytes.to_vec()),
    }
}

/// The label after `charset=` or `encoding=`.
#[cfg(feature = "documents")]
fn declared(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let is_xml = head.trim_start().starts_with("<?xml");
    let meta = head.match_indices("charset").map(|(at, name)| at + name.len());
    let xml = head.match_indices("encoding").map(|(at, name)| at + name.len()).take(usize::from(is_xml));
    xml.chain(meta).find_map(|at| {
        let value = head[at..].trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
        let is_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
        let end = value.find(|c| !is_label(c)).unwrap_or(value.len());
        (end > 0).then(|| value[..end].to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> (String, bool) {
        let Decoded { text, lossy, .. } = decode(bytes.to_vec());
        (text, lossy)
    }

    #[test]
    fn utf8_comes_out_as_it_is_without_its_mark() {
        assert_eq!(text("gr\u{fc}n".as_bytes()), ("grün".to_owned(), false));
        assert_eq!(text("\u{feff}x\u{feff}".as_bytes()), ("x\u{feff}".to_owned(), false));
        assert_eq!(text(b""), (String::new(), false));
    }

    #[test]
    fn damaged_utf8_is_replaced_and_told() {
        assert_eq!(text(b"gr\xc3\xbcn und bl\xff"), ("grün und bl\u{fffd}".to_owned(), true));
    }

    #[cfg(not(feature = "documents"))]
    #[test]
    fn bytes_that_are_no_text_are_replaced_and_told() {
        assert_eq!(text(b"gr\xfcn"), ("gr\u{fffd}n".to_owned(), true));
    }

    #[cfg(feature = "documents")]
    #[test]
    fn old_encodings_are_known_by_their_letters() {
        let texts = [
            ("Les élèves ont déjà mangé à la cantine où ça sent très bon.", encoding_rs::WINDOWS_1252),
            ("Съешь ещё этих мягких французских булок, да выпей чаю.", encoding_rs::WINDOWS_1251),
            ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", encoding_rs::SHIFT_JIS),
            ("天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。", encoding_rs::GBK),
        ];
        for (text, encoding) in texts {
            let decoded = decode(encoding.encode(text).0.into_owned());
            assert_eq!((decoded.text.as_str(), decoded.lossy, decoded.encoding), (text, false, Some(encoding.name())));
        }
    }

    #[cfg(feature = "documents")]
    #[test]
    fn a_page_is_read_as_it_says_unless_it_is_utf8() {
        let page = |head: &str, body: &[u8]| decode_marked_up(&[head.as_bytes(), body].concat());
        let head = "<meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-2\">";
        let read = page(head, b"<p>\xb1\xe6");
        assert!(read.text.ends_with("<p>ąć") && read.encoding == Some("ISO-8859-2"), "{read:?}");
        let read = page(head, "<p>ąć".as_bytes());
        assert!(read.text.ends_with("<p>ąć") && read.encoding.is_none(), "{read:?}");
        assert!(page("<?xml version='1.0' encoding='koi8-r'?>", b"\xf4").text.ends_with('Т'));
        assert_eq!(page("<meta charset=utf-16>", "é".as_bytes()).encoding, None);
        assert_eq!(declared(b"<meta charset = 'x-sjis'>").as_deref(), Some("x-sjis"));
        assert_eq!(declared(b"charset=\"\""), None);
    }

    #[test]
    fn utf16_is_read_in_both_orders() {
        assert_eq!(text(b"\xff\xfeg\x00\xfc\x00"), ("gü".to_owned(), false));
        assert_eq!(text(b"\xfe\xff\x00g\xd8\x3d\xde\x00"), ("g😀".to_owned(), false));
        assert_eq!(text(b"\xff\xfeg\x00\x00\xd8"), ("g\u{fffd}".to_owned(), true));
        assert_eq!(text(b"\xff\xfeg\x00x"), ("g\u{fffd}".to_owned(), true));
    }

    #[test]
    fn utf16_without_a_mark_is_known_by_its_nuls() {
        let wide: Vec<u8> =
            "A sentence in English.".encode_utf16().flat_map(|unit| [unit as u8, (unit >> 8) as u8]).collect();
        let decoded = decode(wide.clone());
        assert_eq!((decoded.text.as_str(), decoded.encoding), ("A sentence in English.", Some("UTF-16LE")));
        assert!(!is_binary(&wide));
        assert!(is_binary(&[wide, vec![0, 0]].concat()));
    }

    #[test]
    fn a_nul_makes_a_file_binary() {
        assert!(is_binary(b"\x7fELF\x00"));
        assert!(!is_binary(b"text"));
        assert!(!is_binary(b"\xff\xfeg\x00"));
        assert!(!is_binary(&[vec![b'x'; BINARY_PROBE_BYTES], vec![0]].concat()));
    }
}
