//! What must be known of an ONNX file before it runs: its precision, its files, and what ties a text to its batch?
//!
//! Reads the few fields of the protocol buffer that say so and skips the rest, tensors above all, so that gigabytes cost
//! no memory. Field numbers are those of `onnx.proto`. Nothing here needs the runtime; a damaged file is refused here,
//! and so is one whose external data would be read from outside of its folder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};

/// What a graph's file tells.
#[derive(Debug)]
pub(crate) struct Graph {
    /// The kind of most numbers in its weights: `f32`, `f16`, `bf16`, `int8`, `int4`.
    pub(crate) precision: &'static str,
    /// The files of its external data, by name.
    pub(crate) external: Vec<PathBuf>,
    /// An operator that scales by the extremes of all that goes through it: a text's vector then depends on its batch.
    pub(crate) tied_by: Option<String>,
}

/// Operators whose result for a row depends on the other rows. `MatMulInteger` and `ConvInteger` do not by themselves,
/// but their inputs come from such a scaling.
const TYING: [&str; 7] = [
    "ConvInteger",
    "DynamicQuantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
];

/// Weights of four bits.
const FOUR_BITS: &str = "MatMulNBits";

impl Graph {
    /// Reads the graph in `path`.
    ///
    /// # Errors
    /// A sentence where it cannot be read, is damaged, or names data outside of its folder.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().display();
        let file = File::open(path).map_err(|error| format!("{name} cannot be opened: {error}"))?;
        let bytes = file.metadata().map_err(|error| format!("{name} cannot be read: {error}"))?.len();
        let mut reader = Reader { file: BufReader::new(file), at: 0, found: Found::default() };
        let damaged = |reason: String| {
            format!(
                "{name} ({bytes} bytes) is truncated, damaged or no ONNX graph ({reason}); copy or download it again"
            )
        };
        reader.message(Kind::Model, bytes, 0).map_err(damaged)?;
        if reader.found.operators.is_empty() {
            return Err(damaged("it holds no operator".into()));
        }
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let found = reader.found;
        let external = found.locations.iter().map(|location| external(folder, location)).collect::<Result<_, _>>()?;
        let tied_by = TYING.iter().find(|tying| found.operators.contains(**tying)).map(|tying| (*tying).to_owned());
        Ok(Self { precision: found.precision(), external, tied_by })
    }
}

/// The file of external data `location`, which must lie in the graph's folder or below.
fn external(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || location.is_empty() {
        return Err(format!(
            "the graph keeps its weights in `{location}`, outside of its folder; only files inside are read. \
             Save the model again with its data beside it"
        ));
    }
    let path = folder.join(location);
    if path.is_file() { Ok(path) } else { Err(format!("{location} is missing, in which the graph keeps its weights")) }
}

/// The messages that are read, by what `onnx.proto` calls them.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Function,
    SparseTensor,
    Tensor,
    StringStringEntry,
}

impl Kind {
    /// What a field of this number holds, where it is a message that is read.
    fn child(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Tensor, 13) => Some(Self::StringStringEntry),
            _ => None,
        }
    }
}

/// What has been found so far.
#[derive(Default)]
struct Found {
    operators: BTreeSet<String>,
    locations: BTreeSet<String>,
    /// Numbers in tensors, by the kinds of [`ELEMENTS`].
    numbers: [u64; ELEMENTS.len()],
    /// The tensor at hand.
    count: u64,
    element: u64,
    /// The key of the entry at hand.
    key: String,
}

/// The kinds of weights: the number of the type, and its name here.
const ELEMENTS: [(u64, &str); 8] =
    [(1, "f32"), (10, "f16"), (16, "bf16"), (3, "int8"), (2, "int8"), (22, "int4"), (21, "int4"), (11, "f64")];

