//! How good are these rankings? Queries and judgements in, nDCG, recall and MRR out.
//!
//! Invariants: documents are compared by the text of their ids; a document counts once, where it first appears (a
//! ranking may hold several chunks of it); every metric lies in 0..1.
//!
//! It does not search: the caller hands in rankings.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::{Error, Result};

/// Who judged what: the grade of each judged document, by query. Larger is more relevant, 0 is not relevant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Qrels {
    grades: HashMap<String, HashMap<String, f64>>,
}

impl Qrels {
    /// Reads judgements: `query <tab> document <tab> grade` with or without a header line, or TREC's four columns
    /// `query iteration document grade`, which spaces may separate.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::InvalidInput`] with file and line where it is not of
    /// that form, where a document has two grades, or where there is no judgement at all.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_text(path)?, &path.display().to_string())
    }

    /// As [`Qrels::read`], from text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Qrels::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut qrels = Self::default();
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: String| Error::invalid(format!("{name}, line {}: {what}", at + 1));
            let (query, document, grade) = columns(line).map_err(wrong)?;
            match grade.parse::<f64>() {
                Ok(grade) if grade.is_finite() => qrels.insert(query, document, grade).map_err(wrong)?,
                // The first line may be a header.
                Err(_) if at == 0 => {}
                Ok(_) | Err(_) => return Err(wrong(format!("the grade `{grade}` is not a number"))),
            }
        }
        if qrels.grades.is_empty() {
            return Err(Error::invalid(format!(
                "{name} holds no judgement; a line is `query <tab> document <tab> grade`"
            )));
        }
        Ok(qrels)
    }

    /// TREC marks spam with negative grades; they gain nothing either.
    fn insert(&mut self, query: &str, document: &str, grade: f64) -> std::result::Result<(), String> {
        let grade = grade.max(0.0);
        match self.grades.entry(query.to_owned()).or_default().insert(document.to_owned(), grade) {
            Some(before) if before != grade => {
                Err(format!("document `{document}` has grade {before} for query `{query}` above, and {grade} here"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The grades of a query's judged documents.
    pub fn of(&self, query: &str) -> Option<&HashMap<String, f64>> {
        self.grades.get(query)
    }

    /// The number of queries that were judged.
    pub fn queries(&self) -> usize {
        self.grades.len()
    }
}

fn columns(line: &str) -> std::result::Result<(&str, &str, &str), String> {
    let columns: Vec<&str> = match line.contains('\t') {
        true => line.split('\t').map(str::trim).collect(),
        false => line.split_whitespace().collect(),
    };
    match columns[..] {
        [query, document, grade] | [query, _, document, grade] => Ok((query, document, grade)),
        _ => Err(format!("{} columns; there must be 3 (query, document, grade) or TREC's 4", columns.len())),
    }
}

/// The queries of a test set, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queries {
    /// Each query's id and text.
    pub queries: Vec<EvalQuery>,
}

/// One query of a test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvalQuery {
    /// Its id as text, as judgements name it.
    pub id: String,
    /// What is asked.
    pub text: String,
}

impl Queries {
    /// Reads JSON Lines of `{"_id"|"id": ..., "text": ...}`; other keys are ignored.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, [`Error::InvalidInput`] with file and line where it is not of
    /// that form, where an id comes twice, or where there is no query at all.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_text(path)?, &path.display().to_string())
    }

    /// As [`Queries::read`], from text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`Queries::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut queries = Vec::new();
        let mut seen = HashSet::new();
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        for (at, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |what: String| Error::invalid(format!("{name}, line {}: {what}", at + 1));
            let query = query(line).map_err(wrong)?;
            if !seen.insert(query.id.clone()) {
                return Err(wrong(format!("the query id `{}` came before", query.id)));
            }
            queries.push(query);
        }
        if queries.is_empty() {
            return Err(Error::invalid(format!("{name} holds no query; a line is `{{\"_id\": ..., \"text\": ...}}`")));
        }
        Ok(Self { queries })
    }
}

fn query(line: &str) -> std::result::Result<EvalQuery, String> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| format!("not valid JSON (column {})", error.column()))?;
    let id = match value.get("_id").or_else(|| value.get("id")) {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if !id.is_f64() => id.to_string(),
        Some(_) | None => return Err("a query needs `_id`, a string or a whole number".to_owned()),
    };
    let text = value.get("text").and_then(Value::as_str).ok_or("a query needs `text`, a string")?;
    Ok(EvalQuery { id, text: text.to_owned() })
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        Error::invalid(format!("{}, line {line}: not valid UTF-8", path.display()))
    })
}

/// How good one ranking is, or the mean over many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    /// Normalised discounted cumulative gain of the first 10 with linear gains: the sum of `grade / log2(rank + 1)`
    /// over that of the best possible ranking of the judged documents (Järvelin and Kekäläinen, TOIS 2002).
    #[serde(rename = "ndcg@10")]
    pub ndcg_at_10: f64,
    /// The share of the relevant documents (grade above 0) that are among the first 10.
    #[serde(rename = "recall@10")]
    pub recall_at_10: f64,
    /// The same among the first 100.
    #[serde(rename = "recall@100")]
    pub recall_at_100: f64,
    /// One over the rank of the first relevant document among the first 10, else 0.
    #[serde(rename = "mrr@10")]
    pub mrr_at_10: f64,
}

