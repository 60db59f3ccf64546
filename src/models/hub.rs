//! What does the hub have, and how are its bytes read?
//!
//! [`Source`] is all that fetching needs: a list of files at a commit, and a file's bytes from any place on.
//! [`HttpSource`] speaks the protocol of the Hugging Face hub and its mirrors. The token goes to the hub alone: where a
//! file lies on another host, that host is asked without it.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, Uri};

use super::http::{self, Patience, header, may_pass, retry_after, said};
use super::id::{HubId, is_commit};
use super::settings::HubSettings;
use crate::{Error, Result};

/// A list of files is never longer.
const LISTING_BYTES_MAX: u64 = 64 << 20;
/// For a list or the head of a file, however steadily it trickles in.
const SHORT_MAX: Duration = Duration::from_secs(120);
/// From the hub's name of a file to its bytes.
const HOPS_MAX: usize = 6;

/// A place that models are fetched from.
pub trait Source: Send + Sync {
    /// The files of a repository, and the commit that its revision means now.
    ///
    /// # Errors
    /// Whether it may pass or not, the reason with a way out.
    fn list(&self, id: &HubId) -> std::result::Result<Listing, TransferError>;

    /// Size and digest of a file, where the list does not say them.
    ///
    /// # Errors
    /// As [`Source::list`].
    fn stat(&self, id: &HubId, commit: &str, file: &str) -> std::result::Result<RemoteFile, TransferError>;

    /// The bytes of a file from `from` on.
    ///
    /// # Errors
    /// As [`Source::list`].
    fn open(&self, id: &HubId, commit: &str, file: &str, from: u64) -> std::result::Result<Opened, TransferError>;
}

/// What a repository holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub commit: String,
    /// All its files.
    pub files: Vec<RemoteFile>,
}

/// A file on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path in the repository.
    pub name: String,
    /// Its bytes.
    pub size: Option<u64>,
    /// What its bytes must give.
    pub digest: Option<Digest>,
}

/// A digest in lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the bytes: large files.
    Sha256(String),
    /// git's name of the bytes: small files.
    GitSha1(String),
}

impl Digest {
    /// Its 64 or 40 digits.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitSha1(hex) => hex,
        }
    }

    /// A digest, or the `ETag` that holds one; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.trim().trim_start_matches("W/").trim_matches('"');
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match hex.len() {
            64 if is_hex => Some(Self::Sha256(hex.to_owned())),
            40 if is_hex => Some(Self::GitSha1(hex.to_owned())),
            _ => None,
        }
    }
}

/// A file whose bytes are coming.
pub struct Opened {
    /// Where they begin: what was asked for, or 0 where the server cannot do that.
    pub from: u64,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

/// Why a transfer failed.
#[derive(Debug)]
pub enum TransferError {
    /// It may succeed later: what happened, and how long the server asks to wait.
    MayPass(String, Option<Duration>),
    /// It will not.
    Final(Error),
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// The list of files.
    List,
    /// What a file is.
    Head,
    /// A file's bytes, which may take hours.
    File,
}

/// The Hugging Face hub, or a mirror of it.
pub struct HttpSource {
    agent: ureq::Agent,
    /// For a whole answer that is short: a list, or the head of a file.
    short: Duration,
    endpoint: String,
    token: Option<String>,
}

/// The hub's answer about a model; it has many more fields.
#[derive(Deserialize)]
struct Described {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

/// A large file: what stands in git for it is a pointer, whose digest is of no use.
#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

type Answer = Response<ureq::Body>;
type Transfer<T> = std::result::Result<T, TransferError>;

impl HttpSource {
    /// The hub that the settings name.
    ///
    /// # Errors
    /// Where `SSL_CERT_FILE` names no certificates.
    pub fn new(settings: &HubSettings) -> Result<Self> {
        let agent = http::agent(&Patience { request: None, ..settings.patience.clone() })?;
        let short = settings.patience.request.unwrap_or(SHORT_MAX);
        Ok(Self { agent, short, endpoint: settings.endpoint.clone(), token: settings.token.clone() })
    }

