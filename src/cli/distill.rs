//! How is a static model made from an encoder and a corpus?
//!
//! The corpus is JSONL of `{"text", "source"?}`; sources are drawn from evenly. The table is written whole or not at
//! all, and says what it was made of, without any path of this machine.

use anyhow::Result;

use super::args::Distill;
use super::session::{Outcome, Session};

/// `quiver models distill`.
#[cfg(not(feature = "candle"))]
pub(crate) fn run(_: &Session, _: &Distill) -> Result<Outcome> {
    Err(quiverdb::Error::FeatureMissing { what: "`quiver models distill`".into(), feature: "candle" }.into())
}

/// `quiver models distill`.
#[cfg(feature = "candle")]
pub(crate) fn run(session: &Session, arguments: &Distill) -> Result<Outcome> {
    candle::run(session, arguments)
}

#[cfg(feature = "candle")]
mod candle {
    use std::ffi::OsStr;
    use std::path::Path;
    use std::time::Instant;

    use anyhow::{Context, Result};
    use indicatif::ProgressBar;
    use quiverdb::embed::builtin::{DistillOptions, DistillProgress, Provenance, distill, sentences};
    use quiverdb::embed::transformer::Transformer;
    use serde::Deserialize;
    use serde_json::json;

    use super::super::args::Distill;
    use super::super::output::{count, duration, note, size, thousands};
    use super::super::progress;
    use super::super::session::{Mistake, Outcome, Session};
    use super::super::sources;

    /// A text to learn from.
    #[derive(Deserialize)]
    struct Passage {
        text: String,
        #[serde(default)]
        source: String,
    }

    pub(super) fn run(session: &Session, arguments: &Distill) -> Result<Outcome> {
        let start = Instant::now();
        let encoder = Transformer::open(&arguments.encoder)?;
        let passages: Vec<Passage> = sources::rows(&arguments.texts)?;
        if passages.is_empty() {
            let message = format!("{} holds no texts", arguments.texts.display());
            return Err(Mistake::new(message).hint("each line is {\"text\", \"source\"?}").into());
        }
        let texts = passages.iter().map(|passage| (passage.source.as_str(), passage.text.as_str()));
        let sample = sentences(texts, arguments.sentences, arguments.seed);
        let (pieces, of) = (count(sample.len() as u64, "piece"), count(passages.len() as u64, "text"));
        note(&format!("learning from {pieces} of {of}"));
        let options = options(arguments, &format!("{pieces} of {of}"));
        let bar = progress::steps(0, "");
        let table = distill(&encoder, &sample, &options, &mut |progress| show(&bar, progress));
        bar.finish_and_clear();
        let table = table?;
        let bytes = table.to_bytes();
        write(&arguments.out, &bytes)?;
        report(session, arguments, table.tokens().len(), bytes.len(), start.elapsed().as_secs_f64())
    }

    fn options(arguments: &Distill, corpus: &str) -> DistillOptions {
        let Distill { encoder, out, texts: _, dims, sentences, epochs, batch, learning_rate, seed, cache, .. } =
            arguments;
        // Names, not paths: the model is given to others.
        let name = |path: &Path, name: Option<&OsStr>| {
            name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
        };
        let stem = || name(out, out.file_stem());
        let folder = || encoder.canonicalize().map_or_else(|_| "unknown".into(), |path| name(&path, path.file_name()));
        let made_with = format!(
            "quiver models distill --dims {dims} --sentences {sentences} --epochs {epochs} --batch {batch} \
             --learning-rate {learning_rate} --seed {seed}; {corpus}"
        );
        DistillOptions {
            dims: *dims,
            sentences_max: *sentences,
            epochs: *epochs,
            batch: *batch,
            learning_rate: *learning_rate,
            seed: *seed,
            teacher_cache: cache.clone(),
            provenance: Provenance {
                name: arguments.name.clone().unwrap_or_else(stem),
                teacher: arguments.teacher.clone().unwrap_or_else(folder),
                licence: arguments.licence.clone(),
                made_with,
            },
        }
    }

    fn show(bar: &ProgressBar, progress: DistillProgress) {
        let (message, done, total) = match progress {
            DistillProgress::Tokens { done, total } => ("the encoder reads tokens".to_owned(), done, total),
            DistillProgress::Sentences { done, total } => ("the encoder reads sentences".to_owned(), done, total),
            DistillProgress::Training { epoch, epochs, loss } => (format!("training, loss {loss:.4}"), epoch, epochs),
            _ => ("working".to_owned(), 0, 0),
        };
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(message);
    }

    /// Under another name first, so that no half of a table is ever found under the right one.
    fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = Path::new(&name);
        std::fs::write(partial, bytes).with_context(|| partial.display().to_string())?;
        std::fs::rename(partial, path).with_context(|| path.display().to_string())
    }

    fn report(session: &Session, arguments: &Distill, tokens: usize, bytes: usize, seconds: f64) -> Result<Outcome> {
        let out = arguments.out.display().to_string();
        let report = json!({"out": out, "tokens": tokens, "dims": arguments.dims, "bytes": bytes, "seconds": seconds});
        session.output.show(&report, std::slice::from_ref(&report), || {
            let (tokens, bytes, took) = (thousands(tokens as u64), size(bytes as u64), duration(seconds * 1e3));
            format!("{out}: {tokens} tokens of {} dimensions, {bytes}, in {took}", arguments.dims)
        })?;
        Ok(Outcome::Done)
    }
}
