//! Which chunks satisfy a query of the syntax, and how do they score?
//!
//! Words, prefixes and fuzzy words become sets of chunks out of the index. Of a phrase the index knows the chunks that hold
//! all its terms, which may satisfy it; so the query as a whole has chunks that satisfy it whatever the phrases say, and
//! chunks that might, and only the texts of the latter are looked at.
//!
//! A word or phrase that is asked for scores as its terms do in any other query; a prefix or a fuzzy word as one term, which
//! occurs where those that it stands for do: their occurrences in a chunk are summed, and its frequency is the number of
//! chunks that hold one of them.
//!
//! Invariants: sets and scores depend on the live chunks alone, not on what is sealed; every chunk found has a score.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use roaring::RoaringBitmap;

use super::bm25::{Tally, document_frequency};
use super::pattern::Near;
use super::phrase::{Phrase, Places, whole_words, words};
use super::syntax::{Clause, Group, Occur, usual_distance};
use super::{Analyzer, CorpusStatistics, Pattern, Postings, Scored, TextQuery};
use crate::Result;

/// The most terms that a prefix or a fuzzy word stands for: the nearest, of these the most frequent. One that is excluded
/// stands for all, so that nothing excluded is ever found.
const EXPANSIONS_MAX: usize = 64;

/// What the index knows of a query's answer.
#[derive(Debug)]
pub(crate) struct Found {
    root: Node,
    leaves: Vec<Leaf>,
    pub(crate) scored: Scored,
    /// Prefixes and fuzzy words that stand for fewer terms than they might.
    pub(crate) capped: Vec<String>,
}

/// A group or a leaf, by its place among the leaves.
#[derive(Debug)]
enum Node {
    Leaf(usize),
    Group { must: Vec<Node>, should: Vec<Node>, not: Vec<Node> },
}

/// The chunks that a word or phrase is in.
#[derive(Debug, Default)]
struct Leaf {
    /// These hold it.
    sure: RoaringBitmap,
    /// These hold all terms of the phrase; whether next to each other, their texts say.
    maybe: RoaringBitmap,
    phrase: Option<Phrase>,
}

/// Which chunks to count in that may hold a phrase.
#[derive(Clone, Copy)]
enum Bound {
    All,
    None,
}

impl Bound {
    fn opposite(self) -> Self {
        match self {
            Self::All => Self::None,
            Self::None => Self::All,
        }
    }
}

impl Found {
    /// The chunks that satisfy the query whatever texts say, and those of which their texts must be looked at.
    pub(crate) fn decided(&self) -> (RoaringBitmap, RoaringBitmap) {
        let (sure, all) = (self.chunks(&self.root, Bound::None), self.chunks(&self.root, Bound::All));
        let open = all - &sure;
        (sure, open)
    }

    /// Whether a chunk of this text satisfies the query.
    pub(crate) fn holds(&self, analyzer: &Analyzer, chunk: u32, text: &str) -> bool {
        let open = |leaf: &&Leaf| leaf.maybe.contains(chunk) && !leaf.sure.contains(chunk);
        let phrases = self.leaves.iter().filter(open).filter_map(|leaf| leaf.phrase.as_ref());
        let places = Places::find(analyzer, text, phrases);
        self.satisfied(&self.root, chunk, &places)
    }

    fn satisfied(&self, node: &Node, chunk: u32, places: &Places<'_>) -> bool {
        match node {
            Node::Leaf(leaf) => {
                let Leaf { sure, maybe, phrase } = &self.leaves[*leaf];
                let stands = || phrase.as_ref().is_some_and(|phrase| phrase.stands_in(places));
                sure.contains(chunk) || (maybe.contains(chunk) && stands())
            }
            Node::Group { must, should, not } => {
                let holds = |part: &Node| self.satisfied(part, chunk, places);
                let wanted = if must.is_empty() { should.iter().any(holds) } else { must.iter().all(holds) };
                wanted && !not.iter().any(holds)
            }
        }
    }

