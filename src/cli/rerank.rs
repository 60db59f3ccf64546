//! How well do lines answer a query?
//!
//! One line in, one `{"index", "score", "logit"}` out, best first; `index` counts the lines from 0.

use std::io::Read;

use anyhow::{Context, Result};
use quiverdb::rerank;
use serde::Serialize;

use super::args::RerankLines;
use super::output::{count, note};
use super::session::{Mistake, Outcome, Session};

/// A line that was judged.
#[derive(Serialize)]
struct Judged {
    index: usize,
    score: f32,
    logit: f32,
}

/// `quiver rerank`.
pub(crate) fn run(session: &Session, arguments: &RerankLines) -> Result<Outcome> {
    let query = arguments.query.join(" ");
    if query.trim().is_empty() {
        return Err(Mistake::new("the query is empty").hint("ask with at least one word").into());
    }
    let model = rerank::open_with(&arguments.model, &session.runtime)?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).context("reading stdin")?;
    let input = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = input.lines().collect();
    let judgements = rerank::rerank(model.as_ref(), &query, &lines, None)?;
    if lines.is_empty() {
        note("nothing came on stdin: each line is judged");
    }
    let truncated = judgements.iter().filter(|judgement| judgement.truncated).count();
    let judged = |(index, judgement): (usize, rerank::Judgement)| Judged {
        index,
        score: judgement.score,
        logit: judgement.logit,
    };
    let mut judged: Vec<Judged> = judgements.into_iter().enumerate().map(judged).collect();
    judged.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index)));
    session.output.values(&judged)?;
    if truncated > 0 {
        let limit = model.spec().max_tokens;
        note(&format!(
            "{} cut, with the query, to the model's limit of {limit} tokens",
            count(truncated as u64, "line")
        ));
    }
    Ok(Outcome::Done)
}
