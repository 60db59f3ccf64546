//! Where is ONNX Runtime on this machine?
//!
//! The library is found by looking at files alone; no Python is started. What was given by name must work; among places
//! that were guessed, one that does not work is passed over and told of. A process loads one library and keeps it, with
//! one environment: that is the runtime's own rule.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;

/// What this process has loaded.
struct Loaded {
    path: PathBuf,
    environment: Environment,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The process's environment; the first call finds and loads the library.
///
/// # Errors
/// A sentence that says where it was looked for and what would help.
pub(crate) fn environment(given: Option<&Path>) -> Result<Environment, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = loaded.as_ref() {
        let other = given.filter(|path| resolve(path).is_some_and(|path| !same_file(&path, &loaded.path)));
        return match other {
            None => Ok(loaded.environment.clone()),
            Some(other) => Err(format!(
                "this process already runs the ONNX Runtime in {}, and can have but one: {} is another",
                loaded.path.display(),
                other.display()
            )),
        };
    }
    let new = find(given, &Surroundings::of_this_process(), load)?;
    let environment = new.environment.clone();
    *loaded = Some(new);
    Ok(environment)
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// What the search depends on.
#[derive(Default)]
struct Surroundings {
    /// `ORT_DYLIB_PATH`, which ONNX Runtime's other users know, too.
    dylib_path: Option<OsString>,
    /// Active virtual environments, of Python's and of Conda's.
    environments: Vec<PathBuf>,
    path: Option<OsString>,
    home: Option<PathBuf>,
}

impl Surroundings {
    fn of_this_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).map(PathBuf::from);
        Self {
            dylib_path: variable("ORT_DYLIB_PATH"),
            environments: environments.collect(),
            path: variable("PATH"),
            home: std::env::home_dir(),
        }
    }

    /// The folders in which Python's packages may lie, each once, the likelier first.
    fn packages(&self) -> Vec<PathBuf> {
        let python = self.python();
        let real = python.as_deref().and_then(|python| fs::canonicalize(python).ok());
        let prefix = |python: Option<&Path>| Some(python?.parent()?.parent()?.to_owned());
        let started = prefix(python.as_deref()).into_iter().chain(prefix(real.as_deref()));
        let started = started.chain(python.as_deref().map(pyenv_versions).into_iter().flatten());
        let prefixes = self.environments.iter().cloned().chain(started);
        let mut folders: Vec<PathBuf> = Vec::new();
        let users = self.home.iter().map(|home| home.join(".local"));
        for prefix in prefixes.collect::<Vec<_>>().into_iter().chain(users) {
            folders.extend(packages_below(&prefix));
            folders.extend(packages_below(&prefix.join("local")));
        }
        let mut once = Vec::new();
        folders.retain(|folder| {
            !once.contains(folder) && {
                once.push(folder.clone());
                true
            }
        });
        folders
    }

    /// The Python that a shell would start. Relative entries of the PATH are left out: what lies in the working directory
    /// is not to be trusted with a library.
    fn python(&self) -> Option<PathBuf> {
        let folders = std::env::split_paths(self.path.as_deref()?).filter(|folder| folder.is_absolute());
        let names = ["python3", "python", "python.exe"];
        folders.flat_map(|folder| names.map(|name| folder.join(name))).find(|python| python.is_file())
    }
}

/// pyenv puts scripts of its own on the PATH, in `shims`, and the Pythons beside them, in `versions`; newest first.
fn pyenv_versions(python: &Path) -> Vec<PathBuf> {
    let shims = python.parent().filter(|folder| folder.ends_with("shims"));
    let versions = shims.and_then(Path::parent).map(|root| root.join("versions"));
    let entries = versions.and_then(|versions| fs::read_dir(versions).ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(numbers(&path.file_name().unwrap_or_default().to_string_lossy())));
    found
}

