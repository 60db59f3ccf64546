//! Which files of a repository make a model?
//!
//! Only what can be read without running any code is ever taken: safetensors, ONNX, JSON, and the tokenizer's vocabulary.
//! Pickles, which run code when Python loads them, are taken only where they are asked for by name.

use super::hub::{Listing, RemoteFile};
use crate::{Error, Result};

/// Which files to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The ONNX export in place of the encoder's safetensors.
    pub onnx: bool,
    /// These files in place of the weights; JSON and the vocabulary come with them.
    pub files: Vec<String>,
}

/// What to fetch, small files first, and what was left out that a person should know of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection<'a> {
    pub(crate) files: Vec<&'a RemoteFile>,
    /// Weights in formats that are not taken unasked.
    pub(crate) skipped: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// JSON, and the vocabulary: always taken.
    Settings,
    Safetensors,
    Onnx,
    /// Weights in a format that can run code, or that nothing here reads.
    Foreign,
    Other,
}

/// Exports for other engines, which repeat the model's settings.
const FOREIGN_FOLDERS: [&str; 8] = ["onnx", "openvino", "coreml", "tflite", "gguf", "original", "runs", "mlx"];

impl Kind {
    fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension {
            "json" | "model" => Self::Settings,
            "txt" if matches!(name, "vocab.txt" | "merges.txt") => Self::Settings,
            "safetensors" => Self::Safetensors,
            "onnx" => Self::Onnx,
            "data" if name.ends_with(".onnx.data") => Self::Onnx,
            _ if extension.starts_with("onnx_data") => Self::Onnx,
            "bin" | "pt" | "pth" | "pkl" | "pickle" | "ckpt" | "h5" | "msgpack" | "ot" | "gguf" => Self::Foreign,
            _ => Self::Other,
        }
    }
}

/// Chooses from all files of a repository.
///
/// # Errors
/// [`Error::Model`] where a file asked for is not there, or the repository has no weights that are taken unasked.
pub(crate) fn select<'a>(model: &str, listing: &'a Listing, wanted: &Wanted) -> Result<Selection<'a>> {
    let all = &listing.files;
    let is_foreign_folder = |name: &str| {
        let folder = name.split_once('/').map_or("", |(folder, _)| folder);
        FOREIGN_FOLDERS.contains(&folder) || folder.starts_with("checkpoint") || folder.starts_with('.')
    };
    let own = || all.iter().filter(|file| !is_foreign_folder(&file.name));
    let is = |kind: Kind| move |file: &&RemoteFile| Kind::of(&file.name) == kind;
    let mut files: Vec<&RemoteFile> = own().filter(is(Kind::Settings)).collect();
    if !wanted.files.is_empty() {
        for name in &wanted.files {
            files.extend(named(model, all, name)?);
        }
    } else if wanted.onnx {
        files.extend(own().filter(is(Kind::Safetensors)).filter(|file| is_module(&file.name)));
        files.extend(export(model, all)?);
    } else {
        let safetensors: Vec<&RemoteFile> = own().filter(is(Kind::Safetensors)).collect();
        if safetensors.is_empty() {
            return Err(without_safetensors(model, all));
        }
        files.extend(safetensors.iter().filter(|file| !is_variant(file, &safetensors)));
    }
    files.sort_by_key(|file| (Kind::of(&file.name) != Kind::Settings, file.name.as_str()));
    files.dedup();
    let taken = |file: &&RemoteFile| !files.contains(file);
    let skipped = own().filter(is(Kind::Foreign)).filter(taken).map(|file| file.name.clone()).collect();
    Ok(Selection { files, skipped })
}

/// Weights of a module beside the encoder (`2_Dense/`), which an ONNX export of the encoder does not hold.
fn is_module(name: &str) -> bool {
    name.split_once('/').is_some_and(|(folder, _)| !folder.ends_with("_Transformer"))
}

/// Whether weights lie beside `model.safetensors` in the same folder: the same ones in another precision.
fn is_variant(file: &RemoteFile, all: &[&RemoteFile]) -> bool {
    let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let plain = if folder.is_empty() { "model.safetensors".to_owned() } else { format!("{folder}/model.safetensors") };
    file.name != plain && all.iter().any(|other| other.name == plain)
}

/// A file by its name, and the external data of an ONNX file with it.
fn named<'a>(model: &str, all: &'a [RemoteFile], name: &str) -> Result<Vec<&'a RemoteFile>> {
    let data = [format!("{name}_data"), format!("{name}.data")];
    let belongs = |file: &&RemoteFile| {
        file.name == name || (name.ends_with(".onnx") && data.iter().any(|data| file.name.starts_with(data.as_str())))
    };
    if all.iter().any(|file| file.name == name) {
        return Ok(all.iter().filter(belongs).collect());
    }
    let weights = |file: &&RemoteFile| !matches!(Kind::of(&file.name), Kind::Settings | Kind::Other);
    let names: Vec<&str> = all.iter().filter(weights).map(|file| file.name.as_str()).take(20).collect();
    Err(Error::model(model, format!("it has no file `{name}`; its weights are {}", names.join(", "))))
}

