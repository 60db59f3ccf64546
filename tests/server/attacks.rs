//! What of that which a stranger may send gets in? Bytes as they go over the wire; what needs routes made for the purpose is
//! tried beside the guards.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use quiverdb::Database;
use quiverdb::server::Settings;

use super::Serving;

const KEY: &str = "a key of more than 16 bytes";

/// All that comes back for these bytes until the server closes.
fn raw(server: &Serving, bytes: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A server that refuses may reset.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of all answers that come back for a request with these lines in its head.
fn statuses(server: &Serving, first: &str, headers: &str) -> Vec<u16> {
    let answer = raw(server, &format!("{first} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"));
    let heads = answer.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head[..3].parse().unwrap()).collect()
}

#[test]
fn one_host_that_is_ours_and_nothing_else() {
    let settings = Settings { hosts: vec!["search.example".into()], ..Settings::default() };
    let server = Serving::with(Database::in_memory().unwrap(), settings);
    let ask = |headers: &str| statuses(&server, "GET /v1/collections", headers);
    for host in [
        "localhost",
        "LOCALHOST:7333",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "10.1.2.3:80",
        "Search.Example:443",
    ] {
        assert_eq!(ask(&format!("Host: {host}\r\n")), [200], "{host}");
    }
    for host in [
        "",
        "evil.example",
        "localhost.evil.example",
        "localhost:80@evil.example",
        "evil.example:localhost",
        "localhost:x",
        "127.0.0.1.evil.example",
        "[::1]evil",
        "[::1",
        "user@localhost",
        "\u{e9}.example",
        "xsearch.example",
    ] {
        let refused = ask(&format!("Host: {host}\r\n"));
        assert!(refused == [403] || refused == [400], "{host}: {refused:?}");
    }
    assert_eq!(ask(""), [400]);
    assert_eq!(ask("Host: localhost\r\nHost: localhost\r\n"), [400]);
    assert_eq!(statuses(&server, "GET http://localhost/v1/collections", "Host: localhost\r\n"), [200]);
    assert_eq!(statuses(&server, "GET http://evil.example/v1/collections", "Host: localhost\r\n"), [403]);
    assert_eq!(statuses(&server, "GET http://localhost/v1/collections", "Host: evil.example\r\n"), [403]);
}

#[test]
fn pages_of_others_may_not_ask_and_where_they_may_a_browser_is_told_so_without_a_key() {
    let page = "https://app.example";
    let settings = Settings { cors_origins: vec![page.into()], api_keys: vec![KEY.into()], ..Settings::default() };
    let server = Serving::with(Database::in_memory().unwrap(), settings);
    let preflight = |server: &Serving, origin: &str| {
        let head = "OPTIONS /v1/collections HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let asks = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: api-key,content-type\r\n";
        raw(server, &format!("{head}Origin: {origin}\r\n{asks}\r\n")).to_ascii_lowercase()
    };
    let allowed = preflight(&server, page);
    assert!(allowed.starts_with("http/1.1 200"), "{allowed}");
    assert!(allowed.contains("access-control-allow-origin: https://app.example\r\n"), "{allowed}");
    for origin in ["https://evil.example", "null", "http://app.example", "https://app.example.evil.example", ""] {
        let refused = preflight(&server, origin);
        assert!(refused.starts_with("http/1.1 403"), "{origin}: {refused}");
        assert!(!refused.contains("access-control-allow-origin"), "{origin}: {refused}");
    }
    let both = format!("Host: localhost\r\napi-key: {KEY}\r\nOrigin: {page}\r\nOrigin: https://evil.example\r\n");
    assert_eq!(statuses(&server, "GET /v1/collections", &both), [403]);
    // A page that may ask is told why it was refused.
    let keyless = raw(
        &server,
        &format!("GET /v1/collections HTTP/1.1\r\nHost: localhost\r\nOrigin: {page}\r\nConnection: close\r\n\r\n"),
    );
    assert!(keyless.starts_with("HTTP/1.1 401"), "{keyless}");
    let keyless = keyless.to_ascii_lowercase();
    assert!(keyless.contains("access-control-allow-origin: https://app.example"), "{keyless}");
    let exposed = keyless.lines().find_map(|line| line.strip_prefix("access-control-expose-headers: "));
    assert!(exposed.is_some_and(|names| names.contains("x-request-id") && names.contains("retry-after")), "{keyless}");
    // Without a configured origin there is no CORS at all.
    let closed = preflight(&Serving::new(), page);
    assert!(closed.starts_with("http/1.1 403") && !closed.contains("access-control"), "{closed}");
}

#[test]
fn requests_in_a_row_are_answered_in_their_order_and_a_head_alone_has_no_body() {
    let server = Serving::new();
    let ask = |path: &str, last: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
    let answer =
        raw(&server, &[ask("/healthz", ""), ask("/version", ""), ask("/nothing", "Connection: close\r\n")].concat());
    let at = |what: &str| answer.find(what).unwrap_or_else(|| panic!("no {what}: {answer}"));
    assert!(at("\"ok\"") < at("\"quiverdb\"") && at("\"quiverdb\"") < at("not_found"), "{answer}");
    let head = raw(&server, "HEAD /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn what_is_no_request_is_refused_and_the_next_one_is_answered() {
    let server = Serving::new();
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let both = "POST /v1/collections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n0\r\n\r\nGET /version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let lengths =
        "POST /v1/collections HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc";
    let folded = "GET /version HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n";
    let upgrade = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [long.as_str(), many.as_str(), both, lengths, folded, upgrade, "\0\0\0\0\r\n\r\n", "GET\r\n\r\n"] {
        let answer = raw(&server, bytes);
        assert!(!answer.contains("quiverdb") && !answer.contains("HTTP/1.1 5"), "{bytes:.60}: {answer}");
        server.get("/healthz").expect(200);
    }
}

#[test]
fn an_answer_says_that_it_is_not_to_be_guessed_at_and_which_request_it_is_of() {
    let server = Serving::new();
    let ask = |id: &str| {
        let head = "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        raw(&server, &format!("{head}X-Request-Id: {id}\r\n\r\n")).to_ascii_lowercase()
    };
    let answer = ask("mine-1");
    assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    assert!(answer.contains("cross-origin-resource-policy: same-origin\r\n"), "{answer}");
    assert!(answer.contains("x-request-id: mine-1\r\n"), "{answer}");
    for forged in ["a b", "a\"b", "<script>", &"x".repeat(65)] {
        assert!(!ask(forged).contains(&forged.to_ascii_lowercase()), "{forged}");
    }
}
