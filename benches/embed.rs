//! How many passages of 100 words does the built-in model embed in a second, on all cores?
//!
//! Run it with `cargo bench --bench embed`. The bar is 20,000 on two cores.

#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

mod text;

use std::time::Instant;

use text::{PASSAGE_WORDS, Sampler, cores};

const PASSAGES: usize = 40_000;
const BATCH: usize = 4_096;
const ROUNDS: usize = 3;

fn main() -> anyhow::Result<()> {
    let model = quiverdb::embed::open("builtin")?;
    let mut sampler = Sampler::new(1);
    let passages: Vec<String> = (0..PASSAGES).map(|_| sampler.passage()).collect();
    let texts: Vec<&str> = passages.iter().map(String::as_str).collect();
    let tokens: usize = texts[..1_000].iter().map(|text| model.token_ranges(text).len()).sum();
    println!("{PASSAGES} passages of {PASSAGE_WORDS} words ({:.0} tokens), {} cores", tokens as f64 / 1e3, cores());
    model.embed_documents(&texts[..BATCH])?;
    for round in 1..=ROUNDS {
        let start = Instant::now();
        let mut embedded = 0;
        for batch in texts.chunks(BATCH) {
            embedded += model.embed_documents(batch)?.rows().len();
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("round {round}: {:.0} passages a second", embedded as f64 / seconds);
    }
    let start = Instant::now();
    for text in &texts[..1_000] {
        model.embed_documents(&[text])?;
    }
    println!("one at a time: {:.1} µs each", start.elapsed().as_secs_f64() * 1e6 / 1e3);
    Ok(())
}
