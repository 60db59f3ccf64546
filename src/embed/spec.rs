//! What does a sentence-transformers directory say about its model, and in which file?
//!
//! Reads the JSON files only; no weights, no tokenizer, no model code. Whatever is asked for and not supported is an error
//! that names it: a wrong guess at pooling or prompts gives vectors that look right and search badly.
//! The conventions are those of sentence-transformers 2 to 6.

use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use quiverdb_storage::Metric;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::ModelSpec;
use crate::{Error, Result};

/// The weight of a transformer's cosine in hybrid search. Of 0.5 to 3, with all-MiniLM-L6-v2: 1.25 is the largest that
/// costs no English set more than 0.003, and the smallest with which CoSQA, where BM25 is weak, stays near the vectors.
const HYBRID_WEIGHT: f32 = 1.25;

/// A value, and the file that it comes from (or the rule, where no file says it).
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved<T> {
    /// The value.
    pub value: T,
    /// A file, relative to the directory, or a rule in words.
    pub source: String,
}

impl<T> Resolved<T> {
    fn new(value: T, source: impl Into<String>) -> Self {
        Self { value, source: source.into() }
    }
}

/// How the states of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
    /// The largest number of each dimension.
    Max,
    /// The last one.
    LastToken,
    /// Their sum over the square root of their count.
    MeanSqrtLen,
    /// Their mean, each weighted by its place, counted from one.
    WeightedMean,
}

