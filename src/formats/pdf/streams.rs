//! Would the streams of this file fill the memory?
//!
//! A stream of deflate may be a thousand times as large as it looks, and one inside another a million times. The
//! interpreter inflates without a limit, so what a file holds is inflated here first, into nothing, and counted.

use std::io::Read;

use flate2::bufread::ZlibDecoder;

/// The largest stream, inflated: a scanned page in 600 dots an inch and in colour has 105 MB.
const STREAM_BYTES_MAX: u64 = 256 << 20;
/// All streams but pictures, which are not read, together.
const TOTAL_BYTES_MAX: u64 = 512 << 20;
/// All of them: inflating that much takes some ten seconds.
const PICTURES_BYTES_MAX: u64 = 8 << 30;
/// The largest stream of LZW, an old kind, as it is: it shrinks to a thousandth at best, too.
const LZW_BYTES_MAX: usize = 256 << 10;
/// How far before a stream its dictionary is looked at.
const DICTIONARY_BYTES: usize = 2_048;

/// Refuses a file whose streams would be too large.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let (mut total, mut with_pictures) = (0, 0);
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], b"stream") {
        let keyword = at + found;
        at = keyword + b"stream".len();
        if bytes[..keyword].ends_with(b"end") {
            continue;
        }
        let body = &bytes[at..];
        let body = body.strip_prefix(b"\r").unwrap_or(body);
        let body = body.strip_prefix(b"\n").unwrap_or(body);
        let dictionary = &bytes[keyword.saturating_sub(DICTIONARY_BYTES)..keyword];
        let dictionary = &dictionary[rfind(dictionary, b" obj").unwrap_or(0)..];
        let size = size(body, dictionary)?;
        with_pictures += size;
        if find(dictionary, b"/Image").is_none() {
            total += size;
        }
        if size > STREAM_BYTES_MAX || total > TOTAL_BYTES_MAX || with_pictures > PICTURES_BYTES_MAX {
            return Err(format!(
                "its streams inflate to more than {} MiB, or {} MiB in all; print it to a new PDF, or split it",
                STREAM_BYTES_MAX >> 20,
                TOTAL_BYTES_MAX >> 20
            ));
        }
    }
    Ok(())
}

/// The size of a stream, inflated, as far as it matters.
fn size(body: &[u8], dictionary: &[u8]) -> Result<u64, String> {
    let packings: usize = [&b"Flate"[..], b"/Fl ", b"/Fl/", b"/Fl]", b"LZW", b"RunLength", b"Brotli"]
        .iter()
        .map(|name| count(dictionary, name))
        .sum();
    if packings > 1 && rfind(dictionary, b"[").is_some() {
        return Err("a stream of it is packed twice, as only traps are; print it to a new PDF".to_owned());
    }
    // The length may lie, and what is deflate ends by itself.
    let is_zlib = matches!(body, [first, second, ..] if (u32::from(*first) * 256 + u32::from(*second)) % 31 == 0 && first & 15 == 8);
    if is_zlib {
        return Ok(inflated(body));
    }
    if find(dictionary, b"LZW").is_some() && find(body, b"endstream").unwrap_or(body.len()) > LZW_BYTES_MAX {
        return Err("it holds large streams of LZW, which may be of any size; print it to a new PDF".to_owned());
    }
    Ok(0)
}

/// How much comes out, up to a little more than the limit.
fn inflated(body: &[u8]) -> u64 {
    let mut decoder = ZlibDecoder::new(body).take(STREAM_BYTES_MAX + 1);
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    // Damage ends it here as it does there.
    while let Ok(read @ 1..) = decoder.read(&mut buffer) {
        size += read as u64;
    }
    size
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}

fn rfind(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).rposition(|window| window == needle)
}

fn count(text: &[u8], needle: &[u8]) -> usize {
    text.windows(needle.len()).filter(|window| *window == needle).count()
}
