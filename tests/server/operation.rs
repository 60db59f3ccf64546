//! Is it alive, who may ask, and how does it refuse?

use quiverdb::Database;
use quiverdb::server::Settings;
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
