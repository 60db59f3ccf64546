//! Is this footer, is this page header of Parquet what it may be, before a decoder believes it?
//!
//! Reads Thrift's compact protocol (as described in Apache Thrift's `thrift-compact-protocol.md`) and the few fields of
//! `parquet.thrift` that decide how much memory a decoder takes. It builds nothing: lists are counted, not collected.

/// A footer has at most so many elements in one list: columns, row groups.
const LIST_MAX: u64 = 65_536;
/// Page headers have no lists; those of later versions may have a few elements. The crate passes over long ones slowly.
const PAGE_LIST_MAX: u64 = 64;
/// And so many in all.
const ELEMENTS_MAX: u64 = 10_000_000;
/// Columns times row groups.
const CHUNKS_MAX: u64 = 1_000_000;
/// How deep Thrift structures may lie; those of Parquet lie 8 deep.
const DEPTH_MAX: usize = 24;
/// How deep a schema may be nested.
pub(super) const SCHEMA_DEPTH_MAX: usize = 48;
/// The largest value of fixed length, in bytes.
const FIXED_LENGTH_MAX: i64 = 1 << 20;

/// What is wrong.
pub(super) type Flaw = String;

const TRUNCATED: &str = "it ends too early";

/// What a page header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// 0 data, 1 index, 2 dictionary, 3 data of version 2.
    pub(super) kind: i64,
    pub(super) uncompressed: i64,
    pub(super) compressed: i64,
    pub(super) values: i64,
    /// How the values of a data page are encoded.
    pub(super) encoding: i64,
    /// Bytes of the levels of version 2, which are never compressed.
    pub(super) levels: i64,
    /// Whether the rest of version 2 is not compressed.
    pub(super) plain: bool,
    /// Bytes that the header itself takes.
    pub(super) length: usize,
}

/// Reads a page header; `None` where more bytes are needed.
pub(super) fn page_header(bytes: &[u8]) -> Result<Option<PageHeader>, Flaw> {
    let mut reader = Reader { bytes, at: 0, elements: 0, list_max: PAGE_LIST_MAX };
    let mut header = PageHeader::default();
    let read = reader.fields(0, &mut |reader, id, kind| {
        match (id, kind) {
            (1, I32) => header.kind = reader.whole()?,
            (2, I32) => header.uncompressed = reader.whole()?,
            (3, I32) => header.compressed = reader.whole()?,
            (4, I32) => reader.skip(kind, 1)?,
            (5, STRUCT) => reader.fields(1, &mut |reader, id, kind| match (id, kind) {
                (1, I32) => reader.whole().map(|values| header.values = values),
                (2, I32) => reader.whole().map(|encoding| header.encoding = encoding),
                (3 | 4, I32) | (5, STRUCT) => reader.skip(kind, 2),
                _ => Err(unknown(id, kind)),
            })?,
            (6, STRUCT) => reader.fields(1, &mut |_, id, kind| Err(unknown(id, kind)))?,
            (7, STRUCT) => reader.fields(1, &mut |reader, id, kind| match (id, kind) {
                (1, I32) => reader.whole().map(|values| header.values = values),
                (2, I32) => reader.whole().map(|encoding| header.encoding = encoding),
                (3, TRUE | FALSE) => Ok(()),
                _ => Err(unknown(id, kind)),
            })?,
            (8, STRUCT) => reader.fields(1, &mut |reader, id, kind| {
                match (id, kind) {
                    (1, I32) => header.values = reader.whole()?,
                    (4, I32) => header.encoding = reader.whole()?,
                    (5 | 6, I32) => header.levels = header.levels.saturating_add(reader.whole()?.max(0)),
                    (7, FALSE) => header.plain = true,
                    (2 | 3, I32) | (7, TRUE) | (8, STRUCT) => reader.skip(kind, 2)?,
                    _ => return Err(unknown(id, kind)),
                }
                Ok(())
            })?,
            _ => return Err(unknown(id, kind)),
        }
        Ok(())
    });
    match read {
        Ok(()) => Ok(Some(PageHeader { length: reader.at, ..header })),
        Err(flaw) if flaw == TRUNCATED => Ok(None),
        Err(flaw) => Err(flaw),
    }
}

