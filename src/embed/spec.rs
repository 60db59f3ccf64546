//! What does a sentence-transformers directory say about its model, and in which file?
//!
//! Reads the JSON files only; no weights, no tokenizer, no model code. Whatever is asked for and not supported is an error
//! that names it: a wrong guess at pooling or prompts gives vectors that look right and search badly.
//! The conventions are those of sentence-transformers 2 to 6.

mod fields;
mod modules;
mod prompts;

use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use quiverdb_storage::Metric;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::fields::Fields;
use self::modules::PICKLE;
pub use self::modules::{Dense, DenseActivation, Module};
use super::ModelSpec;
use super::files::{Files, Object, join};
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
    /// That of the token which ends the text, as CLIP has it; its `modules.json` does not name it.
    EndOfText,
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
            Self::EndOfText => "end of text",
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
    /// What the whole model is to sentence-transformers: `SentenceTransformer`, `CrossEncoder`, ...
    pub kind: Resolved<String>,
    /// Numbers in the state of a token.
    pub width: Resolved<usize>,
    /// Numbers in a vector.
    pub dims: Resolved<usize>,
    /// Numbers in a vector before any are cut off.
    pub full_dims: usize,
    /// The longest text in tokens, special tokens counted.
    pub max_tokens: Resolved<usize>,
    /// Whether texts are lowercased before the tokenizer sees them.
    pub lowercase: Resolved<bool>,
    /// How token states become a vector; several kinds are put one after the other.
    pub pooling: Resolved<Vec<Pooling>>,
    /// Whether the states of the prompt's tokens are pooled as well.
    pub include_prompt: Resolved<bool>,
    /// What is computed after pooling, in this order.
    pub modules: Vec<Resolved<Module>>,
    /// Whether vectors have unit length.
    pub normalize: Resolved<bool>,
    /// How vectors are compared.
    pub metric: Resolved<Metric>,
    /// Put before every query.
    pub query_prompt: Resolved<String>,
    /// Put before every passage.
    pub document_prompt: Resolved<String>,
    /// The weights: safetensors in the order of their names, or an ONNX graph and its external data.
    pub weights: Vec<PathBuf>,
    /// `tokenizer.json`; of a CLIP model without one `vocab.json`, beside which lies `merges.txt`.
    pub tokenizer: PathBuf,
    /// How pictures are prepared, where the model reads some: `preprocessor_config.json` or `processor_config.json`.
    pub preprocessor: Option<PathBuf>,
    /// All of the encoder's `config.json`.
    pub config: Value,
}

