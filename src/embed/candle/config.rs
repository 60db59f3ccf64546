//! Is everything that `config.json` asks for something that we do?
//!
//! What an architecture file reads of it is typed there; here stands what several share. A setting that would change the
//! numbers and is not supported is an error that names it and what is supported.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::embed::math::attention::Heads;
use crate::embed::math::ops::Activation;
use crate::embed::spec::ModelDirectory;
use crate::{Error, Result};

/// Why a `config.json` is refused.
pub(crate) type Refusal = String;

/// `config.json`, read and checked. Of `aliases`, `(name, other name)`, the second stands in where the first is absent.
pub(crate) fn read<T: DeserializeOwned>(
    directory: &ModelDirectory,
    aliases: &[(&str, &str)],
    check: impl FnOnce(&T) -> std::result::Result<(), Refusal>,
) -> Result<T> {
    let config: T = typed(&directory.config, aliases).map_err(|reason| refused(directory, &reason))?;
    check(&config).map_err(|reason| refused(directory, &reason))?;
    Ok(config)
}

/// The error for `reason`.
pub(crate) fn refused(directory: &ModelDirectory, reason: &str) -> Error {
    Error::model(directory.name(), format!("config.json: {reason}"))
}

fn typed<T: DeserializeOwned>(config: &Value, aliases: &[(&str, &str)]) -> std::result::Result<T, Refusal> {
    // Switches that are off or absent in every model that we know how to run.
    for name in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
        if config[name].as_bool() == Some(true) {
            return Err(format!("{name} = true is not supported; only encoders and decoder-only models are"));
        }
    }
    if !config["quantization_config"].is_null() {
        let kind = config["quantization_config"]["quant_method"].as_str().unwrap_or("unnamed");
        return Err(format!("quantization_config ({kind}) is not supported; weights in f32, f16 and bf16 are"));
    }
    if config["pruned_heads"].as_object().is_some_and(|heads| !heads.is_empty()) {
        return Err("pruned_heads is not supported; only models with all of their heads are".into());
    }
    let mut config = config.clone();
    for (name, other) in aliases {
        if config[*name].is_null() && !config[*other].is_null() {
            config[*name] = config[*other].take();
        }
    }
    serde_json::from_value(config).map_err(|error| error.to_string())
}

/// The activation of that name; `key` is where the name stands.
pub(crate) fn activation(key: &str, name: &str) -> std::result::Result<Activation, Refusal> {
    let found = Activation::NAMES.iter().find(|(known, _)| *known == name);
    found.map(|&(_, activation)| activation).ok_or_else(|| {
        let known: Vec<&str> = Activation::NAMES.iter().map(|(name, _)| *name).collect();
        format!("{key} `{name}` is not supported yet; {} are", known.join(", "))
    })
}

/// That `value` is one of `supported`.
pub(crate) fn one_of(key: &str, value: &str, supported: &[&str]) -> std::result::Result<(), Refusal> {
    if supported.contains(&value) {
        return Ok(());
    }
    let verb = if supported.len() == 1 { "only" } else { "supported:" };
    Err(format!("{key} `{value}` is not supported yet; {verb} {}", supported.join(", ")))
}

/// That a switch has the value that every supported model has.
pub(crate) fn only(key: &str, value: bool, supported: bool) -> std::result::Result<(), Refusal> {
    if value == supported { Ok(()) } else { Err(format!("{key} = {value} is not supported yet; only {supported} is")) }
}

/// That no size is 0.
pub(crate) fn positive(sizes: &[(&str, usize)]) -> std::result::Result<(), Refusal> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((name, _)) => Err(format!("{name} is 0")),
        None => Ok(()),
    }
}

/// Heads that share all of a row.
pub(crate) fn even_heads(hidden: usize, heads: usize) -> std::result::Result<Heads, Refusal> {
    if hidden == 0 || heads == 0 || !hidden.is_multiple_of(heads) {
        return Err(format!("hidden_size {hidden} cannot be split into {heads} attention heads"));
    }
    Ok(Heads { queries: heads, keys: heads, size: hidden / heads })
}

/// Heads of a size of their own, several of which may share keys and values.
pub(crate) fn grouped_heads(queries: usize, keys: usize, size: usize) -> std::result::Result<Heads, Refusal> {
    if queries == 0 || keys == 0 || !queries.is_multiple_of(keys) || size == 0 {
        return Err(format!(
            "{queries} attention heads of {size} numbers cannot share {keys} heads of keys and values"
        ));
    }
    Ok(Heads { queries, keys, size })
}

/// The base of rotary embeddings: `parameters` is `rope_parameters` (transformers 5), `scaling` is `rope_scaling` (before),
/// `theta` the number of older files, `default` what transformers takes where no file says it.
pub(crate) fn theta(
    parameters: &Value,
    scaling: &Value,
    theta: Option<f64>,
    default: f64,
) -> std::result::Result<f64, Refusal> {
    for (key, settings) in [("rope_parameters", parameters), ("rope_scaling", scaling)] {
        let kind = settings["rope_type"].as_str().or(settings["type"].as_str()).unwrap_or("default");
        one_of(&format!("{key}: rope_type"), kind, &["default"])?;
        if let Some(part) = settings["partial_rotary_factor"].as_f64().filter(|&part| part != 1.0) {
            return Err(format!("{key}: partial_rotary_factor {part} is not supported yet; only 1 is"));
        }
    }
    let theta = parameters["rope_theta"].as_f64().or(theta).unwrap_or(default);
    if theta > 0.0 { Ok(theta) } else { Err(format!("rope_theta is {theta}")) }
}

/// That heads can be turned by rotary embeddings.
pub(crate) fn even_size(heads: Heads) -> std::result::Result<(), Refusal> {
    if heads.size.is_multiple_of(2) {
        return Ok(());
    }
    Err(format!("heads of {} numbers cannot have rotary embeddings: the number must be even", heads.size))
}
