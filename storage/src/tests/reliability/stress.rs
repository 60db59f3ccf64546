//! Does anything wait for ever, or see half of something, when all is done at once?
//!
//! Many threads do everything that the crate offers to one database, while its disk fails for once now and then. A
//! watchdog looks at how far each has come; when one stands still it says what each was doing, and ends the process.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::super::sound;
use crate::seal::{merge, seal};
use crate::testing::{Random, Trial, Which, fast_folder, put, random_document, settings};
use crate::{CollectionId, Effort, Error, Metric, Operation, Result, Store};

const DIMS: usize = 8;
const THREADS: usize = 8;
const IDS: u64 = 120;
/// A thread that comes no further for so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one round goes on.
const ROUND: Duration = Duration::from_millis(700);

type Deed = fn(&Store, CollectionId, &mut Random) -> Result<()>;

/// Everything that can be done to a database, the usual things more often.
const DEEDS: [(&str, Deed); 20] = [
    ("write", write),
    ("write", write),
    ("delete", delete),
    ("nearest", nearest),
    ("nearest", nearest),
    ("filter", filter),
    ("text", text),
    ("text", text),
    ("read", read),
    ("seal", |store, notes, random| seal(&store.0, notes, 1 + random.below(60)).map(drop)),
    ("seal as it is due", |store, notes, _| store.seal(notes).map(drop)),
    ("seal soon", |store, notes, _| {
        store.1.begin(&store.0, notes, 20);
        Ok(())
    }),
    ("merge", |store, notes, _| merge(&store.0, notes)),
    ("compact", |store, _, _| store.compact().map(drop)),
    ("check", check),
    ("dump", |store, _, _| store.dump().map(drop)),
    ("collections", collections),
    ("collections", collections),
    ("figures", |store, _, _| {
        let _ = (store.oldest_snapshot_age(), store.scrub());
        store.bytes_on_disk().map(drop)
    }),
    ("fail", fail),
];

fn write(store: &Store, notes: CollectionId, random: &mut Random) -> Result<()> {
    let batch = (0..1 + random.below(10)).map(|_| {
        let id = random.below(IDS) as i64;
        put(random_document(random, id, DIMS))
    });
    let batch = batch.collect();
    store.write(notes, batch).map(drop)
}

fn delete(store: &Store, notes: CollectionId, random: &mut Random) -> Result<()> {
    let batch = (0..5).map(|_| Operation::Delete((random.below(IDS) as i64).into())).collect();
    store.write(notes, batch).map(drop)
}

/// What a snapshot holds agrees with itself, whoever writes.
fn nearest(store: &Store, notes: CollectionId, random: &mut Random) -> Result<()> {
    let (snapshot, query) = (store.snapshot(notes)?, random.vector(DIMS));
    let exact = snapshot.nearest(0, &query, usize::MAX, None)?;
    assert_eq!(exact.len() as u64, snapshot.chunks());
    let found = snapshot.nearest_with(0, &query, 10, None, Effort::Usual)?.hits;
    assert!(found.iter().all(|hit| exact.contains(hit)), "a walk has scores of its own");
    let Some(&(chunk, score)) = found.first() else { return Ok(()) };
    assert_eq!(snapshot.similarities(0, &query, &[chunk])?, [score]);
    let document = snapshot.hydrate(chunk)?.document;
    assert!(snapshot.document(&document)?.is_some());
    Ok(())
}

fn filter(store: &Store, notes: CollectionId, random: &mut Random) -> Result<()> {
    let snapshot = store.snapshot(notes)?;
    let filter = format!("year > {}", 2000 + random.below(30)).parse().unwrap();
    let allowed = snapshot.matching_chunks(&filter)?;
    // Each document has one chunk.
    assert_eq!(snapshot.matching_documents(&filter)?.len() as u64, allowed.len());
    let hits = snapshot.nearest_with(0, &random.vector(DIMS), 7, Some(&allowed), Effort::Usual)?.hits;
    assert_eq!(hits.len() as u64, allowed.len().min(7));
    assert!(hits.iter().all(|(chunk, _)| allowed.contains(chunk.0)));
    Ok(())
}

fn text(store: &Store, notes: CollectionId, random: &mut Random) -> Result<()> {
    let snapshot = store.snapshot(notes)?;
    let word = format!("word{}", random.below(30));
    let hits = snapshot.search_text(&word, usize::MAX, None)?.hits;
    assert_eq!(snapshot.document_frequency(&word)?, Some(hits.len() as u64));
    for (chunk, _) in hits.into_iter().take(3) {
        assert!(snapshot.hydrate(chunk)?.text.contains(&word));
    }
    Ok(())
}

fn read(store: &Store, notes: CollectionId, _: &mut Random) -> Result<()> {
    let snapshot = store.snapshot(notes)?;
    let documents = snapshot.scan(None, usize::MAX)?;
    assert_eq!(documents.len() as u64, snapshot.documents());
    for document in documents.iter().take(5) {
        assert_eq!(snapshot.digest(&document.id)?, Some(document.digest));
        assert_eq!(snapshot.stored_chunks(&document.id)?.len(), 1);
    }
    Ok(())
}