    /// Asks, and follows redirects; the token goes to the hub's own place only. Returns the last answer and the headers
    /// of the first, where the hub itself says what the file is.
    fn ask(&self, what: What, url: &str, range: Option<u64>) -> Transfer<(Answer, HeaderMap)> {
        let mut url: Uri = url.parse().map_err(|_| final_error(url, "this is not a URL"))?;
        let home: Uri = self.endpoint.parse().map_err(|_| final_error(&self.endpoint, "HF_ENDPOINT is not a URL"))?;
        let mut first: Option<HeaderMap> = None;
        for _ in 0..HOPS_MAX {
            let head = what == What::Head;
            let mut request = if head { self.agent.head(&url) } else { self.agent.get(&url) };
            if let Some(from) = range {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token.as_ref().filter(|_| is_same_place(&home, &url)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let time = (what != What::File).then_some(self.short);
            let answer = request.config().timeout_global(time).build().call();
            let answer = answer.map_err(|error| unanswered(&url, &error))?;
            let headers = first.get_or_insert_with(|| answer.headers().clone()).clone();
            let status = answer.status().as_u16();
            let location = header(answer.headers(), "location").filter(|_| matches!(status, 301..=303 | 307 | 308));
            let Some(location) = location else { return Ok((answer, headers)) };
            if head && Digest::parse(header(&headers, "x-linked-etag").unwrap_or_default()).is_some() {
                return Ok((answer, headers));
            }
            url = follow(&url, location)?;
        }
        Err(final_error(&url.to_string(), "it redirects again and again"))
    }

    /// What a status that is no success means, with the way out.
    fn refuse(&self, id: &HubId, what: &str, mut answer: Answer) -> TransferError {
        let status = answer.status().as_u16();
        let code = header(answer.headers(), "x-error-code").unwrap_or_default().to_owned();
        let told = header(answer.headers(), "x-error-message").unwrap_or_default().to_owned();
        let asked = retry_after(answer.headers());
        let body = answer.body_mut().with_config().limit(1 << 16).read_to_vec().unwrap_or_default();
        let told = said(if told.is_empty() { &body } else { told.as_bytes() });
        if may_pass(status) {
            return TransferError::MayPass(format!("{} answers {status} for {what}: {told}", self.endpoint), asked);
        }
        let page = format!("{}/{}", self.endpoint, id.repository());
        let reason = match (status, code.as_str()) {
            (_, "GatedRepo") => format!(
                "the hub gives {what} only to people who accepted its terms: do that at {page}, then set HF_TOKEN to a \
                 token of that account"
            ),
            (_, "RevisionNotFound") => {
                format!("the repository has no revision `{}`: see {page}/commits", id.revision().unwrap_or("main"))
            }
            (_, "EntryNotFound") => format!("the repository has no {what}"),
            (401 | 403, _) if self.token.is_some() => format!(
                "{} answers {status} for {what}: there is no such repository, or the token in HF_TOKEN (or from `hf auth \
                 login`) may not read it",
                self.endpoint
            ),
            (401 | 403, _) => format!(
                "{} answers {status} for {what}: there is no public repository of that name. Check the spelling; for a \
                 private or gated one set HF_TOKEN",
                self.endpoint
            ),
            (404, _) => format!("{} has no {what} of that name: check the spelling at {page}", self.endpoint),
            _ => format!("{} answers {status} for {what}: {told}", self.endpoint),
        };
        TransferError::Final(Error::model(id.to_string(), reason))
    }

    fn url_of(&self, id: &HubId, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.endpoint, id.repository(), escaped(file))
    }
}

impl Source for HttpSource {
    fn list(&self, id: &HubId) -> Transfer<Listing> {
        let revision = escaped(id.revision().unwrap_or("main")).replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, id.repository());
        let (mut answer, _) = self.ask(What::List, &url, None)?;
        if !answer.status().is_success() {
            return Err(self.refuse(id, "the model", answer));
        }
        let body = answer.body_mut().with_config().limit(LISTING_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| TransferError::MayPass(format!("{}: {error}", self.endpoint), None))?;
        let described: Described = serde_json::from_slice(&body)
            .map_err(|error| final_error(&url, &format!("this is not what a hub says of a model ({error})")))?;
        if !is_commit(&described.sha) {
            return Err(final_error(&url, &format!("`{}` is not a commit", said(described.sha.as_bytes()))));
        }
        let files = described.siblings.into_iter().map(RemoteFile::from).collect();
        Ok(Listing { commit: described.sha, files })
    }

