//! How is an ONNX graph run, with the runtime of that name?
//!
//! The graph is looked at first ([`graph`]), then the library is found ([`library`]), then sessions are made ([`session`]);
//! what a graph takes and gives is settled here, once, when it is loaded. Packs are padded to their longest text and masked.
//! A graph whose results depend on the batch is run one text at a time: most int8 graphs scale activations by the extremes
//! of the whole batch, and a vector must not depend on its neighbours (<https://github.com/Anush008/fastembed-rs/issues/107>).
//! Invariant: no type of `ort` leaves this folder, and nothing here panics where the library is missing.

mod graph;
mod library;
mod session;

use std::fs;
use std::path::Path;

use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType};

use self::graph::Graph;
use self::session::{Refusal, Sessions, missing_feature};
use super::open::Explained;
use super::runtime::Runtime;
use super::spec::ModelDirectory;
use super::transformer::engine::{Engine, Output, Sequence};
use crate::{Error, Result};

/// What an input of a graph is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Ids,
    Mask,
    Types,
    Positions,
}

const ROLES: [(Role, &str); 4] = [
    (Role::Ids, "input_ids"),
    (Role::Mask, "attention_mask"),
    (Role::Types, "token_type_ids"),
    (Role::Positions, "position_ids"),
];

/// An input of the graph.
#[derive(Clone, Copy, Debug)]
struct Input {
    role: Role,
    name: &'static str,
    /// Whether it takes 32 bits a number.
    narrow: bool,
}

/// What a graph is to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// States of tokens, or finished vectors.
    Embedding,
    /// Logits of a classifier.
    Logits,
}

/// A graph, ready to run.
pub(crate) struct Onnx {
    sessions: Sessions,
    inputs: Vec<Input>,
    /// The output's name, and what its rows stand for.
    output: (String, Output),
    width: usize,
    vocabulary: usize,
    padding: u32,
    /// Whether each text is run alone.
    alone: bool,
    precision: &'static str,
    device: String,
    /// Of the graph and its external data.
    file_bytes: u64,
}

/// Reads what the files in `directory` say of the model, where `graph` is its encoder; runs nothing and needs no library.
/// Returns, too, what `quiver models show` tells of the graph: `(field, value, source)`.
///
/// # Errors
/// [`Error::Model`] where a file is missing, damaged or not supported, or keeps its data outside of its folder.
pub(crate) fn describe(directory: &Path, graph: &Path) -> Result<(ModelDirectory, Explained)> {
    let facts = facts(directory, graph)?;
    let described = described(directory, graph, &facts)?;
    let file = graph.strip_prefix(directory).unwrap_or(graph).display().to_string();
    let (batches, why) = match &facts.tied_by {
        Some(operator) => ("one text at a time", format!("{file}: {operator}")),
        None => ("padded to the longest", file.clone()),
    };
    let lines = vec![("precision".into(), facts.precision.into(), file), ("batches".into(), batches.into(), why)];
    Ok((described, lines))
}

fn facts(directory: &Path, graph: &Path) -> Result<Graph> {
    Graph::read(graph).map_err(|reason| Error::model(directory.display().to_string(), reason))
}

fn described(directory: &Path, graph: &Path, facts: &Graph) -> Result<ModelDirectory> {
    let weights = std::iter::once(graph.to_owned()).chain(facts.external.iter().cloned());
    ModelDirectory::read_with_weights(directory, weights.collect())
}

/// Loads an encoder: its directory as its files describe it, and the graph that runs it.
///
/// # Errors
/// As [`describe`]; [`Error::Model`] also where no library is found or the graph does not fit the directory;
/// [`Error::FeatureMissing`] where this build lacks the device.
pub(crate) fn load(directory: &Path, graph: &Path, runtime: &Runtime) -> Result<(ModelDirectory, Box<dyn Engine>)> {
    let facts = facts(directory, graph)?;
    let described = described(directory, graph, &facts)?;
    let engine = Onnx::load(&described, graph, &facts, runtime, Wanted::Embedding)?;
    Ok((described, Box::new(engine)))
}

