//! Which quote of this CSV is never closed?
//!
//! A reader of CSV takes all behind such a quote for one value: up to the end of the file, or to the next quote in some
//! row below, and rows are gone without a word. So the quotes are followed beside it, byte by byte, by the reader's own
//! rules: a quote opens a field only at its beginning, two of them are one of the text.

/// Where in a field the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Begin,
    Bare,
    Quoted,
    /// Behind a quote that closes the field, or is the first of two.
    Closing,
}

/// The quotes of a file up to some byte.
#[derive(Debug)]
pub(super) struct Quotes {
    delimiter: u8,
    place: Place,
    /// Lines count from 1.
    line: u64,
    after_return: bool,
    /// The line in which the last quote opened.
    opened: u64,
    flaw: Option<String>,
}

impl Quotes {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { delimiter, place: Place::Begin, line: 1, after_return: false, opened: 1, flaw: None }
    }

    /// Follows some more bytes.
    pub(super) fn see(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.step(byte));
    }

    /// What is wrong so far, in one place; `ended` says that there is no more to come.
    pub(super) fn flaw(&self, ended: bool) -> Option<String> {
        let open = || self.open_quote().map(|quote| format!("{quote}, and nothing closes it"));
        self.flaw.clone().or_else(|| open().filter(|_| ended))
    }

    /// The quote that is open here, with its line.
    pub(super) fn open_quote(&self) -> Option<String> {
        (self.place == Place::Quoted).then(|| opening(self.opened))
    }

    fn step(&mut self, byte: u8) {
        let ends_line = byte == b'\r' || byte == b'\n' && !self.after_return;
        let ends_field = byte == self.delimiter || matches!(byte, b'\r' | b'\n');
        self.place = match (self.place, byte) {
            (Place::Begin, b'"') => {
                self.opened = self.line;
                Place::Quoted
            }
            (Place::Quoted, b'"') => Place::Closing,
            (Place::Quoted, _) | (Place::Closing, b'"') => Place::Quoted,
            (_, _) if ends_field => Place::Begin,
            (Place::Closing, _) => {
                // One that stands alone in its line is bad style; over lines it is the quote of another row.
                if self.line > self.opened && !matches!(byte, b' ' | b'\t') {
                    self.flaw.get_or_insert_with(|| {
                        format!(
                            "{}, and the next one, in line {}, does not end a field",
                            opening(self.opened),
                            self.line
                        )
                    });
                }
                Place::Bare
            }
            (Place::Begin | Place::Bare, _) => Place::Bare,
        };
        self.line += u64::from(ends_line);
        self.after_return = byte == b'\r';
    }
}

fn opening(line: u64) -> String {
    format!("line {line}: a quote opens a field here (one that is meant as such is written twice, in a quoted field)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw(text: &str) -> Option<String> {
        let mut quotes = Quotes::new(b',');
        // In pieces, as files are read.
        text.as_bytes().chunks(3).for_each(|piece| quotes.see(piece));
        quotes.flaw(true)
    }

    #[test]
    fn a_quote_that_nothing_closes_is_found_with_its_line() {
        let line = |text: &str| flaw(text).and_then(|flaw| flaw.split(':').next().map(str::to_owned));
        assert_eq!(line("a,b\r\n1,x\r\n2,\"y\r\n3,z\r\n").as_deref(), Some("line 3"));
        assert_eq!(line("a,b\n\"1\",\"x\n2,\"y\"\n3,z\n").as_deref(), Some("line 2"));
        assert_eq!(line("\"a,b\n1,2\n").as_deref(), Some("line 1"));
        assert_eq!(line("a\rb\r\"c\r").as_deref(), Some("line 3"));
    }

    #[test]
    fn quotes_that_are_closed_or_within_a_field_are_none() {
        for text in [
            "a,b\n\"x\n\"\"y\"\"\nz\",1\n",
            "5\" disk,6\"\n\"7\"\" disk\",\"\"\n",
            "\"a\" b,\"c\"d\n",
            "\"over\nlines\" ,1\n",
            "\"last\"",
            "",
        ] {
            assert_eq!(flaw(text), None, "{text}");
        }
    }
}