impl Pooling {
    /// Every kind, by the name that sentence-transformers 6 has for it and by the key of earlier versions.
    const NAMES: [(Self, &'static str, &'static str); 6] = [
        (Self::Cls, "cls", "pooling_mode_cls_token"),
        (Self::Max, "max", "pooling_mode_max_tokens"),
        (Self::Mean, "mean", "pooling_mode_mean_tokens"),
        (Self::MeanSqrtLen, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
        (Self::WeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"),
        (Self::LastToken, "lasttoken", "pooling_mode_lasttoken"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
            Self::LastToken => "lasttoken",
            Self::MeanSqrtLen => "mean_sqrt_len",
            Self::WeightedMean => "weightedmean",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let known = |&&(kind, new, _): &&(Self, &str, &str)| new == name || kind.name() == name;
        Self::NAMES.iter().find(known).map(|&(kind, ..)| kind)
    }
}

/// A local sentence-transformers directory, resolved.
#[derive(Clone, Debug)]
pub struct ModelDirectory {
    /// The directory, as it was named.
    pub path: PathBuf,
    /// `model_type` of the encoder.
    pub architecture: Resolved<String>,
    /// Numbers in a vector.
    pub dims: Resolved<usize>,
    /// The longest text in tokens, special tokens counted.
    pub max_tokens: Resolved<usize>,
    /// Whether texts are lowercased before the tokenizer sees them.
    pub lowercase: Resolved<bool>,
    /// How token states become a vector.
    pub pooling: Resolved<Pooling>,
    /// Whether vectors are scaled to unit length.
    pub normalize: Resolved<bool>,
    /// How vectors are compared.
    pub metric: Resolved<Metric>,
    /// Put before every query.
    pub query_prompt: Resolved<String>,
    /// Put before every passage.
    pub document_prompt: Resolved<String>,
    /// The weights: one safetensors file or several, in the order of their names.
    pub weights: Vec<PathBuf>,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// All of the encoder's `config.json`.
    pub config: Value,
}

impl ModelDirectory {
    /// Reads the JSON files of `path` and looks for weights and tokenizer. Cheap: weights are not opened.
    ///
    /// # Errors
    /// [`Error::Model`] where something is missing, damaged, contradictory or not supported.
    pub fn read(path: &Path) -> Result<Self> {
        let reader = Reader { root: path };
        if !path.is_dir() {
            return Err(reader.wrong(format!("{} is not a directory", path.display())));
        }
        let modules = reader.modules()?;
        let encoder = modules.encoder.as_str();
        let config = reader.required(encoder, "config.json")?;
        let architecture = reader.architecture(encoder, &config)?;
        let (max_tokens, lowercase) = reader.limits(encoder, &config, &architecture.value)?;
        let settings = reader.optional("", "config_sentence_transformers.json")?.unwrap_or_default();
        let (query_prompt, document_prompt) = reader.prompts(&settings)?;
        let pooling = reader.pooling(&modules, !(query_prompt.value.is_empty() && document_prompt.value.is_empty()))?;
        Ok(Self {
            path: path.to_owned(),
            dims: reader.dims(encoder, &config)?,
            architecture,
            max_tokens,
            lowercase,
            pooling,
            normalize: Resolved::new(modules.normalize, modules.source),
            metric: reader.metric(&settings)?,
            query_prompt,
            document_prompt,
            weights: reader.weights(encoder)?,
            tokenizer: reader.tokenizer(encoder)?,
            config: Value::Object(config),
        })
    }

    /// The model's name: its directory.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The spec of this model, with digests of its files: reads all of the weights once (about 1 GB/s).
    /// `backend` and `special_tokens` are left to whoever runs it.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn spec(&self) -> Result<ModelSpec> {
        Ok(ModelSpec {
            max_tokens: self.max_tokens.value,
            metric: self.metric.value,
            pooling: self.pooling.value.name().into(),
            normalized: self.normalize.value,
            query_prompt: self.query_prompt.value.clone(),
            document_prompt: self.document_prompt.value.clone(),
            weights_digest: digest(&self.weights)?,
            tokenizer_digest: digest(std::slice::from_ref(&self.tokenizer))?,
            hybrid_weight: HYBRID_WEIGHT,
            ..ModelSpec::new(self.name(), self.dims.value)
        })
    }

    /// Every resolved field with its value and where that comes from, for people: `(field, value, source)`.
    pub fn explain(&self) -> Vec<(String, String, String)> {
        fn line<T>(field: &str, value: impl Display, resolved: &Resolved<T>) -> (String, String, String) {
            (field.into(), value.to_string(), resolved.source.clone())
        }
        let quoted = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("{text:?}") };
        let mut lines = vec![
            line("architecture", &self.architecture.value, &self.architecture),
            line("dims", self.dims.value, &self.dims),
            line("max_tokens", self.max_tokens.value, &self.max_tokens),
            line("lowercase", self.lowercase.value, &self.lowercase),
            line("pooling", self.pooling.value.name(), &self.pooling),
            line("normalize", self.normalize.value, &self.normalize),
            line("metric", self.metric.value.name(), &self.metric),
            line("query_prompt", quoted(&self.query_prompt.value), &self.query_prompt),
            line("document_prompt", quoted(&self.document_prompt.value), &self.document_prompt),
        ];
        for (field, file) in self.weights.iter().map(|file| ("weights", file)).chain([("tokenizer", &self.tokenizer)]) {
            let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
            let relative = file.strip_prefix(&self.path).unwrap_or(file);
            lines.push((field.into(), format!("{bytes} bytes"), relative.display().to_string()));
        }
        lines
    }
}

/// SHA-256 of files, one after the other, in hex.
fn digest(files: &[PathBuf]) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let mut file = fs::File::open(path).map_err(|error| Error::io(path, error))?;
        loop {
            let count = file.read(&mut buffer).map_err(|error| Error::io(path, error))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What `modules.json` lists.
struct Modules {
    source: String,
    /// The encoder's folder, relative; empty for the directory itself.
    encoder: String,
    /// The pooling module's folder.
    pooling: Option<String>,
    normalize: bool,
}

struct Reader<'a> {
    root: &'a Path,
}

type Object = Map<String, Value>;

impl Reader<'_> {
    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::model(self.root.display().to_string(), reason)
    }

    /// The JSON object in a file, if the file is there.
    fn optional(&self, folder: &str, name: &str) -> Result<Option<Object>> {
        match self.json(folder, name)? {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(self.wrong(format!("{} holds no JSON object", join(folder, name)))),
        }
    }

    fn required(&self, folder: &str, name: &str) -> Result<Object> {
        let missing =
            || self.wrong(format!("{} is missing: not a model directory, or an incomplete one", join(folder, name)));
        self.optional(folder, name)?.ok_or_else(missing)
    }

    fn json(&self, folder: &str, name: &str) -> Result<Option<Value>> {
        let path = self.root.join(folder).join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, error)),
        };
        let broken = |error| self.wrong(format!("{} is not valid JSON: {error}", join(folder, name)));
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }

    fn modules(&self) -> Result<Modules> {
        const FILE: &str = "modules.json";
        let Some(list) = self.json("", FILE)? else {
            let source = "no modules.json: sentence-transformers' default".to_owned();
            return Ok(Modules { source, encoder: String::new(), pooling: None, normalize: false });
        };
        let list = list.as_array().ok_or_else(|| self.wrong(format!("{FILE} holds no list")))?;
        let mut modules = Modules { source: FILE.into(), encoder: String::new(), pooling: None, normalize: false };
        for (place, module) in list.iter().enumerate() {
            let kind =
                module["type"].as_str().ok_or_else(|| self.wrong(format!("{FILE}: module {place} has no type")))?;
            let folder = self.folder(module["path"].as_str().unwrap_or_default())?;
            // Old and new versions have other paths for the same types; the last segment is the same in all.
            match (kind.rsplit('.').next().unwrap_or(kind), place) {
                ("Transformer", 0) => modules.encoder = folder,
                ("Pooling", 1) => modules.pooling = Some(folder),
                ("Normalize", 2..) => modules.normalize = true,
                (other, _) => {
                    let reason = format!(
                        "{FILE}: module {place} is `{other}` ({kind}), which is not supported yet there; \
                         supported: Transformer, Pooling, Normalize, in this order"
                    );
                    return Err(self.wrong(reason));
                }
            }
        }
        if modules.pooling.is_none() {
            return Err(
                self.wrong(format!("{FILE} lists no Pooling module after the Transformer: no vector for a text"))
            );
        }
        Ok(modules)
    }

    /// A module's folder; it must lie inside the directory.
    fn folder(&self, folder: &str) -> Result<String> {
        let inside =
            Path::new(folder).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if inside { Ok(folder.to_owned()) } else { Err(self.wrong(format!("modules.json points outside: `{folder}`"))) }
    }

    fn architecture(&self, encoder: &str, config: &Object) -> Result<Resolved<String>> {
        let source = join(encoder, "config.json");
        let Some(kind) = config.get("model_type").and_then(Value::as_str) else {
            let hint = match config.get("architectures") {
                Some(names) => format!("; its architectures are {names}"),
                None => String::new(),
            };
            return Err(self.wrong(format!("{source} does not say its model_type{hint}")));
        };
        Ok(Resolved::new(kind.to_owned(), source))
    }

    fn dims(&self, encoder: &str, config: &Object) -> Result<Resolved<usize>> {
        let source = join(encoder, "config.json");
        match number(config, "hidden_size").filter(|&dims| dims > 0) {
            Some(dims) => Ok(Resolved::new(dims, source)),
            None => Err(self.wrong(format!("{source} does not say its hidden_size"))),
        }
    }

    /// The longest text, and whether texts are lowercased.
    fn limits(&self, encoder: &str, config: &Object, kind: &str) -> Result<(Resolved<usize>, Resolved<bool>)> {
        const FILES: [&str; 7] = [
            "sentence_bert_config.json",
            "sentence_roberta_config.json",
            "sentence_distilbert_config.json",
            "sentence_camembert_config.json",
            "sentence_albert_config.json",
            "sentence_xlm-roberta_config.json",
            "sentence_xlnet_config.json",
        ];
        let mut lowercase = Resolved::new(false, "default");
        let mut stated = None;
        for name in FILES {
            let Some(object) = self.optional(encoder, name)? else { continue };
            let source = join(encoder, name);
            if let Some(lower) = object.get("do_lower_case").and_then(Value::as_bool) {
                lowercase = Resolved::new(lower, source.clone());
            }
            stated = number(&object, "max_seq_length").map(|limit| Resolved::new(limit, source));
            break;
        }
        let tokenizer = self.optional(encoder, "tokenizer_config.json")?.unwrap_or_default();
        let positions = positions(config, kind).map(|count| Resolved::new(count, join(encoder, "config.json")));
        // Tokenizers without a limit say 1e30.
        let tokenizer = number(&tokenizer, "model_max_length").filter(|&limit| limit < 1 << 24);
        let tokenizer = tokenizer.map(|limit| Resolved::new(limit, join(encoder, "tokenizer_config.json")));
        let limit = match (stated, positions) {
            (Some(stated), Some(positions)) => Some(smaller(stated, positions)),
            (Some(stated), None) => Some(stated),
            (None, positions) => [positions, tokenizer].into_iter().flatten().reduce(smaller),
        };
        match limit {
            Some(limit) if limit.value > 0 => Ok((limit, lowercase)),
            _ => {
                Err(self.wrong("no file tells the longest text: max_seq_length or max_position_embeddings is missing"))
            }
        }
    }

    fn prompts(&self, settings: &Object) -> Result<(Resolved<String>, Resolved<String>)> {
        const FILE: &str = "config_sentence_transformers.json";
        let empty = Object::new();
        let prompts = settings.get("prompts").and_then(Value::as_object).unwrap_or(&empty);
        let default = settings.get("default_prompt_name").and_then(Value::as_str);
        if let Some(name) = default.filter(|&name| !prompts.contains_key(name)) {
            return Err(self.wrong(format!("{FILE}: default_prompt_name is `{name}`, but there is no such prompt")));
        }
        let resolve = |names: &[&str]| -> Result<Resolved<String>> {
            let name = names.iter().copied().find(|&name| prompts.contains_key(name)).or(default);
            let Some(name) = name else { return Ok(Resolved::new(String::new(), "default")) };
            let text =
                prompts[name].as_str().ok_or_else(|| self.wrong(format!("{FILE}: prompt `{name}` is no text")))?;
            Ok(Resolved::new(text.to_owned(), format!("{FILE}, prompt `{name}`")))
        };
        Ok((resolve(&["query"])?, resolve(&["document", "passage", "corpus"])?))
    }

    fn metric(&self, settings: &Object) -> Result<Resolved<Metric>> {
        const FILE: &str = "config_sentence_transformers.json";
        let metric = match settings.get("similarity_fn_name").and_then(Value::as_str) {
            None => return Ok(Resolved::new(Metric::Cosine, "default")),
            Some("cosine") => Metric::Cosine,
            Some("dot" | "dot_product" | "dot_score") => Metric::Dot,
            Some("euclidean") => Metric::L2,
            Some(other) => {
                let reason =
                    format!("{FILE}: similarity_fn_name `{other}` is not supported; cosine, dot and euclidean are");
                return Err(self.wrong(reason));
            }
        };
        Ok(Resolved::new(metric, FILE))
    }

    fn pooling(&self, modules: &Modules, prompted: bool) -> Result<Resolved<Pooling>> {
        let Some(folder) = &modules.pooling else {
            return Ok(Resolved::new(Pooling::Mean, modules.source.clone()));
        };
        let config = self.required(folder, "config.json")?;
        let source = join(folder, "config.json");
        if prompted && config.get("include_prompt").and_then(Value::as_bool) == Some(false) {
            return Err(self.wrong(format!("{source}: include_prompt = false is not supported yet")));
        }
        match self.pooling_modes(&config, &source)?.as_slice() {
            [one] => Ok(Resolved::new(*one, source)),
            [] => Err(self.wrong(format!("{source} switches no pooling mode on"))),
            several => {
                let names: Vec<_> = several.iter().map(|mode| mode.name()).collect();
                Err(self.wrong(format!("{source}: concatenated pooling ({}) is not supported yet", names.join(" + "))))
            }
        }
    }

    fn pooling_modes(&self, config: &Object, source: &str) -> Result<Vec<Pooling>> {
        let named = |name: &Value| {
            let known = name.as_str().and_then(Pooling::named);
            known.ok_or_else(|| self.wrong(format!("{source}: pooling mode {name} is not supported")))
        };
        match config.get("pooling_mode") {
            Some(Value::Array(names)) => return names.iter().map(named).collect(),
            Some(name) if !name.is_null() => return Ok(vec![named(name)?]),
            _ => {}
        }
        let on = |key: &str| config.get(key).and_then(Value::as_bool) == Some(true);
        let unknown = config.keys().find(|key| {
            key.starts_with("pooling_mode_") && on(key) && !Pooling::NAMES.iter().any(|(.., known)| known == key)
        });
        if let Some(key) = unknown {
            return Err(self.wrong(format!("{source}: {key} is not supported")));
        }
        Ok(Pooling::NAMES.iter().filter(|(.., key)| on(key)).map(|&(mode, ..)| mode).collect())
    }

    fn weights(&self, encoder: &str) -> Result<Vec<PathBuf>> {
        let folder = self.root.join(encoder);
        let single = folder.join("model.safetensors");
        if single.is_file() {
            return Ok(vec![single]);
        }
        const INDEX: &str = "model.safetensors.index.json";
        let Some(index) = self.optional(encoder, INDEX)? else {
            let pickled = if folder.join("pytorch_model.bin").exists() {
                "; pytorch_model.bin is there, but a pickle can run code, so it is never read: \
                 save the model again with safetensors"
            } else {
                ""
            };
            return Err(self.wrong(format!("no weights: looked for model.safetensors and {INDEX}{pickled}")));
        };
        let map = index.get("weight_map").and_then(Value::as_object);
        let mut names: Vec<&str> = map.into_iter().flat_map(Map::values).filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(self.wrong(format!("{INDEX} names no file")));
        }
        names.into_iter().map(|name| self.shard(&folder, name)).collect()
    }

    fn shard(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        if Path::new(name).file_name() != Some(name.as_ref()) || !name.ends_with(".safetensors") {
            return Err(
                self.wrong(format!("the weights' index names `{name}`, which is no safetensors file beside it"))
            );
        }
        let path = folder.join(name);
        if path.is_file() {
            Ok(path)
        } else {
            Err(self.wrong(format!("{name} is missing, which the weights' index names")))
        }
    }

    fn tokenizer(&self, encoder: &str) -> Result<PathBuf> {
        let places = [self.root.join(encoder).join("tokenizer.json"), self.root.join("tokenizer.json")];
        let found = places.into_iter().find(|path| path.is_file());
        found.ok_or_else(|| self.wrong("tokenizer.json is missing (vocab.txt alone is not enough)"))
    }
}

fn smaller(a: Resolved<usize>, b: Resolved<usize>) -> Resolved<usize> {
    if b.value < a.value { b } else { a }
}

/// The positions that a text can fill. RoBERTa and its kin count theirs from behind the padding's id.
fn positions(config: &Object, kind: &str) -> Option<usize> {
    let count = number(config, "max_position_embeddings")?;
    let offset = match kind {
        "roberta" | "xlm-roberta" | "camembert" | "mpnet" => number(config, "pad_token_id").unwrap_or(1) + 1,
        _ => 0,
    };
    Some(count.saturating_sub(offset))
}

fn number(object: &Object, key: &str) -> Option<usize> {
    let value = object.get(key)?;
    value.as_u64().map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests;
