//! Is it alive, who may ask, and how does it refuse?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use quiverdb::server::{Limits, LogFormat, Server, Settings, Tls};
use quiverdb::{Database, Document};
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::Serving;

const KEY: &str = "a key of more than 16 bytes";
const READ_KEY: &str = "a key that may only read";

fn keyed() -> Serving {
    let settings =
        Settings { api_keys: vec![KEY.into()], read_only_keys: vec![READ_KEY.into()], ..Settings::default() };
    Serving::with(Database::in_memory().unwrap(), settings)
}

#[test]
fn a_server_says_that_it_is_alive_and_ready_and_what_it_is() {
    let server = Serving::new();
    assert_eq!(server.get("/healthz").expect(200), json!({"status": "ok"}));
    assert_eq!(server.get("/readyz").expect(200), json!({"status": "ready"}));
    assert_eq!(server.get("/version").expect(200)["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_is_not_there_is_refused_in_our_shape() {
    let server = Serving::new();
    let (code, message) = server.get("/v1/nothing").failure(404);
    assert_eq!((code.as_str(), message.contains("/v1/nothing")), ("not_found", true), "{message}");
    assert_eq!(server.delete("/v1/collections").failure(405).0, "method_not_allowed");
}

#[test]
fn a_key_is_asked_for_before_anything_else() {
    let server = keyed();
    server.get("/healthz").expect(200);
    assert_eq!(server.get("/v1/collections").failure(401).0, "unauthorized");
    let bearer = format!("Bearer {KEY}");
    for header in [("authorization", bearer.as_str()), ("api-key", KEY), ("api-key", READ_KEY)] {
        server.ask("GET", "/v1/collections", &[header], &Value::Null).expect(200);
    }
    assert_eq!(
        server.ask("GET", "/v1/collections", &[("api-key", "another")], &Value::Null).failure(401).0,
        "unauthorized"
    );
}

#[test]
fn a_foreign_host_or_origin_is_refused() {
    let server = Serving::new();
    let ask = |headers: &[(&str, &str)]| server.ask("GET", "/v1/collections", headers, &Value::Null);
    assert_eq!(ask(&[("host", "evil.example")]).failure(403).0, "forbidden");
    assert_eq!(ask(&[("origin", "https://evil.example")]).failure(403).0, "forbidden");
    let own = format!("http://{}", server.address);
    ask(&[("origin", &own)]).expect(200);
}

#[test]
fn metrics_count_requests_by_route_and_name_nothing_that_a_client_made_up() {
    let server = Serving::new();
    server.database.collection("notes").unwrap().add(Document::new("1", "A river.")).unwrap();
    server.get("/v1/collections").expect(200);
    server.get("/v1/made-up").expect(404);
    server.ask("GET", "/v1/collections?token=made-up", &[("x-made-up", "1")], &Value::Null).expect(200);
    let Value::String(text) = server.get("/metrics").expect(200) else { panic!("no text") };
    for line in [
        "quiver_http_requests_total{method=\"GET\",route=\"/v1/collections\",status=\"200\"} 2",
        "quiver_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "quiver_http_request_seconds_count{route=\"/v1/collections\"} 2",
        "quiver_http_requests_in_flight 1",
        "quiver_call_seconds_count{lane=\"read\"} 2",
        "quiver_calls_waiting{lane=\"read\"} 0",
        "quiver_collection_documents{collection=\"notes\"} 1.0",
        "quiver_collection_chunks{collection=\"notes\"} 1.0",
        "quiver_model_state{model=\"builtin\",state=\"ready\"} 1.0",
        "quiver_embedding_cache_hits_total",
        "# EOF",
    ] {
        assert!(text.lines().any(|there| there.starts_with(line)), "{line} is not in\n{text}");
    }
    assert!(!text.contains("made-up"), "{text}");
}

#[test]
fn metrics_tell_how_long_the_stages_of_every_search_took() {
    let server = Serving::new();
    server.database.collection("notes").unwrap().add(Document::new("1", "A river.")).unwrap();
    let ask = |path: &str, body: Value| server.post(&format!("/v1/collections/notes/{path}"), &body).expect(200);
    ask("search", json!({"query": "river"}));
    ask("search/batch", json!({"queries": [{"query": "river"}, {"query": "sea"}]}));
    ask("context", json!({"query": "river", "budget_tokens": 100}));
    server.post("/v1/collections/notes/search", &json!({"query": ""})).expect(400);
    let Value::String(text) = server.get("/metrics").expect(200) else { panic!("no text") };
    for stage in ["embed", "filter", "retrieve", "fuse", "rerank", "hydrate", "total"] {
        let line = format!("quiver_search_stage_seconds_count{{stage=\"{stage}\"}} 4");
        assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
    }
    let total = text.lines().find_map(|line| line.strip_prefix("quiver_search_stage_seconds_sum{stage=\"total\"} "));
    assert!(total.is_some_and(|seconds| (0.0..600.0).contains(&seconds.parse::<f64>().unwrap())), "{text}");
}

#[test]
fn metrics_and_the_document_of_routes_need_a_key_where_there_is_one() {
    let server = keyed();
    for path in ["/metrics", "/openapi.json", "/version"] {
        assert_eq!(server.get(path).failure(401).0, "unauthorized", "{path}");
        server.ask("GET", path, &[("api-key", READ_KEY)], &Value::Null).expect(200);
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/server").join(name)
}

#[test]
fn https_is_spoken_with_the_operators_certificate_and_plain_http_is_not() {
    let tls = Some(Tls { certificate: fixture("certificate.pem"), key: fixture("key.pem") });
    let limits = Limits { header_seconds: 1, ..Limits::default() };
    let server = Serving::with(Database::in_memory().unwrap(), Settings { tls, limits, ..Settings::default() });
    let mut roots = rustls::RootCertStore::empty();
    let certificate = std::fs::read(fixture("certificate.pem")).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, TcpStream::connect(server.address).unwrap());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));

    // One that says nothing is let go, and so is one that speaks without TLS.
    for bytes in [&b""[..], b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut plain = TcpStream::connect(server.address).unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        plain.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let ended = plain.read_to_end(&mut answer);
        assert!(ended.is_ok_and(|_| !answer.starts_with(b"HTTP")));
    }
}

#[test]
fn files_that_are_no_certificate_or_no_key_are_refused_by_name() {
    let bind = |certificate: PathBuf, key: PathBuf| {
        let listen = "127.0.0.1:0".parse().unwrap();
        let settings = Settings { listen, tls: Some(Tls { certificate, key }), ..Settings::default() };
        Server::bind(Database::in_memory().unwrap(), settings).err().unwrap().to_string()
    };
    assert!(bind(fixture("key.pem"), fixture("key.pem")).contains("key.pem is of no use for HTTPS"));
    assert!(bind(fixture("certificate.pem"), fixture("certificate.pem")).contains("certificate.pem is of no use"));
    assert!(bind(fixture("none.pem"), fixture("key.pem")).contains("none.pem"));
}

/// `quiver serve --print-config` with these flags and variables, and nothing of this process's own.
fn config(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quiver"));
    command.env_clear().args(["serve", "--print-config"]).args(arguments).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn flags_stand_above_the_environment_and_that_above_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quiver.toml");
    std::fs::write(
        &file,
        "listen = '127.0.0.1:1'\nhosts = ['file']\nlog = 'json'\n[limits]\nhits = 1\nbatch = 1\nqueue = 1\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let variables = [
        ("QUIVER_CONFIG", file),
        ("QUIVER_LISTEN", "127.0.0.1:2"),
        ("QUIVER_HOST", "one,two"),
        ("QUIVER_API_KEY", "0123456789abcdef"),
        ("QUIVER_LIMIT", "hits=2,batch=2"),
    ];
    let (done, text) = config(&["--listen", "127.0.0.1:3"], &variables);
    assert!(done, "{text}");
    let settings = Settings::parse(&text).unwrap();
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.hosts, ["one", "two"]);
    assert_eq!((settings.limits.hits, settings.limits.batch, settings.limits.queue), (2, 2, 1));
    assert_eq!(settings.log, LogFormat::Json);
    assert!(!text.contains("0123456789abcdef") && text.contains("16 bytes, hidden"), "{text}");
    let (_, text) = config(&["--limit", "hits=3"], &[("QUIVER_CONFIG", file), ("QUIVER_LIMIT", "batch=2")]);
    let limits = Settings::parse(&text).unwrap().limits;
    assert_eq!((limits.hits, limits.batch), (3, 2));
}