    fn stat(&self, id: &HubId, commit: &str, file: &str) -> Transfer<RemoteFile> {
        let (answer, headers) = self.ask(What::Head, &self.url_of(id, commit, file), None)?;
        let status = answer.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(self.refuse(id, &format!("file `{file}`"), answer));
        }
        let tag = |headers: &HeaderMap, name: &str| Digest::parse(header(headers, name)?);
        let number = |headers: &HeaderMap, name: &str| header(headers, name)?.parse().ok();
        let digest = tag(&headers, "x-linked-etag").or_else(|| tag(answer.headers(), "etag"));
        let own = || if status.is_success() { number(answer.headers(), "content-length") } else { None };
        let size = number(&headers, "x-linked-size").or_else(own);
        Ok(RemoteFile { name: file.to_owned(), size, digest })
    }

    fn open(&self, id: &HubId, commit: &str, file: &str, from: u64) -> Transfer<Opened> {
        let range = (from > 0).then_some(from);
        let (answer, _) = self.ask(What::File, &self.url_of(id, commit, file), range)?;
        let from = match answer.status().as_u16() {
            200 => 0,
            206 if starts_at(answer.headers(), from) => from,
            206 => return Err(final_error(file, "the server sent another part of the file than it was asked for")),
            // There is nothing from there on: what lies here is not the beginning of this file.
            416 if from > 0 => return self.open(id, commit, file, 0),
            _ => return Err(self.refuse(id, &format!("file `{file}`"), answer)),
        };
        Ok(Opened { from, body: Box::new(answer.into_body().into_with_config().limit(u64::MAX).reader()) })
    }
}

impl From<Sibling> for RemoteFile {
    fn from(sibling: Sibling) -> Self {
        let Sibling { rfilename, size, blob_id, lfs } = sibling;
        let digest = match &lfs {
            Some(lfs) => lfs.sha256.as_deref().or(lfs.oid.as_deref()).and_then(Digest::parse),
            None => blob_id.as_deref().and_then(Digest::parse),
        };
        let size = lfs.and_then(|lfs| lfs.size).or(size);
        Self { name: rfilename, size, digest }
    }
}

fn final_error(what: &str, reason: &str) -> TransferError {
    TransferError::Final(Error::model(what, reason))
}

fn unanswered(url: &Uri, error: &ureq::Error) -> TransferError {
    let host = url.authority().map_or_else(String::new, ToString::to_string);
    let reason = format!("{host}: {error}");
    match http::may_pass_unanswered(error) {
        true => TransferError::MayPass(reason, None),
        false => {
            let out = "check the network, HTTPS_PROXY and HF_ENDPOINT; with HF_HUB_OFFLINE=1 only the cache is read";
            final_error(&reason, out)
        }
    }
}

/// The same scheme, host and port.
fn is_same_place(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    one.scheme() == other.scheme() && one.host() == other.host() && port(one) == port(other)
}

/// Where a redirect leads: a URL, or a part of one that the rest is taken for from `from` (RFC 3986, 5.2). What was encrypted
/// stays so.
fn follow(from: &Uri, location: &str) -> Transfer<Uri> {
    let (scheme, authority) = (from.scheme_str().unwrap_or("https"), from.authority().map_or("", |it| it.as_str()));
    let location = location.split('#').next().unwrap_or_default();
    let has_scheme = location.split(['/', '?']).next().is_some_and(|first| first.contains(':'));
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let absolute = match location {
        _ if has_scheme => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{}", without_dots(location)),
        _ if location.is_empty() || location.starts_with('?') => {
            format!("{scheme}://{authority}{}{location}", from.path())
        }
        _ => format!("{scheme}://{authority}{}", without_dots(&format!("{folder}/{location}"))),
    };
    let to: Uri = absolute.parse().map_err(|_| final_error(location, "the hub redirects there, which is no URL"))?;
    match (scheme, to.scheme_str()) {
        ("https", Some("https")) | ("http", Some("http" | "https")) => Ok(to),
        _ => Err(final_error(location, "the hub redirects there, from an encrypted place to one that is not")),
    }
}

/// A path with its query, without `.` and `..` in the path.
fn without_dots(path: &str) -> String {
    let (path, query) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                // What ends in a dot is a folder.
                parts.extend(is_last.then_some(""));
            }
            segment => parts.push(segment),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

/// Whether `Content-Range: bytes FROM-TO/SIZE` begins where it should.
fn starts_at(headers: &HeaderMap, from: u64) -> bool {
    let range = header(headers, "content-range").and_then(|range| range.trim().strip_prefix("bytes "));
    range.and_then(|range| range.split_once('-')).is_some_and(|(start, _)| start.trim().parse() == Ok(from))
}

/// A path for a URL: all but letters, digits, `-`, `.`, `_`, `~` and slashes as `%XX`.
fn escaped(path: &str) -> String {
    path.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(char::from(byte))
            }
            _ => escaped += &format!("%{byte:02X}"),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_read_in_all_their_forms() {
        let (long, short) = ("a".repeat(64), "0".repeat(40));
        assert_eq!(Digest::parse(&format!("\"{long}\"")), Some(Digest::Sha256(long)));
        assert_eq!(Digest::parse(&format!("W/\"{short}\"")), Some(Digest::GitSha1(short)));
        for not in ["", "\"abc\"", "../../x", &"g".repeat(40), &format!("{}-2", "a".repeat(32))] {
            assert_eq!(Digest::parse(not), None, "{not}");
        }
    }

