//! Does every caller get its own vectors and errors, in the right order, however the runs were put together?

#![allow(clippy::unwrap_used)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// One of its texts makes it fail, and one panic; `long` is cut.
struct Counting {
    spec: ModelSpec,
    gains: bool,
    /// Every run: its kind and its texts.
    seen: Mutex<Vec<(Kind, Vec<String>)>>,
    /// The first run waits here until the test lets it go.
    gate: Gate,
}

/// Shut until it is opened; tells whether somebody came to it.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = lock(&self.state);
        state.1 = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(open, _)| !*open).unwrap());
    }

    fn open(&self) {
        lock(&self.state).0 = true;
        self.changed.notify_all();
    }

    /// Returns when somebody stands before it.
    fn somebody_came(&self) {
        drop(self.changed.wait_while(lock(&self.state), |(_, came)| !*came).unwrap());
    }
}

impl Counting {
    fn run(&self, kind: Kind, texts: &[&str]) -> Result<Embeddings> {
        self.gate.pass();
        lock(&self.seen).push((kind, texts.iter().map(|&text| text.to_owned()).collect()));
        assert!(!texts.contains(&"panic"), "a bad day");
        if texts.contains(&"fail") {
            return Err(Error::Embedding("not this one".into()));
        }
        let values = texts.iter().flat_map(|text| [text.len() as f32, 1.0]).collect();
        Ok(Embeddings { dims: 2, values, truncated: texts.iter().filter(|&&text| text == "long").count() })
    }

    fn shapes(&self) -> Vec<(Kind, usize)> {
        lock(&self.seen).iter().map(|(kind, texts)| (*kind, texts.len())).collect()
    }
}

impl Embedder for Counting {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Embeddings> {
        self.run(Kind::Documents, texts)
    }

    fn embed_queries(&self, texts: &[&str], statistics: &dyn WordStatistics) -> Result<Embeddings> {
        assert!(!self.gains || statistics.chunks() == 0);
        self.run(Kind::Queries, texts)
    }

    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        let values = images.iter().flat_map(|image| [image.width() as f32, image.height() as f32]).collect();
        Ok(Embeddings { dims: 2, values, truncated: 0 })
    }

    fn gains_by_batches(&self) -> bool {
        self.gains
    }
}

/// No wait, so that a run holds exactly who is there.
fn limits() -> BatchLimits {
    BatchLimits::default().wait_max(Duration::ZERO)
}

fn made(limits: BatchLimits) -> (Arc<Counting>, Arc<Batcher>) {
    let (seen, gate) = (Mutex::default(), Gate::default());
    let model = Arc::new(Counting { spec: ModelSpec::new("counting", 2), gains: true, seen, gate });
    let batcher = Arc::new(Batcher::new(Arc::clone(&model) as Arc<dyn Embedder>, limits));
    (model, batcher)
}

fn queries(batcher: &Batcher, texts: &[&str]) -> Result<Embeddings> {
    batcher.embed_queries(texts, &NoStatistics)
}

/// Returns when `texts` wait.
fn until_waiting(batcher: &Batcher, texts: usize) {
    while batcher.waiting() < texts {
        std::thread::yield_now();
    }
}

/// A call, and the texts that it waits as.
type Asked<'a, T> = (usize, Box<dyn FnOnce(&Batcher) -> T + Send + 'a>);