    fn chunks(&self, node: &Node, bound: Bound) -> RoaringBitmap {
        match node {
            Node::Leaf(leaf) => {
                let Leaf { sure, maybe, .. } = &self.leaves[*leaf];
                match bound {
                    Bound::All => sure | maybe,
                    Bound::None => sure.clone(),
                }
            }
            Node::Group { must, should, not } => {
                let chunks = |part| self.chunks(part, bound);
                let mut wanted = match must.split_first() {
                    Some((first, rest)) => rest.iter().fold(chunks(first), |all, part| all & chunks(part)),
                    None => should.iter().map(chunks).fold(RoaringBitmap::new(), |all, part| all | part),
                };
                not.iter().for_each(|part| wanted -= self.chunks(part, bound.opposite()));
                wanted
            }
        }
    }
}

/// Looks a query up in the index.
///
/// Cost: the postings of all its terms, those that prefixes and fuzzy words stand for included; for these a walk through
/// the part of each dictionary that can match, too.
///
/// # Errors
/// [`crate::Error::Corrupt`] where a source cannot be read.
pub(crate) fn evaluate(
    sources: &[&dyn Postings],
    analyzer: &Analyzer,
    query: &TextQuery,
    statistics: CorpusStatistics,
    alive: &dyn Fn(u32) -> bool,
) -> Result<Found> {
    let mut plan = Plan { analyzer, leaves: Vec::new() };
    let root = plan.group(&query.root, true);
    let leaves = plan.leaves;
    let mut tally = Tally::new(sources, statistics);
    let mut terms: BTreeMap<&str, u32> = BTreeMap::new();
    terms.extend(leaves.iter().flat_map(Planned::looked_up).map(|term| (term, 0)));
    let weights = weights(analyzer, query);
    weights.iter().for_each(|(term, weight)| *terms.entry(term).or_default() += weight);
    let mut holders: HashMap<&str, RoaringBitmap> = HashMap::new();
    for (term, weight) in terms {
        let parts = tally.parts(sources, term, alive)?;
        if weight > 0 {
            tally.add(weight, &parts);
        }
        holders.insert(term, parts.iter().map(|(chunk, _)| *chunk).collect());
    }
    let mut capped = Vec::new();
    let mut found = Vec::with_capacity(leaves.len());
    for planned in &leaves {
        found.push(match planned {
            Planned::Words { word, phrase } => leaf(&holders, word.as_deref(), phrase.as_ref()),
            Planned::Expanded(expanded) => {
                let (parts, is_capped) = expanded.parts(sources, &tally, alive)?;
                if expanded.is_wanted {
                    tally.add(1, &parts);
                }
                capped.extend(is_capped.then(|| expanded.written.clone()));
                Leaf { sure: parts.iter().map(|(chunk, _)| *chunk).collect(), ..Leaf::default() }
            }
        });
    }
    capped.sort();
    capped.dedup();
    Ok(Found { root, leaves: found, scored: tally.scored, capped })
}

/// How often the words and phrases that are asked for say each term, as any other query would count.
fn weights(analyzer: &Analyzer, query: &TextQuery) -> BTreeMap<String, u32> {
    let mut weights = BTreeMap::new();
    query.root.positive(&mut |clause| {
        if let Clause::Word(text) | Clause::Phrase { text, .. } = clause {
            analyzer.for_each_term(text, &mut |term| *weights.entry(term.to_owned()).or_default() += 1);
        }
    });
    weights
}

fn leaf(holders: &HashMap<&str, RoaringBitmap>, word: Option<&str>, phrase: Option<&Phrase>) -> Leaf {
    let holders = |term: &str| holders.get(term).cloned().unwrap_or_default();
    let sure = word.map(holders).unwrap_or_default();
    let maybe = phrase.and_then(|phrase| phrase.terms.iter().map(|term| holders(term)).reduce(|all, next| all & next));
    Leaf { sure, maybe: maybe.unwrap_or_default(), phrase: phrase.cloned() }
}

/// What to look up for a leaf.
enum Planned {
    /// A word that the chunk holds, or a phrase, or either.
    Words {
        word: Option<String>,
        phrase: Option<Phrase>,
    },
    Expanded(Expanded),
}

/// A prefix or a fuzzy word.
struct Expanded {
    written: String,
    patterns: Vec<Pattern>,
    /// A term that it stands for in any case: that of the word itself.
    own: Option<String>,
    is_wanted: bool,
}

