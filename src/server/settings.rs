//! What may an operator configure, and which settings are safe?
//!
//! Invariants: a key that is not known is refused, so that a typing error does not open a door; every limit has a default
//! that holds; nothing beyond the loopback without a key.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Where `quiver serve` listens unless told.
const PORT: u16 = 7333;
/// Keys are compared in full, so their length is what protects them.
const KEY_BYTES_MIN: usize = 16;
/// The most of a limit that counts something other than bytes.
const COUNT_MAX: u64 = u32::MAX as u64;

/// How a server runs. As a file it is TOML with these names; `quiver serve --print-config` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address; `127.0.0.1:7333`. One beyond the loopback needs `api_keys`.
    pub listen: SocketAddr,
    /// Keys that may do everything. More than one, so that they can be changed without a pause.
    pub api_keys: Vec<String>,
    /// A file of further such keys, one a line, that the list of processes does not show.
    pub api_key_file: Option<PathBuf>,
    /// Keys that may only read.
    pub read_only_keys: Vec<String>,
    /// A file of further such keys.
    pub read_only_key_file: Option<PathBuf>,
    /// Refuses all writes, whatever the key.
    pub read_only: bool,
    /// Names that a request's `Host` may have besides the loopback's and the address: those under which others reach it.
    pub hosts: Vec<String>,
    /// Web pages of these origins may ask (`https://app.example`), and no others.
    pub cors_origins: Vec<String>,
    /// Requests may import files below this folder by their path; none where unset.
    pub import_root: Option<PathBuf>,
    /// Requests may back up the database into new folders below this one; none where unset.
    pub backup_root: Option<PathBuf>,
    /// Models that requests may name besides the built-in one and those of collections: for embedding and for new
    /// collections.
    pub models: Vec<String>,
    /// Cross-encoders that requests may name.
    pub rerankers: Vec<String>,
    /// Keys over plain HTTP beyond the loopback: refused unless set, because whoever is on the way reads them.
    pub insecure: bool,
    /// Certificate and key, for HTTPS.
    pub tls: Option<Tls>,
    /// How the log on stderr looks.
    pub log: LogFormat,
    /// What is logged, in the words of `RUST_LOG`: `info,rmcp=warn` unless told.
    pub log_filter: String,
    /// What a request may cost.
    pub limits: Limits,
}

/// The files of a certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain of certificates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What a request may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a body, as sent and after decompression, except those that are read as a stream.
    pub body_bytes: usize,
    /// Bytes of a body that is read as a stream (NDJSON, Parquet), after decompression.
    pub stream_bytes: u64,
    /// Bytes of a text to search for or to embed, and of a document.
    pub text_bytes: usize,
    /// Texts of one request to embed, passages to rerank, queries of a batch, and ids to delete.
    pub batch: usize,
    /// Hits of a search, and documents of a page.
    pub hits: usize,
    /// Connections at once; more wait.
    pub connections: usize,
    /// Requests that are answered at once; more are told to come again.
    pub requests: usize,
    /// Calls that read at once; 0 is the number of cores.
    pub reads: usize,
    /// Calls that write at once: one writes while the next one embeds.
    pub writes_at_once: usize,
    /// Calls that wait for their turn.
    pub queue: usize,
    /// Seconds for the head of a request, and between two requests of a connection.
    pub header_seconds: u64,
    /// Seconds between two pieces of a body, and for a client to take up a piece of an answer.
    pub body_seconds: u64,
    /// Bytes that a client must send in each second that its body is waited for, once `body_seconds` are over.
    pub body_bytes_per_second: u64,
    /// Seconds for an answer, streams excepted.
    pub request_seconds: u64,
    /// Seconds that requests are given when the server is told to stop.
    pub stop_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            api_keys: Vec::new(),
            api_key_file: None,
            read_only_keys: Vec::new(),
            read_only_key_file: None,
            read_only: false,
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            import_root: None,
            backup_root: None,
            models: Vec::new(),
            rerankers: Vec::new(),
            insecure: false,
            tls: None,
            log: LogFormat::Text,
            // What the Model Context Protocol's library says at `info` is of each request.
            log_filter: "info,rmcp=warn".to_owned(),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            stream_bytes: 8 << 30,
            text_bytes: 16 << 20,
            batch: 4_096,
            hits: 1_000,
            connections: 4_096,
            requests: 1_024,
            reads: 0,
            writes_at_once: 2,
            queue: 1_024,
            header_seconds: 10,
            body_seconds: 30,
            body_bytes_per_second: 16 << 10,
            request_seconds: 60,
            stop_seconds: 30,
        }
    }
}

impl LogFormat {
    /// The format of this name.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where there is none.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::invalid(format!("the log format `{name}` is neither `text` nor `json`"))),
        }
    }
}

