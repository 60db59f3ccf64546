//! How does a table get a column of vectors?
//!
//! Files of Parquet or Arrow, or streams of Arrow on stdin and stdout: what a job of Spark or Ray pipes through.

use anyhow::Result;
use quiverdb::Embedder;

use super::args::Embed;
use super::session::{Outcome, Session};

#[cfg(not(feature = "parquet"))]
pub(crate) fn run(_: &Session, _: &Embed, _: &dyn Embedder) -> Result<Outcome> {
    let what = "embedding tables".to_owned();
    Err(quiverdb::Error::FeatureMissing { what, feature: "parquet" }.into())
}

/// `quiver embed --in IN --out OUT`, and `--out OUT` alone, which reads lines.
#[cfg(feature = "parquet")]
pub(crate) fn run(session: &Session, arguments: &Embed, embedder: &dyn Embedder) -> Result<Outcome> {
    use std::io::{BufReader, BufWriter, stdin, stdout};
    use std::path::Path;

    use quiverdb::export::{EmbedTable, TableSource, TableTarget, embed_table};

    let dash = Path::new("-");
    let source = match &arguments.input {
        None => TableSource::Lines(Box::new(BufReader::new(stdin()))),
        Some(path) if path == dash => TableSource::Stream(Box::new(stdin())),
        Some(path) => TableSource::File(path.clone()),
    };
    let out = arguments.out.as_deref().unwrap_or(dash);
    let target = match out {
        path if path == dash => TableTarget::Stream(Box::new(BufWriter::with_capacity(1 << 16, stdout()))),
        path if arguments.overwrite => TableTarget::File(path.to_owned()),
        path => {
            super::session::expect_none(path)?;
            TableTarget::File(path.to_owned())
        }
    };
    let options = EmbedTable {
        text: text_column(arguments.map.as_deref())?,
        column: arguments.column.clone(),
        queries: arguments.query,
        overwrite: arguments.overwrite,
    };
    let report = embed_table(source, target, embedder, &options)?;
    tell(session, out == dash, &report, embedder)?;
    Ok(if report.without > 0 { Outcome::Partly } else { Outcome::Done })
}

/// The report: a result where the table went into a file, and else a remark.
#[cfg(feature = "parquet")]
fn tell(
    session: &Session,
    is_stream: bool,
    report: &quiverdb::export::EmbedTableReport,
    embedder: &dyn Embedder,
) -> Result<()> {
    use super::output::{Format, count, note};

    let mut sentence = format!("{}, {} embedded", count(report.rows, "row"), report.embedded);
    if report.without > 0 {
        let blank = report.without - report.failed;
        sentence += &format!("; {} without a vector: {blank} without text", report.without);
        if let Some(failure) = &report.failure {
            sentence += &format!(", {} on which the model failed ({failure})", report.failed);
        }
    }
    if report.truncated > 0 {
        let limit = embedder.spec().max_tokens;
        sentence += &format!("; {} cut to the model's limit of {limit} tokens", count(report.truncated, "text"));
    }
    match is_stream {
        true if session.output.format == Format::People => note(&sentence),
        true => note(&serde_json::to_string(report)?),
        false => session.output.show(report, std::slice::from_ref(report), || sentence)?,
    }
    Ok(())
}

/// `text=COLUMN`.
#[cfg(feature = "parquet")]
fn text_column(map: Option<&str>) -> Result<Option<String>, super::session::Mistake> {
    let Some(map) = map else { return Ok(None) };
    match map.split_once('=') {
        Some((role, column)) if role.trim() == "text" && !column.is_empty() => Ok(Some(column.trim().to_owned())),
        Some(_) | None => {
            let message = format!("--map `{map}` does not say which column is the text");
            Err(super::session::Mistake::new(message).hint("write --map text=COLUMN"))
        }
    }
}