/// Loads a cross-encoder: a row of logits for each sequence.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_classifier(described: &ModelDirectory, graph: &Path, runtime: &Runtime) -> Result<Box<dyn Engine>> {
    let facts = facts(&described.path, graph)?;
    Ok(Box::new(Onnx::load(described, graph, &facts, runtime, Wanted::Logits)?))
}

impl Onnx {
    fn load(
        described: &ModelDirectory,
        graph: &Path,
        facts: &Graph,
        runtime: &Runtime,
        wanted: Wanted,
    ) -> Result<Self> {
        let wrong = |reason: String| Error::model(described.name(), reason);
        let file = graph.file_name().unwrap_or_default().display();
        if let Some(feature) = missing_feature(runtime.device) {
            let what = format!("the device `{}` for ONNX graphs", runtime.device);
            return Err(Error::FeatureMissing { what, feature });
        }
        let environment = library::environment(runtime.onnx_runtime.as_deref()).map_err(wrong)?;
        let bytes = std::iter::once(graph).chain(facts.external.iter().map(|path| path.as_path()));
        let bytes = bytes.map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum();
        let refused = |Refusal(reason)| wrong(format!("ONNX Runtime refuses {file} on {}: {reason}", runtime.device));
        let mut sessions = Sessions::open(environment, graph.to_owned(), bytes, runtime.device).map_err(refused)?;
        let interface = sessions.look(|session| interface(session, wanted));
        let interface = interface.unwrap_or_else(|| Err("it has no session".into()));
        let (inputs, output, fixed_batch) = interface.map_err(|reason| wrong(format!("{file}: {reason}")))?;
        let masked = inputs.iter().any(|input| input.role == Role::Mask);
        let number = |key: &str| described.config[key].as_u64();
        let mut engine = Self {
            sessions,
            inputs,
            output,
            width: 0,
            vocabulary: number("vocab_size").map_or(usize::MAX, |rows| usize::try_from(rows).unwrap_or(usize::MAX)),
            padding: number("pad_token_id").and_then(|id| u32::try_from(id).ok()).unwrap_or(0),
            alone: facts.tied_by.is_some() || fixed_batch || !masked,
            precision: facts.precision,
            device: runtime.device.to_string(),
            file_bytes: bytes,
        };
        engine.try_out().map_err(|error| wrong(format!("{file} fails its first run: {error}")))?;
        Ok(engine)
    }

    /// Runs two short sequences: takes the width of a row, and sees whether a row depends on its batch in a way that the
    /// graph's operators did not show.
    fn try_out(&mut self) -> Result<()> {
        // Ids that every vocabulary has.
        let rows = if self.vocabulary == usize::MAX { 8 } else { self.vocabulary.clamp(1, 1000) };
        let last = u32::try_from(rows - 1).unwrap_or_default();
        let (short, long) = (Sequence::single(vec![last, last / 2]), Sequence::single(vec![last / 3; 5]));
        let (alone, width) = self.run_together(&[&short])?;
        self.width = width;
        if self.alone {
            return Ok(());
        }
        let together = self.run_together(&[&long, &short]);
        let tolerance = if matches!(self.precision, "f16" | "bf16") { TRIAL_TOLERANCE_HALF } else { TRIAL_TOLERANCE };
        let same = |(rows, _): &(Vec<f32>, usize)| {
            let rows = &rows[rows.len() - alone.len()..];
            let largest = alone.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            rows.iter().zip(&alone).all(|(a, b)| (a - b).abs() <= tolerance * largest)
        };
        self.alone = !together.is_ok_and(|together| same(&together));
        Ok(())
    }