/// Holds the first run (a query `first`) while `others` are started one after the other, each waiting as so many texts.
fn behind_a_first<'a, T: Send>((model, batcher): &(Arc<Counting>, Arc<Batcher>), others: Vec<Asked<'a, T>>) -> Vec<T> {
    std::thread::scope(|scope| {
        let first = scope.spawn(|| queries(batcher, &["first"]));
        model.gate.somebody_came();
        let mut waiting = 0;
        let mut threads = Vec::new();
        for (texts, other) in others {
            threads.push(scope.spawn(move || other(batcher)));
            waiting += texts;
            until_waiting(batcher, waiting);
        }
        model.gate.open();
        first.join().unwrap().unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn query(text: &'static str) -> Asked<'static, Result<Embeddings>> {
    (1, Box::new(move |batcher| queries(batcher, &[text])))
}

fn passages(texts: Vec<&'static str>) -> Asked<'static, Result<Embeddings>> {
    (texts.len(), Box::new(move |batcher| batcher.embed_documents(&texts)))
}

#[test]
fn those_who_wait_are_run_together_and_get_their_own_vectors() {
    let parts = made(limits());
    let found = behind_a_first(&parts, vec![query("a"), query("bb"), query("ccc")]);
    let lengths: Vec<f32> = found.into_iter().map(|made| made.unwrap().values[0]).collect();
    assert_eq!(lengths, [1.0, 2.0, 3.0]);
    assert_eq!(parts.0.shapes(), [(Kind::Queries, 1), (Kind::Queries, 3)]);
    assert_eq!((parts.1.runs(), parts.1.waiting()), (2, 0));
}

#[test]
fn queries_go_before_passages_and_wait_for_one_piece_of_them() {
    let parts = made(limits().batch_texts_max(2));
    let (model, batcher) = &parts;
    std::thread::scope(|scope| {
        let long = scope.spawn(|| batcher.embed_documents(&["a", "bb", "ccc", "dddd", "eeeee"]));
        model.gate.somebody_came();
        let query = scope.spawn(|| queries(batcher, &["q"]));
        until_waiting(batcher, 4);
        model.gate.open();
        query.join().unwrap().unwrap();
        let lengths: Vec<f32> = long.join().unwrap().unwrap().rows().map(|row| row[0]).collect();
        assert_eq!(lengths, [1.0, 2.0, 3.0, 4.0, 5.0]);
    });
    let (queries, documents) = (Kind::Queries, Kind::Documents);
    assert_eq!(model.shapes(), [(documents, 2), (queries, 1), (documents, 2), (documents, 1)]);
}

#[test]
fn a_run_is_bounded_by_tokens_and_by_texts() {
    let parts = made(limits().batch_tokens_max(5).batch_texts_max(3));
    let texts = vec!["eight by", "eight by", "a", "a", "a", "a", "more than five tokens of four bytes"];
    behind_a_first(&parts, vec![passages(texts)]).remove(0).unwrap();
    let sizes: Vec<usize> = parts.0.shapes()[1..].iter().map(|(_, texts)| *texts).collect();
    assert_eq!(sizes, [3, 3, 1]);
}

#[test]
fn passages_are_not_kept_waiting_for_ever() {
    let parts = made(limits().batch_texts_max(1));
    let mut asked = vec![passages(vec!["p"])];
    asked.extend((0..2 * QUERY_RUNS_MAX).map(|_| query("q")));
    behind_a_first(&parts, asked);
    let place = parts.0.shapes().iter().position(|(kind, _)| *kind == Kind::Documents);
    assert_eq!(place, Some(1 + QUERY_RUNS_MAX as usize));
}

#[test]
fn one_bad_text_fails_its_own_caller_alone() {
    let parts = made(limits());
    let found = behind_a_first(&parts, vec![query("a"), query("fail"), query("b")]);
    assert!(found[0].is_ok() && found[2].is_ok());
    assert!(found[1].as_ref().unwrap_err().to_string().contains("not this one"));
}

#[test]
fn a_panic_fails_the_callers_of_that_run_and_no_others() {
    let parts = made(limits().batch_texts_max(2));
    let found = behind_a_first(&parts, vec![query("a"), query("panic"), query("b")]);
    for failed in &found[..2] {
        assert!(failed.as_ref().unwrap_err().to_string().contains("the model panicked: a bad day"));
    }
    assert!(found[2].is_ok() && queries(&parts.1, &["later"]).is_ok());
}

#[test]
fn a_call_that_fails_in_a_piece_is_not_run_to_its_end() {
    let parts = made(limits().batch_texts_max(1));
    let found = behind_a_first(&parts, vec![passages(vec!["a", "fail", "b", "c"])]);
    assert!(found[0].as_ref().unwrap_err().to_string().contains("not this one"));
    assert_eq!((parts.0.shapes().len(), parts.1.waiting()), (3, 0));
}

#[test]
fn everybody_hears_of_their_own_cut_texts() {
    let parts = made(limits());
    let found = behind_a_first(&parts, vec![query("a"), query("long"), passages(vec!["long", "long"])]);
    let cut: Vec<usize> = found.into_iter().map(|made| made.unwrap().truncated).collect();
    assert_eq!(cut, [0, 1, 2]);
}

#[test]
fn who_is_alone_never_waits() {
    // Would hang for an hour.
    let (model, batcher) = made(BatchLimits::default().wait_max(Duration::from_secs(3600)));
    model.gate.open();
    for _ in 0..3 {
        queries(&batcher, &["q"]).unwrap();
        batcher.embed_documents(&["p"]).unwrap();
    }
    assert_eq!(batcher.runs(), 6);
}

#[test]
fn who_was_there_at_the_last_run_is_waited_for() {
    let (model, batcher) = made(BatchLimits::default().wait_max(Duration::from_secs(3600)));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|number| {
                if number == 1 {
                    model.gate.somebody_came();
                }
                let batcher = &batcher;
                scope.spawn(move || (number..10).for_each(|_| drop(queries(batcher, &["q"]).unwrap())))
            })
            .collect();
        until_waiting(&batcher, 1);
        model.gate.open();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    // The first caller ran alone; then the two ran together each time.
    let sizes: Vec<usize> = model.shapes().iter().map(|(_, texts)| *texts).collect();
    assert_eq!(sizes, [vec![1], vec![2; 9]].concat());
}

#[test]
fn whoever_finds_no_room_waits_for_it() {
    let parts = made(limits().queue_texts_max(2));
    let (model, batcher) = &parts;
    let entered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| queries(batcher, &["first"]));
        model.gate.somebody_came();
        let two = scope.spawn(|| batcher.embed_documents(&["a", "b"]));
        until_waiting(batcher, 2);
        let third = scope.spawn(|| {
            entered.store(true, Ordering::Relaxed);
            queries(batcher, &["c"])
        });
        while !entered.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        assert_eq!(batcher.waiting(), 2);
        model.gate.open();
        for caller in [first, two, third] {
            caller.join().unwrap().unwrap();
        }
    });
    let most = lock(&model.seen).iter().map(|(_, texts)| texts.len()).max();
    assert_eq!((most, batcher.waiting()), (Some(2), 0));
}

#[test]
fn closing_ends_those_who_wait_and_those_who_come() {
    let parts = made(limits());
    let (model, batcher) = &parts;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| queries(batcher, &["first"]));
        model.gate.somebody_came();
        let waits = scope.spawn(|| queries(batcher, &["waits"]));
        until_waiting(batcher, 1);
        batcher.close();
        assert!(waits.join().unwrap().unwrap_err().to_string().contains("was closed"));
        model.gate.open();
        first.join().unwrap().unwrap();
    });
    assert!(queries(batcher, &["late"]).unwrap_err().to_string().contains("was closed"));
    assert_eq!(model.shapes().len(), 1);
}

