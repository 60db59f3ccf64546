//! Which files of a model's directory may be read, and how much of them?
//!
//! A directory may come from anywhere: its files are untrusted input. Nothing outside of it is opened, whatever a path or a
//! symbolic link says, except the blobs of the hub's own cache, into which all files of a snapshot are links. Only regular
//! files are opened, because a pipe would wait for ever. What is parsed is bounded before it is read.
//! A key that stands twice in a settings file is refused, because programs differ in which counts; in the vocabulary of a
//! `tokenizer.json` and in headers of weights the last one counts, as in Python.
//! Hard links cannot be told from files, and the directory must not change while it is read.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// The largest settings that are parsed; the longest known, the index of a model in a hundred shards, takes 1 MB.
const JSON_BYTES_MAX: u64 = 8 << 20;
/// The largest header of weights. 10,000 tensors take 1 MB; the format itself allows 100 MB.
const HEADER_BYTES_MAX: u64 = 16 << 20;

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// The files of one model.
pub(crate) struct Files {
    /// The directory as it was named.
    root: PathBuf,
    /// The folders that files may really lie in.
    allowed: Vec<PathBuf>,
}

impl Files {
    /// # Errors
    /// [`Error::Model`] where there is no such directory.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::model(root.display().to_string(), reason);
        if !root.is_dir() {
            return Err(wrong(format!("{} is not a directory", root.display())));
        }
        let real = fs::canonicalize(root).map_err(|error| Error::io(root, error))?;
        // `models--organisation--name/snapshots/revision`, whose files are links into `models--organisation--name/blobs`.
        let blobs = real
            .parent()
            .filter(|parent| parent.file_name() == Some("snapshots".as_ref()))
            .and_then(|parent| fs::canonicalize(parent.with_file_name("blobs")).ok());
        let allowed = std::iter::once(real).chain(blobs).collect();
        Ok(Self { root: root.to_owned(), allowed })
    }

    /// Something is wrong with the model, and why.
    pub(crate) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::model(self.root.display().to_string(), reason)
    }

    /// The directory with all links resolved.
    pub(crate) fn real(&self) -> &Path {
        &self.allowed[0]
    }

    /// A folder that a file of the model names; it must lie inside the directory.
    pub(crate) fn folder(&self, folder: &str, named_by: &str) -> Result<String> {
        let inside =
            Path::new(folder).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if inside { Ok(folder.to_owned()) } else { Err(self.wrong(format!("{named_by} points outside: `{folder}`"))) }
    }

    /// The path of a file, if it is there.
    ///
    /// # Errors
    /// [`Error::Model`] where it is a link to somewhere else, or no regular file.
    pub(crate) fn find(&self, folder: &str, name: &str) -> Result<Option<PathBuf>> {
        let path = self.root.join(folder).join(name);
        let real = match fs::canonicalize(&path) {
            Ok(real) => real,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return match fs::symlink_metadata(&path) {
                    Ok(_) => Err(self.wrong(format!("{} is a link to nothing", join(folder, name)))),
                    Err(_) => Ok(None),
                };
            }
            Err(error) => return Err(Error::io(path, error)),
        };
        if !self.allowed.iter().any(|allowed| real.starts_with(allowed)) {
            let reason = format!(
                "{} is a link out of the directory, to {}; put the file itself there",
                join(folder, name),
                real.display()
            );
            return Err(self.wrong(reason));
        }
        let metadata = fs::metadata(&real).map_err(|error| Error::io(&path, error))?;
        if !metadata.is_file() {
            return Err(self.wrong(format!("{} is no regular file", join(folder, name))));
        }
        Ok(Some(path))
    }

    /// The bytes of a file, which must not be more than `most`.
    pub(crate) fn read(&self, path: &Path, most: u64) -> Result<Vec<u8>> {
        let failed = |error| Error::io(path, error);
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length <= most {
            file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        }
        if length > most || bytes.len() as u64 > most {
            let reason = format!(
                "{} has {length} bytes, where no model of this kind needs more than {most}; it is not read",
                self.relative(path)
            );
            return Err(self.wrong(reason));
        }
        Ok(bytes)
    }

    /// The JSON object in a file, if the file is there.
    pub(crate) fn optional(&self, folder: &str, name: &str) -> Result<Option<Object>> {
        match self.json(folder, name)? {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(self.wrong(format!("{} holds no JSON object", join(folder, name)))),
        }
    }

    /// The JSON object in a file that must be there.
    pub(crate) fn required(&self, folder: &str, name: &str) -> Result<Object> {
        let missing =
            || self.wrong(format!("{} is missing: not a model directory, or an incomplete one", join(folder, name)));
        self.optional(folder, name)?.ok_or_else(missing)
    }

    /// The JSON in a file, if the file is there.
    pub(crate) fn json(&self, folder: &str, name: &str) -> Result<Option<Value>> {
        let Some(path) = self.find(folder, name)? else { return Ok(None) };
        let bytes = self.read(&path, JSON_BYTES_MAX)?;
        let broken = |error| self.wrong(format!("{} is not valid JSON: {error}", join(folder, name)));
        let Unique(value) = serde_json::from_slice(&bytes).map_err(broken)?;
        Ok(Some(value))
    }

    /// Whether a safetensors file is as long as its header says, which is read for that, and the tensors are not.
    ///
    /// # Errors
    /// [`Error::Model`] where it is not, or the header is too long to be believed.
    pub(crate) fn check_weights(&self, path: &Path) -> Result<()> {
        let (header, bytes) = self.header(path)?;
        let end = header.values().filter_map(|tensor| tensor.data_offsets).map(|[_, end]| end).max().unwrap_or(0);
        if end == bytes {
            return Ok(());
        }
        Err(self.damaged(path, format!("its header tells of {end} bytes of numbers; there are {bytes}")))
    }

    /// The bytes that its tensors take in f32; of a file without a header of safetensors its own.
    #[cfg(feature = "transformers")]
    pub(crate) fn weights_in_f32(&self, path: &Path) -> u64 {
        let whole = || fs::metadata(path).map_or(0, |metadata| metadata.len());
        let numbers = |tensor: &Tensor| tensor.shape.iter().fold(1, |product: u64, side| product.saturating_mul(*side));
        match self.header(path) {
            Ok((header, _)) => {
                header.values().filter(|tensor| tensor.data_offsets.is_some()).map(numbers).sum::<u64>() * 4
            }
            Err(_) => whole(),
        }
    }

    /// The header of a safetensors file, and how many bytes follow it.
    fn header(&self, path: &Path) -> Result<(HashMap<String, Tensor>, u64)> {
        let failed = |error| Error::io(path, error);
        let mut file = fs::File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut length = [0; 8];
        if bytes < 8 {
            return Err(self.damaged(path, "it is too short for a header".into()));
        }
        file.read_exact(&mut length).map_err(failed)?;
        let length = u64::from_le_bytes(length);
        if length > bytes - 8 || length > HEADER_BYTES_MAX {
            let reason = format!("its header claims {length} bytes, of {HEADER_BYTES_MAX} at most");
            return Err(self.damaged(path, reason));
        }
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header).map_err(failed)?;
        let parsed = serde_json::from_slice(&header);
        let parsed = parsed.map_err(|error| self.damaged(path, format!("its header is no JSON: {error}")))?;
        Ok((parsed, bytes - 8 - length))
    }

    fn damaged(&self, path: &Path, why: String) -> Error {
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let name = self.relative(path);
        self.wrong(format!("{name} ({bytes} bytes) is truncated or damaged; copy or download it again ({why})"))
    }

    /// A path as people name it within this model.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// An entry of a safetensors header, as far as lengths go; `__metadata__` has none.