impl Found {
    fn precision(&self) -> &'static str {
        if self.operators.contains(FOUR_BITS) {
            return "int4";
        }
        let most = ELEMENTS.iter().zip(self.numbers).max_by_key(|(_, numbers)| *numbers);
        most.map_or("f32", |((_, name), _)| name)
    }

    fn end_tensor(&mut self) {
        if let Some(place) = ELEMENTS.iter().position(|(element, _)| *element == self.element) {
            self.numbers[place] = self.numbers[place].saturating_add(self.count);
        }
    }
}

/// Deeper than any graph that a tool writes; a crafted one must not exhaust the stack.
const DEPTH_MAX: usize = 48;
/// The longest name that is read.
const NAME_BYTES_MAX: u64 = 4096;

struct Reader<R> {
    file: BufReader<R>,
    at: u64,
    found: Found,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads a message that ends at byte `end`.
    fn message(&mut self, kind: Kind, end: u64, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} messages inside one another"));
        }
        if matches!(kind, Kind::Tensor) {
            (self.found.count, self.found.element) = (1, 0);
        }
        while self.at < end {
            let key = self.varint()?;
            let field = key >> 3;
            match key & 7 {
                0 => {
                    let number = self.varint()?;
                    self.number(kind, field, number);
                }
                1 => self.skip_to(self.at + 8, end)?,
                5 => self.skip_to(self.at + 4, end)?,
                2 => {
                    let length = self.varint()?;
                    let stop = self.at.checked_add(length).filter(|&stop| stop <= end);
                    let stop = stop.ok_or_else(|| format!("byte {}: a field longer than what holds it", self.at))?;
                    self.bytes(kind, field, stop, depth)?;
                    self.skip_to(stop, end)?;
                }
                other => return Err(format!("byte {}: a field of unknown type {other}", self.at)),
            }
        }
        if self.at > end {
            return Err(format!("byte {}: a number longer than what holds it", self.at));
        }
        if matches!(kind, Kind::Tensor) {
            self.found.end_tensor();
        }
        Ok(())
    }

    fn number(&mut self, kind: Kind, field: u64, number: u64) {
        match (kind, field) {
            (Kind::Tensor, 1) => self.found.count = self.found.count.saturating_mul(number),
            (Kind::Tensor, 2) => self.found.element = number,
            _ => {}
        }
    }

    fn bytes(&mut self, kind: Kind, field: u64, end: u64, depth: usize) -> Result<(), String> {
        if let Some(child) = kind.child(field) {
            return self.message(child, end, depth + 1);
        }
        match (kind, field) {
            (Kind::Node, 4) => {
                let operator = self.text(end)?;
                self.found.operators.insert(operator);
            }
            // Dimensions, packed.
            (Kind::Tensor, 1) => {
                while self.at < end {
                    let number = self.varint()?;
                    self.number(kind, field, number);
                }
            }
            (Kind::StringStringEntry, 1) => self.found.key = self.text(end)?,
            (Kind::StringStringEntry, 2) if self.found.key == "location" => {
                let location = self.text(end)?;
                self.found.locations.insert(location);
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, end: u64) -> Result<String, String> {
        let length = end - self.at;
        if length > NAME_BYTES_MAX {
            return Err(format!("byte {}: a name of {length} bytes", self.at));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        self.at = end;
        String::from_utf8(bytes).map_err(|_| format!("byte {}: a name that is not UTF-8", self.at))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let buffer = self.file.fill_buf().map_err(|error| error.to_string())?;
            let byte = *buffer.first().ok_or_else(|| format!("it ends at byte {}", self.at))?;
            self.file.consume(1);
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(format!("byte {}: a number of more than 64 bits", self.at))
    }

    fn skip_to(&mut self, to: u64, end: u64) -> Result<(), String> {
        let far = || format!("byte {}: a field longer than what holds it", self.at);
        let distance = to.checked_sub(self.at).filter(|_| to <= end).and_then(|distance| i64::try_from(distance).ok());
        let distance = distance.ok_or_else(far)?;
        self.file.seek_relative(distance).map_err(|error| error.to_string())?;
        self.at = to;
        Ok(())
    }
}