impl Planned {
    fn looked_up(&self) -> impl Iterator<Item = &str> {
        let (word, phrase) = match self {
            Self::Words { word, phrase } => (word.as_deref(), phrase.as_ref()),
            Self::Expanded(_) => (None, None),
        };
        word.into_iter().chain(phrase.into_iter().flat_map(|phrase| phrase.terms.iter().map(String::as_str)))
    }
}

/// Turns the parts of a query into what the index is asked.
struct Plan<'a> {
    analyzer: &'a Analyzer,
    leaves: Vec<Planned>,
}

impl Plan<'_> {
    fn group(&mut self, group: &Group, is_wanted: bool) -> Node {
        let (mut must, mut should, mut not) = (Vec::new(), Vec::new(), Vec::new());
        for (occur, clause) in &group.0 {
            let node = self.clause(clause, is_wanted && *occur != Occur::Not);
            match occur {
                Occur::Must => must.push(node),
                Occur::Should => should.push(node),
                Occur::Not => not.push(node),
            }
        }
        Node::Group { must, should, not }
    }

    fn clause(&mut self, clause: &Clause, is_wanted: bool) -> Node {
        let leaf = match clause {
            Clause::Group(group) => return self.group(group, is_wanted),
            Clause::Word(text) => words_of(self.analyzer, text, 0),
            Clause::Phrase { text, slop } => words_of(self.analyzer, text, *slop),
            Clause::Prefix { written, .. } | Clause::Fuzzy { written, .. } => {
                let (patterns, own) = patterns(self.analyzer, clause);
                Planned::Expanded(Expanded { written: written.clone(), patterns, own, is_wanted })
            }
        };
        self.leaves.push(leaf);
        Node::Leaf(self.leaves.len() - 1)
    }
}

/// A word is one term; several terms are a phrase; a word in camel case is either.
fn words_of(analyzer: &Analyzer, text: &str, slop: u32) -> Planned {
    let mut words = words(analyzer, text);
    if words.len() != 1 {
        let terms = words.into_iter().map(|word| word.term).collect();
        return Planned::Words { word: None, phrase: Some(Phrase { terms, slop }) };
    }
    let word = words.swap_remove(0);
    let phrase = word.is_sum.then_some(Phrase { terms: word.parts, slop: 0 });
    Planned::Words { word: Some(word.term), phrase }
}

/// What terms of the index a prefix or fuzzy word takes: those like the word as written, and its own term; a fuzzy word
/// also those like its stem, because stems are what the index holds, and no farther from it than is usual for its length.
fn patterns(analyzer: &Analyzer, clause: &Clause) -> (Vec<Pattern>, Option<String>) {
    let stem = |written: &str| whole_words(analyzer.settings(), written).into_iter().next();
    match clause {
        Clause::Prefix { written, folded } => (vec![Pattern::Prefix(folded.clone())], stem(written)),
        Clause::Fuzzy { written, folded, distance } => {
            let own = stem(written);
            let mut patterns = vec![Pattern::Near(Near::new(folded, *distance))];
            if let Some(stem) = own.as_ref().filter(|stem| *stem != folded) {
                let letters = stem.chars().count();
                if letters >= 3 {
                    patterns.push(Pattern::Near(Near::new(stem, (*distance).min(usual_distance(letters)))));
                }
            }
            (patterns, own)
        }
        Clause::Word(_) | Clause::Phrase { .. } | Clause::Group(_) => (Vec::new(), None),
    }
}

/// The terms that a query asks for, as far as they can be told without an index.
pub(crate) struct WantedTerms {
    terms: HashSet<String>,
    patterns: Vec<Pattern>,
}

impl WantedTerms {
    pub(crate) fn takes(&self, term: &str) -> bool {
        self.terms.contains(term) || self.patterns.iter().any(|pattern| pattern.distance(term).is_some())
    }
}