/// What is not in `parquet.thrift`, or of another type there. The crate reads a field as it expects it, whatever its type
/// says, and then takes what follows for something else: lists of billions of elements, which it passes over one by one
/// beyond the end of the header (149 s for a file of 14 KB).
fn unknown(id: i64, kind: u8) -> Flaw {
    format!("its header has a field {id} of type {kind}, which page headers do not have")
}

/// Looks whether a footer (`FileMetaData`) is well formed and within bounds.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), Flaw> {
    let mut reader = Reader { bytes, at: 0, elements: 0, list_max: LIST_MAX };
    let (mut columns, mut groups) = (0, 0);
    reader.fields(0, &mut |reader, id, kind| match (id, kind) {
        (2, LIST) => {
            columns = check_schema(reader)?;
            Ok(())
        }
        (4, LIST) => {
            let (size, element) = reader.list()?;
            groups = size;
            reader.skip_elements(size, element, 1)
        }
        _ => reader.skip(kind, 1),
    })?;
    if columns.saturating_mul(groups) > CHUNKS_MAX {
        return Err(format!("{columns} columns in {groups} row groups; {CHUNKS_MAX} column chunks are the most"));
    }
    Ok(())
}

/// Walks the flattened tree of a schema; returns its number of elements.
fn check_schema(reader: &mut Reader<'_>) -> Result<u64, Flaw> {
    let (size, element) = reader.list()?;
    if element != STRUCT || size == 0 {
        return Err("a schema without elements".to_owned());
    }
    // How many children each open group still has.
    let mut open: Vec<i64> = Vec::new();
    for index in 0..size {
        if index > 0 {
            while open.last() == Some(&0) {
                open.pop();
            }
            match open.last_mut() {
                Some(left) => *left -= 1,
                None => return Err("a schema with more elements than its groups have".to_owned()),
            }
        }
        let children = check_element(reader)?;
        let left = i64::try_from(size - index - 1).unwrap_or(i64::MAX);
        if !(0..=left).contains(&children) {
            return Err(format!("a group of {children} columns in a schema with {left} left"));
        }
        open.push(children);
        if open.len() > SCHEMA_DEPTH_MAX {
            return Err(format!("columns nested more than {SCHEMA_DEPTH_MAX} deep"));
        }
    }
    while open.last() == Some(&0) {
        open.pop();
    }
    if open.is_empty() { Ok(size) } else { Err("a schema with fewer elements than its groups have".to_owned()) }
}

