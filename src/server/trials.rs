//! Do guards, limits and connections hold? Against a server with routes that were made to try them: one that panics, one
//! that waits until it is told to stop, one that takes any JSON, one whose answer nobody could take up at once.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::app::{Answer, App};
use super::body::Json;
use super::operation;
use super::{Limits, Server, Settings, Stop, guard};
use crate::Database;

/// Longer than anything here takes; only a failure waits for it.
const LONG: Duration = Duration::from_secs(20);
const KEY: &str = "a key of more than 16 bytes";
const READ_KEY: &str = "a key that may only read";

/// A server under trial.
struct Trial {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    /// What `/wait` says: that it began, and that it was told to stop.
    said: Mutex<Receiver<&'static str>>,
    /// Ends `/wait` well.
    release: Arc<AtomicBool>,
}

#[derive(Serialize, Deserialize)]
struct Pair {
    one: u32,
    #[serde(default)]
    two: u32,
}

/// Says that it ends.
struct Ending(Sender<&'static str>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

fn routes(said: Sender<&'static str>, release: Arc<AtomicBool>) -> Router<Arc<App>> {
    let sent = Arc::new(Mutex::new(said.clone()));
    let wait = move |State(app): State<Arc<App>>| {
        let (said, release) = (said.clone(), release.clone());
        async move { app.write(move |_, cancel| Ok(Json(until_told(&said, &release, cancel)))).await }
    };
    let endless = move || {
        let ending = Ending(sent.lock().unwrap().clone());
        async move {
            let pieces = futures_util::stream::unfold(ending, |ending| async move {
                Some((Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; 1 << 20])), ending))
            });
            Body::from_stream(pieces)
        }
    };
    Router::new()
        .route("/any", post(async |Json(value): Json<Value>| Json(value)))
        .route("/pair", post(async |Json(pair): Json<Pair>| Json(pair)))
        .route(
            "/panic",
            get(async |State(app): State<Arc<App>>| -> Answer<Json<u32>> {
                app.read(|_| panic!("as it was told")).await
            }),
        )
        .route("/handler", get(async || -> Json<u32> { panic!("as it was told") }))
        .route("/wait", get(wait))
        .route("/endless", get(endless))
        .route("/things/{id}", post(async |Path(id): Path<String>| Json(id)).delete(async || Json("gone")))
        .route("/things/{id}/search", post(async |Path(id): Path<String>| Json(id)))
        .merge(operation::routes())
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
}

/// Works until it is let go or told to stop.
fn until_told(said: &Sender<&'static str>, release: &AtomicBool, cancel: &AtomicBool) -> &'static str {
    said.send("began").unwrap();
    let began = Instant::now();
    while began.elapsed() < LONG {
        if cancel.load(Ordering::Relaxed) {
            said.send("told to stop").unwrap();
            return "stopped";
        }
        if release.load(Ordering::Relaxed) {
            return "done";
        }
        std::thread::yield_now();
    }
    "nobody said anything"
}

impl Trial {
    fn new(limits: Limits) -> Self {
        Self::with(Settings { limits, ..Settings::default() })
    }

    fn with(mut settings: Settings) -> Self {
        settings.listen.set_port(0);
        let server = Server::bind(Database::in_memory().unwrap(), settings).unwrap();
        let (address, stop) = (server.address().unwrap(), server.stop());
        let (says, said) = channel();
        let release = Arc::new(AtomicBool::new(false));
        let routes = routes(says, release.clone());
        let thread = std::thread::spawn(move || server.run_with(routes).unwrap());
        Self { address, stop, thread: Some(thread), said: Mutex::new(said), release }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// All that comes back for these bytes until the server closes.
    fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        // A server that has refused may close before all is sent.
        let _ = stream.write_all(bytes.as_ref());
        rest(stream)
    }

    fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn post(&self, path: &str, headers: &str, body: &[u8]) -> String {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{headers}\r\n"
        );
        self.raw([head.as_bytes(), body].concat())
    }

    fn expect_said(&self, what: &str) {
        assert_eq!(self.said.lock().unwrap().recv_timeout(LONG).unwrap(), what);
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.release.store(true, Ordering::Relaxed);
        self.stop.tell();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// What comes until the other side closes; a reset ends it as well.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let began = Instant::now();
    let mut piece = [0; 4096];
    while let Ok(count) = stream.read(&mut piece) {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..count]);
    }
    assert!(began.elapsed() < LONG, "the server did not close");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The status of the first answer.
fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// The answer has this status and, in our shape, this code and an id.
#[track_caller]
fn expect_failure(answer: &str, expected: u16, code: &str) {
    assert_eq!(status(answer), expected, "{answer}");
    assert!(answer.contains(&format!("\"code\":\"{code}\"")) && answer.contains("\"request_id\":\""), "{answer}");
}