impl ModelDirectory {
    /// Reads the JSON files of `path` and looks for weights and tokenizer. Cheap: neither is opened.
    ///
    /// # Errors
    /// [`Error::Model`] where something is missing, damaged, contradictory, larger than any such file, outside of the
    /// directory, or not supported.
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_with(path, |reader, encoder| reader.weights(encoder))
    }

    /// As [`ModelDirectory::read`], where these are the weights.
    #[cfg(feature = "onnx")]
    pub(crate) fn read_with_weights(path: &Path, weights: Vec<PathBuf>) -> Result<Self> {
        Self::read_with(path, |_, _| Ok(weights))
    }

    fn read_with(path: &Path, weights: impl FnOnce(&Reader, &str) -> Result<Vec<PathBuf>>) -> Result<Self> {
        let reader = Reader { files: Files::of(path)? };
        let files = &reader.files;
        let listed = modules::list(files)?;
        let encoder = listed.encoder.as_str();
        let config = files.required(encoder, "config.json")?;
        let architecture = reader.architecture(encoder, &config)?;
        let width = reader.width(encoder, &config)?;
        let (max_tokens, lowercase) = reader.limits(encoder, &config, &architecture.value)?;
        let settings = files.optional("", SETTINGS)?.unwrap_or_default();
        let (pooling, include_prompt) = modules::pooling(files, &listed, &config, width.value)?;
        let (modules, full_dims) = modules::chain(files, &listed, width.value * pooling.value.len())?;
        let metric = reader.metric(&settings)?;
        let (query_prompt, document_prompt) = prompts::resolve(files, &settings, &config)?;
        let given = modules.last().map_or(&pooling.source, |last| &last.source);
        let dims = dims(Fields { files, object: &settings, source: SETTINGS }, full_dims, given)?;
        let normalize = unit_length(&modules, &listed.source, metric.value, &dims, full_dims);
        Ok(Self {
            path: path.to_owned(),
            weights: weights(&reader, encoder)?,
            tokenizer: reader.tokenizer(encoder, &architecture.value)?,
            preprocessor: reader.preprocessor(encoder, &architecture.value)?,
            architecture,
            kind: reader.kind(encoder, &config, &settings)?,
            width,
            dims,
            full_dims,
            max_tokens,
            lowercase,
            pooling,
            include_prompt,
            modules,
            normalize,
            metric,
            query_prompt,
            document_prompt,
            config: Value::Object(config),
        })
    }

    /// The model's name: its directory.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whether it is made for vectors.
    ///
    /// # Errors
    /// [`Error::Model`] where it says that it is something else.
    pub fn expect_embeddings(&self) -> Result<()> {
        if self.kind.value == EMBEDS {
            return Ok(());
        }
        let (kind, source) = (&self.kind.value, &self.kind.source);
        let use_it = if kind == JUDGES { ". Use it with `--rerank`" } else { "" };
        let reason = format!("it is a {kind} ({source}), which gives no vectors; a {EMBEDS} does{use_it}");
        Err(Error::model(self.name(), reason))
    }

    /// Whether every file of weights is as long as its header says. Reads the headers alone.
    ///
    /// # Errors
    /// [`Error::Model`] where one is not.
    pub fn check_weights(&self) -> Result<()> {
        let files = Files::of(&self.path)?;
        self.weight_files().iter().try_for_each(|path| files.check_weights(path))
    }

    /// The bytes that its weights take in f32, as the headers of its files count them: twice as many as files of half
    /// precision have. Of files without such a header, their own bytes.
    #[cfg(feature = "transformers")]
    pub(crate) fn weights_in_f32(&self) -> u64 {
        let Ok(files) = Files::of(&self.path) else { return 0 };
        self.weight_files().iter().map(|path| files.weights_in_f32(path)).sum()
    }

    /// The encoder's weights, and then those of the modules.
    fn weight_files(&self) -> Vec<PathBuf> {
        let of_module = |module: &Resolved<Module>| match &module.value {
            Module::Dense(dense) => Some(dense.weights.clone()),
            Module::LayerNorm { weights, .. } => Some(weights.clone()),
            Module::Normalize => None,
        };
        self.weights.iter().cloned().chain(self.modules.iter().filter_map(of_module)).collect()
    }

    /// The spec of this model, with digests of its files: reads all of the weights once (about 1 GB/s).
    /// `backend` and `special_tokens` are left to whoever runs it.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read.
    pub fn spec(&self) -> Result<ModelSpec> {
        let is_cut = self.dims.value < self.full_dims;
        Ok(ModelSpec {
            full_dims: is_cut.then_some(self.full_dims),
            max_tokens: self.max_tokens.value,
            metric: self.metric.value,
            pooling: self.pooling_name(),
            modules: self.modules_name(),
            normalized: self.normalize.value,
            query_prompt: self.query_prompt.value.clone(),
            document_prompt: self.document_prompt.value.clone(),
            weights_digest: digest(&self.weight_files())?,
            tokenizer_digest: digest(&self.preparing_files())?,
            images: self.preprocessor.is_some(),
            hybrid_weight: HYBRID_WEIGHT,
            ..ModelSpec::new(self.name(), self.dims.value)
        })
    }

    /// The tokenizer's files, and what says how pictures are prepared.
    fn preparing_files(&self) -> Vec<PathBuf> {
        let merges = self.merges();
        std::iter::once(self.tokenizer.clone()).chain(merges).chain(self.preprocessor.clone()).collect()
    }

    /// `merges.txt`, where the tokenizer is `vocab.json`.
    pub(crate) fn merges(&self) -> Option<PathBuf> {
        self.tokenizer.ends_with(VOCABULARY).then(|| self.tokenizer.with_file_name(MERGES))
    }

    fn pooling_name(&self) -> String {
        let names: Vec<&str> = self.pooling.value.iter().map(|mode| mode.name()).collect();
        names.join("+") + if self.include_prompt.value { "" } else { ", prompt left out" }
    }

    /// Empty for the usual models, which at most normalise: that is a field of its own.
    fn modules_name(&self) -> String {
        let names: Vec<String> = self.modules.iter().map(|module| module.value.to_string()).collect();
        if names.iter().all(|name| *name == Module::Normalize.to_string()) { String::new() } else { names.join(" > ") }
    }

    /// Every resolved field with its value and where that comes from, for people: `(field, value, source)`.
    pub fn explain(&self) -> Vec<(String, String, String)> {
        fn line<T>(field: &str, value: impl Display, resolved: &Resolved<T>) -> (String, String, String) {
            (field.into(), value.to_string(), resolved.source.clone())
        }
        let quoted = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("{text:?}") };
        let pooled: Vec<&str> = self.pooling.value.iter().map(|mode| mode.name()).collect();
        let mut lines = vec![
            line("architecture", &self.architecture.value, &self.architecture),
            line("kind", &self.kind.value, &self.kind),
            line("width", self.width.value, &self.width),
            line("dims", self.dims.value, &self.dims),
            line("max_tokens", self.max_tokens.value, &self.max_tokens),
            line("lowercase", self.lowercase.value, &self.lowercase),
            line("pooling", pooled.join(" + "), &self.pooling),
            line("include_prompt", self.include_prompt.value, &self.include_prompt),
        ];
        lines.extend(self.modules.iter().map(|module| line("module", &module.value, module)));
        lines.extend([
            line("normalize", self.normalize.value, &self.normalize),
            line("metric", self.metric.value.name(), &self.metric),
            line("query_prompt", quoted(&self.query_prompt.value), &self.query_prompt),
            line("document_prompt", quoted(&self.document_prompt.value), &self.document_prompt),
        ]);
        let weights = self.weight_files();
        let tokenizer = std::iter::once(self.tokenizer.clone()).chain(self.merges());
        let files = weights.into_iter().map(|file| ("weights", file)).chain(tokenizer.map(|file| ("tokenizer", file)));
        for (field, file) in files.chain(self.preprocessor.clone().map(|file| ("images", file))) {
            let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
            let relative = file.strip_prefix(&self.path).unwrap_or(&file);
            lines.push((field.into(), format!("{bytes} bytes"), relative.display().to_string()));
        }
        lines
    }
}