fn check(store: &Store, _: CollectionId, _: &mut Random) -> Result<()> {
    // Segments are removed while they are read: of those it may say that they are missing.
    let violations = store.check()?;
    let wrong: Vec<&String> = violations.iter().filter(|violation| !violation.contains("segments")).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

fn collections(store: &Store, _: CollectionId, random: &mut Random) -> Result<()> {
    let name = format!("other{}", random.below(3));
    match random.below(4) {
        0 | 1 => {
            let other = store.create_collection(&name, &settings(DIMS, Metric::L2))?.id;
            store.write(other, (0..30).map(|id| put(random_document(random, id, DIMS))).collect())?;
            seal(&store.0, other, 10).map(drop)
        }
        2 => store.rename_collection(&name, &format!("other{}", random.below(3))),
        _ => store.drop_collection(&name),
    }
}

fn fail(store: &Store, _: CollectionId, random: &mut Random) -> Result<()> {
    if random.below(4) == 0 {
        let which = [Which::Reads, Which::Changes, Which::Syncs][random.below(3) as usize];
        store.0.faults().refuse_once(which, random.below(20), std::io::ErrorKind::Other);
    }
    Ok(())
}

/// Whether it is what a failing disk or another thread may bring about.
fn is_expected(error: &Error) -> bool {
    matches!(
        error,
        Error::Io { .. }
            | Error::Poisoned(_)
            | Error::Unconfirmed(_)
            | Error::Stale
            | Error::UnknownCollection(_)
            | Error::CollectionExists(_)
    )
}

/// How far a thread has come, and what it does.
#[derive(Default)]
struct Progress {
    deeds: AtomicU64,
    doing: AtomicUsize,
}

fn toil(store: &Store, notes: CollectionId, mut random: Random, end: Instant, progress: &Progress) {
    while Instant::now() < end {
        let deed = random.below(DEEDS.len() as u64) as usize;
        progress.doing.store(deed, Ordering::SeqCst);
        match DEEDS[deed].1(store, notes, &mut random) {
            Err(error) if !is_expected(&error) => panic!("{}: {error:?}", DEEDS[deed].0),
            Ok(()) | Err(_) => {}
        }
        progress.deeds.fetch_add(1, Ordering::SeqCst);
    }
}

/// Ends the process where a thread comes no further, until the other end of the channel is gone.
fn watch(all: &[Progress], until: &std::sync::mpsc::Receiver<()>, seed: u64) {
    let count = || all.iter().map(|one| one.deeds.load(Ordering::SeqCst)).collect::<Vec<u64>>();
    let (mut last, mut since) = (count(), vec![Instant::now(); all.len()]);
    while until.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
        let now = count();
        for thread in 0..all.len() {
            if now[thread] != last[thread] {
                since[thread] = Instant::now();
            }
        }
        if since.iter().any(|since| since.elapsed() > PATIENCE) {
            let doing = all.iter().map(|one| DEEDS[one.doing.load(Ordering::SeqCst)].0).collect::<Vec<_>>();
            eprintln!("seed {seed}: a thread comes no further; since {since:?} they do {doing:?}");
            std::process::abort();
        }
        last = now;
    }
}

fn run(seed: u64) -> u64 {
    let folder = fast_folder();
    let store = Store::open(folder.path()).unwrap();
    let notes = store.create_collection("notes", &settings(DIMS, Metric::Cosine)).unwrap().id;
    let all: Vec<Progress> = (0..THREADS).map(|_| Progress::default()).collect();
    let (running, until) = channel::<()>();
    let end = Instant::now() + ROUND;
    std::thread::scope(|scope| {
        let watched = all.as_slice();
        scope.spawn(move || watch(watched, &until, seed));
        let threads: Vec<_> = (0..)
            .zip(&all)
            .map(|(thread, progress)| {
                let (store, random) = (&store, Random::new(seed << 8 | thread));
                scope.spawn(move || toil(store, notes, random, end, progress))
            })
            .collect();
        let failed = threads.into_iter().filter_map(|thread| thread.join().err()).next();
        drop(running);
        if let Some(panic) = failed {
            std::panic::resume_unwind(panic);
        }
    });
    store.0.faults().heal();
    seal(&store.0, notes, u64::MAX).unwrap();
    sound(&store);
    drop(store);
    sound(&Store::open(folder.path()).unwrap());
    all.iter().map(|progress| progress.deeds.load(Ordering::SeqCst)).sum()
}

#[test]
fn nothing_waits_for_ever_and_nothing_is_seen_by_halves() {
    let mut trial = Trial::new("everything at once", 137, 1_000);
    while let Some(seed) = trial.next() {
        let deeds = run(seed);
        trial.count("deeds", deeds);
    }
}