#[test]
fn a_thousand_panics_are_answered_and_harm_nobody_else() {
    let trial = Trial::new(Limits::default());
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let trial = &trial;
            threads.spawn(move || {
                for round in 0..250 {
                    let path = if (thread + round) % 5 == 0 { "/handler" } else { "/panic" };
                    expect_failure(&trial.get(path), 500, "internal");
                }
            });
        }
        for _ in 0..200 {
            assert_eq!(status(&trial.post("/any", "", b"[1]")), 200);
        }
    });
    let metrics = trial.get("/metrics");
    assert!(metrics.contains("quiver_calls_running{lane=\"read\"} 0\n"), "{metrics}");
    assert!(metrics.contains("quiver_http_requests_in_flight 1\n"), "{metrics}");
}

#[test]
fn json_that_is_none_or_not_of_the_shape_is_refused() {
    let trial = Trial::new(Limits::default());
    let deep = |open: &str, close: &str| [open.repeat(100_000), close.repeat(100_000)].concat();
    for body in [&deep("[", "]"), &deep("{\"a\":", "}"), "{", "", "nul", "[1] [2]", "\u{feff}[1]", "[\"\\ud800\"]"] {
        expect_failure(&trial.post("/any", "", body.as_bytes()), 400, "invalid_json");
    }
    expect_failure(&trial.post("/any", "", b"[\"\xff\"]"), 400, "invalid_json");
    let answer = trial.post("/pair", "", br#"{"one": 1, "one": 2}"#);
    expect_failure(&answer, 400, "invalid_json");
    assert!(answer.contains("duplicate field `one`"), "{answer}");
    assert!(trial.post("/pair", "", br#"{"one": 1e40}"#).contains("one: "));
    let fields: Vec<String> = (0..100_000).map(|field| format!("\"f{field}\":{field}")).collect();
    assert_eq!(status(&trial.post("/any", "", format!("{{{}}}", fields.join(",")).as_bytes())), 200);
    let plain = "POST /any HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n[]";
    expect_failure(&trial.raw(plain), 415, "unsupported_media_type");
    expect_failure(&trial.post("/things/%ff", "", b"[]"), 400, "invalid_request");
}

#[test]
#[cfg(feature = "documents")]
fn a_bomb_is_stopped_at_the_limit_and_what_is_not_compressed_as_it_says_is_refused() {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let trial = Trial::new(Limits { body_bytes: 1 << 20, ..Limits::default() });
    // Ten megabytes that would be ten gigabytes: a member of gzip may follow another.
    let bomb = gzip(&vec![b' '; 100 << 20]).repeat(100);
    let began = Instant::now();
    expect_failure(&trial.post("/any", "Content-Encoding: gzip\r\n", &bomb), 413, "body_too_large");
    assert!(began.elapsed() < LONG);
    expect_failure(&trial.post("/any", "", &vec![b' '; 2 << 20]), 413, "body_too_large");

    let good = gzip(b"[1]");
    assert_eq!(status(&trial.post("/any", "Content-Encoding: gzip\r\n", &good)), 200);
    let two = [gzip(b"[1"), gzip(b", 2]")].concat();
    assert!(trial.post("/any", "Content-Encoding: gzip\r\n", &two).ends_with("\r\n\r\n[1,2]"));
    for (bytes, what) in [
        ([&good[..], b"and more"].concat(), "trailing garbage"),
        (good[..good.len() - 4].to_vec(), "cut off"),
        (b"[1]".to_vec(), "not compressed"),
    ] {
        assert_eq!(status(&trial.post("/any", "Content-Encoding: gzip\r\n", &bytes)), 400, "{what}");
    }
    for encoding in ["gzip, gzip", "br", "deflate", "x"] {
        let answer = trial.post("/any", &format!("Content-Encoding: {encoding}\r\n"), &good);
        expect_failure(&answer, 415, "unsupported_media_type");
    }
}

#[test]
fn a_body_that_does_not_come_and_a_head_that_does_not_end_are_given_up() {
    let trial = Trial::new(Limits { body_seconds: 1, header_seconds: 1, ..Limits::default() });
    let head = "POST /any HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    expect_failure(&trial.raw(format!("{head}Content-Length: 9\r\n\r\n[1")), 408, "body_timeout");
    expect_failure(&trial.raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n")), 408, "body_timeout");
    // Closed, with an answer or without one.
    trial.raw("GET /healthz HTTP/1.1\r\nHost: local");
    trial.raw("");
    let answer = trial.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(status(&answer), 200, "and a connection that asks nothing more is closed: {answer}");
}

#[test]
fn an_answer_that_nobody_takes_up_is_given_up() {
    let trial = Trial::new(Limits { body_seconds: 1, ..Limits::default() });
    let mut stream = trial.connect();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    trial.expect_said("dropped");
}

#[test]
fn work_that_nobody_waits_for_is_told_to_stop() {
    let trial = Trial::new(Limits::default());
    let mut stream = trial.connect();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    trial.expect_said("began");
    drop(stream);
    trial.expect_said("told to stop");
}

#[test]
fn work_that_takes_too_long_is_told_to_stop_and_the_client_is_told() {
    let trial = Trial::new(Limits { request_seconds: 1, ..Limits::default() });
    expect_failure(&trial.get("/wait"), 504, "timeout");
    trial.expect_said("began");
    trial.expect_said("told to stop");
}

#[test]
fn one_request_too_many_is_told_to_come_again_and_the_server_is_still_alive() {
    let trial = Trial::new(Limits { requests: 1, ..Limits::default() });
    let mut first = trial.connect();
    first.write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    trial.expect_said("began");
    let answer = trial.post("/any", "", b"[]");
    expect_failure(&answer, 503, "busy");
    assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert_eq!(status(&trial.get("/healthz")), 200);
    trial.release.store(true, Ordering::Relaxed);
    assert!(rest(first).contains("\"done\""));
    assert_eq!(status(&trial.post("/any", "", b"[]")), 200);
}

#[test]
fn calls_beyond_the_queue_are_told_to_come_again() {
    let trial = Trial::new(Limits { writes_at_once: 1, queue: 1, ..Limits::default() });
    let ask = || {
        let mut stream = trial.connect();
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    let working = ask();
    trial.expect_said("began");
    // Of two that come now, one waits and one is refused; which of them is chance.
    let (mut two, mut three) = (Some(ask()), Some(ask()));
    let waiting = |metrics: &str| metrics.contains("quiver_calls_refused_total{lane=\"write\"} 1\n");
    let began = Instant::now();
    while !waiting(&trial.get("/metrics")) {
        assert!(began.elapsed() < LONG);
    }
    trial.release.store(true, Ordering::Relaxed);
    let answers = [rest(working), rest(two.take().unwrap()), rest(three.take().unwrap())];
    let mut statuses: Vec<u16> = answers.iter().map(|answer| status(answer)).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
}

#[test]
fn one_connection_too_many_is_told_so_and_that_the_server_is_alive() {
    let trial = Trial::new(Limits { connections: 1, ..Limits::default() });
    let mut first = trial.connect();
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(first.read(&mut [0; 9]).unwrap(), 9, "it is taken");
    assert_eq!(status(&trial.get("/healthz")), 200);
    expect_failure(&trial.post("/any", "", b"[]"), 503, "busy");
    drop(first);
    let began = Instant::now();
    while status(&trial.post("/any", "", b"[]")) != 200 {
        assert!(began.elapsed() < LONG);
    }
}

#[test]
fn what_was_asked_is_answered_when_the_server_stops() {
    let mut trial = Trial::new(Limits::default());
    let mut stream = trial.connect();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    trial.expect_said("began");
    trial.stop.tell();
    trial.release.store(true, Ordering::Relaxed);
    assert!(rest(stream).ends_with("\"done\""));
    trial.thread.take().unwrap().join().unwrap();
    assert!(TcpStream::connect(trial.address).is_err());
}

#[test]
fn work_that_does_not_end_is_told_to_stop_when_the_server_has_waited_long_enough() {
    let mut trial = Trial::new(Limits { stop_seconds: 1, ..Limits::default() });
    let mut stream = trial.connect();
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    trial.expect_said("began");
    trial.stop.tell();
    trial.expect_said("told to stop");
    trial.thread.take().unwrap().join().unwrap();
}

#[test]
fn what_a_key_may_is_told_by_the_route_and_not_by_a_name_in_the_path() {
    let settings =
        Settings { api_keys: vec![KEY.into()], read_only_keys: vec![READ_KEY.into()], ..Settings::default() };
    let trial = Trial::with(settings);
    let post = |path: &str, key: &str| trial.post(path, &format!("Authorization: Bearer {key}\r\n"), b"[]");
    assert_eq!(status(&post("/things/x/search", READ_KEY)), 200);
    for path in ["/things/search", "/things/%2fsearch", "/things/embed", "/things/x"] {
        expect_failure(&post(path, READ_KEY), 403, "forbidden");
        assert_eq!(status(&post(path, KEY)), 200);
    }
    expect_failure(&post("/things/x/search/", READ_KEY), 404, "not_found");
    for header in [
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearerx\r\n",
        "Authorization: Basic YTpi\r\n",
        "Authorization: \u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\r\n",
        "api-key:\r\n",
        "api-key: a key of more than 16 byte\r\n",
        "",
    ] {
        let answer = trial.post("/things/x/search", header, b"[]");
        expect_failure(&answer, 401, "unauthorized");
        assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
    }
    let both = format!("Authorization: Basic YTpi\r\napi-key: {KEY}\r\n");
    assert_eq!(status(&trial.post("/things/x", &both, b"[]")), 200, "something before us wanted the first");
    expect_failure(&trial.get("/metrics"), 401, "unauthorized");
    assert_eq!(status(&trial.get("/healthz")), 200);
}

#[test]
fn a_server_that_only_reads_writes_for_nobody() {
    let trial = Trial::with(Settings { read_only: true, api_keys: vec![KEY.into()], ..Settings::default() });
    let key = format!("api-key: {KEY}\r\n");
    expect_failure(&trial.post("/things/x", &key, b"[]"), 403, "forbidden");
    assert_eq!(status(&trial.post("/things/x/search", &key, b"[]")), 200);
}
