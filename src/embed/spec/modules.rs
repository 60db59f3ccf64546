//! What is computed between the states of tokens and the finished vector, by `modules.json` and the modules' own files?

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use super::fields::Fields;
use super::{CLIP, Pooling, Resolved};
use crate::Result;
use crate::embed::files::{Files, Object, join};

pub(super) const FILE: &str = "modules.json";

/// What happens to a pooled vector.
#[derive(Clone, Debug, PartialEq)]
pub enum Module {
    /// A linear layer and a function.
    Dense(Dense),
    /// Layer normalisation with factors and summands of its own (Ba, Kiros and Hinton, 2016).
    LayerNorm {
        /// Numbers in the vector.
        dims: usize,
        /// Its safetensors file.
        weights: PathBuf,
    },
    /// Scaling to unit length.
    Normalize,
}

/// A linear layer with a function after it: `function(W x + b)`, plus `x` or `R x` where it has a residual.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// Numbers that go in.
    pub inputs: usize,
    /// Numbers that come out.
    pub outputs: usize,
    /// Whether there is a `b`.
    pub bias: bool,
    /// The function.
    pub activation: DenseActivation,
    /// Whether the input is added to the result, through a matrix where sizes differ.
    pub residual: bool,
    /// Its safetensors file.
    pub weights: PathBuf,
}

