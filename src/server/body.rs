//! How is a request's body read?
//!
//! Invariants: no body is read before its sender is known to be allowed; none takes more memory than the limit, and none
//! longer than its pieces may take; what is not of the expected shape is refused with the path of the value.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query as RawQuery, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use super::app::{Answer, App};
use super::failure::Failure;
use super::pace::Slow;

/// Bytes of a body that are worked off before others have their turn.
const YIELD_BYTES: u64 = 1 << 20;
/// Bytes of JSON from which they are read and written aside: below, handing the thread's work over takes longer.
const ASIDE_BYTES: usize = 64 << 10;

/// A body in JSON, in and out.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Answer<Self> {
        expect_json(&content_type(&request))?;
        let bytes = whole(request.into_body(), app).await?;
        Ok(Self(aside(bytes.len(), || parse(&bytes))?))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match written(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Failure::internal(format!("the answer cannot be written: {error}")).into_response(),
        }
    }
}

/// Works on so many bytes: at once where they are few, else such that this thread's other requests go on elsewhere.
pub(super) fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < ASIDE_BYTES { work() } else { tokio::task::block_in_place(work) }
}

/// A value in JSON. How long it becomes shows only when it is written, so one that turns out long is begun anew, aside.
fn written(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut few = Few(Vec::new());
    match serde_json::to_writer(&mut few, value) {
        Ok(()) => Ok(few.0),
        Err(error) if error.is_io() => aside(ASIDE_BYTES, || serde_json::to_vec(value)),
        Err(error) => Err(error),
    }
}

/// Takes fewer than [`ASIDE_BYTES`].
struct Few(Vec<u8>);

impl Write for Few {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() >= ASIDE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The query part of the address; what is not known is refused where the type says so.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        match RawQuery::try_from_uri(&parts.uri) {
            Ok(RawQuery(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::invalid(format!("the query of the address: {}", error.body_text()))),
        }
    }
}

/// The parts of the path that the route names, percent-decoded.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => Err(Failure::invalid(format!("the path of the address: {}", error.body_text()))),
        }
    }
}

/// The essence of a request's content type, in lower case; empty where it has none.
pub(super) fn content_type(request: &Request) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses what is not said to be JSON: a web page may send plain text to anybody, and JSON only to who allows it.
pub(super) fn expect_json(given: &str) -> Answer<()> {
    if given == "application/json" || given.ends_with("+json") {
        return Ok(());
    }
    let message = format!("the content type is `{given}`; send `application/json`");
    Err(Failure::of("unsupported_media_type", message))
}

/// The whole body, within the limit of bytes.
pub(super) async fn whole(body: Body, app: &App) -> Answer<Vec<u8>> {
    Pieces::of_body(body, app).rest().await
}

/// A body, piece by piece.
pub(super) struct Pieces {
    stream: BodyDataStream,
    bytes: u64,
    bytes_max: u64,
    too_large: fn(u64) -> Failure,
    digest: Option<Sha256>,
}

impl Pieces {
    /// Of a body that is kept in memory.
    pub(super) fn of_body(body: Body, app: &App) -> Self {
        Self::new(body, app.settings.limits.body_bytes as u64, too_large)
    }

    /// Of a body that is worked off as it comes.
    pub(super) fn of_stream(body: Body, app: &App) -> Self {
        Self::new(body, app.settings.limits.stream_bytes, stream_too_large)
    }

    fn new(body: Body, bytes_max: u64, too_large: fn(u64) -> Failure) -> Self {
        Self { stream: body.into_data_stream(), bytes: 0, bytes_max, too_large, digest: None }
    }

    /// The same, which computes a digest on the way; it begins with what is `known` of the request.
    pub(super) fn digested(self, known: &str) -> Self {
        Self { digest: Some(Sha256::new().chain_update(known).chain_update([0])), ..self }
    }

    /// The digest of what came so far.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        self.digest.clone().map(|digest| digest.finalize().into())
    }

    /// The next piece; `None` after the last.
    pub(super) async fn next(&mut self) -> Answer<Option<Bytes>> {
        let Some(piece) = self.stream.next().await else { return Ok(None) };
        let piece = piece.map_err(|error| broken(&error))?;
        let before = self.bytes;
        self.bytes += piece.len() as u64;
        if self.bytes > self.bytes_max {
            return Err((self.too_large)(self.bytes_max));
        }
        if let Some(digest) = &mut self.digest {
            digest.update(&piece);
        }
        if before / YIELD_BYTES != self.bytes / YIELD_BYTES {
            // What is unpacked is always there at once, and others want to be answered, too.
            tokio::task::yield_now().await;
        }
        Ok(Some(piece))
    }

    /// All that is still to come.
    pub(super) async fn rest(&mut self) -> Answer<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// A body that did not come to its end: too slow, cut off, or not compressed as it says.
pub(super) fn broken(error: &(dyn Error + 'static)) -> Failure {
    match Slow::behind(error) {
        Some(message) => Failure::of("body_timeout", message),
        None => Failure::invalid(format!("the body cannot be read: {error}")),
    }
}

/// A body beyond the limit.
pub(super) fn too_large(bytes_max: u64) -> Failure {
    let message = format!(
        "the body is longer than {bytes_max} bytes: send it in several requests, as NDJSON, or raise limits.body_bytes"
    );
    Failure::of("body_too_large", message)
}

fn stream_too_large(bytes_max: u64) -> Failure {
    let message =
        format!("the body is longer than {bytes_max} bytes: send it in several requests, or raise limits.stream_bytes");
    Failure::of("body_too_large", message)
}

/// Reads JSON; the message of an error names the path of the value.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let refuse = |message: String| Failure::of("invalid_json", message);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!("{path}: ") };
        refuse(format!("the body is not what this route takes: {at}{}", error.inner()))
    })?;
    deserializer.end().map_err(|error| refuse(format!("the body goes on behind its JSON value: {error}")))?;
    Ok(value)
}

/// A JSON value whose objects have no key twice: of two, most readers take the last in silence.
pub(super) struct Unambiguous(pub(super) Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = elements.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Unambiguous(value))) = entries.next_entry::<String, Unambiguous>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{}` is there twice", key.escape_debug())));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use serde::Serializer;

    use super::*;

    /// Longer than it takes; only a failure waits for it.
    const LONG: Duration = Duration::from_secs(20);

    /// Text, and what another task says once it has had its turn.
    struct Long(Mutex<Receiver<&'static str>>);

    impl Serialize for Long {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut pair = serializer.serialize_tuple(2)?;
            pair.serialize_element(&"x".repeat(ASIDE_BYTES))?;
            pair.serialize_element(self.0.lock().unwrap().recv_timeout(LONG).unwrap_or("nobody had a turn"))?;
            pair.end()
        }
    }

    #[test]
    fn long_json_keeps_no_other_from_the_only_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let work = async {
            let (says, said) = channel();
            tokio::spawn(async move { says.send("read") });
            let read = aside(ASIDE_BYTES, || said.recv_timeout(LONG));
            let (says, said) = channel();
            tokio::spawn(async move { says.send("written") });
            let written = written(&Long(Mutex::new(said))).unwrap();
            (read, String::from_utf8(written).unwrap())
        };
        let (read, written) = runtime.block_on(runtime.spawn(work)).unwrap();
        assert_eq!(read, Ok("read"));
        assert!(written.ends_with(r#"x","written"]"#));
    }

    #[test]
    fn short_json_needs_no_runtime_and_is_the_same() {
        let short = Value::String("x".repeat(ASIDE_BYTES - 3));
        assert_eq!(written(&short).unwrap(), serde_json::to_vec(&short).unwrap());
    }
}
