//! How do lines become vectors?
//!
//! One line in, one line out, in order, in batches as they come: the memory used does not depend on the input.

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context, Result};
use quiverdb::embed::{Embeddings, NoStatistics, truncate};
use quiverdb::{Embedder, Image};
use serde::Serialize;

use super::args::Embed;
use super::embed_columns;
use super::output::{Output, count, note};
use super::session::{Outcome, Session};
use super::sources;

/// Pictures that are decoded and embedded at a time: those of a phone take 36 MB each.
const BATCH_IMAGES: usize = 8;
/// Lines that are embedded at a time.
const BATCH_LINES: usize = 256;

/// `quiver embed`.
pub(crate) fn run(session: &Session, arguments: &Embed) -> Result<Outcome> {
    let embedder = session.model(&arguments.backend.model(&arguments.model)?)?;
    let embedder = match arguments.dims {
        Some(dims) => truncate(embedder, dims)?,
        None => embedder,
    };
    if arguments.out.is_some() {
        return embed_columns::run(session, arguments, embedder.as_ref());
    }
    if !arguments.images.is_empty() {
        return run_images(&session.output, embedder.as_ref(), &arguments.images);
    }
    let mut lines = Lines { input: std::io::stdin().lock(), damaged: 0 };
    let mut truncated = 0;
    loop {
        let batch = lines.batch().context("reading stdin")?;
        if batch.is_empty() {
            break;
        }
        truncated += print_batch(&session.output, embedder.as_ref(), &batch, arguments.query)?;
    }
    if lines.damaged > 0 {
        note(&format!("{} of invalid UTF-8, read with replacement characters", count(lines.damaged, "line")));
    }
    if truncated > 0 {
        note(&format!(
            "{} cut to the model's limit of {} tokens",
            count(truncated, "line"),
            embedder.spec().max_tokens
        ));
    }
    Ok(Outcome::Done)
}

/// `--image`.
fn run_images(output: &Output, embedder: &dyn Embedder, paths: &[PathBuf]) -> Result<Outcome> {
    let stdin = || std::io::stdin().lock().lines().map(|line| Ok(PathBuf::from(line.context("reading stdin")?)));
    let of_each = |path: &PathBuf| -> Box<dyn Iterator<Item = Result<PathBuf>>> {
        if sources::is_stdin(path) { Box::new(stdin()) } else { Box::new(std::iter::once(Ok(path.clone()))) }
    };
    let mut paths = paths.iter().flat_map(of_each);
    loop {
        let open = |path: Result<PathBuf>| sources::image(&path?);
        let images: Vec<Image> = paths.by_ref().take(BATCH_IMAGES).map(open).collect::<Result<_>>()?;
        if images.is_empty() {
            return Ok(Outcome::Done);
        }
        print_rows(output, &embedder.embed_images(&images)?)?;
    }
}

fn print_rows(output: &Output, embeddings: &Embeddings) -> Result<()> {
    let rows: Vec<Row<'_>> = embeddings.rows().map(|embedding| Row { embedding }).collect();
    output.values(&rows)
}

/// Prints the vectors of a batch; returns how many texts were cut.
fn print_batch(output: &Output, embedder: &dyn Embedder, batch: &[String], query: bool) -> Result<u64> {
    let texts: Vec<&str> = batch.iter().map(String::as_str).collect();
    let embeddings = match query {
        true => embedder.embed_queries(&texts, &NoStatistics)?,
        false => embedder.embed_documents(&texts)?,
    };
    print_rows(output, &embeddings)?;
    Ok(embeddings.truncated as u64)
}

/// A vector as it is printed.
#[derive(Serialize)]
struct Row<'a> {
    embedding: &'a [f32],
}

/// Lines of an input that need not be valid UTF-8.
struct Lines<R> {
    input: R,
    damaged: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next lines; none at the end.
    fn batch(&mut self) -> std::io::Result<Vec<String>> {
        let mut batch = Vec::new();
        let mut bytes = Vec::new();
        while batch.len() < BATCH_LINES && self.input.read_until(b'\n', &mut bytes)? > 0 {
            let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text = String::from_utf8_lossy(line);
            self.damaged += u64::from(matches!(text, std::borrow::Cow::Owned(_)));
            batch.push(text.into_owned());
            bytes.clear();
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_kept_and_damaged_ones_are_counted() -> std::io::Result<()> {
        let mut lines = Lines { input: &b"one\r\n\ntwo \xff\nthree"[..], damaged: 0 };
        assert_eq!(lines.batch()?, ["one", "", "two \u{fffd}", "three"]);
        assert_eq!(lines.damaged, 1);
        assert!(lines.batch()?.is_empty());
        Ok(())
    }

    #[test]
    fn a_batch_is_bounded() -> std::io::Result<()> {
        let input = "x\n".repeat(BATCH_LINES + 1);
        let mut lines = Lines { input: input.as_bytes(), damaged: 0 };
        assert_eq!((lines.batch()?.len(), lines.batch()?.len(), lines.batch()?.len()), (BATCH_LINES, 1, 0));
        Ok(())
    }
}