#[test]
fn threads_of_a_pool_run_at_once_and_never_wait_for_each_other() {
    use rayon::prelude::*;
    let (model, batcher) = made(limits());
    model.gate.open();
    // A run inside a run, as where a pool's thread takes up another search while it waits for its own.
    let made: Vec<Embeddings> = (0..64)
        .into_par_iter()
        .map(|_| rayon::join(|| queries(&batcher, &["inner"]), || batcher.embed_documents(&["outer"])).0.unwrap())
        .collect();
    assert!(made.len() == 64 && batcher.runs() == 128);
}

#[test]
fn models_that_weigh_words_get_their_statistics() {
    struct Ten;
    impl WordStatistics for Ten {
        fn chunks(&self) -> u64 {
            10
        }
        fn chunks_with(&self, _: &str) -> Option<u64> {
            None
        }
    }
    let (seen, gate) = (Mutex::default(), Gate::default());
    let model = Arc::new(Counting { spec: ModelSpec::new("weighs", 2), gains: false, seen, gate });
    model.gate.open();
    let batcher = Batcher::new(model, limits());
    batcher.embed_queries(&["q"], &Ten).unwrap();
    let builtin = crate::embed::open("builtin").unwrap();
    let batcher = Batcher::new(Arc::clone(&builtin), limits());
    let texts = ["the river boat"];
    let (direct, shared) = (builtin.embed_queries(&texts, &Ten), batcher.embed_queries(&texts, &Ten));
    assert_eq!(direct.unwrap(), shared.unwrap());
}

#[test]
fn no_texts_are_no_run_of_others() {
    let (model, batcher) = made(limits());
    model.gate.open();
    assert!(batcher.embed_documents(&[]).unwrap().values.is_empty());
    assert_eq!(batcher.waiting(), 0);
}

#[test]
fn many_threads_get_what_they_asked_for() {
    let (model, batcher) = made(BatchLimits::default().batch_texts_max(4).queue_texts_max(6));
    model.gate.open();
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (batcher, start) = (&batcher, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..50 {
                    let texts: Vec<String> = (0..=round % 5).map(|text| "x".repeat(1 + thread + text)).collect();
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    let made = match thread % 2 {
                        0 => queries(batcher, &texts).unwrap(),
                        _ => batcher.embed_documents(&texts).unwrap(),
                    };
                    assert!(made.rows().zip(&texts).all(|(row, text)| row[0] == text.len() as f32));
                }
            });
        }
    });
    assert_eq!(batcher.waiting(), 0);
}

#[test]
fn pictures_go_to_the_model_at_once_until_it_is_closed() {
    let (_, batcher) = made(limits());
    let pictures = [(2, 1), (1, 3)]
        .map(|(width, height)| Image::rgb(width, height, vec![0; (width * height * 3) as usize]).unwrap());
    let made = batcher.embed_images(&pictures).unwrap();
    assert_eq!((made.values, batcher.runs()), (vec![2.0, 1.0, 1.0, 3.0], 1));
    batcher.close();
    assert!(batcher.embed_images(&pictures).is_err());
}

#[test]
fn queries_run_together_where_the_limits_or_else_the_model_say_so() {
    for (gains, set, together) in
        [(true, None, true), (false, None, false), (false, Some(true), true), (true, Some(false), false)]
    {
        let (seen, gate) = (Mutex::default(), Gate::default());
        let model = Arc::new(Counting { spec: ModelSpec::new("counting", 2), gains, seen, gate });
        let limits = set.map_or_else(limits, |set| limits().queries_together(set));
        let batcher = Arc::new(Batcher::new(Arc::clone(&model) as Arc<dyn Embedder>, limits));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| batcher.embed_documents(&["first"]));
            model.gate.somebody_came();
            let query = scope.spawn(|| queries(&batcher, &["q"]));
            while batcher.waiting() == 0 && batcher.runs() < 2 {
                std::thread::yield_now();
            }
            // A query that is run by itself does not wait for the passages at work.
            assert_eq!((batcher.waiting(), batcher.runs()), if together { (1, 1) } else { (0, 2) });
            model.gate.open();
            first.join().unwrap().unwrap();
            query.join().unwrap().unwrap();
        });
    }
}