    #[test]
    fn the_place_of_a_url_is_scheme_host_and_port() {
        let same =
            |one: &'static str, other: &'static str| is_same_place(&Uri::from_static(one), &Uri::from_static(other));
        assert!(same("https://hub.example", "https://hub.example:443/x"));
        for other in ["http://hub.example/x", "https://cdn.hub.example/x", "https://hub.example:8443/x"] {
            assert!(!same("https://hub.example", other), "{other}");
        }
    }

    #[test]
    fn redirects_never_leave_encryption() {
        let from = Uri::from_static("https://hub.example/a");
        let to = |location: &str| follow(&from, location).ok().map(|uri| uri.to_string());
        assert_eq!(to("/b?c=d").as_deref(), Some("https://hub.example/b?c=d"));
        assert_eq!(to("https://cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(to("//cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(to("http://cdn.example/b"), None);
        assert_eq!(to("file:///etc/passwd"), None);
    }

    /// The examples of RFC 3986, 5.4, as far as they are of HTTP.
    #[test]
    fn relative_redirects_are_resolved_against_where_they_come_from() {
        let from = Uri::from_static("http://a/b/c/d;p?q");
        for (location, wanted) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("https://cdn.example/x:y", "https://cdn.example/x:y"),
        ] {
            assert_eq!(follow(&from, location).ok().map(|uri| uri.to_string()).as_deref(), Some(wanted), "{location}");
        }
        assert!(follow(&from, "file:///etc/passwd").is_err() && follow(&from, "javascript:g").is_err());
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escaped("1_Pooling/a b#c?.json"), "1_Pooling/a%20b%23c%3F.json");
    }
}