/// Returns how many children an element has.
fn check_element(reader: &mut Reader<'_>) -> Result<i64, Flaw> {
    let mut children = 0;
    reader.fields(2, &mut |reader, id, kind| {
        match (id, kind) {
            (2, I32) => {
                let length = reader.whole()?;
                if !(0..=FIXED_LENGTH_MAX).contains(&length) {
                    return Err(format!("values of a fixed length of {length} bytes"));
                }
            }
            (5, I32) => children = reader.whole()?,
            _ => reader.skip(kind, 3)?,
        }
        Ok(())
    })?;
    Ok(children)
}

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    elements: u64,
    list_max: u64,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Flaw> {
        let byte = self.bytes.get(self.at).copied().ok_or(TRUNCATED)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, bytes: u64) -> Result<(), Flaw> {
        let left = (self.bytes.len() - self.at) as u64;
        if bytes > left {
            return Err(TRUNCATED.to_owned());
        }
        self.at += bytes as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Flaw> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits".to_owned())
    }

    fn whole(&mut self) -> Result<i64, Flaw> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Size and kind of the elements of the list that begins here.
    fn list(&mut self) -> Result<(u64, u8), Flaw> {
        let head = self.byte()?;
        let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        self.elements = self.elements.saturating_add(size);
        let most = self.list_max;
        if size > most || self.elements > ELEMENTS_MAX {
            return Err(format!("a list of {size} elements; {most} are the most, and {ELEMENTS_MAX} in all"));
        }
        Ok((size, head & 0x0f))
    }

    /// Hands each field of the struct that begins here to `take`, which reads it.
    fn fields(
        &mut self,
        depth: usize,
        take: &mut dyn FnMut(&mut Self, i64, u8) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        if depth > DEPTH_MAX {
            return Err(format!("structures nested more than {DEPTH_MAX} deep"));
        }
        let mut last = 0_i64;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return Ok(());
            }
            last = match head >> 4 {
                0 => self.whole()?,
                delta => last + i64::from(delta),
            };
            take(self, last, kind)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Flaw> {
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.advance(1),
            I16 | I32 | I64 => self.varint().map(|_| ()),
            DOUBLE => self.advance(8),
            UUID => self.advance(16),
            BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | SET => {
                let (size, element) = self.list()?;
                self.skip_elements(size, element, depth)
            }
            MAP => {
                let size = self.varint()?;
                if size > self.list_max.min(PAGE_LIST_MAX) {
                    return Err(format!("a map of {size} entries; Parquet has none"));
                }
                let kinds = if size == 0 { 0 } else { self.byte()? };
                for _ in 0..size {
                    self.skip_elements(1, kinds >> 4, depth)?;
                    self.skip_elements(1, kinds & 0x0f, depth)?;
                }
                Ok(())
            }
            STRUCT => self.fields(depth, &mut |reader, _, kind| reader.skip(kind, depth + 1)),
            other => Err(format!("a field of unknown type {other}")),
        }
    }

    fn skip_elements(&mut self, size: u64, kind: u8, depth: usize) -> Result<(), Flaw> {
        if depth > DEPTH_MAX {
            return Err(format!("structures nested more than {DEPTH_MAX} deep"));
        }
        for _ in 0..size {
            match kind {
                TRUE | FALSE => self.advance(1)?,
                _ => self.skip(kind, depth + 1)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_page_header_says_what_it_takes() {
        // type 0, uncompressed 100, compressed 50, data_page_header {num_values 10, encoding 0}
        let bytes = [0x15, 0, 0x15, 200, 1, 0x15, 100, 0x2c, 0x15, 20, 0x15, 0, 0, 0, 0xff];
        let header = page_header(&bytes).unwrap().unwrap();
        assert_eq!((header.kind, header.uncompressed, header.compressed, header.values), (0, 100, 50, 10));
        assert_eq!(header.length, 14);
        for end in 0..14 {
            assert_eq!(page_header(&bytes[..end]).unwrap(), None, "{end} bytes");
        }
    }

    #[test]
    fn a_header_with_a_field_that_the_crate_would_read_otherwise_is_refused() {
        // A number where a structure belongs; a list that nobody knows; a structure of the dictionary's that it has not.
        for (bytes, field) in [
            (&[0x55, 2, 0][..], "field 5 of type 5"),
            (&[0x99, 0xf5], "field 9 of type 9"),
            (&[0x7c, 0x45], "field 4 of type 5"),
        ] {
            let flaw = page_header(bytes).unwrap_err();
            assert!(flaw.contains(field), "{flaw}");
        }
    }

    #[test]
    fn a_footer_that_claims_too_much_is_refused() {
        // field 2: a list of 2^32 structs
        let flaw = check_footer(&[0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f]).unwrap_err();
        assert!(flaw.contains("65536 are the most"), "{flaw}");
        // A root that has two children, and one element.
        let flaw = check_footer(&[0x29, 0x1c, 0x55, 4, 0, 0]).unwrap_err();
        assert!(flaw.contains("a group of 2 columns"), "{flaw}");
        // Structures in structures in structures.
        let flaw = check_footer(&[0x1c; 100]).unwrap_err();
        assert!(flaw.contains("deep"), "{flaw}");
    }
}
