//! How does a collection go into a file, and what is said about it?

use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;
use quiverdb::ExportReport;
use quiverdb::export::{ExportFormat, ExportOptions};

use super::args::{Export, FormatName};
use super::output::{count, duration, note, size};
use super::progress;
use super::session::{self, Outcome, Session};

/// Bytes of a stream that wait to be written.
const BUFFER: usize = 1 << 16;

/// `quiver export`.
pub(crate) fn run(session: &Session, arguments: &Export) -> Result<Outcome> {
    let is_stream = arguments.out == Path::new("-");
    let format = match arguments.format {
        Some(format) => Some(format.of(is_stream)),
        // A mistyped name is said before the database is opened.
        None if is_stream => None,
        None => Some(ExportFormat::of(&arguments.out)?),
    };
    if !is_stream && !arguments.overwrite {
        session::expect_none(&arguments.out)?;
    }
    let snapshot = session.collection(&arguments.target.collection)?.snapshot()?;
    let spinner = progress::spinner("looking through the documents");
    let cancel = progress::stop_on_ctrl_c();
    let show = |report: &ExportReport| spinner.set_message(so_far(report));
    let options = ExportOptions {
        chunks: arguments.chunks,
        vectors: arguments.vectors,
        space: arguments.space.clone(),
        filter: arguments.filter.clone(),
        format,
        overwrite: arguments.overwrite,
        progress: Some(&show),
        cancel: Some(cancel),
    };
    let report = match is_stream {
        true => snapshot.export_to(BufWriter::with_capacity(BUFFER, std::io::stdout()), &options),
        false => snapshot.export(&arguments.out, &options),
    };
    spinner.finish_and_clear();
    let report = report?;
    if report.cancelled {
        note(if is_stream { "stopped; the stream is not whole" } else { "stopped; no file was written" });
        return Ok(Outcome::Interrupted);
    }
    match is_stream {
        true => note(&describe(&report)),
        false => session.output.show(&report, std::slice::from_ref(&report), || {
            format!("{}: {}", arguments.out.display(), describe(&report))
        })?,
    }
    Ok(Outcome::Done)
}

impl FormatName {
    fn of(self, is_stream: bool) -> ExportFormat {
        match (self, is_stream) {
            (Self::Parquet, _) => ExportFormat::Parquet,
            (Self::Arrow, true) => ExportFormat::ArrowStream,
            (Self::Arrow, false) => ExportFormat::Arrow,
            (Self::Jsonl, _) => ExportFormat::JsonLines,
            (Self::Csv, _) => ExportFormat::Csv,
            (Self::Tsv, _) => ExportFormat::Tsv,
        }
    }
}

fn so_far(report: &ExportReport) -> String {
    count(report.rows, "row")
}

/// The report as a sentence.
fn describe(report: &ExportReport) -> String {
    let ExportReport { documents, rows, bytes, columns, seconds, .. } = report;
    let mut sentence = count(*documents, "document");
    if rows != documents {
        sentence += &format!(" in {}", count(*rows, "row"));
    }
    if !columns.is_empty() {
        sentence += &format!(", {}", count(columns.len() as u64, "column"));
    }
    if *bytes > 0 {
        sentence += &format!(", {}", size(*bytes));
    }
    format!("{sentence}; {}", duration(seconds * 1e3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_a_sentence() {
        let mut report = ExportReport { documents: 2, rows: 2, seconds: 0.5, ..ExportReport::default() };
        assert_eq!(describe(&report), "2 documents; 500 ms");
        (report.rows, report.bytes) = (7, 1_500);
        assert_eq!(describe(&report), "2 documents in 7 rows, 1.5 kB; 500 ms");
    }
}
