//! Which static models of others can be read?
//!
//! Directories of model2vec (`config.json` says so) and of sentence-transformers (`modules.json` begins with a
//! `StaticEmbedding`), with BERT's WordPiece for uncased text. Anything else in them is named in the error; nothing is
//! guessed.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::wordpiece::WordPiece;
use super::{Rows, StaticEmbedder, TOKENS_MAX, hex};
use crate::embed::ModelSpec;
use crate::embed::files::{Files, join};
use crate::embed::safetensors::{Safetensors, Tensor};
use crate::{Error, Result};

/// Tokens that model2vec itself reads of a text.
const MODEL2VEC_TOKENS_MAX: usize = 512;
/// A vocabulary of a million words takes 30 MB.
const TOKENIZER_BYTES_MAX: u64 = 64 << 20;

/// What a directory's own files say about it.
struct Layout {
    /// Where the weights are, relative.
    folder: String,
    normalize: bool,
    max_tokens: usize,
}

/// Whether the directory says that it holds a static model.
pub(in crate::embed) fn is_static_model(directory: &Path) -> bool {
    matches!(Files::of(directory).and_then(|files| layout(&files)), Ok(Some(_)))
}

/// Loads the directory's model.
pub(super) fn load(directory: &Path) -> Result<StaticEmbedder> {
    let name = directory.display().to_string();
    let fail = |reason: String| Error::model(&name, reason);
    let files = Files::of(directory)?;
    let layout = layout(&files)?.ok_or_else(|| {
        fail("it is no static model: neither does its `config.json` say `model2vec`, nor its `modules.json` `StaticEmbedding`".into())
    })?;
    let weights = existing(&files, &layout.folder, "model.safetensors")?;
    files.check_weights(&weights)?;
    let weights = files.read(&weights, u64::MAX)?;
    let tokenizer = match files.find(&layout.folder, "tokenizer.json")? {
        Some(path) => path,
        None => existing(&files, "", "tokenizer.json")?,
    };
    let tokenizer_file = files.read(&tokenizer, TOKENIZER_BYTES_MAX)?;
    let tokens = vocabulary(&tokenizer_file).map_err(|reason| fail(format!("tokenizer.json: {reason}")))?;
    let (values, dims) = rows(&weights, tokens.len()).map_err(|reason| fail(format!("model.safetensors: {reason}")))?;
    let tokenizer = WordPiece::new(tokens.iter().map(String::as_str))
        .ok_or_else(|| fail("its vocabulary has no `[UNK]`".into()))?;
    let spec = ModelSpec {
        max_tokens: layout.max_tokens,
        normalized: layout.normalize,
        weights_digest: hex(&Sha256::digest(&weights)),
        tokenizer_digest: hex(&Sha256::digest(&tokenizer_file)),
        ..super::static_spec(&name, dims)
    };
    Ok(StaticEmbedder::assemble(spec, Rows::Exact { dims, values }, tokenizer))
}

fn existing(files: &Files, folder: &str, name: &str) -> Result<PathBuf> {
    files.find(folder, name)?.ok_or_else(|| files.wrong(format!("{} is missing", join(folder, name))))
}

/// Reads `config.json` and `modules.json`; none where neither speaks of a static model.
fn layout(files: &Files) -> Result<Option<Layout>> {
    let config = files.json("", "config.json")?.unwrap_or_default();
    if config.get("model_type").and_then(Value::as_str) == Some("model2vec") {
        let normalize = match config.get("normalize") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(normalize)) => *normalize,
            Some(other) => {
                let reason = format!("config.json: normalize is {other}; true or false belongs there");
                return Err(files.wrong(reason));
            }
        };
        return Ok(Some(Layout { folder: String::new(), normalize, max_tokens: MODEL2VEC_TOKENS_MAX }));
    }
    let modules = files.json("", "modules.json")?.unwrap_or_default();
    let kinds = modules.as_array().map_or(&[][..], Vec::as_slice);
    let kind =
        |module: &Value| module["type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
    let Some((first, others)) = kinds.split_first().filter(|(first, _)| kind(first) == "StaticEmbedding") else {
        return Ok(None);
    };
    if let Some(other) = others.iter().map(kind).find(|kind| kind != "Normalize") {
        return Err(files.wrong(format!("its module `{other}` after `StaticEmbedding` is not supported")));
    }
    let folder = files.folder(first["path"].as_str().unwrap_or_default(), "modules.json")?;
    Ok(Some(Layout { folder, normalize: !others.is_empty(), max_tokens: TOKENS_MAX }))
}

