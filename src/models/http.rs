//! How is a question asked over HTTP, and how often?
//!
//! Invariants: no redirect is followed unseen, so that a key never reaches a host that it was not meant for; every wait
//! has an end; whatever a server says is made harmless before it is shown. Proxies are those of the environment
//! (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), and `SSL_CERT_FILE` brings further root certificates.

use std::time::Duration;

use serde_json::Value;
use ureq::http::HeaderMap;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::{Error, Result};

/// The longest wait that a server may ask for and get; one that asks for more is told of.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Of what a server says about an error, so many characters are shown.
const SAID_MAX: usize = 300;
/// No answer is longer.
#[cfg(feature = "remote")]
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// How long to wait, and how often to try again.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes, once connected; a server may be slow as long as it says something.
    pub silence: Duration,
    /// For one whole request, where that is short.
    pub request: Option<Duration>,
    /// Further tries after one that failed for a reason that may pass.
    pub retries: u32,
    /// Before the first of them; doubled for each further one.
    pub pause: Duration,
}

impl Patience {
    /// How long to wait before try number `retry` (from 0); `None` where it is not worth it.
    pub(crate) fn wait(&self, retry: u32, asked: Option<Duration>) -> Option<Duration> {
        if retry >= self.retries {
            return None;
        }
        let own = self.pause.saturating_mul(1 << retry.min(6)).min(WAIT_MAX);
        match asked {
            Some(asked) if asked > WAIT_MAX => None,
            Some(asked) => Some(asked.max(own)),
            None => Some(own),
        }
    }
}

/// An agent that follows no redirects and takes every status as an answer.
pub(crate) fn agent(patience: &Patience) -> Result<ureq::Agent> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(patience.connect))
        .timeout_resolve(Some(patience.connect))
        .timeout_per_read(Some(patience.silence))
        .timeout_per_write(Some(patience.silence))
        .timeout_per_call(patience.request)
        .accept_encoding("identity")
        .user_agent(concat!("quiverdb/", env!("CARGO_PKG_VERSION")));
    let config = match std::env::var_os("SSL_CERT_FILE") {
        Some(path) => config.tls_config(TlsConfig::builder().root_certs(root_certificates(path.as_ref())?).build()),
        None => config,
    };
    Ok(config.build().new_agent())
}

fn root_certificates(path: &std::path::Path) -> Result<RootCerts> {
    let pem = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    };
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem).filter_map(certificate).collect();
    if certificates.is_empty() {
        let message = format!("SSL_CERT_FILE names {}, which holds no certificate in PEM", path.display());
        return Err(Error::invalid(message));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Whether the same request may succeed later.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Whether the same request may succeed later, after no answer at all.
pub(crate) fn may_pass_unanswered(error: &ureq::Error) -> bool {
    use ureq::Error as E;
    #[allow(clippy::wildcard_enum_match_arm, reason = "all other errors of ureq are final")]
    match error {
        // Where names are not resolved there is usually no network at all, and trying again only keeps people waiting.
        E::Io(error) => !error.to_string().contains("lookup address"),
        E::Timeout(_) | E::ConnectionFailed | E::Protocol(_) => true,
        _ => false,
    }
}

/// How long a server asks to wait: the seconds of `Retry-After`, a date there measured by the server's own clock, or the
/// seconds until the window of `RateLimit` ends, which the hub sends (`"api";r=0;t=123`).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let of_window = || header(headers, "ratelimit")?.split(';').find_map(|part| part.trim().strip_prefix("t="));
    let asked = header(headers, "retry-after").map(str::trim);
    let seconds = match asked.map(str::parse::<f64>) {
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => (date(asked?)? - date(header(headers, "date")?)?) as f64,
        None => of_window()?.parse().ok()?,
    };
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(1e6)))
}

/// The seconds of `Sun, 06 Nov 1994 08:49:37 GMT` from the beginning of some year, alike for all dates (RFC 9110, 5.6.7).
fn date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|known| *known == month)? as i64;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let parts: Vec<i64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let &[hours, minutes, seconds] = parts.as_slice() else { return None };
    // Days by the calendar whose year begins in March (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