/// `PREFIX/lib/python3.12/site-packages` and its like, newest Python first.
fn packages_below(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for library in ["lib", "lib64"] {
        let entries = fs::read_dir(prefix.join(library)).into_iter().flatten().flatten();
        let is_python = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("python3"));
        let mut versions: Vec<OsString> = entries.map(|entry| entry.file_name()).filter(is_python).collect();
        versions.sort_by_key(|name| std::cmp::Reverse(numbers(&name.to_string_lossy())));
        let folders = versions.iter().map(|version| prefix.join(library).join(version));
        found.extend(
            folders.flat_map(|folder| ["site-packages", "dist-packages"].map(|packages| folder.join(packages))),
        );
    }
    found.push(prefix.join("Lib").join("site-packages"));
    found.retain(|folder| folder.is_dir());
    found
}

/// The numbers in a name, which order its versions: `libonnxruntime.so.1.31.1`.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The library itself, not its providers, under the names that Linux, macOS and Windows have for it.
fn is_library(name: &str) -> bool {
    let versioned = |rest: &str| rest.chars().all(|character| character == '.' || character.is_ascii_digit());
    let linux = name.strip_prefix("libonnxruntime.so").is_some_and(versioned);
    let mac = name.strip_prefix("libonnxruntime").and_then(|rest| rest.strip_suffix(".dylib")).is_some_and(versioned);
    linux || mac || name.eq_ignore_ascii_case("onnxruntime.dll")
}

/// The newest library in a folder.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.filter(|name| is_library(name)).max_by_key(|name| numbers(name))?;
    Some(folder.join(newest))
}

/// What a user means by `path`: a file, or a folder with the library or with Python's package.
fn resolve(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    ["", "lib", "capi", "onnxruntime/capi"].iter().find_map(|inner| library_in(&path.join(inner)))
}

/// Looks for the library and has `load` try what is found, until one can be used.
fn find<T>(
    given: Option<&Path>,
    surroundings: &Surroundings,
    load: impl Fn(&Path) -> Result<T, String>,
) -> Result<T, String> {
    let named = match (given, &surroundings.dylib_path) {
        (Some(path), _) => Some((path.to_owned(), "given")),
        (None, Some(path)) => Some((PathBuf::from(path), "ORT_DYLIB_PATH")),
        (None, None) => None,
    };
    if let Some((path, source)) = named {
        let library = resolve(&path).ok_or_else(|| {
            format!("there is no ONNX Runtime at {} ({source}): name the library's file, or its folder", path.display())
        })?;
        return load(&library).map_err(|reason| {
            format!("the ONNX Runtime in {} ({source}) cannot be used: {reason}", library.display())
        });
    }
    let packages = surroundings.packages();
    let capi = packages.iter().map(|folder| folder.join("onnxruntime").join("capi"));
    let mut looked = vec!["ORT_DYLIB_PATH is not set".to_owned()];
    for folder in capi {
        match library_in(&folder).map(|library| load(&library)) {
            Some(Ok(loaded)) => return Ok(loaded),
            Some(Err(reason)) => looked.push(format!("{}: {reason}", folder.display())),
            None => looked.push(format!("{} has none", folder.display())),
        }
    }
    if packages.is_empty() {
        looked.push("no Python was found in a virtual environment or on the PATH".to_owned());
    }
    let bare = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    match load(Path::new(&bare)) {
        Ok(loaded) => return Ok(loaded),
        Err(reason) => looked.push(format!("the system's loader: {reason}")),
    }
    Err(format!(
        "ONNX Runtime is not found. Looked: {}. Install it (`pip install onnxruntime`), or name its library with \
         `--onnx-runtime PATH` or ORT_DYLIB_PATH",
        looked.join("; ")
    ))
}