/// CLIP's `model_type`.
pub(crate) const CLIP: &str = "clip";
/// The tokenizer's files of models from before `tokenizer.json`.
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
/// Numbers in a vector of a CLIP model that does not say how many, as in transformers.
const PROJECTION: usize = 512;
/// Tokens that it reads where it does not say how many, as in transformers.
const POSITIONS: usize = 77;

/// What the configuration of a CLIP model says of its tower `text` or `vision`. Where older files say it in two places, the
/// second one counts, alone.
pub(crate) fn tower<'a>(config: &'a Object, name: &str) -> Option<&'a Object> {
    let object = |key: String| config.get(&key).and_then(Value::as_object);
    object(format!("{name}_config_dict")).or_else(|| object(format!("{name}_config")))
}

/// The kind of model that embeds.
const EMBEDS: &str = "SentenceTransformer";
/// What `model_type` says of a reranker.
const JUDGES: &str = "CrossEncoder";

fn classifies(config: Fields<'_>) -> Result<bool> {
    Ok(config.texts("architectures")?.iter().any(|name| name.ends_with("ForSequenceClassification")))
}

const SETTINGS: &str = "config_sentence_transformers.json";

/// The dimensions that are kept of `full`, which `source` gives.
fn dims(settings: Fields<'_>, full: usize, source: &str) -> Result<Resolved<usize>> {
    // More than there are cuts nothing.
    Ok(match settings.size("truncate_dim")?.filter(|&dims| dims < full) {
        Some(dims) => Resolved::new(dims, format!("{SETTINGS}, truncate_dim, of {full}")),
        None => Resolved::new(full, source),
    })
}

