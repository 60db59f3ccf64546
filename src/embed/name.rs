//! What does a model's name say: which directory, what runs it, and which of its graphs?
//!
//! A name is a path, or a backend and a path: `DIR`, `onnx:DIR`, `DIR/onnx/model_quantized.onnx`. Looks at which files are
//! there and reads none of them. A quantised graph gives other vectors, so it is taken only where it is named, or alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::runtime::Backend;
use crate::{Error, Result};

/// A name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    /// What must run it, where the name says so.
    pub(crate) backend: Option<Backend>,
    pub(crate) path: &'a Path,
}

impl<'a> Name<'a> {
    pub(crate) fn parse(model: &'a str) -> Self {
        let prefixed = |backend: Backend| Some((backend, model.strip_prefix(backend.name())?.strip_prefix(':')?));
        match Backend::ALL.into_iter().find_map(prefixed) {
            Some((backend, path)) => Self { backend: Some(backend), path: Path::new(path) },
            None => Self { backend: None, path: Path::new(model) },
        }
    }

    /// What stands behind the backend.
    pub(crate) fn rest(&self) -> &'a str {
        self.path.to_str().unwrap_or_default()
    }

    /// Whether it is the file of a graph.
    pub(crate) fn is_graph(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
    }
}

/// A transformer model's directory, and what runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) directory: PathBuf,
    /// The ONNX graph; where there is none, candle reads safetensors.
    pub(crate) graph: Option<PathBuf>,
    /// Why this backend.
    pub(crate) reason: &'static str,
}

impl Choice {
    /// What `name` means: its backend where it names one, else candle where there are safetensors, else a graph.
    pub(crate) fn of(name: Name<'_>) -> Result<Self> {
        if name.is_graph() {
            return Self::of_graph(name);
        }
        let directory = name.path.to_owned();
        let has_graphs = || graphs(name.path).next().is_some();
        match name.backend {
            Some(Backend::Candle) => Ok(Self { directory, graph: None, reason: "asked for" }),
            Some(Backend::Onnx) => Ok(Self { graph: Some(usual_graph(name.path)?), directory, reason: "asked for" }),
            None if !has_safetensors(name.path) && has_graphs() => {
                Ok(Self { graph: Some(usual_graph(name.path)?), directory, reason: "there are no safetensors" })
            }
            None => Ok(Self { directory, graph: None, reason: "default" }),
        }
    }

    /// A graph lies in the model's directory or in a folder `onnx` of it.
    fn of_graph(name: Name<'_>) -> Result<Self> {
        let model = || name.path.display().to_string();
        if name.backend == Some(Backend::Candle) {
            return Err(Error::model(
                model(),
                "candle runs no ONNX graphs: name the directory, or leave out the backend",
            ));
        }
        if !name.path.is_file() {
            return Err(Error::model(model(), format!("there is no such file{}", beside(name.path))));
        }
        let parent = name.path.parent().unwrap_or_else(|| Path::new(""));
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let places = [
            parent.to_owned(),
            parent
                .parent()
                .filter(|above| !above.as_os_str().is_empty())
                .map_or_else(|| parent.join(".."), Path::to_owned),
        ];
        let holds = |file: &str| places.iter().find(|place| place.join(file).is_file());
        let Some(directory) = holds("modules.json").or_else(|| holds("config.json")) else {
            let reason =
                "neither its folder nor the one above holds modules.json or config.json, which tell how to use it";
            return Err(Error::model(model(), reason));
        };
        Ok(Self { directory: directory.clone(), graph: Some(name.path.to_owned()), reason: "the name of a graph" })
    }

    /// The name under which the model is known: that of the graph where one runs.
    pub(crate) fn id(&self) -> String {
        let path = self.graph.as_ref().unwrap_or(&self.directory);
        path.display().to_string()
    }

    /// What runs it.
    pub(crate) fn backend(&self) -> Backend {
        if self.graph.is_some() { Backend::Onnx } else { Backend::Candle }
    }
}

/// The folders of a model that hold graphs, the likelier first.
const FOLDERS: [&str; 4] = ["onnx", "", "0_Transformer/onnx", "0_Transformer"];

fn graphs(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(directory.join(folder)).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "onnx"));
        files.sort();
        files
    };
    FOLDERS.map(in_folder).into_iter().flatten()
}