/// The tokens of a `tokenizer.json` in the order of their ids, if it is BERT's WordPiece for uncased text.
fn vocabulary(file: &[u8]) -> std::result::Result<Vec<String>, String> {
    let json: Value = serde_json::from_slice(file).map_err(|error| error.to_string())?;
    expect(&json["model"], "model", "type", "WordPiece")?;
    expect(&json["normalizer"], "normalizer", "type", "BertNormalizer")?;
    expect(&json["pre_tokenizer"], "pre-tokenizer", "type", "BertPreTokenizer")?;
    expect(&json["model"], "model", "continuing_subword_prefix", "##")?;
    expect(&json["model"], "model", "unk_token", "[UNK]")?;
    let normalizer = &json["normalizer"];
    let is_on = |name: &str| normalizer[name].as_bool().unwrap_or(true);
    if let Some(off) =
        ["lowercase", "strip_accents", "clean_text", "handle_chinese_chars"].iter().find(|name| !is_on(name))
    {
        return Err(format!("its normalizer has `{off}` off; only uncased BERT models are supported"));
    }
    let vocabulary = json["model"]["vocab"].as_object().ok_or("its model has no `vocab`")?;
    let added = json["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let added = added.iter().filter_map(|token| Some((token["content"].as_str()?, token["id"].as_u64()?)));
    let known = vocabulary.iter().filter_map(|(token, id)| Some((token.as_str(), id.as_u64()?)));
    let mut pairs: Vec<(&str, u64)> = known.chain(added).collect();
    pairs.sort_unstable_by_key(|&(token, id)| (id, token));
    pairs.dedup();
    match pairs.iter().zip(0..).find(|&(&(_, id), at)| id != at) {
        Some(((token, id), at)) => {
            Err(format!("its ids are not 0, 1, 2, ...: `{token}` has {id} in the place of {at}"))
        }
        None => Ok(pairs.into_iter().map(|(token, _)| token.to_owned()).collect()),
    }
}

fn expect(json: &Value, what: &str, field: &str, wanted: &str) -> std::result::Result<(), String> {
    if json[field].as_str() == Some(wanted) {
        return Ok(());
    }
    let got = &json[field];
    Err(format!("its {what} has the {field} {got}; static models need \"{wanted}\" (BERT's WordPiece)"))
}

/// One row a token: the embeddings, through the mapping and times the weights where the file has them.
fn rows(file: &[u8], tokens: usize) -> std::result::Result<(Vec<f32>, usize), String> {
    let file = Safetensors::read(file)?;
    let embeddings = file.tensor(&["embeddings", "embedding.weight"])?.ok_or("it has no tensor `embeddings`")?;
    let [count, dims] = embeddings.shape[..] else {
        return Err(format!("its embeddings have the shape {:?}; two sides are needed", embeddings.shape));
    };
    let mapping = column(file.tensor(&["mapping"])?, "mapping", tokens)?;
    let weights = column(file.tensor(&["weights"])?, "weights", tokens)?;
    let mut values = Vec::with_capacity(tokens * dims);
    for token in 0..tokens {
        let row = mapping.as_ref().map_or(token, |mapping| mapping[token] as usize);
        if dims == 0 || row >= count {
            return Err(format!("token {token} needs row {row}; it has {count} rows of {dims} dimensions"));
        }
        let weight = weights.as_ref().map_or(1.0, |weights| weights[token]);
        values.extend(embeddings.values[row * dims..(row + 1) * dims].iter().map(|value| value * weight));
    }
    match values.iter().all(|value| value.is_finite()) {
        true => Ok((values, dims)),
        false => Err("it holds NaN or infinity".into()),
    }
}

/// A tensor of one number a token.
fn column(tensor: Option<Tensor>, name: &str, tokens: usize) -> std::result::Result<Option<Vec<f32>>, String> {
    match tensor {
        Some(tensor) if tensor.values.len() < tokens => {
            Err(format!("its tensor `{name}` has {} numbers for {tokens} tokens", tensor.values.len()))
        }
        tensor => Ok(tensor.map(|tensor| tensor.values)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::embed::Embedder;

    const TOKENIZER: &str = r###"{"added_tokens":[{"id":0,"content":"[UNK]"}],
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
        "pre_tokenizer":{"type":"BertPreTokenizer"},
        "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","vocab":{"[UNK]":0,"red":1,"##s":2}}}"###;

    fn directory(config: &str, tokenizer: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer).unwrap();
        let header = r#"{"embeddings":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]},"mapping":{"dtype":"I32","shape":[3],"data_offsets":[4,16]},"weights":{"dtype":"F16","shape":[3],"data_offsets":[16,22]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&[3, 4, 0, 0xFF]);
        file.extend([0_i32, 0, 1].iter().flat_map(|number| number.to_le_bytes()));
        file.extend([0x3C00_u16, 0x3C00, 0x4000].iter().flat_map(|number| number.to_le_bytes()));
        std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
        folder
    }

    #[test]
    fn a_model2vec_directory_is_mapped_weighted_and_averaged() {
        let folder = directory(r#"{"model_type":"model2vec","normalize":false}"#, TOKENIZER);
        assert!(is_static_model(folder.path()));
        let model = load(folder.path()).unwrap();
        // "red" is (3, 4), "##s" twice (0, -1).
        let vectors = model.embed_documents(&["Red", "reds", "red unheard-of"]).unwrap();
        assert_eq!(vectors.values, [3.0, 4.0, 1.5, 1.0, 3.0, 4.0]);
        assert!(!model.spec().normalized && model.spec().max_tokens == 512);
    }

    #[test]
    fn a_sentence_transformers_directory_is_read_too() {
        let folder = directory("{}", TOKENIZER);
        assert!(!is_static_model(folder.path()));
        let modules = r#"[{"path":"","type":"sentence_transformers.models.StaticEmbedding"},{"path":"1_Normalize","type":"sentence_transformers.models.Normalize"}]"#;
        std::fs::write(folder.path().join("modules.json"), modules).unwrap();
        assert_eq!(load(folder.path()).unwrap().embed_documents(&["red"]).unwrap().values, [0.6, 0.8]);
    }

    #[test]
    fn another_tokenizer_is_refused_by_name() {
        let folder = directory(r#"{"model_type":"model2vec"}"#, &TOKENIZER.replace("\"WordPiece\"", "\"Unigram\""));
        let error = load(folder.path()).err().unwrap().to_string();
        assert!(error.contains("Unigram") && error.contains("WordPiece"), "{error}");
        let folder =
            directory(r#"{"model_type":"model2vec"}"#, &TOKENIZER.replace("\"lowercase\":true", "\"lowercase\":false"));
        let error = load(folder.path()).err().unwrap().to_string();
        assert!(error.contains("lowercase"), "{error}");
    }
}