/// Whether the finished vector has unit length: by the last module, or because it is scaled again after it was cut.
fn unit_length(
    modules: &[Resolved<Module>],
    source: &str,
    metric: Metric,
    dims: &Resolved<usize>,
    full: usize,
) -> Resolved<bool> {
    if dims.value < full {
        return Resolved::new(metric == Metric::Cosine, "scaled after truncation where the metric is cosine");
    }
    Resolved::new(modules.last().is_some_and(|last| last.value == Module::Normalize), source)
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

struct Reader {
    files: Files,
}

impl Reader {
    fn architecture(&self, encoder: &str, config: &Object) -> Result<Resolved<String>> {
        let source = join(encoder, "config.json");
        let fields = Fields { files: &self.files, object: config, source: &source };
        let Some(kind) = fields.text("model_type")? else {
            let hint = match config.get("architectures") {
                Some(names) => format!("; its architectures are {names}"),
                None => String::new(),
            };
            return Err(self.files.wrong(format!("{source} does not say its model_type{hint}")));
        };
        Ok(Resolved::new(kind.to_owned(), source))
    }

    /// Newer versions say it, or run an encoder for something else than the states of tokens.
    fn kind(&self, encoder: &str, config: &Object, settings: &Object) -> Result<Resolved<String>> {
        let files = &self.files;
        if let Some(kind) = (Fields { files, object: settings, source: SETTINGS }).text("model_type")? {
            return Ok(Resolved::new(kind.to_owned(), SETTINGS));
        }
        let name = LIMITS[0];
        let object = files.optional(encoder, name)?.unwrap_or_default();
        let (own, encoder_s) = (join(encoder, name), join(encoder, "config.json"));
        let task = (Fields { files, object: &object, source: &own }).text("transformer_task")?;
        // Without modules of sentence-transformers, a head for classification is what the model is for.
        let is_bare = files.find("", modules::FILE)?.is_none();
        if is_bare && classifies(Fields { files, object: config, source: &encoder_s })? {
            return Ok(Resolved::new(JUDGES.to_owned(), format!("{encoder_s}, architectures")));
        }
        match task {
            None | Some("feature-extraction") => Ok(Resolved::new(EMBEDS.to_owned(), "default")),
            Some(other) => Ok(Resolved::new(other.to_owned(), format!("{own}, transformer_task"))),
        }
    }

    fn width(&self, encoder: &str, config: &Object) -> Result<Resolved<usize>> {
        // Most encoders say `hidden_size`; DistilBERT, NomicBERT and T5 have words of their own.
        let keys = ["hidden_size", "dim", "n_embd", "d_model"];
        let source = join(encoder, "config.json");
        let fields = Fields { files: &self.files, object: config, source: &source };
        if config.get("model_type").and_then(Value::as_str) == Some(CLIP) {
            let width = fields.size("projection_dim")?.unwrap_or(PROJECTION);
            return Ok(Resolved::new(width, source));
        }
        match fields.first_size(&keys)?.filter(|&width| width < 1 << 20) {
            Some(width) => Ok(Resolved::new(width, source)),
            None => Err(self.files.wrong(format!("{source} does not say its hidden_size"))),
        }
    }

    /// The longest text, and whether texts are lowercased.
    fn limits(&self, encoder: &str, config: &Object, kind: &str) -> Result<(Resolved<usize>, Resolved<bool>)> {
        let mut lowercase = Resolved::new(false, "default");
        let mut stated = None;
        for name in LIMITS {
            let Some(object) = self.files.optional(encoder, name)? else { continue };
            let source = join(encoder, name);
            let fields = Fields { files: &self.files, object: &object, source: &source };
            if let Some(lower) = fields.flag("do_lower_case")? {
                lowercase = Resolved::new(lower, source.clone());
            }
            stated = fields.size("max_seq_length")?.map(|limit| Resolved::new(limit, source.clone()));
            break;
        }
        let source = join(encoder, "config.json");
        let positions = positions(Fields { files: &self.files, object: config, source: &source }, kind)?;
        let positions = positions.map(|count| Resolved::new(count, source));
        let source = join(encoder, "tokenizer_config.json");
        let object = self.files.optional(encoder, "tokenizer_config.json")?.unwrap_or_default();
        // Tokenizers without a limit say 1e30.
        let tokenizer = (Fields { files: &self.files, object: &object, source: &source }).size("model_max_length")?;
        let tokenizer = tokenizer.filter(|&limit| limit < 1 << 24).map(|limit| Resolved::new(limit, source));
        let limit = match (stated, positions) {
            (Some(stated), Some(positions)) => Some(smaller(stated, positions)),
            (Some(stated), None) => Some(stated),
            (None, positions) => [positions, tokenizer].into_iter().flatten().reduce(smaller),
        };
        match limit {
            Some(limit) if limit.value > 0 => Ok((limit, lowercase)),
            _ => Err(self
                .files
                .wrong("no file tells the longest text: max_seq_length or max_position_embeddings is missing")),
        }
    }

    fn metric(&self, settings: &Object) -> Result<Resolved<Metric>> {
        let fields = Fields { files: &self.files, object: settings, source: SETTINGS };
        let metric = match fields.text("similarity_fn_name")? {
            None => return Ok(Resolved::new(Metric::Cosine, "default")),
            Some("cosine") => Metric::Cosine,
            Some("dot" | "dot_product" | "dot_score") => Metric::Dot,
            Some("euclidean") => Metric::L2,
            Some(other) => {
                let reason =
                    format!("{SETTINGS}: similarity_fn_name `{other}` is not supported; cosine, dot and euclidean are");
                return Err(self.files.wrong(reason));
            }
        };
        Ok(Resolved::new(metric, SETTINGS))
    }

    fn weights(&self, encoder: &str) -> Result<Vec<PathBuf>> {
        const INDEX: &str = "model.safetensors.index.json";
        if let Some(single) = self.files.find(encoder, "model.safetensors")? {
            return Ok(vec![single]);
        }
        let Some(index) = self.files.optional(encoder, INDEX)? else {
            let pickle = self.files.find(encoder, "pytorch_model.bin")?.map(|_| PICKLE).unwrap_or_default();
            return Err(self.files.wrong(format!("no weights: looked for model.safetensors and {INDEX}{pickle}")));
        };
        let map = index.get("weight_map").and_then(Value::as_object);
        let mut names: Vec<&str> = map.into_iter().flat_map(Map::values).filter_map(Value::as_str).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(self.files.wrong(format!("{INDEX} names no file")));
        }
        names.into_iter().map(|name| self.shard(encoder, name)).collect()
    }

    fn preprocessor(&self, encoder: &str, architecture: &str) -> Result<Option<PathBuf>> {
        if architecture != CLIP {
            return Ok(None);
        }
        for (folder, name) in [encoder, ""].into_iter().flat_map(|folder| PREPROCESSORS.map(|name| (folder, name))) {
            let Some(path) = self.files.find(folder, name)? else { continue };
            // The second may hold settings of texts alone.
            let settings = self.files.required(folder, name)?;
            if name == PREPROCESSORS[0] || settings.contains_key("image_processor") {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn shard(&self, encoder: &str, name: &str) -> Result<PathBuf> {
        if Path::new(name).file_name() != Some(name.as_ref()) || !name.ends_with(".safetensors") {
            let reason = format!("the weights' index names `{name}`, which is no safetensors file beside it");
            return Err(self.files.wrong(reason));
        }
        let missing = || self.files.wrong(format!("{name} is missing, which the weights' index names"));
        self.files.find(encoder, name)?.ok_or_else(missing)
    }

    fn tokenizer(&self, encoder: &str, architecture: &str) -> Result<PathBuf> {
        for folder in [encoder, ""] {
            if let Some(path) = self.files.find(folder, "tokenizer.json")? {
                return Ok(path);
            }
        }
        if architecture == CLIP
            && let Some(path) = self.files.find(encoder, VOCABULARY)?
        {
            let missing = || self.files.wrong(format!("{} is missing beside {VOCABULARY}", join(encoder, MERGES)));
            return self.files.find(encoder, MERGES)?.map(|_| path).ok_or_else(missing);
        }
        Err(self.files.wrong("tokenizer.json is missing (vocab.txt alone is not enough)"))
    }
}

/// Where it may stand how pictures are prepared, the older name first, as transformers looks for them.
const PREPROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Where the encoder's limits may stand, by version and encoder.
const LIMITS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

fn smaller(a: Resolved<usize>, b: Resolved<usize>) -> Resolved<usize> {
    if b.value < a.value { b } else { a }
}

/// The positions that a text can fill. RoBERTa and its kin count theirs from behind the padding's id.
fn positions(config: Fields<'_>, kind: &str) -> Result<Option<usize>> {
    if kind == CLIP {
        let Some(text) = tower(config.object, "text") else { return Ok(Some(POSITIONS)) };
        let text = Fields { object: text, ..config };
        return Ok(Some(text.size("max_position_embeddings")?.unwrap_or(POSITIONS)));
    }
    let Some(count) = config.first_size(&["max_position_embeddings", "n_positions"])? else { return Ok(None) };
    let offset = match kind {
        "roberta" | "xlm-roberta" | "camembert" | "mpnet" => config.number("pad_token_id")?.unwrap_or(1) + 1,
        _ => 0,
    };
    Ok(Some(count.saturating_sub(offset)))
}

#[cfg(test)]
mod tests;
