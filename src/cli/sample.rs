//! What does a bench search through when it is given no texts?
//!
//! Passages of common English words, drawn by Zipf's law (the word of rank r with weight 1/r), and a tenth of rare
//! made-up ones, so that posting lists are as uneven as those of real text. The same seed makes the same passages.

/// Common words, most common first.
const COMMON: &str = "\
the of and to a in that is was he for it with as his on be at by i this had not are but from or have an they which \
one you were all her she there would their we him been has when who will no more if out so up said what its about \
than into them can only other time new some could these two may first then do any like my now over such our man me \
even most made after also well many must before back through years where much your way down should because long each \
just state people those too mister how little good world make very year still see own work men day get here old life \
between both under last never place same another think house while high right might came off find states since used \
give against three himself look few general hand school part small american home during number again put around \
without however president does great united system set always course night war once far water point public head \
something fact less why though side group city room social business case left almost young given order light program \
certain best several kind power company face want memory thread value error module function string index vector \
question answer model text search river mountain energy cell patient effect study result method theory market price \
history language machine network signal pressure surface heat flow field particle plant animal blood acid protein";

/// Parts of rare words.
const SYLLABLES: [&str; 24] = [
    "ka", "lo", "mi", "ren", "tor", "vex", "an", "bel", "cor", "dis", "el", "far", "gran", "hex", "il", "jun", "ost",
    "par", "quin", "ro", "sil", "tar", "um", "zen",
];

/// Draws passages of words.
pub(crate) struct Sampler {
    state: u64,
    words: Vec<&'static str>,
    /// Cumulated weights of the words.
    weights: Vec<f64>,
}

impl Sampler {
    pub(crate) fn new(seed: u64) -> Self {
        let words: Vec<&str> = COMMON.split_whitespace().collect();
        let weights = (1..=words.len())
            .scan(0.0, |total, rank| {
                *total += 1.0 / rank as f64;
                Some(*total)
            })
            .collect();
        Self { state: seed, words, weights }
    }

    /// A text of so many words, in sentences.
    pub(crate) fn passage(&mut self, words: usize) -> String {
        let mut text = String::new();
        for number in 0..words {
            if number > 0 {
                text.push_str(if number % 12 == 0 { ". " } else { " " });
            }
            text.push_str(&self.word());
        }
        text.push('.');
        text
    }

    /// Some words that stand together in a text.
    pub(crate) fn query(&mut self, text: &str, words: usize) -> String {
        let all: Vec<&str> = text.split_whitespace().collect();
        let words = words.min(all.len());
        let start = self.below(all.len() - words + 1);
        all[start..start + words].join(" ")
    }

    /// A number below `end`, which must not be 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.uniform() * end as f64) as usize).min(end - 1)
    }

    fn word(&mut self) -> String {
        if self.below(10) == 0 {
            return (0..3).map(|_| SYLLABLES[self.below(SYLLABLES.len())]).collect();
        }
        let total = self.weights.last().copied().unwrap_or(1.0);
        let drawn = self.uniform() * total;
        let rank = self.weights.partition_point(|weight| *weight <= drawn);
        self.words[rank.min(self.words.len() - 1)].to_owned()
    }

    /// A number in 0..1, by SplitMix64 (Steele, Lea and Flood 2014).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_passages() {
        let passages = |seed| {
            let mut sampler = Sampler::new(seed);
            [sampler.passage(100), sampler.passage(100)]
        };
        assert_eq!(passages(7), passages(7));
        assert_ne!(passages(7), passages(8));
        assert_eq!(passages(7)[0].split_whitespace().count(), 100);
    }

    #[test]
    fn a_query_is_part_of_its_text() {
        let mut sampler = Sampler::new(7);
        let text = sampler.passage(40);
        for words in [1, 5, 40, 400] {
            let query = sampler.query(&text, words);
            assert!(text.contains(&query), "{query}");
            assert_eq!(query.split(' ').count(), words.min(40));
        }
    }
}