    /// Runs a pack, padded to its longest: the rows of its sequences without those of the padding, and their width.
    fn run_together(&self, pack: &[&Sequence]) -> Result<(Vec<f32>, usize)> {
        let longest = pack.iter().map(|sequence| sequence.len()).max().unwrap_or(0);
        let failed = |error: ort::Error| Error::Embedding(format!("ONNX Runtime failed: {}", error.message().trim()));
        let feed = self.inputs.iter().map(|input| Ok((input.name, self.fill(input, pack, longest)?)));
        let feed: Vec<(&str, SessionInputValue<'_>)> = feed.collect::<ort::Result<_>>().map_err(failed)?;
        self.sessions.with(|session| {
            let name = &self.output.0;
            // Other outputs are not computed.
            let only = RunOptions::new().map_err(failed)?.with_outputs(OutputSelector::no_default().with(name));
            let outputs = session.run_with_options(feed, &only).map_err(failed)?;
            let value = outputs.get(name).ok_or_else(|| Error::Embedding(format!("the graph gave no `{name}`")))?;
            let (shape, values) = floats(value).map_err(failed)?;
            self.rows(pack, longest, &shape, values)
        })
    }

    /// An input for a pack, `[sequences, longest]`.
    fn fill(&self, input: &Input, pack: &[&Sequence], longest: usize) -> ort::Result<SessionInputValue<'static>> {
        let number = |sequence: &Sequence, place: usize| match input.role {
            Role::Ids => sequence.ids.get(place).copied().unwrap_or(self.padding),
            Role::Mask => u32::from(place < sequence.len()),
            Role::Types => sequence.types.get(place).copied().unwrap_or(0),
            Role::Positions => u32::try_from(place).unwrap_or(u32::MAX),
        };
        let numbers = pack.iter().flat_map(|sequence| (0..longest).map(move |place| number(sequence, place)));
        let shape = [pack.len(), longest];
        if input.narrow {
            let numbers: Vec<i32> = numbers.map(u32::cast_signed).collect();
            return Ok(Tensor::from_array((shape, numbers))?.into());
        }
        let numbers: Vec<i64> = numbers.map(i64::from).collect();
        Ok(Tensor::from_array((shape, numbers))?.into())
    }

    /// Takes the rows that a pack's sequences own.
    fn rows(&self, pack: &[&Sequence], longest: usize, shape: &[usize], values: Vec<f32>) -> Result<(Vec<f32>, usize)> {
        match (self.output.1, shape) {
            (Output::Tokens, &[sequences, length, width]) if (sequences, length) == (pack.len(), longest) => {
                if pack.iter().all(|sequence| sequence.len() == longest) {
                    return Ok((values, width));
                }
                let padded = values.chunks_exact((longest * width).max(1));
                let own = pack.iter().zip(padded).flat_map(|(sequence, rows)| &rows[..sequence.len() * width]);
                Ok((own.copied().collect(), width))
            }
            (Output::Sequences, &[sequences, width]) if sequences == pack.len() => Ok((values, width)),
            // One score a sequence, without an axis of its own.
            (Output::Sequences, &[sequences]) if sequences == pack.len() => Ok((values, 1)),
            _ => Err(Error::Embedding(format!(
                "the graph gave `{}` of shape {shape:?} for {} sequences of {longest} tokens",
                self.output.0,
                pack.len()
            ))),
        }
    }
}

/// By how much of its largest number a row may change beside another: products of other shapes add up in another order, in
/// f32 to about 1e-6. A graph that scales by its batch, or ignores its mask, changes by more.
const TRIAL_TOLERANCE: f32 = 1e-4;
/// The same in half precision, whose own steps are 1e-3 and 8e-3.
const TRIAL_TOLERANCE_HALF: f32 = 2e-2;

/// What a graph takes and gives, and whether it takes but one text.
type Interface = (Vec<Input>, (String, Output), bool);

fn interface(session: &Session, wanted: Wanted) -> std::result::Result<Interface, String> {
    let inputs = session.inputs().iter().map(input).collect::<std::result::Result<Vec<_>, _>>()?;
    if !inputs.iter().any(|input| input.role == Role::Ids) {
        return Err("the graph has no input `input_ids`".into());
    }
    let shape = |outlet: &Outlet| outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
    let fixed_length = session.inputs().iter().find(|outlet| shape(outlet).get(1).is_some_and(|&length| length > 0));
    if let Some(outlet) = fixed_length {
        let length = shape(outlet)[1];
        return Err(format!(
            "its input `{}` takes exactly {length} tokens; only graphs for texts of any length are supported: export it \
             again with a dynamic length",
            outlet.name()
        ));
    }
    let fixed_batch = session.inputs().iter().any(|outlet| shape(outlet).first() == Some(&1));
    Ok((inputs, output(session, wanted)?, fixed_batch))
}

