//! Which text do these bytes hold?
//!
//! UTF-8, with or without a byte order mark, and UTF-16 with one. The mark is no part of the text: byte offsets count
//! from the text that is stored. Bytes that are no text of that encoding become U+FFFD, and the caller is told.

/// How far into a file a NUL byte is looked for.
const BINARY_PROBE_BYTES: usize = 8 * 1024;

/// A text, and whether bytes of it had to be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) text: String,
    pub(super) lossy: bool,
}

/// Whether the bytes begin with UTF-16's byte order mark.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff])
}

/// Whether the bytes look like no text: a NUL near their beginning.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    !is_utf16(bytes) && bytes.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0)
}

/// The text of a whole file.
pub(super) fn decode(mut bytes: Vec<u8>) -> Decoded {
    if is_utf16(&bytes) {
        return decode_utf16(&bytes);
    }
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Decoded { text, lossy: false },
        Err(error) => Decoded { text: String::from_utf8_lossy(error.as_bytes()).into_owned(), lossy: true },
    }
}

fn decode_utf16(bytes: &[u8]) -> Decoded {
    let big = bytes.starts_with(&[0xfe, 0xff]);
    let mut pairs = bytes[2..].chunks_exact(2);
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
    Decoded { text, lossy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> (String, bool) {
        let Decoded { text, lossy } = decode(bytes.to_vec());
        (text, lossy)
    }

    #[test]
    fn utf8_comes_out_as_it_is_without_its_mark() {
        assert_eq!(text("gr\u{fc}n".as_bytes()), ("grün".to_owned(), false));
        assert_eq!(text("\u{feff}x\u{feff}".as_bytes()), ("x\u{feff}".to_owned(), false));
        assert_eq!(text(b""), (String::new(), false));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_told() {
        assert_eq!(text(b"gr\xfcn"), ("gr\u{fffd}n".to_owned(), true));
    }

    #[test]
    fn utf16_is_read_in_both_orders() {
        assert_eq!(text(b"\xff\xfeg\x00\xfc\x00"), ("gü".to_owned(), false));
        assert_eq!(text(b"\xfe\xff\x00g\xd8\x3d\xde\x00"), ("g😀".to_owned(), false));
        assert_eq!(text(b"\xff\xfeg\x00\x00\xd8"), ("g\u{fffd}".to_owned(), true));
        assert_eq!(text(b"\xff\xfeg\x00x"), ("g\u{fffd}".to_owned(), true));
    }

    #[test]
    fn a_nul_makes_a_file_binary() {
        assert!(is_binary(b"\x7fELF\x00"));
        assert!(!is_binary(b"text"));
        assert!(!is_binary(b"\xff\xfeg\x00"));
        assert!(!is_binary(&[vec![b'x'; BINARY_PROBE_BYTES], vec![0]].concat()));
    }
}
