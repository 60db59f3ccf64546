//! Does any damage to a file do more than have it rejected?
//!
//! Every fixture is cut off in many places, and bits of it are flipped, at random from a printed seed. No mutation may
//! panic past the reader, take long, or take a gigabyte. `QUIVER_MUTATIONS` is how many of each file are tried.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use super::read;

const FILES: [(&str, &[u8]); 11] = [
    ("beer.docx", include_bytes!("../../tests/fixtures/documents/beer.docx")),
    ("bees.odt", include_bytes!("../../tests/fixtures/documents/bees.odt")),
    ("dance.odp", include_bytes!("../../tests/fixtures/documents/dance.odp")),
    ("lighthouse.epub", include_bytes!("../../tests/fixtures/documents/lighthouse.epub")),
    ("rain.xlsx", include_bytes!("../../tests/fixtures/documents/rain.xlsx")),
    ("volcano.pptx", include_bytes!("../../tests/fixtures/documents/volcano.pptx")),
    ("reef.html", include_bytes!("../../tests/fixtures/documents/reef.html")),
    ("tides.pdf", include_bytes!("../../tests/fixtures/documents/tides.pdf")),
    ("scan.pdf", include_bytes!("../../tests/fixtures/documents/scan.pdf")),
    ("locked.pdf", include_bytes!("../../tests/fixtures/documents/locked.pdf")),
    ("code.rs", include_bytes!("../formats/walk.rs")),
];

/// A generator of random numbers (xorshift; Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => {
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            let at = random.below(bytes.len());
            bytes.splice(at..at, piece);
        }
        _ => {}
    }
    for _ in 0..random.below(8) {
        if !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    }
    bytes
}

/// The most memory that this process has taken, in bytes; 0 where the system does not say.
fn memory_peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0) * 1024
}

#[test]
fn damaged_files_are_read_or_rejected() {
    let count: usize = std::env::var("QUIVER_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let seed = std::env::var("QUIVER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_240_229);
    eprintln!("seed {seed}, {count} mutations a file");
    let mut random = Random(seed);
    let before = memory_peak();
    let (mut read_well, mut panics, mut slowest) = (0, 0, Duration::ZERO);
    for (name, bytes) in FILES {
        for _ in 0..count {
            let bytes = mutated(bytes, &mut random);
            let begun = Instant::now();
            match read(name, &bytes) {
                Ok(_) => read_well += 1,
                Err(rejected) => panics += usize::from(rejected.reason.contains("does not survive")),
            }
            slowest = slowest.max(begun.elapsed());
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} took {:?}", begun.elapsed());
        }
    }
    let grown = memory_peak().saturating_sub(before);
    eprintln!(
        "{read_well} of {} read, {panics} panics caught, slowest {slowest:?}, {} MB",
        count * FILES.len(),
        grown / 1_000_000
    );
    assert!(read_well > 0 && grown < 1_000_000_000, "{grown} bytes");
}

/// The other kinds' bytes under each name.
#[test]
fn files_under_wrong_names_are_read_or_rejected() {
    for (name, _) in FILES {
        for (_, bytes) in FILES {
            let _ = read(name, bytes);
        }
        for junk in [&b""[..], b"\0", b"\xff\xfe", b"PK\x03\x04", b"PK\x05\x06\0\0", b"%PDF-", b"<", b"<?xml", b"{"] {
            let _ = read(name, junk);
        }
    }
}