impl TextQuery {
    /// The terms that it asks for.
    pub(crate) fn wanted_terms(&self, analyzer: &Analyzer) -> WantedTerms {
        let mut wanted = WantedTerms { terms: weights(analyzer, self).into_keys().collect(), patterns: Vec::new() };
        self.root.positive(&mut |clause| {
            let (patterns, own) = patterns(analyzer, clause);
            wanted.patterns.extend(patterns);
            wanted.terms.extend(own);
        });
        wanted
    }
}

/// A term, how far it is and how many chunks hold it, in the order in which terms are preferred.
type Ranked = (u8, Reverse<u64>, String);

impl Expanded {
    /// The live chunks that hold a term that it stands for, each with its part of the score; whether there are more terms.
    fn parts(
        &self,
        sources: &[&dyn Postings],
        tally: &Tally,
        alive: &dyn Fn(u32) -> bool,
    ) -> Result<(Vec<(u32, f32)>, bool)> {
        let (terms, is_capped) = self.terms(sources, alive)?;
        let mut counts: Vec<(u32, u32, u8)> = Vec::new();
        for term in &terms {
            for source in sources {
                source.postings(term, &mut |chunk, count, fieldnorm| {
                    if alive(chunk) {
                        counts.push((chunk, count, fieldnorm));
                    }
                })?;
            }
        }
        counts.sort_unstable();
        let chunks = counts.chunk_by(|one, other| one.0 == other.0);
        let part = |same: &[(u32, u32, u8)]| {
            let count = same.iter().fold(0_u32, |sum, (_, count, _)| sum.saturating_add(*count));
            (same[0].0, tally.part(count, same[0].2))
        };
        Ok((chunks.map(part).collect(), is_capped))
    }

    /// The terms that it stands for: the nearest, of these those that most live chunks hold, of these the first; whether
    /// there are more.
    fn terms(&self, sources: &[&dyn Postings], alive: &dyn Fn(u32) -> bool) -> Result<(Vec<String>, bool)> {
        let candidates = self.candidates(sources)?.into_iter();
        if !self.is_wanted {
            return Ok((candidates.map(|(term, _)| term).collect(), false));
        }
        // In the order wanted, as it would be if each were as frequent as it can be at most: once enough are found that
        // stand before the next candidate, none of the rest can displace them, and need not be counted.
        let mut candidates: Vec<Ranked> =
            candidates.map(|(term, (distance, most))| (distance, Reverse(most), term)).collect();
        candidates.sort_unstable();
        let mut found: Vec<Ranked> = Vec::new();
        for candidate in candidates {
            if found.get(EXPANSIONS_MAX).is_some_and(|last| *last < candidate) {
                break;
            }
            let (distance, _, term) = candidate;
            let chunks = document_frequency(sources, &term, alive)?;
            if chunks > 0 {
                let ranked = (distance, Reverse(chunks), term);
                found.insert(found.partition_point(|other| *other < ranked), ranked);
                found.truncate(EXPANSIONS_MAX + 1);
            }
        }
        let is_capped = found.len() > EXPANSIONS_MAX;
        Ok((found.into_iter().take(EXPANSIONS_MAX).map(|(_, _, term)| term).collect(), is_capped))
    }

    /// The terms that the sources have of it: how far each is, and how many chunks hold it at most.
    fn candidates(&self, sources: &[&dyn Postings]) -> Result<HashMap<String, (u8, u64)>> {
        let mut candidates: HashMap<String, (u8, u64)> = HashMap::new();
        for source in sources {
            // A term that several patterns take counts once.
            let mut seen: HashMap<String, (u8, u64)> = HashMap::new();
            for pattern in &self.patterns {
                source.terms(pattern, &mut |term, chunks| {
                    let distance = pattern.distance(term).unwrap_or(u8::MAX);
                    let entry = seen.entry(term.to_owned()).or_insert((distance, chunks));
                    entry.0 = entry.0.min(distance);
                })?;
            }
            for (term, (distance, chunks)) in seen {
                let entry = candidates.entry(term).or_insert((distance, 0));
                entry.1 += chunks;
            }
        }
        if let Some(own) = &self.own {
            candidates.insert(own.clone(), (0, u64::MAX));
        }
        Ok(candidates)
    }
}

#[cfg(test)]
#[path = "matches_tests.rs"]
mod tests;
