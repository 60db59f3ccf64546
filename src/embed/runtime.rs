//! What runs models in this process, and on which device?
//!
//! These are names and paths; nothing is loaded here. A device that this build or machine lacks is an error where a model
//! is opened, never a silent turn to the CPU.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, Result};

/// What runs a transformer model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Safetensors, on candle.
    Candle,
    /// An ONNX graph, on ONNX Runtime.
    Onnx,
}

impl Backend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Candle, Self::Onnx];

    /// Its name, which a model's name may start with: `onnx:DIR`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Candle => "candle",
            Self::Onnx => "onnx",
        }
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|backend| backend.name() == name);
        known.ok_or_else(|| Error::invalid(format!("there is no backend `{name}`; there are candle and onnx")))
    }
}

/// Where a model runs. A number counts devices of one kind from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// NVIDIA's CUDA.
    Cuda(u16),
    /// NVIDIA's TensorRT.
    TensorRt(u16),
    /// Apple's Core ML.
    CoreMl,
    /// DirectX 12 on Windows.
    DirectMl(u16),
    /// Intel's OpenVINO.
    OpenVino,
    /// Apple's Metal.
    Metal(u16),
}

impl Device {
    const NAMES: [&'static str; 7] = ["cpu", "cuda", "tensorrt", "coreml", "directml", "openvino", "metal"];
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `cuda` or `cuda:1`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, index) = text.split_once(':').map_or((text, None), |(name, index)| (name, Some(index)));
        let number = index.map_or(Ok(0), str::parse);
        match (name, index, number) {
            ("cpu", None, _) => Ok(Self::Cpu),
            ("coreml", None, _) => Ok(Self::CoreMl),
            ("openvino", None, _) => Ok(Self::OpenVino),
            ("cuda", _, Ok(number)) => Ok(Self::Cuda(number)),
            ("tensorrt", _, Ok(number)) => Ok(Self::TensorRt(number)),
            ("directml", _, Ok(number)) => Ok(Self::DirectMl(number)),
            ("metal", _, Ok(number)) => Ok(Self::Metal(number)),
            _ => {
                let known = Self::NAMES.join(", ");
                Err(Error::invalid(format!(
                    "there is no device `{text}`; there are {known}; of cuda, metal, tensorrt and directml also the second as `cuda:1`"
                )))
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbered = |name: &str, number: u16| if number == 0 { name.to_owned() } else { format!("{name}:{number}") };
        f.write_str(&match *self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(number) => numbered("cuda", number),
            Self::TensorRt(number) => numbered("tensorrt", number),
            Self::CoreMl => "coreml".to_owned(),
            Self::DirectMl(number) => numbered("directml", number),
            Self::OpenVino => "openvino".to_owned(),
            Self::Metal(number) => numbered("metal", number),
        })
    }
}

/// How this process runs models; no part of what a model is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Runtime {
    /// Where transformer models run. Static models always run on the CPU.
    pub device: Device,
    /// ONNX Runtime's library or a folder that holds it. Where unset: the environment variable `ORT_DYLIB_PATH`, then the
    /// package `onnxruntime` of the virtual environment or of the Python on the PATH, then the system's loader. A process
    /// has one; the first model that needs it loads it.
    pub onnx_runtime: Option<PathBuf>,
    /// Fetches no model: one that is not on this machine is refused. So a server runs.
    pub offline: bool,
}

impl Runtime {
    /// The CPU, and whichever ONNX Runtime is found.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another device.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Fetches no model.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// This library of ONNX Runtime, or the one in this folder.
    #[must_use]
    pub fn onnx_runtime(mut self, path: impl Into<PathBuf>) -> Self {
        self.onnx_runtime = Some(path.into());
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["cpu", "cuda", "cuda:1", "tensorrt:3", "coreml", "directml", "openvino", "metal:2"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:x", "cpu:0", ""] {
            let message = text.parse::<Device>().unwrap_err().to_string();
            assert!(message.contains(&format!("no device `{text}`; there are cpu, cuda")), "{message}");
        }
    }
}
