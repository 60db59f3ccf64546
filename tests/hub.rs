//! Does a model get from a hub into the cache whole, or not at all? Against a server on this machine that speaks the
//! hub's protocol: a list of files with digests, large files on another host, ranges.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quiverdb::models::{Cache, Digest, HubId, HubSettings, Integrity, Patience, Pulled, Wanted, pull};
use quiverdb::{Blame, Error, Result};
use serde_json::{Value, json};

use crate::scenes::folder;
use crate::serving::{Answer, Asked, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OLDER: &str = "89abcdef0123456789abcdef0123456789abcdef";
const ID: &str = "owner/tiny";
const WEIGHTS: &str = "model.safetensors";
const TOKEN: &str = "hf_not_for_others";

/// What goes wrong with the bytes of a large file, once.
enum Fault {
    CutAfter(usize),
    SilentAfter(usize),
    Changed,
    Status(u16),
}

/// A repository and what is wrong with it.
struct Repository {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<VecDeque<Fault>>,
    /// Whether the other host can send a part of a file.
    ranges: bool,
    /// Whether the list says sizes and digests, as some mirrors' do not.
    digests: bool,
    /// How many have asked for the list, and a bell for it; see [`two_processes_fetch_a_file_once`].
    lists: (Mutex<u32>, Condvar),
    lists_awaited: u32,
}

impl Repository {
    fn new() -> Self {
        Self {
            files: Mutex::new(model()),
            faults: Mutex::default(),
            ranges: true,
            digests: true,
            lists: (Mutex::new(0), Condvar::new()),
            lists_awaited: 0,
        }
    }

    fn with_faults(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { faults: Mutex::new(faults.into_iter().collect()), ..Self::new() }
    }

    fn is_large(name: &str) -> bool {
        name.ends_with(".safetensors") || name.ends_with(".bin")
    }

    fn list(&self, commit: &str) -> Answer {
        let (count, bell) = &self.lists;
        *count.lock().unwrap() += 1;
        bell.notify_all();
        let sibling = |(name, bytes): (&String, &Vec<u8>)| match (self.digests, Self::is_large(name)) {
            (false, _) => json!({"rfilename": name}),
            (true, true) => json!({"rfilename": name, "size": bytes.len(), "blobId": git_sha1(b"a pointer"),
                "lfs": {"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134}}),
            (true, false) => json!({"rfilename": name, "size": bytes.len(), "blobId": git_sha1(bytes)}),
        };
        let siblings: Vec<Value> = self.files.lock().unwrap().iter().map(sibling).collect();
        Answer::json(&json!({"id": ID, "sha": commit, "private": false, "siblings": siblings}))
    }

    /// The hub itself: small files, and where the large ones lie.
    fn hub(&self, asked: &Asked, cdn: &str) -> Answer {
        let path = asked.path.split('?').next().unwrap();
        match path.strip_prefix("/api/models/owner/tiny/revision/") {
            Some("main" | COMMIT) => return self.list(COMMIT),
            Some("v1" | OLDER) => return self.list(OLDER),
            Some(_) => return Answer::new(404, "{}").header("x-error-code", "RevisionNotFound"),
            None => {}
        }
        let Some(rest) = path.strip_prefix("/owner/tiny/resolve/") else {
            return match path {
                "/api/models/owner/gated/revision/main" => Answer::new(403, "{}").header("x-error-code", "GatedRepo"),
                _ if asked.header("authorization").is_some() => {
                    Answer::new(404, r#"{"error":"Repository not found"}"#).header("x-error-code", "RepoNotFound")
                }
                _ => Answer::new(401, r#"{"error":"Invalid username or password."}"#),
            };
        };
        let (commit, name) = rest.split_once('/').unwrap();
        let files = self.files.lock().unwrap();
        let Some(bytes) = files.get(name) else {
            return Answer::new(404, "").header("x-error-code", "EntryNotFound");
        };
        let answer = match Self::is_large(name) {
            true => Answer::new(302, "Found")
                .header("location", format!("{cdn}/{name}?signature=1"))
                .header("x-linked-etag", format!("\"{}\"", sha256(bytes)))
                .header("x-linked-size", bytes.len()),
            false => part(asked, bytes, self.ranges).header("etag", format!("\"{}\"", git_sha1(bytes))),
        };
        answer.header("x-repo-commit", commit)
    }

    /// The other host, where large files lie.
    fn cdn(&self, asked: &Asked) -> Answer {
        let (count, bell) = &self.lists;
        drop(bell.wait_while(count.lock().unwrap(), |count| *count < self.lists_awaited).unwrap());
        let name = asked.path.trim_start_matches('/').split('?').next().unwrap();
        let mut bytes = self.files.lock().unwrap()[name].clone();
        match self.faults.lock().unwrap().pop_front() {
            None => part(asked, &bytes, self.ranges),
            Some(Fault::CutAfter(count)) => part(asked, &bytes, self.ranges).cut_after(count),
            Some(Fault::SilentAfter(count)) => part(asked, &bytes, self.ranges).silent_after(count),
            Some(Fault::Status(status)) => Answer::new(status, "not now").header("retry-after", 0),
            Some(Fault::Changed) => {
                *bytes.last_mut().unwrap() ^= 1;
                part(asked, &bytes, self.ranges)
            }
        }
    }
}

fn part(asked: &Asked, bytes: &[u8], ranges: bool) -> Answer {
    match asked.from() {
        Some(from) if ranges && from >= bytes.len() => Answer::new(416, ""),
        Some(from) if ranges => Answer::new(206, &bytes[from..])
            .header("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
        _ => Answer::new(200, bytes),
    }
}

fn hashed(bytes: &[u8], digest: &str) -> String {
    use sha2::Digest as _;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match digest {
        "sha256" => hex(&sha2::Sha256::digest(bytes)),
        _ => hex(&sha1::Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize()),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hashed(bytes, "sha256")
}

fn git_sha1(bytes: &[u8]) -> String {
    hashed(bytes, "sha1")
}

/// A static model of three words in two dimensions, with what else a repository holds.
fn model() -> BTreeMap<String, Vec<u8>> {
    let words = ["[UNK]", "bread", "threads", "dough", "data"];
    let vocabulary: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = json!({
        "added_tokens": [{"id": 0, "content": "[UNK]"}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocabulary},
    });
    let rows: [f32; 10] = [0.1, 0.1, 1.0, 0.0, 0.0, 1.0, 0.9, 0.1, 0.1, 0.9];
    let header = r#"{"embeddings":{"dtype":"F32","shape":[5,2],"data_offsets":[0,40]}}"#;
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend_from_slice(header.as_bytes());
    weights.extend(rows.iter().flat_map(|number| number.to_le_bytes()));
    let named = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    BTreeMap::from([
        named("config.json", br#"{"model_type": "model2vec", "normalize": true}"#.to_vec()),
        named("tokenizer.json", tokenizer.to_string().into_bytes()),
        named("1_Extra/config.json", b"{}".to_vec()),
        named(WEIGHTS, weights),
        named("pytorch_model.bin", b"\x80\x02runs code".to_vec()),
        named("modeling.py", b"import os".to_vec()),
        named("README.md", b"# Tiny".to_vec()),
    ])
}

/// What is taken of it unasked.
const TAKEN: [&str; 4] = ["1_Extra/config.json", "config.json", "tokenizer.json", WEIGHTS];

/// A hub, its other host, and an empty cache.
struct Scene {
    hub: Server,
    cdn: Server,
    repository: Arc<Repository>,
    cache: tempfile::TempDir,
}

impl Scene {
    fn new(repository: Repository) -> Self {
        let repository = Arc::new(repository);
        let (large, small) = (Arc::clone(&repository), Arc::clone(&repository));
        let cdn = Server::start(move |asked| large.cdn(asked));
        let place = cdn.url();
        let hub = Server::start(move |asked| small.hub(asked, &place));
        Self { hub, cdn, repository, cache: folder() }
    }

    fn settings(&self) -> HubSettings {
        HubSettings {
            cache: self.cache.path().join("hub"),
            endpoint: self.hub.url(),
            token: None,
            offline: false,
            patience: Patience {
                connect: Duration::from_secs(10),
                silence: Duration::from_secs(10),
                request: None,
                retries: 2,
                pause: Duration::from_millis(1),
            },
        }
    }

    fn pull(&self) -> Result<Pulled> {
        pull(&self.settings(), &id(ID), &Wanted::default())
    }

    /// Why nothing was fetched; whose fault it is has been looked at.
    #[track_caller]
    fn refusal(&self, model: &str, settings: &HubSettings) -> String {
        let error = pull(settings, &id(model), &Wanted::default()).expect_err("this must be refused");
        assert_eq!(error.blame(), Blame::World, "{error}");
        assert!(matches!(error, Error::Model { .. }), "{error:?}");
        error.to_string()
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("hub/models--owner--tiny")
    }

    /// The names below a folder of the model's.
    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder().join(folder)) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The parts of the weights that the other host was asked for, by their first bytes.
    fn ranges(&self) -> Vec<Option<usize>> {
        self.cdn.asked().iter().map(Asked::from).collect()
    }

    #[track_caller]
    fn expect_whole(&self, pulled: &Pulled) {
        let files = self.repository.files.lock().unwrap();
        for name in TAKEN {
            assert_eq!(fs::read(pulled.directory.join(name)).unwrap(), files[name], "{name}");
        }
        let leftovers: Vec<String> =
            self.names("blobs").into_iter().filter(|name| name.ends_with(".incomplete")).collect();
        assert!(leftovers.is_empty(), "{leftovers:?}");
    }
}

fn id(text: &str) -> HubId {
    text.parse().unwrap()
}

#[test]
fn a_model_is_pulled_into_the_layout_of_python_s_tools() {
    let scene = Scene::new(Repository::new());
    let pulled = scene.pull().unwrap();
    scene.expect_whole(&pulled);
    assert_eq!(pulled.id.to_string(), format!("{ID}@{COMMIT}"));
    assert_eq!(pulled.fetched, TAKEN);
    assert_eq!(pulled.skipped, ["pytorch_model.bin"]);
    assert_eq!(pulled.directory, scene.folder().join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(scene.folder().join("refs/main")).unwrap(), COMMIT);
    let files = scene.repository.files.lock().unwrap();
    let mut blobs: Vec<String> = TAKEN.iter().map(|name| git_sha1(&files[*name])).take(3).collect();
    blobs.push(sha256(&files[WEIGHTS]));
    blobs.sort();
    assert_eq!(scene.names("blobs"), blobs);
    #[cfg(unix)]
    {
        let link = |name: &str| fs::read_link(pulled.directory.join(name)).unwrap();
        assert_eq!(link(WEIGHTS), Path::new("../../blobs").join(sha256(&files[WEIGHTS])));
        assert_eq!(link("1_Extra/config.json"), Path::new("../../../blobs").join(git_sha1(b"{}")));
    }
}

#[test]
fn a_second_pull_fetches_nothing_but_the_list() {
    let scene = Scene::new(Repository::new());
    scene.pull().unwrap();
    let before = scene.hub.asked().len();
    let again = scene.pull().unwrap();
    assert_eq!((again.fetched.len(), again.kept.len(), again.bytes), (0, TAKEN.len(), 0));
    assert_eq!((scene.hub.asked().len() - before, scene.cdn.asked().len()), (1, 1));
}

/// The connection breaks twice in the middle of the weights; each time the rest is asked for, and no more.
#[test]
fn an_interrupted_file_goes_on_where_it_broke_off() {
    let scene = Scene::new(Repository::with_faults([Fault::CutAfter(30), Fault::CutAfter(20), Fault::Status(503)]));
    scene.expect_whole(&scene.pull().unwrap());
    assert_eq!(scene.ranges(), [None, Some(30), Some(50), Some(50)]);
}

#[test]
fn what_an_earlier_run_left_is_taken_up_again() {
    let scene = Scene::new(Repository::with_faults([Fault::CutAfter(30), Fault::Status(503), Fault::Status(503)]));
    let settings = HubSettings { patience: Patience { retries: 1, ..scene.settings().patience }, ..scene.settings() };
    let message = scene.refusal(ID, &settings);
    assert!(message.contains("30 of") && message.contains(WEIGHTS), "{message}");
    assert!(!scene.folder().join("refs/main").exists(), "a branch must not lead to a part of a model");
    let sizes: Vec<u64> = scene
        .names("blobs")
        .iter()
        .filter(|name| name.ends_with(".incomplete"))
        .map(|name| fs::metadata(scene.folder().join("blobs").join(name)).unwrap().len())
        .collect();
    assert_eq!(sizes, [30]);
    let pulled = scene.pull().unwrap();
    scene.expect_whole(&pulled);
    assert_eq!((pulled.fetched.as_slice(), pulled.kept.len()), (&[WEIGHTS.to_owned()][..], 3));
    assert_eq!(scene.ranges().last(), Some(&Some(30)));
}

#[test]
fn a_server_without_ranges_sends_the_whole_file_again() {
    let repository = Repository { ranges: false, ..Repository::with_faults([Fault::CutAfter(30)]) };
    let scene = Scene::new(repository);
    scene.expect_whole(&scene.pull().unwrap());
    assert_eq!(scene.ranges(), [None, Some(30)]);
}

#[test]
fn changed_bytes_are_refused_and_thrown_away() {
    let scene = Scene::new(Repository::with_faults([Fault::Changed]));
    let message = scene.refusal(ID, &scene.settings());
    assert!(message.contains(WEIGHTS) && message.contains("SHA-256"), "{message}");
    assert!(!scene.names("blobs").iter().any(|name| name.ends_with(".incomplete")), "{:?}", scene.names("blobs"));
    assert!(!scene.folder().join("snapshots").join(COMMIT).join(WEIGHTS).exists());
    scene.expect_whole(&scene.pull().unwrap());
}

/// The beginning that lies here is of another file: the end fits, the digest does not, and all is fetched once more.
#[test]
fn a_damaged_beginning_is_fetched_again() {
    let scene = Scene::new(Repository::new());
    let bytes = scene.repository.files.lock().unwrap()[WEIGHTS].clone();
    fs::create_dir_all(scene.folder().join("blobs")).unwrap();
    fs::write(scene.folder().join(format!("blobs/{}.incomplete", sha256(&bytes))), [7; 40]).unwrap();
    scene.expect_whole(&scene.pull().unwrap());
    assert_eq!(scene.ranges(), [Some(40), None]);
}

#[test]
fn a_damaged_blob_is_told_and_fetched_again() {
    let scene = Scene::new(Repository::new());
    let pulled = scene.pull().unwrap();
    let integrity = || -> Vec<(String, Integrity)> {
        Cache::check(&pulled.directory).unwrap().into_iter().map(|file| (file.name, file.integrity)).collect()
    };
    assert!(integrity().iter().all(|(_, integrity)| *integrity == Integrity::Intact), "{:?}", integrity());
    let blob = fs::canonicalize(pulled.directory.join("config.json")).unwrap();
    fs::write(&blob, "{\"model_type\": \"modelTvec\", \"normalize\": true}").unwrap();
    let damaged: Vec<_> = integrity().into_iter().filter(|(_, integrity)| *integrity == Integrity::Damaged).collect();
    assert_eq!(damaged, [("config.json".to_owned(), Integrity::Damaged)]);
    assert_eq!(scene.pull().unwrap().fetched, ["config.json"]);
    assert!(integrity().iter().all(|(_, integrity)| *integrity == Integrity::Intact));
}

#[test]
fn a_server_that_falls_silent_is_left_after_a_while_and_asked_for_the_rest() {
    let scene = Scene::new(Repository::with_faults([Fault::SilentAfter(25)]));
    let patience = Patience { silence: Duration::from_millis(100), ..scene.settings().patience };
    let pulled = pull(&HubSettings { patience, ..scene.settings() }, &id(ID), &Wanted::default()).unwrap();
    scene.expect_whole(&pulled);
    assert_eq!(scene.ranges(), [None, Some(25)]);
}

#[test]
fn a_mirror_whose_list_has_no_digests_is_asked_for_each_file() {
    let scene = Scene::new(Repository { digests: false, ..Repository::new() });
    scene.expect_whole(&scene.pull().unwrap());
    let heads = scene.hub.asked().iter().filter(|asked| asked.method == "HEAD").count();
    assert_eq!(heads, TAKEN.len());
    assert!(scene.cdn.asked().iter().all(|asked| asked.method == "GET"));
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let scene = Scene::new(Repository::new());
    let settings = HubSettings { token: Some(TOKEN.into()), ..scene.settings() };
    scene.expect_whole(&pull(&settings, &id(ID), &Wanted::default()).unwrap());
    let bearer = format!("Bearer {TOKEN}");
    assert!(scene.hub.asked().iter().all(|asked| asked.header("authorization") == Some(&bearer)));
    assert_eq!(scene.cdn.asked().len(), 1);
    assert!(scene.cdn.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let scene = Scene::new(Repository::new());
    let at = |revision: &str| id(&format!("{ID}@{revision}"));
    let pinned = pull(&scene.settings(), &at(COMMIT), &Wanted::default()).unwrap();
    assert_eq!(pinned.directory, scene.folder().join("snapshots").join(COMMIT));
    assert_eq!(scene.names("refs"), Vec::<String>::new(), "a commit needs no name");
    let tagged = pull(&scene.settings(), &at("v1"), &Wanted::default()).unwrap();
    assert_eq!(tagged.id, at(OLDER));
    assert_eq!((tagged.kept.len(), scene.names("refs")), (TAKEN.len(), vec!["v1".to_owned()]));
    let cache = Cache::new(scene.settings().cache);
    assert_eq!(cache.snapshot(&at("v1")).unwrap().commit, OLDER);
    assert_eq!(cache.snapshot(&at(COMMIT)).unwrap().commit, COMMIT);
    assert_eq!(cache.snapshot(&id(ID)), None, "the main branch was never asked for");
    assert_eq!(cache.models().len(), 2);
    // What the other commit shares stays.
    assert_eq!(cache.remove(&at("v1")).unwrap().snapshots, 1);
    assert_eq!((cache.models().len(), scene.names("blobs").len()), (1, TAKEN.len()));
    assert!(cache.remove(&id(ID)).unwrap().bytes > 0);
    assert!(!scene.folder().exists() && cache.remove(&id(ID)).is_err());
}

#[test]
fn refusals_say_what_to_do() {
    let scene = Scene::new(Repository::new());
    let with_token = HubSettings { token: Some(TOKEN.into()), ..scene.settings() };
    let offline = HubSettings { offline: true, ..scene.settings() };
    let closed = HubSettings { endpoint: closed_port(), ..scene.settings() };
    let cases: [(&str, &HubSettings, &[&str]); 6] = [
        ("owner/missing", &scene.settings(), &["401", "HF_TOKEN", "owner/missing"]),
        ("owner/missing", &with_token, &["spelling", "owner/missing"]),
        ("owner/gated", &scene.settings(), &["terms", "HF_TOKEN"]),
        ("owner/tiny@no-such-branch", &scene.settings(), &["no-such-branch", "revision"]),
        (ID, &offline, &["HF_HUB_OFFLINE"]),
        (ID, &closed, &["HF_ENDPOINT"]),
    ];
    for (model, settings, words) in cases {
        let message = scene.refusal(model, settings);
        assert!(words.iter().all(|word| message.contains(word)), "{model}: {message}");
        assert!(!message.contains(TOKEN), "{message}");
    }
    let asked = scene.hub.asked().len();
    scene.refusal(ID, &offline);
    assert_eq!(scene.hub.asked().len(), asked, "offline means to ask nobody");
}

/// The address of a port that nobody listens on.
fn closed_port() -> String {
    Server::start(|_| Answer::new(500, "")).url()
}

#[test]
fn a_name_that_leads_out_of_the_snapshot_stops_everything() {
    for name in ["../../../escaped.json", "/etc/escaped.json", "a/../../escaped.json", "..\\escaped.json"] {
        let scene = Scene::new(Repository::new());
        scene.repository.files.lock().unwrap().insert(name.to_owned(), b"{}".to_vec());
        let message = scene.refusal(ID, &scene.settings());
        assert!(message.contains("outside"), "{message}");
        assert!(!scene.folder().exists(), "{name}: something was written");
    }
}

#[test]
fn a_pickle_comes_by_name_only() {
    let scene = Scene::new(Repository::new());
    let by_name = |name: &str| Wanted { onnx: false, files: vec![name.to_owned()] };
    let pulled = pull(&scene.settings(), &id(ID), &by_name("pytorch_model.bin")).unwrap();
    assert_eq!(pulled.fetched, ["1_Extra/config.json", "config.json", "tokenizer.json", "pytorch_model.bin"]);
    assert_eq!(fs::read(pulled.directory.join("pytorch_model.bin")).unwrap(), b"\x80\x02runs code");
    assert!(!pulled.directory.join("modeling.py").exists());
    let error = pull(&scene.settings(), &id(ID), &by_name("model.onnx")).unwrap_err().to_string();
    assert!(error.contains("model.onnx") && error.contains(WEIGHTS), "{error}");
}

#[test]
fn a_digest_that_is_none_is_no_reason_to_trust() {
    assert_eq!(Digest::parse("\"0123\""), None);
    let hub = Server::start(|asked| match asked.path.starts_with("/api/") {
        true => {
            Answer::json(&json!({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}, {"rfilename": WEIGHTS}]}))
        }
        false => Answer::new(200, "{}").header("etag", "\"0123\""),
    });
    let cache = folder();
    let scene = Scene::new(Repository::new());
    let settings = HubSettings { endpoint: hub.url(), cache: cache.path().to_owned(), ..scene.settings() };
    let message = scene.refusal(ID, &settings);
    assert!(message.contains("config.json") && message.contains("digest"), "{message}");
}

/// One file of weights is there and the other is not: what is there looks like a whole model.
#[test]
fn an_interrupted_snapshot_is_not_taken_for_a_whole_one() {
    let scene = Scene::new(Repository::with_faults([Fault::CutAfter(40), Fault::Status(404)]));
    scene.repository.files.lock().unwrap().insert("0_Extra/other.safetensors".into(), vec![7; 40]);
    let settings = HubSettings { patience: Patience { retries: 0, ..scene.settings().patience }, ..scene.settings() };
    scene.refusal(ID, &settings);
    assert_eq!(scene.names(&format!("snapshots/{COMMIT}/0_Extra")), ["other.safetensors"]);
    let complete =
        || Cache::new(scene.settings().cache).models().iter().map(|model| model.complete).collect::<Vec<_>>();
    assert_eq!((complete(), scene.names(".pulling")), (vec![false], vec![COMMIT.to_owned()]));
    scene.pull().unwrap();
    assert_eq!(complete(), [true]);
    assert!(!scene.folder().join(".pulling").exists());
    // A whole one stays so while further files come.
    scene.repository.files.lock().unwrap().insert("0_Extra/third.safetensors".into(), vec![9; 40]);
    scene.repository.faults.lock().unwrap().push_back(Fault::Status(404));
    scene.refusal(ID, &settings);
    assert_eq!(complete(), [true]);
}

#[test]
fn files_of_the_same_name_and_bytes_in_two_folders_both_come() {
    let scene = Scene::new(Repository::new());
    let more = [
        ("2_Other/config.json", &b"{}"[..]),
        ("2_Other/model.safetensors", b"abc"),
        ("3_Other/model.safetensors", b"abcd"),
    ];
    for (name, bytes) in more {
        scene.repository.files.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
    }
    let pulled = scene.pull().unwrap();
    scene.expect_whole(&pulled);
    for (name, bytes) in more {
        assert_eq!(fs::read(pulled.directory.join(name)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn a_hub_that_asks_for_patience_gets_it_or_is_told_of() {
    let scene = Scene::new(Repository::with_faults([Fault::Status(429), Fault::Status(429)]));
    scene.expect_whole(&scene.pull().unwrap());
    let hub = Server::start(|_| Answer::new(429, "slow down").header("retry-after", 3600));
    let message = scene.refusal(ID, &HubSettings { endpoint: hub.url(), ..scene.settings() });
    assert!(message.contains("429") && message.contains("asks to wait for 3600 s"), "{message}");
    assert_eq!(hub.asked().len(), 1, "nobody waits for an hour");
}

#[test]
fn a_list_that_does_not_come_to_its_end_is_given_up() {
    let hub = Server::start(|_| Answer::new(200, "{\"sha\": \"and so on\"}").silent_after(8));
    let scene = Scene::new(Repository::new());
    let patience = Patience { request: Some(Duration::from_millis(100)), retries: 1, ..scene.settings().patience };
    let begun = std::time::Instant::now();
    let message = scene.refusal(ID, &HubSettings { endpoint: hub.url(), patience, ..scene.settings() });
    assert!(message.contains("list of files") && message.contains("tried 2 times"), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(8), "it waits for the silence of 10 s: {:?}", begun.elapsed());
}

#[test]
fn redirects_may_be_relative() {
    let scene = Scene::new(Repository::new());
    let repository = Arc::clone(&scene.repository);
    let cdn = scene.cdn.url();
    let hub = Server::start(move |asked| match asked.path.contains("/moved/") {
        true => {
            let mut moved = asked.clone();
            moved.path = asked.path.replace("/moved/", "/");
            repository.hub(&moved, &cdn)
        }
        false if asked.path.contains("/resolve/") => {
            let file = asked.path.rsplit_once(COMMIT).unwrap().1;
            let up = "../".repeat(file.matches('/').count());
            Answer::new(307, "").header("location", format!("{up}moved/{COMMIT}{file}"))
        }
        false => repository.hub(asked, &cdn),
    });
    let pulled = pull(&HubSettings { endpoint: hub.url(), ..scene.settings() }, &id(ID), &Wanted::default()).unwrap();
    scene.expect_whole(&pulled);
}

#[cfg(feature = "cli")]
mod command {
    use std::process::{Command, Output, Stdio};

    use super::*;

    impl Scene {
        fn quiver(&self, arguments: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_quiver"));
            command.args(arguments).current_dir(self.cache.path()).stdin(Stdio::null());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            for name in ["QUIVER_DB", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY"] {
                command.env_remove(name);
            }
            command.env("HF_HUB_CACHE", self.cache.path().join("hub")).env("HF_ENDPOINT", self.hub.url());
            command
        }

        #[track_caller]
        fn run(&self, arguments: &[&str], code: i32) -> Ran {
            Ran::of(self.quiver(arguments).output().unwrap(), code)
        }
    }

    struct Ran {
        stdout: String,
        stderr: String,
    }

    impl Ran {
        #[track_caller]
        fn of(output: Output, code: i32) -> Self {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            let ran = Self { stdout: text(output.stdout), stderr: text(output.stderr) };
            assert_eq!(output.status.code(), Some(code), "{}{}", ran.stdout, ran.stderr);
            ran
        }

        #[track_caller]
        fn json(&self) -> Value {
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
        }
    }

    #[test]
    fn a_named_model_is_fetched_once_used_and_remembered_by_its_commit() {
        let scene = Scene::new(Repository::new());
        fs::write(scene.cache.path().join("bread.md"), "dough and bread").unwrap();
        fs::write(scene.cache.path().join("threads.md"), "threads share data").unwrap();
        let added = scene.run(&["add", "bread.md", "threads.md", "--model", ID], 0);
        let line = format!("fetching {ID}@{COMMIT} from {}: 4 files", scene.hub.url());
        assert!(added.stderr.contains(&line), "{}", added.stderr);
        let asked = scene.hub.asked().len();
        let hits = scene.run(&["search", "--mode", "dense", "--json", "dough"], 0).json();
        assert_eq!(hits["hits"][0]["document"], "bread.md", "{hits:#}");
        let shown = scene.run(&["collections", "show", "default", "--json"], 0).json();
        let configuration = &shown["configuration"];
        assert_eq!((&configuration["model"]["id"], &configuration["model"]["revision"]), (&json!(ID), &json!(COMMIT)));
        assert_eq!(configuration["model_source"], format!("{ID}@{COMMIT}"));
        // The same model by name, by commit and offline: nobody is asked.
        let pinned = format!("{ID}@{COMMIT}");
        for model in [ID, &pinned] {
            let mut command = scene.quiver(&["search", "--in", "bread.md", "--model", model, "dough"]);
            Ran::of(command.env("HF_HUB_OFFLINE", "1").output().unwrap(), 0);
        }
        let mut command = scene.quiver(&["search", "--model", "builtin", "dough"]);
        assert!(Ran::of(command.output().unwrap(), 2).stderr.contains(ID));
        assert_eq!(scene.hub.asked().len(), asked);
        // A collection fetches nothing by itself, even where it could.
        scene.run(&["models", "remove", ID], 0);
        let lost = scene.run(&["search", "--mode", "dense", "dough"], 1);
        assert!(lost.stderr.contains(&format!("quiver models pull {pinned}")), "{}", lost.stderr);
        assert_eq!(scene.hub.asked().len(), asked);
        scene.run(&["models", "pull", &pinned], 0);
        scene.run(&["search", "--mode", "dense", "dough"], 0);
    }

    #[test]
    fn what_is_not_there_and_may_not_be_fetched_is_told() {
        let scene = Scene::new(Repository::new());
        let embed = |model: &str, offline: bool, code: i32| {
            let mut command = scene.quiver(&["embed", "--model", model]);
            Ran::of(command.env("TRANSFORMERS_OFFLINE", if offline { "1" } else { "0" }).output().unwrap(), code).stderr
        };
        let message = embed("all-minilm-l6-v2", true, 1);
        assert!(message.contains("quiver models pull sentence-transformers/all-MiniLM-L6-v2"), "{message}");
        assert!(message.contains("TRANSFORMERS_OFFLINE"), "{message}");
        let message = embed("owner/missing", false, 1);
        assert!(message.contains("no such directory") && message.contains("HF_TOKEN"), "{message}");
        let message = embed("nonesuch", false, 1);
        assert!(message.contains("no such directory") && message.contains("models list"), "{message}");
        assert!(scene.cdn.asked().is_empty());
    }

    #[test]
    fn models_are_pulled_listed_shown_verified_and_removed() {
        let scene = Scene::new(Repository::new());
        let pulled = scene.run(&["models", "pull", ID, "--json"], 0).json();
        assert_eq!((&pulled["fetched"], &pulled["skipped"]), (&json!(TAKEN), &json!(["pytorch_model.bin"])));
        let listed = scene.run(&["models", "list", "--json"], 0).json();
        let row = &listed["cached"][0];
        assert_eq!((&row["id"], &row["files"], &row["complete"]), (&json!(ID), &json!(4), &json!(true)));
        assert!(listed["known"].as_array().unwrap().iter().any(|model| model["id"] == "BAAI/bge-m3"));
        let people = scene.run(&["models"], 0).stdout;
        assert!(people.contains(ID) && people.contains("all-MiniLM-L6-v2") && people.contains("builtin"), "{people}");
        let shown = scene.run(&["models", "show", ID, "--json"], 0).json();
        assert_eq!((&shown["spec"]["id"], &shown["spec"]["revision"]), (&json!(ID), &json!(COMMIT)));
        assert!(scene.run(&["models", "verify", ID], 0).stdout.contains("intact"));
        let directory = pulled["directory"].as_str().unwrap();
        fs::write(fs::canonicalize(format!("{directory}/{WEIGHTS}")).unwrap(), "not these").unwrap();
        for place in [ID, directory] {
            let damaged = scene.run(&["models", "verify", place], 1);
            assert!(damaged.stderr.contains(WEIGHTS) && damaged.stdout.contains("damaged"), "{}", damaged.stderr);
        }
        assert_eq!(scene.run(&["models", "pull", ID, "--json"], 0).json()["fetched"], json!([WEIGHTS]));
        assert_eq!(scene.run(&["models", "remove", ID, "--json"], 0).json()["snapshots"], 1);
        scene.run(&["models", "remove", ID], 1);
        scene.run(&["models", "verify", ID], 1);
        scene.run(&["models", "pull", "no/such/id"], 2);
    }

    /// The other host answers only when both processes have asked for the list: the file is fetched by one of them, and
    /// the other one waits for it.
    #[test]
    fn two_processes_fetch_a_file_once() {
        let scene = Scene::new(Repository { lists_awaited: 2, ..Repository::new() });
        let both: Vec<_> = (0..2).map(|_| scene.quiver(&["models", "pull", ID, "--json"]).spawn().unwrap()).collect();
        let fetched: Vec<usize> = both
            .into_iter()
            .map(|child| Ran::of(child.wait_with_output().unwrap(), 0).json()["fetched"].as_array().unwrap().len())
            .collect();
        assert_eq!(fetched.iter().sum::<usize>(), TAKEN.len());
        assert_eq!(scene.cdn.asked().len(), 1);
        scene.expect_whole(&scene.pull().unwrap());
    }
}