/// The ONNX export that is meant where none is named.
fn export<'a>(model: &str, all: &'a [RemoteFile]) -> Result<Vec<&'a RemoteFile>> {
    let exports: Vec<&str> = all.iter().map(|file| file.name.as_str()).filter(|name| name.ends_with(".onnx")).collect();
    let usual = ["onnx/model.onnx", "model.onnx"].into_iter().find(|name| exports.contains(name));
    match (usual, exports.as_slice()) {
        (Some(name), _) | (None, &[name]) => named(model, all, name),
        (None, []) => Err(Error::model(model, "it has no ONNX file; leave out --onnx to take its safetensors")),
        (None, several) => {
            let reason = format!("it has several ONNX files; name one with --file: {}", several.join(", "));
            Err(Error::model(model, reason))
        }
    }
}

fn without_safetensors(model: &str, all: &[RemoteFile]) -> Error {
    let names = |kind: Kind| {
        let names: Vec<&str> =
            all.iter().map(|file| file.name.as_str()).filter(|name| Kind::of(name) == kind).take(12).collect();
        names.join(", ")
    };
    let (onnx, foreign) = (names(Kind::Onnx), names(Kind::Foreign));
    let reason = match (onnx.is_empty(), foreign.is_empty()) {
        (false, _) => format!("it has no safetensors, but ONNX: take that with `--onnx`, or --file of {onnx}"),
        (true, false) => format!(
            "it has weights only in formats that can run code or that nothing here reads ({foreign}): convert them with \
             Python's `save_pretrained(safe_serialization=True)`, and name that directory"
        ),
        (true, true) => "it has no weights at all: not a model, or one of another kind".to_owned(),
    };
    Error::model(model, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(names: &[&str]) -> Listing {
        let file = |name: &&str| RemoteFile { name: (*name).to_owned(), size: Some(1), digest: None };
        Listing { commit: String::new(), files: names.iter().map(file).collect() }
    }

    fn chosen(names: &[&str], wanted: &Wanted) -> std::result::Result<Vec<String>, String> {
        let listing = listing(names);
        let selection = select("a/b", &listing, wanted).map_err(|error| error.to_string())?;
        Ok(selection.files.iter().map(|file| file.name.clone()).collect())
    }

    const MINILM: [&str; 14] = [
        ".gitattributes",
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "model.safetensors",
        "modules.json",
        "onnx/config.json",
        "onnx/model.onnx",
        "onnx/model_O4.onnx",
        "openvino/openvino_model.bin",
        "pytorch_model.bin",
        "tokenizer.json",
        "train_script.py",
        "vocab.txt",
    ];
    const SETTINGS: [&str; 5] = ["1_Pooling/config.json", "config.json", "modules.json", "tokenizer.json", "vocab.txt"];

    fn with_settings(names: &[&str]) -> Vec<String> {
        SETTINGS.iter().chain(names).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn safetensors_and_settings_are_taken_and_weights_come_last() {
        assert_eq!(chosen(&MINILM, &Wanted::default()), Ok(with_settings(&["model.safetensors"])));
    }

    #[test]
    fn an_onnx_export_replaces_the_encoder_s_weights_but_no_other_module_s() {
        let onnx = Wanted { onnx: true, files: vec![] };
        assert_eq!(chosen(&MINILM, &onnx), Ok(with_settings(&["onnx/model.onnx"])));
        let large = [
            "config.json",
            "model.safetensors",
            "2_Dense/model.safetensors",
            "onnx/model.onnx",
            "onnx/model.onnx_data",
        ];
        let taken = ["config.json", "2_Dense/model.safetensors", "onnx/model.onnx", "onnx/model.onnx_data"];
        assert_eq!(chosen(&large, &onnx), Ok(taken.map(str::to_owned).to_vec()));
        assert!(chosen(&["a.onnx", "b.onnx"], &onnx).is_err_and(|message| message.contains("--file")));
    }

    #[test]
    fn a_pickle_is_taken_by_name_only() {
        let by_name = Wanted { onnx: false, files: vec!["pytorch_model.bin".into()] };
        assert_eq!(chosen(&MINILM, &by_name), Ok(with_settings(&["pytorch_model.bin"])));
        let message = chosen(&["config.json", "pytorch_model.bin"], &Wanted::default());
        assert!(message.is_err_and(|message| message.contains("pytorch_model.bin")));
        let missing = Wanted { onnx: false, files: vec!["model_int8.onnx".into()] };
        assert!(chosen(&MINILM, &missing).is_err_and(|message| message.contains("onnx/model_O4.onnx")));
    }

    #[test]
    fn the_same_weights_in_another_precision_are_left_out() {
        let both = ["config.json", "model.fp16.safetensors", "model.safetensors"];
        assert_eq!(
            chosen(&both, &Wanted::default()),
            Ok(vec!["config.json".to_owned(), "model.safetensors".to_owned()])
        );
        let parts =
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"];
        assert_eq!(chosen(&parts, &Wanted::default()).map(|files| files.len()), Ok(3));
    }
}
