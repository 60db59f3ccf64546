//! What does the teacher say about every sentence?
//!
//! An encoder takes minutes where training takes seconds, so its vectors can be kept in a file: `QVTC`, format and
//! dims (4 bytes each, little-endian), then records of 16 bytes of the sentence's SHA-256 and the vector as f32. The
//! first record is that of a fixed sentence, by which a file of another teacher is told apart. Records are appended
//! block by block: what was interrupted goes on where it stopped.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::distill::{DistillProgress, Teacher};
use super::linear::{dot, normalize_rows};
use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"QVTC";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 12;
const KEY_BYTES: usize = 16;
/// Sentences given to the teacher at once: enough for it to sort by length, few enough to show progress.
const BLOCK: usize = 2048;
const PROBE: &str = "The quick brown fox jumps over the lazy dog.";
/// Two engines running one model agree far better, two models far worse.
const PROBE_COSINE_MIN: f32 = 0.999;

type Key = [u8; KEY_BYTES];

/// The teacher's vectors of all sentences, of unit length, row-major; from the file where they are there.
pub(super) fn sentence_vectors(
    teacher: &dyn Teacher,
    sentences: &[&str],
    file: Option<&Path>,
    progress: &mut dyn FnMut(DistillProgress),
) -> Result<(Vec<f32>, usize)> {
    let probe = ask(teacher, &[PROBE])?;
    let dims = probe.len();
    let mut known = match file {
        Some(path) => Known::open(path, &probe)?,
        None => Known { vectors: HashMap::new(), file: None },
    };
    let keys: Vec<Key> = sentences.iter().map(|sentence| key(sentence)).collect();
    let mut asked = HashSet::new();
    let is_missing = |&at: &usize| !known.vectors.contains_key(&keys[at]) && asked.insert(keys[at]);
    let missing: Vec<usize> = (0..sentences.len()).filter(is_missing).collect();
    let mut done = sentences.len() - missing.len();
    for block in missing.chunks(BLOCK) {
        progress(DistillProgress::Sentences { done, total: sentences.len() });
        let texts: Vec<&str> = block.iter().map(|&at| sentences[at]).collect();
        known.add(block.iter().map(|&at| keys[at]), &ask(teacher, &texts)?, dims)?;
        done += block.len();
    }
    progress(DistillProgress::Sentences { done, total: sentences.len() });
    let mut vectors = Vec::with_capacity(sentences.len() * dims);
    keys.iter().for_each(|key| vectors.extend_from_slice(&known.vectors[key]));
    Ok((vectors, dims))
}

/// The teacher's vectors at unit length, checked.
fn ask(teacher: &dyn Teacher, texts: &[&str]) -> Result<Vec<f32>> {
    let answer = teacher.embed_sentences(texts)?;
    if answer.dims == 0 || answer.values.len() != texts.len() * answer.dims {
        let (rows, wanted) = (answer.values.len() / answer.dims.max(1), texts.len());
        return Err(Error::Embedding(format!("the teacher gave {rows} vectors for {wanted} sentences")));
    }
    let mut values = answer.values;
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::Embedding("the teacher gave a vector that holds NaN or infinity".into()));
    }
    normalize_rows(&mut values, answer.dims);
    Ok(values)
}

fn key(sentence: &str) -> Key {
    let digest = Sha256::digest(sentence);
    std::array::from_fn(|at| digest[at])
}

/// Vectors by sentence, and the file that grows with them.
struct Known {
    vectors: HashMap<Key, Vec<f32>>,
    file: Option<(File, std::path::PathBuf)>,
}

impl Known {
    /// Opens or begins the file of the teacher with this probe vector.
    fn open(path: &Path, probe: &[f32]) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let mut known = Self { vectors: HashMap::new(), file: None };
        let whole = known.read(&bytes, probe).map_err(|reason| Error::model(path.display().to_string(), reason))?;
        file.set_len(whole as u64).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        if whole == 0 {
            file.write_all(&header(probe.len())).map_err(io)?;
        }
        known.file = Some((file, path.to_owned()));
        if known.vectors.is_empty() {
            known.add(std::iter::once(key(PROBE)), probe, probe.len())?;
        }
        Ok(known)
    }

    /// Takes in a file's whole records; returns the length up to which it is sound.
    fn read(&mut self, bytes: &[u8], probe: &[f32]) -> std::result::Result<usize, String> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if !bytes.starts_with(&header(probe.len())) {
            return Err(format!("it keeps no vectors of {} dimensions: give another file", probe.len()));
        }
        let (records, rest) = bytes[HEADER_BYTES..].as_chunks::<4>();
        let numbers_of_record = KEY_BYTES / 4 + probe.len();
        for record in records.chunks_exact(numbers_of_record) {
            let (key, vector) = record.split_at(KEY_BYTES / 4);
            let key = key.as_flattened().try_into().map_err(|_| "a key of another length".to_owned())?;
            self.vectors.insert(key, vector.iter().map(|&four| f32::from_le_bytes(four)).collect());
        }
        match self.vectors.get(&key(PROBE)) {
            Some(kept) if dot(kept, probe) < PROBE_COSINE_MIN => {
                Err("it keeps the vectors of another teacher: give another file".into())
            }
            None if !self.vectors.is_empty() => Err("it does not say whose vectors it keeps: give another file".into()),
            Some(_) | None => Ok(bytes.len() - rest.len() - records.len() % numbers_of_record * 4),
        }
    }

    fn add(&mut self, keys: impl Iterator<Item = Key>, vectors: &[f32], dims: usize) -> Result<()> {
        let mut bytes = Vec::new();
        for (key, vector) in keys.zip(vectors.chunks_exact(dims)) {
            bytes.extend_from_slice(&key);
            bytes.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
            self.vectors.insert(key, vector.to_vec());
        }
        match &mut self.file {
            Some((file, path)) => file.write_all(&bytes).map_err(|source| Error::io(path.as_path(), source)),
            None => Ok(()),
        }
    }
}

fn header(dims: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    header[8..].copy_from_slice(&(dims as u32).to_le_bytes());
    header
}
