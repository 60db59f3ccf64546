//! Where does what stand in the file of a graph?
//!
//! One file holds the graph of one space over the chunks of one segment. All numbers are little-endian; every section
//! begins at a multiple of 64, with zeros before it.
//!
//! ```text
//! header    256 bytes:
//!             magic "QUIVGRPH", version u32 (1), metric u32 (0 cosine, 1 dot, 2 l2), dims u32, count u32,
//!             degree u32, upper_degree u32, levels u32, entry u32, unit f64,
//!             level_counts 8 * u32                       nodes of each upper level, zeros after the last
//!             sections 7 * u64, end u64                  where each section begins, in the order below, and the file ends
//!             zeros
//! centre    dims * f32                                   the mean that the codes are relative to
//! records   count records of stride bytes                codes, scale and norm: see `quantize`
//! links     count * degree * u32                         neighbours at the base, u32::MAX after the last
//! members   level_counts[0] * u32                        the nodes of the upper levels; each level is a prefix
//! upper     for each upper level, from the lowest:
//!             level_counts[level] * upper_degree * u32   neighbours as places in `members`, u32::MAX after the last
//! chunks    count * u32                                  the chunk of each node, ascending
//! vectors   count * dims * f32                           as the metric compares them
//! ```
//!
//! A search reads `records` and `links` where it walks, and a few rows of `vectors` at its end; these stand last, so that
//! what should stay in memory is the front of the file.
//!
//! Invariant: a header that was decoded describes a file of exactly the length at hand, so every range made from it and a
//! node below `count` lies in the file. What the ranges hold is not known to be sound.

use super::quantize::stride;
use crate::distance::Metric;
use crate::types::DIMS_MAX;
use crate::{Error, Result};

const MAGIC: [u8; 8] = *b"QUIVGRPH";
const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 256;
const ALIGNMENT: u64 = 64;
const SECTIONS: usize = 7;
/// Upper levels at most; each is at most a half of the one below.
pub(super) const LEVELS_MAX: usize = 8;
/// Neighbours of a node at most.
pub(super) const DEGREE_MAX: usize = 64;
/// Says that there are no more neighbours.
pub(super) const NO_NODE: u32 = u32::MAX;

/// The numbers that decide the layout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) metric: Metric,
    pub(super) dims: usize,
    pub(super) count: usize,
    pub(super) degree: usize,
    pub(super) upper_degree: usize,
    pub(super) entry: u32,
    pub(super) unit: f64,
    pub(super) level_counts: Vec<usize>,
}

/// Where the sections begin and the file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    pub(super) centre: usize,
    pub(super) records: usize,
    pub(super) links: usize,
    pub(super) members: usize,
    pub(super) upper: usize,
    pub(super) chunks: usize,
    pub(super) vectors: usize,
    pub(super) end: usize,
}

/// An error about the bytes of a graph.
pub(super) fn corrupt(what: impl Into<String>) -> Error {
    Error::corrupt("a vector graph", what)
}

impl Header {
    /// The sections of a file with this header; `None` where they are longer than addresses.
    pub(super) fn sections(&self) -> Option<Sections> {
        let [count, dims] = [self.count as u64, self.dims as u64];
        let members = self.level_counts.first().map_or(0, |&count| count as u64);
        let upper: u64 = self.level_counts.iter().map(|&count| count as u64).sum();
        let lengths: [u64; SECTIONS] = [
            dims * 4,
            count * stride(self.dims) as u64,
            count * self.degree as u64 * 4,
            members * 4,
            upper * self.upper_degree as u64 * 4,
            count * 4,
            count * dims * 4,
        ];
        let mut places = [0; SECTIONS + 1];
        let mut place = HEADER_BYTES as u64;
        for (begin, length) in places.iter_mut().zip(lengths) {
            *begin = usize::try_from(place.next_multiple_of(ALIGNMENT)).ok()?;
            place = place.next_multiple_of(ALIGNMENT) + length;
        }
        places[SECTIONS] = usize::try_from(place).ok()?;
        let [centre, records, links, members, upper, chunks, vectors, end] = places;
        Some(Sections { centre, records, links, members, upper, chunks, vectors, end })
    }