/// The function of a [`Dense`] layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenseActivation {
    /// None.
    Identity,
    /// The hyperbolic tangent, the default.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `x * Phi(x)`.
    Gelu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x`, or a hundredth of it where it is negative.
    LeakyRelu,
    /// `x`, or `exp(x) - 1` where it is negative.
    Elu,
}

impl DenseActivation {
    /// Every function by the name of PyTorch's class.
    const NAMES: [(Self, &'static str); 8] = [
        (Self::Identity, "Identity"),
        (Self::Tanh, "Tanh"),
        (Self::Relu, "ReLU"),
        (Self::Gelu, "GELU"),
        (Self::Sigmoid, "Sigmoid"),
        (Self::Silu, "SiLU"),
        (Self::LeakyRelu, "LeakyReLU"),
        (Self::Elu, "ELU"),
    ];

    /// The name of PyTorch's class.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normalize => f.write_str("Normalize"),
            Self::LayerNorm { dims, .. } => write!(f, "LayerNorm {dims}"),
            Self::Dense(dense) => {
                let Dense { inputs, outputs, bias, activation, residual, weights: _ } = dense;
                write!(f, "Dense {inputs}x{outputs} {}", activation.name())?;
                f.write_str(if *bias { "" } else { ", no bias" })?;
                f.write_str(if *residual { ", residual" } else { "" })
            }
        }
    }
}

/// What `modules.json` lists; nothing of the modules' own folders is read yet.
pub(super) struct Listed {
    pub(super) source: String,
    /// The encoder's folder, relative; empty for the directory itself.
    pub(super) encoder: String,
    /// The pooling module's folder; none where the default applies.
    pub(super) pooling: Option<String>,
    /// Whether the encoder is a CLIP, which pools by itself.
    is_clip: bool,
    /// The modules after it: the last segment of the type, and the folder.
    after: Vec<(String, String)>,
}

pub(super) fn list(files: &Files) -> Result<Listed> {
    let Some(list) = files.json("", FILE)? else {
        let source = "no modules.json: sentence-transformers' default".to_owned();
        let is_clip = is_clip(files, "")?;
        return Ok(Listed { source, encoder: String::new(), pooling: None, is_clip, after: Vec::new() });
    };
    let list = list.as_array().ok_or_else(|| files.wrong(format!("{FILE} holds no list")))?;
    let (encoder, after) = (String::new(), Vec::new());
    let mut listed = Listed { source: FILE.into(), encoder, pooling: None, is_clip: false, after };
    for (place, module) in list.iter().enumerate() {
        let kind = module["type"].as_str().ok_or_else(|| files.wrong(format!("{FILE}: module {place} has no type")))?;
        let folder = files.folder(module["path"].as_str().unwrap_or_default(), FILE)?;
        // Old and new versions have other paths for the same types; the last segment is the same in all.
        match (kind.rsplit('.').next().unwrap_or(kind), place + usize::from(listed.is_clip)) {
            // Older versions have a module of its own for CLIP.
            ("Transformer" | "CLIPModel", 0) => (listed.is_clip, listed.encoder) = (is_clip(files, &folder)?, folder),
            ("Pooling", 1) => listed.pooling = Some(folder),
            // Switched off outside of training.
            ("Dropout", 2..) => {}
            (after @ ("Dense" | "LayerNorm" | "Normalize"), 2..) => listed.after.push((after.to_owned(), folder)),
            (other, _) => {
                let reason = format!(
                    "{FILE}: module {place} is `{other}` ({kind}), which is not supported there; supported are a \
                     Transformer, a Pooling (of CLIP none), and then any of Dense, LayerNorm, Normalize and Dropout"
                );
                return Err(files.wrong(reason));
            }
        }
    }
    if listed.pooling.is_none() && !listed.is_clip {
        return Err(files.wrong(format!("{FILE} lists no Pooling module after the Transformer: no vector for a text")));
    }
    Ok(listed)
}

fn is_clip(files: &Files, folder: &str) -> Result<bool> {
    let config = files.optional(folder, "config.json")?.unwrap_or_default();
    Ok(config.get("model_type").and_then(Value::as_str) == Some(CLIP))
}

/// Reads the settings of every module after the pooling, from which `dims` numbers come; returns how many leave the last.
pub(super) fn chain(files: &Files, listed: &Listed, mut dims: usize) -> Result<(Vec<Resolved<Module>>, usize)> {
    let mut modules = Vec::new();
    for (kind, folder) in &listed.after {
        let module = match kind.as_str() {
            "Normalize" => normalize(files, folder)?,
            "LayerNorm" => layer_norm(files, folder)?,
            _ => dense(files, folder)?,
        };
        let (inputs, outputs) = match &module {
            Module::Normalize => (dims, dims),
            Module::LayerNorm { dims, .. } => (*dims, *dims),
            Module::Dense(dense) => (dense.inputs, dense.outputs),
        };
        if inputs != dims || outputs == 0 {
            let reason = format!("{folder}: {kind} takes {inputs} numbers and gives {outputs}; {dims} come before it");
            return Err(files.wrong(reason));
        }
        dims = outputs;
        let source = if module == Module::Normalize { FILE.to_owned() } else { join(folder, "config.json") };
        modules.push(Resolved::new(module, source));
    }
    Ok((modules, dims))
}

fn normalize(files: &Files, folder: &str) -> Result<Module> {
    // Early versions write no settings, and none is needed.
    let settings = if folder.is_empty() { None } else { files.optional(folder, "config.json")? };
    let (settings, source) = (settings.unwrap_or_default(), join(folder, "config.json"));
    expect_sentences(Fields { files, object: &settings, source: &source })?;
    Ok(Module::Normalize)
}

fn layer_norm(files: &Files, folder: &str) -> Result<Module> {
    let (config, source) = (files.required(folder, "config.json")?, join(folder, "config.json"));
    let dims = size(Fields { files, object: &config, source: &source }, "dimension")?;
    Ok(Module::LayerNorm { dims, weights: weights(files, folder)? })
}

fn dense(files: &Files, folder: &str) -> Result<Module> {
    let (config, source) = (files.required(folder, "config.json")?, join(folder, "config.json"));
    let fields = Fields { files, object: &config, source: &source };
    expect_sentences(fields)?;
    Ok(Module::Dense(Dense {
        inputs: size(fields, "in_features")?,
        outputs: size(fields, "out_features")?,
        bias: fields.flag("bias")?.unwrap_or(true),
        activation: activation(files, folder, &config)?,
        residual: fields.flag("use_residual")?.unwrap_or(false),
        weights: weights(files, folder)?,
    }))
}

fn activation(files: &Files, folder: &str, config: &Object) -> Result<DenseActivation> {
    let name = match config.get("activation_function") {
        None => return Ok(DenseActivation::Tanh),
        Some(name) => name.as_str().unwrap_or_default(),
    };
    // Only PyTorch's own classes: another library's may share a name and compute something else.
    let class = name.strip_prefix("torch.").and_then(|path| path.rsplit('.').next());
    let known = DenseActivation::NAMES.iter().find(|(_, known)| class == Some(known)).map(|(kind, _)| *kind);
    known.ok_or_else(|| {
        let supported = DenseActivation::NAMES.map(|(_, name)| name).join(", ");
        let source = join(folder, "config.json");
        files.wrong(format!("{source}: activation_function `{name}` is not supported; torch's {supported} are"))
    })
}

/// A module may work on something else than the vector of a text.
fn expect_sentences(config: Fields<'_>) -> Result<()> {
    for key in ["module_input_name", "module_output_name"] {
        let name = config.text(key)?.unwrap_or("sentence_embedding");
        if name != "sentence_embedding" {
            let Fields { files, source, .. } = config;
            return Err(files.wrong(format!("{source}: {key} `{name}` is not supported; only sentence_embedding is")));
        }
    }
    Ok(())
}

fn weights(files: &Files, folder: &str) -> Result<PathBuf> {
    const NAME: &str = "model.safetensors";
    if let Some(path) = files.find(folder, NAME)? {
        return Ok(path);
    }
    let pickle = files.find(folder, "pytorch_model.bin")?.map(|_| PICKLE).unwrap_or_default();
    Err(files.wrong(format!("{} is missing{pickle}", join(folder, NAME))))
}

/// Said where there are weights of the kind that is never read.
pub(super) const PICKLE: &str = "; pytorch_model.bin is there, but a pickle can run code, so it is never read: \
    save the model again with safetensors (sentence-transformers' `save_pretrained` does so)";

fn size(config: Fields<'_>, key: &str) -> Result<usize> {
    let missing = || config.files.wrong(format!("{} does not say its {key}", config.source));
    config.size(key)?.ok_or_else(missing)
}

/// How the states of a text's tokens become one vector, and whether those of the prompt count.
pub(super) fn pooling(
    files: &Files,
    listed: &Listed,
    config: &Object,
    width: usize,
) -> Result<(Resolved<Vec<Pooling>>, Resolved<bool>)> {
    if listed.is_clip {
        let pooling = Resolved::new(vec![Pooling::EndOfText], "CLIP's own");
        return Ok((pooling, Resolved::new(true, "default")));
    }
    let Some(folder) = &listed.pooling else {
        let config = Fields { files, object: config, source: &join(&listed.encoder, "config.json") };
        let pooling = if is_causal(config)? { Pooling::LastToken } else { Pooling::Mean };
        return Ok((Resolved::new(vec![pooling], listed.source.clone()), Resolved::new(true, listed.source.clone())));
    };
    let settings = files.required(folder, "config.json")?;
    let source = join(folder, "config.json");
    let fields = Fields { files, object: &settings, source: &source };
    let stated = fields.first_size(&["embedding_dimension", "word_embedding_dimension"])?;
    if let Some(stated) = stated.filter(|&stated| stated != width) {
        let reason = format!("{source} pools states of {stated} numbers; the encoder's have {width}");
        return Err(files.wrong(reason));
    }
    let modes = pooling_modes(fields)?;
    if modes.is_empty() {
        return Err(files.wrong(format!("{source} switches no pooling mode on")));
    }
    let included = fields.flag("include_prompt")?;
    let included = Resolved::new(included.unwrap_or(true), included.map_or("default", |_| source.as_str()));
    Ok((Resolved::new(modes, source.clone()), included))
}

/// A model that reads from left to right only: its last token alone has seen the whole text.
fn is_causal(config: Fields<'_>) -> Result<bool> {
    let names = config.texts("architectures")?;
    let speaks = names.first().is_some_and(|name| name.ends_with("ForCausalLM"));
    Ok(config.flag("is_causal")?.unwrap_or(true) && speaks)
}

fn pooling_modes(settings: Fields<'_>) -> Result<Vec<Pooling>> {
    let Fields { files, object, source } = settings;
    let named = |name: &Value| {
        let known = name.as_str().and_then(Pooling::named);
        known.ok_or_else(|| files.wrong(format!("{source}: pooling mode {name} is not supported")))
    };
    match object.get("pooling_mode") {
        Some(Value::Array(names)) => return names.iter().map(named).collect(),
        Some(name) if !name.is_null() => return Ok(vec![named(name)?]),
        _ => {}
    }
    let mut on = Vec::new();
    for key in object.keys().filter(|key| key.starts_with("pooling_mode_")) {
        if settings.flag(key)? == Some(true) {
            on.push(key.as_str());
        }
    }
    if let Some(key) = on.iter().find(|key| !Pooling::NAMES.iter().any(|(.., known)| known == *key)) {
        return Err(files.wrong(format!("{source}: {key} is not supported")));
    }
    Ok(Pooling::NAMES.iter().filter(|(.., key)| on.contains(key)).map(|&(mode, ..)| mode).collect())
}