impl Limits {
    /// Sets one as a word of the command line has it, `hits=100`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a name that is not known, with those that are, and for what is no whole number.
    pub fn set(&mut self, word: &str) -> Result<()> {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Error::invalid(format!(
                "the limit `{word}` has no value: write NAME=NUMBER, such as hits=100"
            )));
        };
        // TOML knows no whole numbers beyond these.
        let number =
            value.trim().parse::<u64>().ok().and_then(|number| i64::try_from(number).ok()).ok_or_else(|| {
                Error::invalid(format!("the limit {name} is `{value}`, and must be a whole number up to {}", i64::MAX))
            })?;
        let mut table = toml::Table::try_from(&*self).map_err(|error| Error::invalid(error.to_string()))?;
        match table.get_mut(name.trim()) {
            Some(there) => *there = toml::Value::Integer(number),
            None => {
                let names: Vec<&str> = table.keys().map(String::as_str).collect();
                return Err(Error::invalid(format!("there is no limit `{name}`; there are {}", names.join(", "))));
            }
        }
        *self = table.try_into().map_err(|error| Error::invalid(format!("the limit {word}: {error}")))?;
        Ok(())
    }

    /// Calls that read at once.
    pub(super) fn reads_at_once(&self) -> usize {
        match self.reads {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            reads => reads,
        }
    }

    /// Threads that calls may take.
    pub(super) fn threads(&self) -> usize {
        self.reads_at_once() + self.writes_at_once + 8
    }
}

impl Settings {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with the line, for a key that is not known or a value that does not fit.
    pub fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::invalid(format!("the settings cannot be read: {error}")))
    }

    /// These settings with the keys of their files.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be read; [`Error::InvalidInput`] where it has no key.
    pub fn with_key_files(mut self) -> Result<Self> {
        for (file, keys) in
            [(&self.api_key_file, &mut self.api_keys), (&self.read_only_key_file, &mut self.read_only_keys)]
        {
            let Some(file) = file else { continue };
            let text = std::fs::read_to_string(file).map_err(|error| Error::io(file, error))?;
            let found = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let before = keys.len();
            keys.extend(found.map(str::to_owned));
            if keys.len() == before {
                return Err(Error::invalid(format!(
                    "{} has no key: write one a line; `openssl rand -hex 32` makes a good one",
                    file.display()
                )));
            }
        }
        (self.api_key_file, self.read_only_key_file) = (None, None);
        Ok(self)
    }

    /// These settings as a file, keys shown by their length alone.
    ///
    /// # Errors
    /// None in practice.
    pub fn print(&self) -> Result<String> {
        let hide = |keys: &[String]| keys.iter().map(|key| format!("({} bytes, hidden)", key.len())).collect();
        let shown = Self { api_keys: hide(&self.api_keys), read_only_keys: hide(&self.read_only_keys), ..self.clone() };
        toml::to_string_pretty(&shown).map_err(|error| Error::invalid(error.to_string()))
    }

    /// Whether a key is needed.
    pub(super) fn needs_key(&self) -> bool {
        !self.api_keys.is_empty() || !self.read_only_keys.is_empty()
    }

    /// Refuses what contradicts itself or is not safe.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] that names the setting and the way out.
    pub fn validate(&self) -> Result<()> {
        let beyond = !self.listen.ip().is_loopback();
        if beyond && !self.needs_key() {
            return Err(Error::invalid(format!(
                "{} can be reached from other machines, so a key is needed: give --api-key KEY (at least \
                 {KEY_BYTES_MIN} bytes), or listen on 127.0.0.1",
                self.listen
            )));
        }
        if beyond && self.tls.is_none() && !self.insecure {
            return Err(Error::invalid(format!(
                "keys sent to {} over plain HTTP can be read on the way: give --tls-certificate and --tls-key, or \
                 --insecure where something before the server speaks HTTPS",
                self.listen
            )));
        }
        if let Some(key) = self.api_keys.iter().chain(&self.read_only_keys).find(|key| key.len() < KEY_BYTES_MIN) {
            return Err(Error::invalid(format!(
                "an API key has {} bytes and needs at least {KEY_BYTES_MIN}: `openssl rand -hex 32` makes a good one",
                key.len()
            )));
        }
        if !self.read_only_keys.is_empty() && self.api_keys.is_empty() && !self.read_only {
            return Err(Error::invalid(
                "read_only_keys without api_keys: nobody could write; say read_only, or add one",
            ));
        }
        if let Some(key) = self.api_keys.iter().find(|key| self.read_only_keys.contains(key)) {
            let bytes = key.len();
            return Err(Error::invalid(format!(
                "a key of {bytes} bytes stands in both api_keys and read_only_keys: it cannot be both"
            )));
        }
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(Error::invalid(format!(
                "`{origin}` is no origin: write it as browsers do, https://app.example, without a path; `*` is not taken"
            )));
        }
        self.limits.validate()
    }
}

/// Whether it is a scheme and a host, with a port or without, and nothing else.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    matches!(scheme, "http" | "https") && !host.is_empty() && host.bytes().all(plain)
}

