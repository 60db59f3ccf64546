//! Where is the tensor called this, and has it the shape that the configuration promises?
//!
//! Reads safetensors only, whole files, into memory; candle parses them and turns half precision into f32. Never a pickle.

use std::fs;
use std::path::Path;

use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device};

use crate::embed::spec::ModelDirectory;
use crate::{Error, Result};

/// The tensors of a model, in one file or several.
pub(crate) struct Weights {
    model: String,
    files: Vec<BufferedSafetensors>,
    prefix: String,
}

impl Weights {
    /// Reads the weights of `directory`. Names are taken relative to what stands before `anchor` in these files:
    /// checkpoints differ in prefixes like `bert.`.
    pub(crate) fn read(directory: &ModelDirectory, anchor: &str) -> Result<Self> {
        let model = directory.name();
        let files = directory.weights.iter().map(|path| read_file(&model, path)).collect::<Result<Vec<_>>>()?;
        let mut names = files.iter().flat_map(BufferedSafetensors::tensors).map(|(name, _)| name);
        let prefix = names.find_map(|name| name.strip_suffix(anchor).map(str::to_owned));
        let Some(prefix) = prefix else {
            let reason = format!("its weights hold no tensor `{anchor}`: they belong to another architecture");
            return Err(Error::model(model, reason));
        };
        Ok(Self { model, files, prefix })
    }

    /// The tensor `name` in f32, row-major.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(values) = self.find(name, shape)? else {
            let reason = format!("its weights lack the tensor `{}{name}`, which its config.json asks for", self.prefix);
            return Err(Error::model(&self.model, reason));
        };
        Ok(values)
    }

    /// Scale and shift of a layer norm, whose tensors old checkpoints call `gamma` and `beta`.
    pub(crate) fn norm(&self, name: &str, width: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let either = |new: &str, old: &str| match self.find(&format!("{name}.{old}"), &[width])? {
            Some(values) => Ok(values),
            None => self.tensor(&format!("{name}.{new}"), &[width]),
        };
        Ok((either("weight", "gamma")?, either("bias", "beta")?))
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let full = format!("{}{name}", self.prefix);
        let mut found = self.files.iter().filter_map(|file| file.get(&full).ok().map(|view| (file, view)));
        let Some((file, view)) = found.next() else { return Ok(None) };
        if view.shape() != shape {
            let found = view.shape();
            let reason = format!("tensor `{full}` has shape {found:?}; its config.json asks for {shape:?}");
            return Err(Error::model(&self.model, reason));
        }
        let values = || file.load(&full, &Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let unreadable = |error| Error::model(&self.model, format!("tensor `{full}` cannot be read: {error}"));
        values().map(Some).map_err(unreadable)
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
