//! Where is the tensor called this, and has it the shape that the configuration promises?
//!
//! Reads safetensors only, whole files, into memory; candle parses them and turns half precision into f32. Never a pickle.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};

use crate::embed::math::matrix::Linear;
use crate::embed::math::ops::Norm;
use crate::embed::spec::ModelDirectory;
use crate::{Error, Result};

/// The tensors of a model, in one file or several.
pub(crate) struct Weights {
    model: String,
    files: Arc<[BufferedSafetensors]>,
    prefix: String,
}

impl Weights {
    /// Reads the weights of `directory`. Names are taken relative to what stands before `anchor` in these files:
    /// checkpoints differ in prefixes like `bert.`, and one without a head has none.
    pub(crate) fn read(directory: &ModelDirectory, anchor: &str) -> Result<Self> {
        let model = directory.name();
        let files = directory.weights.iter().map(|path| read_file(&model, path)).collect::<Result<Arc<[_]>>>()?;
        let names = files.iter().flat_map(BufferedSafetensors::tensors).map(|(name, _)| name);
        let ends = names.filter_map(|name| name.strip_suffix(anchor).map(str::to_owned));
        let whole = |prefix: &String| prefix.is_empty() || prefix.ends_with('.');
        let Some(prefix) = ends.filter(whole).min_by_key(|prefix| (prefix.len(), prefix.clone())) else {
            let reason = format!("its weights hold no tensor `{anchor}`: they belong to another architecture");
            return Err(Error::model(model, reason));
        };
        Ok(Self { model, files, prefix })
    }

    /// The same files, names taken as they are: heads stand beside the encoder that the prefix names.
    pub(crate) fn unprefixed(&self) -> Self {
        Self { model: self.model.clone(), files: Arc::clone(&self.files), prefix: String::new() }
    }

    /// Whether there is such a tensor.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.rows(name).is_some()
    }

    /// The first number of a tensor's shape.
    pub(crate) fn rows(&self, name: &str) -> Option<usize> {
        let full = format!("{}{name}", self.prefix);
        let view = self.files.iter().find_map(|file| file.get(&full).ok())?;
        view.shape().first().copied()
    }

    /// The tensor `name` in f32, row-major.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(values) = self.find(name, shape)? else {
            let reason = format!("its weights lack the tensor `{}{name}`, which its config.json asks for", self.prefix);
            return Err(Error::model(&self.model, reason));
        };
        Ok(values)
    }

    /// Layer norm, whose tensors old checkpoints call `gamma` and `beta`; zeros for a bias that it is not to have.
    pub(crate) fn norm(&self, name: &str, width: usize, epsilon: f32, biased: bool) -> Result<Norm> {
        let either = |new: &str, old: &str| match self.find(&format!("{name}.{old}"), &[width])? {
            Some(values) => Ok(values),
            None => self.tensor(&format!("{name}.{new}"), &[width]),
        };
        let bias = if biased { either("bias", "beta")? } else { vec![0.0; width] };
        Ok(Norm { weight: either("weight", "gamma")?, bias, epsilon, centred: true })
    }

    /// A norm by the root mean square, whose weight counts from `base`.
    pub(crate) fn root_mean_square(&self, name: &str, width: usize, epsilon: f32, base: f32) -> Result<Norm> {
        let mut weight = self.tensor(&format!("{name}.weight"), &[width])?;
        weight.iter_mut().for_each(|weight| *weight += base);
        Ok(Norm { weight, bias: vec![0.0; width], epsilon, centred: false })
    }

    /// A linear layer with or without bias.
    pub(crate) fn dense(&self, name: &str, outputs: usize, inputs: usize, biased: bool) -> Result<Dense> {
        let matrix = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = if biased { self.tensor(&format!("{name}.bias"), &[outputs])? } else { vec![0.0; outputs] };
        Ok(Dense { matrix, bias, inputs })
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let full = format!("{}{name}", self.prefix);
        let wrong = |reason: String| Error::model(&self.model, format!("tensor `{full}` {reason}"));
        let mut found = self.files.iter().filter_map(|file| file.get(&full).ok().map(|view| (file, view)));
        let Some((file, view)) = found.next() else { return Ok(None) };
        if view.shape() != shape {
            let found = view.shape();
            return Err(wrong(format!("has shape {found:?}; its config.json asks for {shape:?}")));
        }
        let values = |tensor: Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let unreadable = |error| wrong(format!("cannot be read: {error}"));
        let tensor = file.load(&full, &Device::Cpu).map_err(unreadable)?;
        if !matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16 | DType::F64) {
            let kind = tensor.dtype().as_str();
            return Err(wrong(format!("holds numbers of type {kind}, which is not supported; f32, f16 and bf16 are")));
        }
        values(tensor).map(Some).map_err(unreadable)
    }
}

fn read_file(model: &str, path: &Path) -> Result<BufferedSafetensors> {
    let bytes = fs::read(path).map_err(|error| Error::io(path, error))?;
    let length = bytes.len();
    BufferedSafetensors::new(bytes).map_err(|error| {
        let name = path.file_name().unwrap_or_default().display();
        let reason = format!("{name} ({length} bytes) is truncated or damaged; copy or download it again ({error})");
        Error::model(model, reason)
    })
}

/// A linear layer before it is packed.
pub(crate) struct Dense {
    /// `[outputs, inputs]`.
    pub(crate) matrix: Vec<f32>,
    /// One for each output.
    pub(crate) bias: Vec<f32>,
    inputs: usize,
}

impl Dense {
    /// Multiplies some of the outputs.
    pub(crate) fn scale(mut self, outputs: Range<usize>, factor: f32) -> Self {
        let matrix = &mut self.matrix[outputs.start * self.inputs..outputs.end * self.inputs];
        matrix.iter_mut().chain(&mut self.bias[outputs]).for_each(|value| *value *= factor);
        self
    }

    /// The outputs of both, one after the other.
    pub(crate) fn join(mut self, more: Self) -> Self {
        self.matrix.extend(more.matrix);
        self.bias.extend(more.bias);
        self
    }

    /// What it makes of `rows`, `[rows, inputs]`: for tables that are computed once.
    pub(crate) fn project(self, rows: &[f32]) -> Vec<f32> {
        let count = rows.len() / self.inputs;
        let mut out = vec![0.0; count * self.bias.len()];
        self.pack().apply(rows, count, &mut out, &mut crate::embed::math::matrix::Aligned::default());
        out
    }

    /// Ready to be run.
    pub(crate) fn pack(self) -> Linear {
        Linear::new(&self.matrix, self.bias, self.inputs)
    }
}