impl Metrics {
    /// Judges one ranking of document ids, best first; `None` where nothing is relevant to the query.
    pub fn of<S: AsRef<str>>(grades: &HashMap<String, f64>, ranking: &[S]) -> Option<Self> {
        let mut ideal: Vec<f64> = grades.values().copied().filter(|grade| *grade > 0.0).collect();
        let relevant = ideal.len();
        if relevant == 0 {
            return None;
        }
        ideal.sort_by(|a, b| b.total_cmp(a));
        let mut seen = HashSet::new();
        let gains: Vec<f64> = ranking
            .iter()
            .map(AsRef::as_ref)
            .filter(|document| seen.insert(*document))
            .map(|document| grades.get(document).copied().unwrap_or(0.0))
            .collect();
        let found =
            |depth: usize| gains.iter().take(depth).filter(|gain| **gain > 0.0).count() as f64 / relevant as f64;
        let first = gains.iter().take(10).position(|gain| *gain > 0.0);
        Some(Self {
            ndcg_at_10: discounted(&gains) / discounted(&ideal),
            recall_at_10: found(10),
            recall_at_100: found(100),
            mrr_at_10: first.map_or(0.0, |at| 1.0 / (at + 1) as f64),
        })
    }

    fn add(&mut self, other: &Self) {
        let Self { ndcg_at_10, recall_at_10, recall_at_100, mrr_at_10 } = other;
        self.ndcg_at_10 += ndcg_at_10;
        self.recall_at_10 += recall_at_10;
        self.recall_at_100 += recall_at_100;
        self.mrr_at_10 += mrr_at_10;
    }
}

/// The discounted cumulative gain of the first 10.
fn discounted(gains: &[f64]) -> f64 {
    gains.iter().take(10).enumerate().map(|(at, gain)| gain / ((at + 2) as f64).log2()).sum()
}

/// The mean over the queries asked that have at least one relevant document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many such queries there were.
    pub queries: usize,
    /// The mean of each metric; all 0 where there was no such query.
    #[serde(flatten)]
    pub mean: Metrics,
}

impl Evaluation {
    /// Judges rankings, each with its query's id. A query that nobody judged, or to which nothing is relevant, is left
    /// out; one whose ranking is empty counts with zeros.
    pub fn of<'a, S: AsRef<str> + 'a>(qrels: &Qrels, rankings: impl IntoIterator<Item = (&'a str, &'a [S])>) -> Self {
        let mut evaluation = Self::default();
        for (query, ranking) in rankings {
            if let Some(metrics) = qrels.of(query).and_then(|grades| Metrics::of(grades, ranking)) {
                evaluation.queries += 1;
                evaluation.mean.add(&metrics);
            }
        }
        let count = evaluation.queries.max(1) as f64;
        let Metrics { ndcg_at_10, recall_at_10, recall_at_100, mrr_at_10 } = &mut evaluation.mean;
        for value in [ndcg_at_10, recall_at_10, recall_at_100, mrr_at_10] {
            *value /= count;
        }
        evaluation
    }
}

