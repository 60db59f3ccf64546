//! Which device is meant, and is it there? Encoders on others than the CPU.
//!
//! Never a silent turn to another device: what is not in this build, on this machine or for this architecture is an error.

use candle_core::Device as Candle;

use super::bert::device::DeviceBert;
use crate::embed::runtime::Device;
use crate::embed::spec::ModelDirectory;
use crate::embed::transformer::engine::Engine;
use crate::{Error, Result};

/// The architectures that run on cards, and whether they are of RoBERTa's family.
const ARCHITECTURES: [(&str, bool); 4] =
    [("bert", false), ("roberta", true), ("xlm-roberta", true), ("camembert", true)];

/// Loads the encoder of a directory onto a device.
///
/// # Errors
/// [`Error::FeatureMissing`] where this build lacks the device; [`Error::Model`] where the machine does, for one that candle
/// does not know, and for architectures that run on the CPU alone.
pub(crate) fn load(directory: &ModelDirectory, device: Device) -> Result<Box<dyn Engine>> {
    let wrong = |reason: String| Error::model(directory.name(), reason);
    let (feature, is_there) = match device {
        Device::Cuda(_) => ("cuda", cfg!(feature = "cuda")),
        Device::Metal(_) => ("metal", cfg!(feature = "metal")),
        Device::Cpu | Device::TensorRt(_) | Device::CoreMl | Device::DirectMl(_) | Device::OpenVino => {
            let reason =
                format!("candle runs on cpu, cuda and metal, not on `{device}`; an ONNX graph may (`onnx:DIR`)");
            return Err(wrong(reason));
        }
    };
    let architecture = directory.architecture.value.as_str();
    let Some((_, of_roberta)) = ARCHITECTURES.iter().find(|(name, _)| *name == architecture) else {
        let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
        let reason = format!("`{architecture}` runs on the CPU alone; on `{device}` run {names}. Leave out --device");
        return Err(wrong(reason));
    };
    if !is_there {
        return Err(Error::FeatureMissing { what: format!("running {} on `{device}`", directory.name()), feature });
    }
    let opened = open(device).map_err(|error| wrong(format!("the device `{device}` cannot be used: {error}")))?;
    Ok(Box::new(DeviceBert::load(directory, *of_roberta, opened, device.to_string())?))
}

fn open(device: Device) -> candle_core::Result<Candle> {
    match device {
        Device::Cuda(number) => Candle::new_cuda(usize::from(number)),
        Device::Metal(number) => Candle::new_metal(usize::from(number)),
        Device::Cpu | Device::TensorRt(_) | Device::CoreMl | Device::DirectMl(_) | Device::OpenVino => Ok(Candle::Cpu),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;

    fn fixture(name: &str) -> ModelDirectory {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        ModelDirectory::read(&fixtures.join(name)).unwrap()
    }

    fn refusal(name: &str, device: Device) -> String {
        load(&fixture(name), device).err().unwrap().to_string()
    }

    #[test]
    fn what_cannot_run_there_is_refused_and_never_run_elsewhere() {
        let message = refusal("architectures/qwen3", Device::Cuda(0));
        assert!(message.contains("`qwen3` runs on the CPU alone; on `cuda` run bert, roberta"), "{message}");
        let message = refusal("architectures/bert", Device::CoreMl);
        assert!(message.contains("candle runs on cpu, cuda and metal, not on `coreml`"), "{message}");
        for (device, is_there, feature) in
            [(Device::Cuda(3), cfg!(feature = "cuda"), "cuda"), (Device::Metal(0), cfg!(feature = "metal"), "metal")]
        {
            if !is_there {
                let message = refusal("architectures/bert", device);
                assert!(message.contains(&format!("on `{device}` needs the feature `{feature}`")), "{message}");
            }
        }
    }
}
