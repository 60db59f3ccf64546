//! How does a collection change its model or its chunks, and what is said about it?

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use quiverdb::reembed::ReembedOutcome;
use quiverdb::{ReembedOptions, ReembedReport};
use serde_json::json;

use super::args::Reembed;
use super::output::{count, duration, note, thousands};
use super::progress;
use super::session::{Mistake, Outcome, Session};

/// `quiver reembed`.
pub(crate) fn run(session: &Session, arguments: &Reembed) -> Result<Outcome> {
    let collection = session.collection(&arguments.target.collection)?;
    if arguments.abort {
        let aborted = collection.abort_reembed()?;
        let value = json!({"aborted": aborted});
        session.output.show(&value, std::slice::from_ref(&value), || match aborted {
            true => "dropped what was done; the collection is as it was".into(),
            false => "there was nothing unfinished".to_owned(),
        })?;
        return Ok(Outcome::Done);
    }
    let cancel = progress::stop_on_ctrl_c();
    let bar = progress::steps(0, "re-embedding");
    let begun = AtomicBool::new(false);
    let show = |report: &ReembedReport| {
        bar.set_length(report.documents_total.max(report.documents));
        if !begun.swap(true, Ordering::Relaxed) {
            // What an earlier run did says nothing of the time that is left.
            bar.set_position(report.documents_before);
            bar.reset_eta();
        }
        bar.set_position(report.documents);
        bar.set_message(rate(report));
    };
    let options = options(arguments)?.progress(&show).cancel(cancel);
    let report = collection.reembed(&options);
    bar.finish_and_clear();
    let report = report?;
    session.output.show(&report, std::slice::from_ref(&report), || describe(&report))?;
    if report.outcome != ReembedOutcome::Stopped {
        return Ok(Outcome::Done);
    }
    note("stopped; the old model answers. `quiver reembed` goes on, `quiver reembed --abort` drops what was done");
    Ok(Outcome::Interrupted)
}

fn options(arguments: &Reembed) -> Result<ReembedOptions<'static>> {
    let Reembed { model, backend, dims, space, keep_old, rechunk, dry_run, .. } = arguments;
    let mut options = ReembedOptions::new().dry_run(*dry_run);
    match model {
        Some(model) => options = options.model(backend.model(model)?),
        None if backend.is_given() => {
            let mistake = Mistake::new("--backend says what runs --model, and there is none");
            return Err(mistake.hint("name a directory with --model").into());
        }
        None => {}
    }
    if let Some(dims) = dims {
        options = options.dimensions(*dims);
    }
    if let Some(space) = space {
        options = options.space(space);
    }
    if let Some(name) = keep_old {
        options = options.keep_old(name);
    }
    if *rechunk {
        options = options.rechunk();
    }
    if arguments.force {
        options = options.force();
    }
    if let Some(tokens) = arguments.chunk_tokens {
        options = options.chunk_tokens(tokens);
    }
    if let Some(tokens) = arguments.chunk_overlap {
        options = options.chunk_overlap(tokens);
    }
    Ok(match arguments.chunker {
        Some(chunker) => options.chunker(chunker),
        None => options,
    })
}

fn rate(report: &ReembedReport) -> String {
    let a_second = report.chunks_embedded as f64 / report.seconds.max(1e-3);
    format!("re-embedding, {} passages/s", thousands(a_second as u64))
}

/// The report as a sentence.
fn describe(report: &ReembedReport) -> String {
    let ReembedReport { outcome, collection, model_before, model, dims, chunk_tokens, documents, .. } = report;
    let made = format!("model {model} ({dims} dimensions), chunks of {chunk_tokens} tokens");
    let documents_of = format!("{} of {}", thousands(*documents), count(report.documents_total, "document"));
    match outcome {
        ReembedOutcome::Unchanged => format!("`{collection}` is so already: {made}; nothing to do (--force does it)"),
        ReembedOutcome::Planned => format!(
            "would be: {made}; {documents_of} done; about {}, {} to embed, now of {model_before}",
            count(report.chunks, "passage"),
            thousands(report.chunks_embedded)
        ),
        ReembedOutcome::Done => format!("`{collection}` now has {made}; {}{}", worked(report), kept(report)),
        ReembedOutcome::Stopped => format!("{documents_of} done; {}", worked(report)),
    }
}

fn worked(report: &ReembedReport) -> String {
    let mut parts = vec![format!("{} embedded", count(report.chunks_embedded, "passage"))];
    let further = [
        (report.chunks_reused, "reused"),
        (report.chunks_cached, "from the cache"),
        (report.texts_truncated, "cut to the model's limit"),
        (report.vectors_replaced, "vectors of documents replaced"),
        (report.documents_followed, "documents written meanwhile"),
    ];
    parts.extend(further.iter().filter(|(number, _)| *number > 0).map(|(n, what)| format!("{} {what}", thousands(*n))));
    format!("{}; {}", parts.join(", "), duration(report.seconds * 1e3))
}

fn kept(report: &ReembedReport) -> String {
    let kept = report.kept_as.as_ref();
    kept.map_or(String::new(), |name| format!("; the old vectors are space `{name}`: search --space {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_a_sentence() {
        let mut report = ReembedReport {
            outcome: ReembedOutcome::Done,
            collection: "notes".into(),
            model: "m".into(),
            dims: 8,
            chunk_tokens: 64,
            chunks_embedded: 1_200,
            kept_as: Some("previous".into()),
            seconds: 1.24,
            ..ReembedReport::default()
        };
        let expected = "`notes` now has model m (8 dimensions), chunks of 64 tokens; 1,200 passages embedded; 1.2 s; the \
                        old vectors are space `previous`: search --space previous";
        assert_eq!(describe(&report), expected);
        report.outcome = ReembedOutcome::Unchanged;
        assert!(describe(&report).ends_with("nothing to do (--force does it)"));
    }
}