/// The smallest of the values that at least `percent` percent of them do not exceed (nearest rank); `None` of none.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn grades(grades: &[(&str, f64)]) -> HashMap<String, f64> {
        grades.iter().map(|(document, grade)| ((*document).to_owned(), *grade)).collect()
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }

    #[test]
    fn metrics_are_those_computed_by_hand() {
        let grades = grades(&[("a", 2.0), ("b", 1.0), ("c", 1.0), ("d", 0.0)]);
        let metrics = Metrics::of(&grades, &["d", "a", "x", "b"]).unwrap();
        let dcg = 2.0 / 3.0_f64.log2() + 1.0 / 5.0_f64.log2();
        let ideal = 2.0 + 1.0 / 3.0_f64.log2() + 1.0 / 2.0;
        near(metrics.ndcg_at_10, dcg / ideal);
        near(metrics.ndcg_at_10, 0.540_585_767_945);
        near(metrics.recall_at_10, 2.0 / 3.0);
        near(metrics.mrr_at_10, 0.5);
    }

    #[test]
    fn the_ideal_ranking_scores_one() {
        let grades = grades(&[("a", 3.0), ("b", 1.0)]);
        let metrics = Metrics::of(&grades, &["a", "b", "c"]).unwrap();
        assert_eq!(metrics, Metrics { ndcg_at_10: 1.0, recall_at_10: 1.0, recall_at_100: 1.0, mrr_at_10: 1.0 });
    }

    #[test]
    fn a_document_counts_once_where_it_first_appears() {
        let grades = grades(&[("a", 1.0), ("b", 1.0)]);
        let twice = Metrics::of(&grades, &["a", "a", "b"]).unwrap();
        assert_eq!(twice, Metrics::of(&grades, &["a", "b"]).unwrap());
    }

    #[test]
    fn ranks_beyond_the_cut_count_nothing() {
        let grades = grades(&[("a", 1.0)]);
        let mut ranking: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        ranking.push("a".to_owned());
        let metrics = Metrics::of(&grades, &ranking).unwrap();
        assert_eq!(metrics, Metrics { recall_at_100: 1.0, ..Metrics::default() });
    }

    #[test]
    fn the_ideal_of_many_relevant_documents_is_cut_at_ten() {
        let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let grades: HashMap<String, f64> = names.iter().map(|name| (name.clone(), 1.0)).collect();
        let metrics = Metrics::of(&grades, &names[..10]).unwrap();
        near(metrics.ndcg_at_10, 1.0);
        near(metrics.recall_at_10, 0.5);
    }

    #[test]
    fn the_mean_is_over_queries_with_something_relevant() {
        let qrels = Qrels::parse("q1\ta\t1\nq2\ta\t0\nq3\tb\t1\n", "f").unwrap();
        let (hit, miss) = (["a"], ["x"]);
        let rankings: [(&str, &[&str]); 4] = [("q1", &hit), ("q2", &hit), ("q3", &miss), ("unjudged", &hit)];
        let evaluation = Evaluation::of(&qrels, rankings);
        assert_eq!(evaluation.queries, 2);
        near(evaluation.mean.ndcg_at_10, 0.5);
        let json = serde_json::to_value(evaluation).unwrap();
        assert_eq!(json["ndcg@10"], 0.5);
        assert_eq!(json["queries"], 2);
    }

    #[test]
    fn no_queries_give_zeros() {
        let qrels = Qrels::parse("q1\ta\t1", "f").unwrap();
        assert_eq!(Evaluation::of::<String>(&qrels, []), Evaluation::default());
    }

    #[test]
    fn judgements_are_read_in_all_forms() {
        let plain = Qrels::parse("q 1\td1\t2\nq 1\td2\t0\n", "f").unwrap();
        let header =
            Qrels::parse("\u{feff}query-id\tcorpus-id\tscore\r\nq 1\td1\t2\r\n\r\nq 1\td2\t-1\r\n", "f").unwrap();
        assert_eq!(plain, header);
        assert_eq!(plain.of("q 1").unwrap(), &grades(&[("d1", 2.0), ("d2", 0.0)]));
        let trec = Qrels::parse("7 0 d1 1\n8\t0\td2\t1\n", "f").unwrap();
        assert_eq!(trec.of("7").unwrap(), &grades(&[("d1", 1.0)]));
        assert_eq!(trec.of("8").unwrap(), &grades(&[("d2", 1.0)]));
        assert_eq!(trec.queries(), 2);
    }

    #[test]
    fn bad_judgements_name_file_and_line() {
        let message = |text: &str| Qrels::parse(text, "q.tsv").unwrap_err().to_string();
        assert_eq!(message("a\tb\t1\na\tc\tgood\n"), "q.tsv, line 2: the grade `good` is not a number");
        assert!(message("a b\n").starts_with("q.tsv, line 1: 2 columns; "));
        assert!(message("a\tb\t1\na\tb\t2").starts_with("q.tsv, line 2: document `b` has grade 1 for query `a`"));
        assert!(message("q\td\tscore\n").starts_with("q.tsv holds no judgement"));
        assert!(message("a\tb\tNaN\n").ends_with("`NaN` is not a number"));
    }

    #[test]
    fn queries_are_read_with_either_id() {
        let text = "{\"_id\": \"a\", \"text\": \"x\"}\n\n{\"id\": 7, \"text\": \"y\", \"metadata\": {}}\n";
        let queries = Queries::parse(text, "f").unwrap().queries;
        let pairs: Vec<(&str, &str)> = queries.iter().map(|query| (query.id.as_str(), query.text.as_str())).collect();
        assert_eq!(pairs, [("a", "x"), ("7", "y")]);
    }

    #[test]
    fn bad_queries_name_file_and_line() {
        let message = |text: &str| Queries::parse(text, "q.jsonl").unwrap_err().to_string();
        assert_eq!(message("{\"_id\":1,\"text\":\"\"}\n{"), "q.jsonl, line 2: not valid JSON (column 1)");
        assert_eq!(message("{\"text\":\"\"}"), "q.jsonl, line 1: a query needs `_id`, a string or a whole number");
        assert_eq!(message("{\"_id\":1}"), "q.jsonl, line 1: a query needs `text`, a string");
        assert!(message("{\"_id\":1,\"text\":\"\"}\n{\"_id\":\"1\",\"text\":\"\"}").contains("came before"));
        assert!(message("\n").starts_with("q.jsonl holds no query"));
    }

    #[test]
    fn files_that_are_missing_or_no_text_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.tsv");
        assert!(matches!(Qrels::read(&path), Err(Error::Io { path: named, .. }) if named == path));
        std::fs::write(&path, b"a\tb\t1\n\xff").unwrap();
        assert!(Qrels::read(&path).unwrap_err().to_string().ends_with("q.tsv, line 2: not valid UTF-8"));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&values, 50.0), Some(3.0));
        assert_eq!(percentile(&values, 95.0), Some(5.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[7.0], 50.0), Some(7.0));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