impl Limits {
    fn validate(&self) -> Result<()> {
        let Self {
            body_bytes,
            stream_bytes,
            text_bytes,
            batch,
            hits,
            connections,
            requests,
            reads,
            writes_at_once,
            queue,
            header_seconds,
            body_seconds,
            body_bytes_per_second: _,
            request_seconds,
            stop_seconds,
        } = self;
        let given = [
            ("body_bytes", *body_bytes as u64),
            ("stream_bytes", *stream_bytes),
            ("text_bytes", *text_bytes as u64),
            ("batch", *batch as u64),
            ("hits", *hits as u64),
            ("connections", *connections as u64),
            ("requests", *requests as u64),
            ("writes_at_once", *writes_at_once as u64),
            ("queue", *queue as u64),
            ("header_seconds", *header_seconds),
            ("body_seconds", *body_seconds),
            ("request_seconds", *request_seconds),
        ];
        if let Some((name, _)) = given.iter().find(|(_, value)| *value == 0) {
            return Err(Error::invalid(format!("limits.{name} is 0, and needs at least 1")));
        }
        // Beyond that, clocks and semaphores would not take them.
        let counted = [("reads", *reads as u64), ("stop_seconds", *stop_seconds)];
        let counted = given.iter().filter(|(name, _)| !name.ends_with("_bytes")).chain(&counted);
        match counted.into_iter().find(|(_, value)| *value > COUNT_MAX) {
            Some((name, value)) => Err(Error::invalid(format!("limits.{name} is {value}, and may be {COUNT_MAX}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        let settings = Settings { models: vec!["all-MiniLM-L6-v2".into()], ..Settings::default() };
        assert_eq!(Settings::parse(&settings.print().unwrap()).unwrap(), settings);
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_by_name() {
        let message = Settings::parse("[limits]\nbody_byte = 3\n").unwrap_err().to_string();
        assert!(message.contains("body_byte") && message.contains("line 2"), "{message}");
    }

    #[test]
    fn keys_are_not_printed() {
        let settings = Settings { api_keys: vec!["0123456789abcdef".into()], ..Settings::default() };
        assert!(!settings.print().unwrap().contains("0123456789abcdef"));
    }

    #[test]
    fn a_limit_is_set_by_its_name_and_no_other() {
        let mut limits = Limits::default();
        limits.set("hits=7").unwrap();
        assert_eq!(limits, Limits { hits: 7, ..Limits::default() });
        let beyond = format!("hits={}", u64::MAX);
        for (word, says) in [
            ("hit=7", "body_bytes"),
            ("hits", "NAME=NUMBER"),
            ("hits=-1", "`-1`"),
            ("hits=x", "`x`"),
            (&beyond, "9223372036854775807"),
        ] {
            let message = limits.set(word).unwrap_err().to_string();
            assert!(message.contains(says), "{word}: {message}");
        }
    }

    #[test]
    fn every_limit_can_be_given_as_it_is_and_those_of_bytes_beyond_32_bits() {
        let mut limits = Limits::default();
        for (name, value) in toml::Table::try_from(&limits).unwrap() {
            limits.set(&format!("{name}={value}")).unwrap();
        }
        assert_eq!(limits, Limits::default());
        limits.set("stream_bytes=1099511627776").unwrap();
        assert_eq!(limits.stream_bytes, 1 << 40);
        limits.validate().unwrap();
        for name in ["connections", "reads", "stop_seconds"] {
            let mut limits = Limits::default();
            limits.set(&format!("{name}=4294967296")).unwrap();
            let message = limits.validate().unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("4294967295"), "{message}");
        }
    }

    #[test]
    fn keys_come_from_files_too_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "# of the web site\n 0123456789abcdef \n\n").unwrap();
        let settings = Settings { api_key_file: Some(file.clone()), ..Settings::default() };
        assert_eq!(settings.clone().with_key_files().unwrap().api_keys, ["0123456789abcdef"]);
        std::fs::write(&file, "# none\n").unwrap();
        assert!(settings.clone().with_key_files().unwrap_err().to_string().contains("no key"));
        std::fs::remove_file(&file).unwrap();
        assert!(settings.with_key_files().is_err());
    }

    #[test]
    fn an_origin_is_one_and_no_star() {
        for (origin, taken) in [
            ("https://app.example", true),
            ("http://localhost:3000", true),
            ("*", false),
            ("null", false),
            ("app.example", false),
            ("https://app.example/", false),
        ] {
            let settings = Settings { cors_origins: vec![origin.into()], ..Settings::default() };
            assert_eq!(settings.validate().is_ok(), taken, "{origin}");
        }
    }

    #[test]
    fn beyond_the_loopback_a_key_is_needed_and_must_not_be_overheard() {
        let open = Settings { listen: "0.0.0.0:7333".parse().unwrap(), ..Settings::default() };
        assert!(open.validate().unwrap_err().to_string().contains("--api-key"));
        let keyed = Settings { api_keys: vec!["0123456789abcdef".into()], ..open };
        assert!(keyed.validate().unwrap_err().to_string().contains("--insecure"));
        Settings { insecure: true, ..keyed.clone() }.validate().unwrap();
        assert!(Settings { api_keys: vec!["short".into()], ..keyed }.validate().is_err());
    }
}
