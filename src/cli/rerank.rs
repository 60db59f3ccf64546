//! How well do lines answer a query?
//!
//! One line in, one `{"index", "score", "logit"}` out, best first; `index` counts the lines from 0. A person at a terminal
//! gets a table of the lines themselves; pipes and files get JSON with or without `--json`. Blank lines are not judged.

use std::io::Read;

use anyhow::{Context, Result};
use quiverdb::rerank::{self, Judgement};
use serde::Serialize;

use super::args::RerankLines;
use super::output::{Table, count, note, thousands};
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
    let all = input.lines().enumerate();
    let (lines, blank): (Vec<(usize, &str)>, Vec<_>) = all.partition(|(_, line)| !line.trim().is_empty());
    let texts: Vec<&str> = lines.iter().map(|&(_, line)| line).collect();
    let judgements = rerank::rerank(model.as_ref(), &query, &texts, None)?;
    match (lines.is_empty(), blank.len() as u64) {
        (true, 0) => note("nothing came on stdin: each line is judged"),
        (_, 0) => {}
        (_, blank) => note(&format!("{} left out: there is nothing to judge", count(blank, "blank line"))),
    }
    let truncated = judgements.iter().filter(|judgement| judgement.truncated).count();
    let judged = |((index, line), judgement): (&(usize, &str), &Judgement)| {
        let Judgement { score, logit, .. } = *judgement;
        (Judged { index: *index, score, logit }, (*line).to_owned())
    };
    let mut judged: Vec<(Judged, String)> = lines.iter().zip(&judgements).map(judged).collect();
    judged.sort_by(|(a, _), (b, _)| b.logit.total_cmp(&a.logit).then(a.index.cmp(&b.index)));
    if session.output.is_terminal() {
        session.output.text(&table(&judged, session.output.width()))?;
    } else {
        session.output.values(&judged.iter().map(|(judged, _)| judged).collect::<Vec<_>>())?;
    }
    if truncated > 0 {
        let limit = model.spec().max_tokens;
        note(&format!(
            "{} cut, with the query, to the model's limit of {limit} tokens",
            count(truncated as u64, "line")
        ));
    }
    Ok(Outcome::Done)
}

/// The lines for people, best first, as much of each as fits in `width` columns.
fn table(judged: &[(Judged, String)], width: usize) -> String {
    /// What the other columns and the gaps take.
    const OTHERS: usize = 30;
    let mut table = Table::new(&[">score", ">logit", ">line", "text"]);
    for (Judged { index, score, logit }, line) in judged {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (text, room) = (words.join(" "), width.saturating_sub(OTHERS).max(10));
        let shown = match text.char_indices().nth(room) {
            Some(_) => text.chars().take(room - 1).chain(['…']).collect(),
            None => text,
        };
        table.row([format!("{score:.3}"), format!("{logit:.2}"), thousands(*index as u64), shown]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_the_lines_that_were_judged() {
        let line = |index, logit: f32, text: &str| {
            let Judgement { score, logit, .. } = Judgement::of_logit(logit);
            (Judged { index, score, logit }, text.to_owned())
        };
        let shown = table(&[line(2, 3.0, "the\triver  boat"), line(0, -3.0, "a \u{1b}[31mlong line indeed")], 40);
        let plain = anstream::adapter::strip_str(&shown).to_string();
        let wanted =
            "score  logit  line  text\n0.953   3.00     2  the river…\n0.047  -3.00     0  a \u{fffd}[31mlo…\n";
        assert_eq!(plain, wanted);
    }
}