#[derive(Deserialize)]
struct Tensor {
    data_offsets: Option<[u64; 2]>,
    #[cfg(feature = "transformers")]
    #[serde(default)]
    shape: Vec<u64>,
}

/// JSON without an object that has a key twice: programs differ in which of the two counts.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Unique, E> {
        Ok(Unique(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> std::result::Result<Unique, E> {
        Ok(Unique(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Unique, A::Error> {
        let mut array = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Unique(array.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Unique, A::Error> {
        let mut object = Object::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if object.contains_key(&key) {
                let key: String = key.escape_debug().take(80).collect();
                return Err(serde::de::Error::custom(format_args!("the key `{key}` stands twice in one object")));
            }
            object.insert(key, value);
        }
        Ok(Unique(object.into()))
    }
}

/// A file's name as errors say it.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A directory `model` with one file, and beside it a `secret`.
    fn made() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let model = outer.path().join("model");
        fs::create_dir(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        fs::write(outer.path().join("secret.json"), "{}").unwrap();
        (outer, model)
    }

    fn weights(header: &str, claimed: Option<u64>, data: usize) -> Vec<u8> {
        let claimed = claimed.unwrap_or(header.len() as u64);
        [&claimed.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    }

    #[test]
    fn missing_files_are_none_and_missing_directories_an_error() {
        let (_outer, model) = made();
        let files = Files::of(&model).unwrap();
        assert_eq!(files.find("", "config.json").unwrap(), Some(model.join("config.json")));
        assert_eq!(files.find("", "other.json").unwrap(), None);
        assert_eq!(files.find("config.json", "other.json").unwrap(), None);
        assert!(Files::of(&model.join("none")).err().unwrap().to_string().contains("is not a directory"));
        fs::create_dir(model.join("folder.json")).unwrap();
        let error = files.find("", "folder.json").unwrap_err().to_string();
        assert!(error.contains("folder.json is no regular file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_within_the_directory() {
        use std::os::unix::fs::symlink;
        let (outer, model) = made();
        let files = Files::of(&model).unwrap();
        symlink("config.json", model.join("inside.json")).unwrap();
        symlink(outer.path().join("secret.json"), model.join("outside.json")).unwrap();
        symlink(outer.path(), model.join("folder")).unwrap();
        symlink("nowhere", model.join("dangling.json")).unwrap();
        symlink("/dev/zero", model.join("endless.json")).unwrap();
        assert!(files.json("", "inside.json").unwrap().is_some());
        let refusal = |folder: &str, name: &str| files.json(folder, name).unwrap_err().to_string();
        assert!(refusal("", "outside.json").contains("outside.json is a link out of the directory"));
        assert!(refusal("folder", "secret.json").contains("folder/secret.json is a link out of the directory"));
        assert!(refusal("", "dangling.json").contains("dangling.json is a link to nothing"));
        assert!(refusal("", "endless.json").contains("endless.json is a link out of the directory, to /dev/zero"));
        // The directory itself may be named by a link.
        symlink(&model, outer.path().join("link")).unwrap();
        assert!(Files::of(&outer.path().join("link")).unwrap().json("", "config.json").unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn snapshots_of_the_hub_s_cache_are_links_to_its_blobs() {
        use std::os::unix::fs::symlink;
        let outer = tempfile::tempdir().unwrap();
        let snapshot = outer.path().join("models--a--b/snapshots/0123");
        for folder in [snapshot.as_path(), &outer.path().join("models--a--b/blobs"), &outer.path().join("blobs")] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("blob"), "{}").unwrap();
        }
        symlink("../../blobs/blob", snapshot.join("config.json")).unwrap();
        symlink("../../../blobs/blob", snapshot.join("other.json")).unwrap();
        let files = Files::of(&snapshot).unwrap();
        assert!(files.json("", "config.json").unwrap().is_some());
        let error = files.json("", "other.json").unwrap_err().to_string();
        assert!(error.contains("other.json is a link out of the directory"), "{error}");
    }

    #[test]
    fn settings_too_large_or_too_deep_are_refused() {
        let (_outer, model) = made();
        let files = Files::of(&model).unwrap();
        fs::write(model.join("large.json"), vec![b' '; JSON_BYTES_MAX as usize + 1]).unwrap();
        let error = files.json("", "large.json").unwrap_err().to_string();
        assert!(error.contains("large.json has 8388609 bytes, where no model of this kind needs more"), "{error}");
        fs::write(model.join("deep.json"), "[".repeat(100_000)).unwrap();
        let error = files.json("", "deep.json").unwrap_err().to_string();
        assert!(error.contains("deep.json is not valid JSON: recursion limit"), "{error}");
    }

    #[test]
    fn weights_must_be_as_long_as_their_header_says() {
        let (_outer, model) = made();
        let files = Files::of(&model).unwrap();
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let check = |bytes: Vec<u8>| {
            fs::write(model.join("a.safetensors"), bytes).unwrap();
            files.check_weights(&model.join("a.safetensors")).map_err(|error| error.to_string())
        };
        check(weights(header, None, 8)).unwrap();
        for (bytes, why) in [
            (vec![1, 2], "too short for a header"),
            (weights(header, Some(u64::MAX), 8), "its header claims 18446744073709551615 bytes"),
            (weights(header, None, 7), "tells of 8 bytes of numbers; there are 7"),
            (weights(header, None, 9), "tells of 8 bytes of numbers; there are 9"),
            (weights("{\"a\":[", None, 8), "its header is no JSON"),
            (weights(&" ".repeat(17 << 20), None, 0), "its header claims 17825792 bytes, of 16777216 at most"),
        ] {
            let error = check(bytes).unwrap_err();
            assert!(error.contains("a.safetensors (") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn keys_that_stand_twice_are_refused_at_any_depth() {
        let (_outer, model) = made();
        let files = Files::of(&model).unwrap();
        let read = |text: &str| {
            fs::write(model.join("a.json"), text).unwrap();
            files.json("", "a.json").map_err(|error| error.to_string())
        };
        for text in [r#"{"a": 1, "b": 2, "a": 1}"#, r#"[{"x": {"a": 1, "\u0061": 2}}]"#] {
            let error = read(text).unwrap_err();
            assert!(error.contains("a.json is not valid JSON: the key `a` stands twice"), "{error}");
        }
        let plain = r#"{"a":[null,true,-1,18446744073709551615,1e30,0.1,"x",{"a":{}}],"b":[]}"#;
        let (ours, theirs): (Value, Value) = (read(plain).unwrap().unwrap(), serde_json::from_str(plain).unwrap());
        assert_eq!(ours, theirs);
    }

    #[cfg(feature = "transformers")]
    #[test]
    fn half_precision_weighs_twice_its_file_in_f32() {
        let (_outer, model) = made();
        let files = Files::of(&model).unwrap();
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}"#;
        fs::write(model.join("a.safetensors"), weights(header, None, 12)).unwrap();
        fs::write(model.join("b.onnx"), [0; 100]).unwrap();
        let weight = |name: &str| files.weights_in_f32(&model.join(name));
        assert_eq!((weight("a.safetensors"), weight("b.onnx"), weight("none")), (24, 100, 0));
    }
}