fn has_safetensors(directory: &Path) -> bool {
    let names = ["model.safetensors", "model.safetensors.index.json"];
    let folders = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders = std::iter::once(directory.to_owned()).chain(folders.filter(|path| path.is_dir()));
    folders.any(|folder| names.iter().any(|name| folder.join(name).is_file()))
}

/// The graph in full precision under its usual name, or the only graph that there is.
fn usual_graph(directory: &Path) -> Result<PathBuf> {
    let model = || format!("onnx:{}", directory.display());
    if !directory.is_dir() {
        return Err(Error::model(model(), "there is no such directory"));
    }
    let all: Vec<PathBuf> = graphs(directory).collect();
    let usual = all.iter().find(|path| path.file_name().is_some_and(|name| name == "model.onnx"));
    match (usual, all.as_slice()) {
        (Some(graph), _) | (None, [graph]) => Ok(graph.clone()),
        (None, []) => Err(Error::model(
            model(),
            "it holds no ONNX graph: looked for onnx/model.onnx and model.onnx. An export makes one \
             (`optimum-cli export onnx`), or leave out `onnx:` where there are safetensors",
        )),
        (None, several) => {
            let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
            let reason =
                format!("it holds several graphs and none is model.onnx; name one of them: {}", names.join(", "));
            Err(Error::model(model(), reason))
        }
    }
}

/// The graphs beside one that is not there.
fn beside(graph: &Path) -> String {
    let names: Vec<String> =
        graph.parent().into_iter().flat_map(graphs).map(|path| path.display().to_string()).collect();
    if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        directory
    }

    fn chosen(directory: &Path, prefix: &str, file: &str) -> std::result::Result<Option<String>, String> {
        let name = format!("{prefix}{}", directory.join(file).display());
        let choice = Choice::of(Name::parse(&name)).map_err(|error| error.to_string())?;
        assert_eq!(choice.directory.canonicalize().unwrap(), directory.canonicalize().unwrap());
        let relative = |path: PathBuf| path.strip_prefix(directory).unwrap().to_string_lossy().replace('\\', "/");
        Ok(choice.graph.map(relative))
    }

    #[test]
    fn safetensors_go_before_graphs_unless_a_graph_is_asked_for() {
        let both = directory(&["config.json", "model.safetensors", "onnx/model.onnx", "onnx/model_int8.onnx"]);
        let graph = |file: &str| Ok(Some(file.to_owned()));
        assert_eq!(chosen(both.path(), "", ""), Ok(None));
        assert_eq!(chosen(both.path(), "candle:", ""), Ok(None));
        assert_eq!(chosen(both.path(), "onnx:", ""), graph("onnx/model.onnx"));
        assert_eq!(chosen(both.path(), "", "onnx/model_int8.onnx"), graph("onnx/model_int8.onnx"));
        assert_eq!(chosen(both.path(), "onnx:", "onnx/model_int8.onnx"), graph("onnx/model_int8.onnx"));
        let message = chosen(both.path(), "", "onnx/model_q4.onnx").unwrap_err();
        assert!(
            message.contains("there is no such file; there are ") && message.contains("model_int8.onnx"),
            "{message}"
        );
        assert!(chosen(both.path(), "candle:", "onnx/model.onnx").unwrap_err().contains("candle runs no ONNX graphs"));
    }

    #[test]
    fn a_directory_without_safetensors_runs_its_graph() {
        let graph = |file: &str| Ok(Some(file.to_owned()));
        assert_eq!(chosen(directory(&["config.json", "model.onnx"]).path(), "", ""), graph("model.onnx"));
        let one = directory(&["config.json", "onnx/model_quantized.onnx"]);
        assert_eq!(chosen(one.path(), "", ""), graph("onnx/model_quantized.onnx"));
        let two = directory(&["config.json", "onnx/a.onnx", "onnx/b.onnx"]);
        let message = chosen(two.path(), "", "").unwrap_err();
        assert!(message.contains("several graphs") && message.contains("b.onnx"), "{message}");
        let none = directory(&["config.json"]);
        assert_eq!(chosen(none.path(), "", ""), Ok(None));
        assert!(chosen(none.path(), "onnx:", "").unwrap_err().contains("holds no ONNX graph"));
        let bare = directory(&["x/y/model.onnx"]);
        let message = Choice::of(Name::parse(&bare.path().join("x/y/model.onnx").to_string_lossy())).unwrap_err();
        assert!(message.to_string().contains("neither its folder nor the one above"), "{message}");
    }
}