#[test]
fn settings_that_are_not_known_or_not_safe_are_refused_by_name() {
    for (arguments, variables, says) in [
        (&[][..], &[("QUIVER_API_KEYS", "0123456789abcdef")][..], "QUIVER_API_KEYS"),
        (&["--limit", "hit=3"], &[], "`hit`"),
        (&["--listen", "0.0.0.0:1"], &[], "--api-key"),
        (&["--listen", "0.0.0.0:1", "--api-key", "0123456789abcdef"], &[], "--insecure"),
        (&["--api-key", "short"], &[], "openssl rand -hex 32"),
        (&["--cors-origin", "*"], &[], "`*`"),
        (&["--tls-key", "key.pem"], &[], "--tls-certificate"),
        (&["--log", "xml"], &[], "`xml`"),
        (&["--config", "/nonexistent/quiver.toml"], &[], "/nonexistent/quiver.toml"),
    ] {
        let (done, text) = config(arguments, variables);
        assert!(!done && text.contains(says), "{arguments:?} {variables:?}: {text}");
    }
    let (done, text) = config(&[], &[("QUIVER_SERVICE_HOST", "10.0.0.1"), ("QUIVER_API_KEY_MODELS_EXAMPLE", "x")]);
    assert!(done, "what Kubernetes and models on other machines need: {text}");
}