/// Loads a library, and asks it for the process's environment.
fn load(path: &Path) -> Result<Loaded, String> {
    // A library that exports the right names and is none makes `ort` panic.
    let environment = std::panic::catch_unwind(|| {
        let builder = ort::init_from(path).map_err(|error| error.to_string())?;
        builder.with_name("quiverdb").with_telemetry(false).build().map_err(|error| error.to_string())
    });
    let environment = environment.unwrap_or_else(|_| Err("it is no ONNX Runtime".into()))?;
    if std::env::var_os("ORT_LOG").is_none() {
        // Errors are returned and told once, by us.
        environment.set_log_level(LogLevel::Fatal);
    }
    Ok(Loaded { path: path.to_owned(), environment })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn touch(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "no library").unwrap();
        path
    }

    #[test]
    fn the_newest_library_of_a_folder_is_taken_and_no_provider() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["libonnxruntime.so.1.9.0", "libonnxruntime_providers_shared.so", "libonnxruntime.so.txt", "x.so"] {
            touch(root, &format!("onnxruntime/capi/{name}"));
        }
        let newest = touch(root, "onnxruntime/capi/libonnxruntime.so.1.31.1");
        assert_eq!(resolve(root), Some(newest.clone()));
        assert_eq!(resolve(&newest), Some(newest));
        assert_eq!(resolve(&root.join("nothing")), None);
        assert!(is_library("libonnxruntime.1.31.1.dylib") && is_library("onnxruntime.dll"));
        assert!(!is_library("onnxruntime_providers_shared.dll"));
    }

    #[test]
    fn packages_are_those_of_environments_then_of_the_python_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        touch(root, "venv/lib/python3.9/site-packages/x");
        touch(root, "venv/lib/python3.12/site-packages/x");
        touch(root, "usr/bin/python3");
        touch(root, "usr/lib/python3/dist-packages/x");
        touch(root, "usr/local/lib/python3.11/dist-packages/x");
        touch(root, "me/.local/lib/python3.11/site-packages/x");
        touch(root, "pyenv/versions/3.9.1/x");
        touch(root, "pyenv/versions/3.11.7/x");
        let shim = touch(root, "pyenv/shims/python3");
        assert_eq!(pyenv_versions(&shim), [root.join("pyenv/versions/3.11.7"), root.join("pyenv/versions/3.9.1")]);
        let surroundings = Surroundings {
            environments: vec![root.join("venv")],
            path: Some(std::env::join_paths([Path::new("bin"), &root.join("empty"), &root.join("usr/bin")]).unwrap()),
            home: Some(root.join("me")),
            dylib_path: None,
        };
        let found = surroundings.packages();
        let found: Vec<_> = found.iter().map(|folder| folder.strip_prefix(root).unwrap().to_str().unwrap()).collect();
        let wanted = [
            "venv/lib/python3.12/site-packages",
            "venv/lib/python3.9/site-packages",
            "usr/lib/python3/dist-packages",
            "usr/local/lib/python3.11/dist-packages",
            "me/.local/lib/python3.11/site-packages",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_was_looked_at_is_told_with_the_ways_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let packaged = touch(root, "venv/lib/python3.12/site-packages/onnxruntime/capi/libonnxruntime.so.1.31.1");
        let named = touch(root, "named/libonnxruntime.so");
        let refuse = |_: &Path| -> Result<PathBuf, String> { Err("too old".into()) };
        let take = |path: &Path| Ok(path.to_owned());
        let venv = Surroundings { environments: vec![root.join("venv")], ..Surroundings::default() };
        assert_eq!(find(None, &venv, take), Ok(packaged.clone()));
        let message = find(None, &venv, refuse).unwrap_err();
        assert!(message.contains("ORT_DYLIB_PATH is not set") && message.contains("capi: too old"), "{message}");
        assert!(message.contains("the system's loader: too old") && message.contains("pip install"), "{message}");
        let message = find(None, &Surroundings::default(), refuse).unwrap_err();
        assert!(message.contains("no Python was found"), "{message}");
        // What is named goes before what is guessed, and nothing stands in for it.
        let both = Surroundings { dylib_path: Some(root.join("named").into()), ..venv };
        assert_eq!(find(None, &both, take), Ok(named.clone()));
        assert_eq!(find(Some(&packaged), &both, take), Ok(packaged.clone()));
        let message = find(None, &both, refuse).unwrap_err();
        assert_eq!(
            message,
            format!("the ONNX Runtime in {} (ORT_DYLIB_PATH) cannot be used: too old", named.display())
        );
        let message = find(Some(&root.join("none")), &both, take).unwrap_err();
        assert!(message.contains("there is no ONNX Runtime at") && message.contains("none (given)"), "{message}");
    }
}