    /// The first bytes of the file.
    pub(super) fn encode(&self, sections: Sections) -> [u8; HEADER_BYTES] {
        let Self { metric, dims, count, degree, upper_degree, entry, unit, level_counts } = self;
        let Sections { centre, records, links, members, upper, chunks, vectors, end } = sections;
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        let numbers = [*dims, *count, *degree, *upper_degree, level_counts.len()].map(|number| number as u32);
        for number in [VERSION, metric_number(*metric)].into_iter().chain(numbers).chain([*entry]) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(unit.to_le_bytes());
        for level in 0..LEVELS_MAX {
            bytes.extend((level_counts.get(level).copied().unwrap_or(0) as u32).to_le_bytes());
        }
        for place in [centre, records, links, members, upper, chunks, vectors, end] {
            bytes.extend((place as u64).to_le_bytes());
        }
        let mut header = [0; HEADER_BYTES];
        header[..bytes.len()].copy_from_slice(&bytes);
        header
    }

    /// Reads the first bytes of a file of `length` bytes.
    pub(super) fn decode(bytes: &[u8], length: usize) -> Result<(Self, Sections)> {
        let mut reader = Reader(bytes);
        if reader.take::<8>()? != MAGIC {
            return Err(corrupt("it does not begin like one"));
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(corrupt(format!("it has version {version}; this build reads {VERSION}")));
        }
        let metric = metric_of(reader.u32()?)?;
        let [dims, count, degree, upper_degree, levels] =
            [reader.size()?, reader.size()?, reader.size()?, reader.size()?, reader.size()?];
        let entry = reader.u32()?;
        let unit = f64::from_le_bytes(reader.take()?);
        let mut level_counts = Vec::new();
        for _ in 0..LEVELS_MAX {
            level_counts.push(reader.size()?);
        }
        let header = Self { metric, dims, count, degree, upper_degree, entry, unit, level_counts };
        let header = header.validated(levels)?;
        let sections = header.sections().ok_or_else(|| corrupt("its sections are longer than addresses"))?;
        let same = bytes == header.encode(sections);
        if !same || sections.end != length {
            return Err(corrupt(format!("its header describes {} bytes; it has {length}", sections.end)));
        }
        Ok((header, sections))
    }

    fn validated(mut self, levels: usize) -> Result<Self> {
        let Self { metric: _, dims, count, degree, upper_degree, entry, unit, level_counts } = &mut self;
        let degrees = (1..=DEGREE_MAX).contains(degree) && (1..=DEGREE_MAX).contains(upper_degree);
        if !(1..=DIMS_MAX).contains(dims) || !degrees || levels > LEVELS_MAX || (*count == 0) != (*entry == NO_NODE) {
            return Err(corrupt("its dimensions, degrees, levels or entry cannot be"));
        }
        level_counts.truncate(levels);
        let shrinks = level_counts.iter().try_fold(*count, |below, &level| {
            let fits = level > 0 && level <= below / 2;
            fits.then_some(level)
        });
        if shrinks.is_none() || (*count > 0 && *entry as usize >= *count) || !(unit.is_finite() && *unit > 0.0) {
            return Err(corrupt("its levels, entry or unit cannot be"));
        }
        Ok(self)
    }
}

fn metric_number(metric: Metric) -> u32 {
    match metric {
        Metric::Cosine => 0,
        Metric::Dot => 1,
        Metric::L2 => 2,
    }
}

fn metric_of(number: u32) -> Result<Metric> {
    [Metric::Cosine, Metric::Dot, Metric::L2]
        .into_iter()
        .find(|&metric| metric_number(metric) == number)
        .ok_or_else(|| corrupt(format!("it has metric {number}; 0 to 2 are known")))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(|| corrupt("its header ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn size(&mut self) -> Result<usize> {
        Ok(self.u32()? as usize)
    }
}