/// A header's text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What a server's answer says went wrong, in one harmless line.
pub(crate) fn said(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let inner = ["error", "message", "detail"].iter().map(|key| &value[*key]).find(|inner| !inner.is_null());
    let text = match inner {
        Some(Value::String(text)) => text.clone(),
        Some(inner) if inner["message"].is_string() => inner["message"].as_str().unwrap_or_default().to_owned(),
        Some(inner) => inner.to_string(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let visible = text.split(|character: char| character.is_control() || character.is_whitespace());
    let words: Vec<&str> = visible.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(SAID_MAX).collect()
}

/// A request that was refused, or never answered.
#[cfg(feature = "remote")]
#[derive(Debug)]
pub(crate) struct Refused {
    /// The status; `None` where no answer came.
    pub(crate) status: Option<u16>,
    /// What happened, in words.
    pub(crate) reason: String,
}

/// Asks JSON questions of one server.
#[cfg(feature = "remote")]
pub(crate) struct Client {
    agent: ureq::Agent,
    patience: Patience,
}

#[cfg(feature = "remote")]
impl Client {
    pub(crate) fn new(patience: Patience) -> Result<Self> {
        Ok(Self { agent: agent(&patience)?, patience })
    }

    /// Posts a JSON body and returns the answer's; tries again where that may help.
    pub(crate) fn post(&self, url: &str, key: Option<&str>, body: &Value) -> std::result::Result<Vec<u8>, Refused> {
        let body = body.to_string();
        let mut retry = 0;
        loop {
            let (refused, asked) = match self.post_once(url, key, &body) {
                Ok(answer) => return Ok(answer),
                Err(Attempt::Final(refused)) => return Err(refused),
                Err(Attempt::MayPass(refused, asked)) => (refused, asked),
            };
            match self.patience.wait(retry, asked) {
                Some(wait) => std::thread::sleep(wait),
                None => return Err(gave_up(refused, retry, asked)),
            }
            retry += 1;
        }
    }

    fn post_once(&self, url: &str, key: Option<&str>, body: &str) -> std::result::Result<Vec<u8>, Attempt> {
        let mut request = self.agent.post(url).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(body).map_err(unanswered)?;
        let status = response.status().as_u16();
        let asked = retry_after(response.headers());
        let moved = header(response.headers(), "location").map(str::to_owned);
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(unanswered)?;
        let reason = match (status, moved) {
            (200..=299, _) => return Ok(answer),
            (300..=399, Some(place)) => format!("it moved to {}; name that URL", said(place.as_bytes())),
            _ => format!("status {status}: {}", said(&answer)),
        };
        let refused = Refused { status: Some(status), reason };
        Err(if may_pass(status) { Attempt::MayPass(refused, asked) } else { Attempt::Final(refused) })
    }
}

/// One try that failed.
#[cfg(feature = "remote")]
enum Attempt {
    Final(Refused),
    MayPass(Refused, Option<Duration>),
}

#[cfg(feature = "remote")]
fn unanswered(error: ureq::Error) -> Attempt {
    let refused = Refused { status: None, reason: error.to_string() };
    if may_pass_unanswered(&error) { Attempt::MayPass(refused, None) } else { Attempt::Final(refused) }
}

#[cfg(feature = "remote")]
fn gave_up(refused: Refused, retries: u32, asked: Option<Duration>) -> Refused {
    let long = asked.filter(|asked| *asked > WAIT_MAX);
    let reason = match long {
        Some(asked) => format!("{} (it asks to wait for {} s)", refused.reason, asked.as_secs()),
        None => format!("{} (tried {} times)", refused.reason, retries + 1),
    };
    Refused { reason, ..refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        let second = Duration::from_secs(1);
        Patience { connect: second, silence: second, request: None, retries: 3, pause: second }
    }

    #[test]
    fn pauses_double_and_end() {
        let waits: Vec<Option<u64>> =
            (0..4).map(|retry| patience().wait(retry, None).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), None]);
    }

    #[test]
    fn a_server_s_own_pause_counts_unless_it_is_too_long() {
        let asked = |seconds| patience().wait(0, Some(Duration::from_secs(seconds))).map(|wait| wait.as_secs());
        assert_eq!((asked(0), asked(7), asked(61)), (Some(1), Some(7), None));
    }

    #[test]
    fn what_a_server_says_is_one_harmless_line() {
        assert_eq!(said(br#"{"error": {"message": "no\nsuch  model"}}"#), "no such model");
        assert_eq!(said(br#"{"error": "too long", "error_type": "Validation"}"#), "too long");
        assert_eq!(said(b"<html>\x1b[31mBad Gateway"), "<html> [31mBad Gateway");
        assert_eq!(said(&[b'x'; 1000]).len(), SAID_MAX);
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let value = |(name, value): &(&'static str, &'static str)| {
                (ureq::http::HeaderName::from_static(name), ureq::http::HeaderValue::from_static(value))
            };
            pairs.iter().map(value).collect::<HeaderMap>()
        };
        let headers = |value: &'static str| of(&[("retry-after", value)]);
        assert_eq!(retry_after(&headers("3")), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(&headers("Wed, 21 Oct 2015 07:28:00 GMT")), None);
        assert_eq!(retry_after(&headers("-1")), None);
        let dated = |later: &'static str| of(&[("retry-after", later), ("date", "Wed, 28 Feb 2024 23:59:50 GMT")]);
        for (later, seconds) in [
            ("Wed, 28 Feb 2024 23:59:57 GMT", Some(7)),
            ("Thu, 29 Feb 2024 00:00:10 GMT", Some(20)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(86_410)),
            ("Wed, 28 Feb 2024 23:59:49 GMT", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(&dated(later)), seconds.map(Duration::from_secs), "{later}");
        }
        assert_eq!(retry_after(&of(&[("ratelimit", "\"api\";r=0;t=30")])), Some(Duration::from_secs(30)));
    }
}