fn input(outlet: &Outlet) -> std::result::Result<Input, String> {
    let Some((role, name)) = ROLES.into_iter().find(|(_, name)| *name == outlet.name()) else {
        let known = ROLES.map(|(_, name)| name).join(", ");
        return Err(format!("the graph asks for the input `{}`; supported are {known}", outlet.name()));
    };
    let narrow = match outlet.dtype().tensor_type() {
        Some(TensorElementType::Int64) => false,
        Some(TensorElementType::Int32) => true,
        _ => return Err(format!("its input `{name}` is {}; supported are int64 and int32", outlet.dtype())),
    };
    Ok(Input { role, name, narrow })
}

fn output(session: &Session, wanted: Wanted) -> std::result::Result<(String, Output), String> {
    let known: &[(&str, Output)] = match wanted {
        Wanted::Embedding => &[
            ("last_hidden_state", Output::Tokens),
            ("token_embeddings", Output::Tokens),
            ("sentence_embedding", Output::Sequences),
        ],
        Wanted::Logits => &[("logits", Output::Sequences)],
    };
    let has = |name: &str| session.outputs().iter().any(|outlet| outlet.name() == name);
    if let Some(&(name, output)) = known.iter().find(|(name, _)| has(name)) {
        return Ok((name.to_owned(), output));
    }
    // Some exporters number their outputs; where there is one only, its axes tell what it is.
    let axes = |outlet: &Outlet| outlet.dtype().tensor_shape().map_or(0, |shape| shape.len());
    match (session.outputs(), wanted) {
        ([one], Wanted::Embedding) if axes(one) == 3 => Ok((one.name().to_owned(), Output::Tokens)),
        ([one], Wanted::Embedding | Wanted::Logits) if axes(one) == 2 => Ok((one.name().to_owned(), Output::Sequences)),
        (outlets, _) => {
            let found: Vec<&str> = outlets.iter().map(Outlet::name).collect();
            let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Err(format!("the graph gives {}; looked for {}", found.join(", "), known.join(", ")))
        }
    }
}

/// A tensor's shape and its numbers in f32.
fn floats(value: &DynValue) -> ort::Result<(Vec<usize>, Vec<f32>)> {
    let lengths = |shape: &[i64]| shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect();
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => {
            let (shape, values) = value.try_extract_tensor::<half::f16>()?;
            Ok((lengths(shape), values.iter().map(|value| value.to_f32()).collect()))
        }
        Some(TensorElementType::Bfloat16) => {
            let (shape, values) = value.try_extract_tensor::<half::bf16>()?;
            Ok((lengths(shape), values.iter().map(|value| value.to_f32()).collect()))
        }
        _ => {
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            Ok((lengths(shape), values.to_vec()))
        }
    }
}

impl Engine for Onnx {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn precision(&self) -> &'static str {
        self.precision
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn output(&self) -> Output {
        self.output.1
    }

    fn width(&self) -> usize {
        self.width
    }

    fn gains_by_batches(&self) -> bool {
        !self.alone && self.device != "cpu"
    }

    /// Its files, once for each session: an estimate, because the runtime tells nothing and shares nothing between them.
    fn memory_bytes(&self) -> Option<u64> {
        Some(self.file_bytes * self.sessions.made() as u64)
    }

    fn run(&self, pack: &[&Sequence]) -> Result<Vec<f32>> {
        if !self.alone {
            return Ok(self.run_together(pack)?.0);
        }
        let mut rows = Vec::new();
        for sequence in pack {
            rows.extend(self.run_together(&[*sequence])?.0);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests;
