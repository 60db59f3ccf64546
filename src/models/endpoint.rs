//! Which server and which of its models does a URL name, and with which key?
//!
//! `http://host:port/v1#model-name?option=value&option=value`. The key is never part of it, and is never stored: it comes
//! from an environment variable that is named after the host, so that a database from elsewhere, which names a server in
//! its settings, cannot have a key sent there that was meant for another.

use ureq::http::Uri;

use crate::{Error, Result};

/// Before the host's name, in capitals and with `_` for every other mark.
const KEY_PREFIX: &str = "QUIVER_API_KEY_";
/// Variables that the hosts' own tools use.
const KEYS: [(&str, &str); 7] = [
    ("api.openai.com", "OPENAI_API_KEY"),
    ("api.cohere.com", "CO_API_KEY"),
    ("api.cohere.ai", "CO_API_KEY"),
    ("api.jina.ai", "JINA_API_KEY"),
    ("api.mistral.ai", "MISTRAL_API_KEY"),
    ("api.voyageai.com", "VOYAGE_API_KEY"),
    ("api.mixedbread.com", "MXBAI_API_KEY"),
];

/// A server's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The URL without a slash at its end.
    pub(crate) base: String,
    /// The model's name; `None` for servers that have only one.
    pub(crate) model: Option<String>,
    host: String,
    options: Vec<(String, String)>,
}

impl Endpoint {
    /// Reads a URL as described above.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::invalid(format!(
                "`{text}` {reason}; a model on a server looks like `http://localhost:8080/v1#its-name`"
            ))
        };
        let (base, rest) = text.split_once('#').map_or((text, ""), |(base, rest)| (base, rest));
        let uri: Uri = base.parse().map_err(|_| wrong("is not a URL"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if !super::is_url(base) || uri.host().is_none_or(str::is_empty) {
            return Err(wrong("is not a URL with a host"));
        }
        if authority.contains('@') {
            return Err(wrong("holds a user or a password, which would be stored: keys come from the environment"));
        }
        if uri.query().is_some() {
            return Err(wrong("has a `?` before the model's name"));
        }
        let (model, query) = rest.split_once('?').map_or((rest, ""), |(model, query)| (model, query));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let options = pairs.map(|pair| match pair.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), decoded(value).ok_or_else(|| wrong("has a damaged % escape"))?)),
            None => Err(wrong("has an option without `=`")),
        });
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            model: (!model.is_empty()).then(|| model.to_owned()),
            host: uri.host().unwrap_or_default().to_ascii_lowercase(),
            options: options.collect::<Result<_>>()?,
        })
    }

    /// Its name: URL and model, without options.
    pub(crate) fn name(&self) -> String {
        match &self.model {
            Some(model) => format!("{}#{model}", self.base),
            None => self.base.clone(),
        }
    }

    /// Takes an option out.
    pub(crate) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.options.iter().position(|(name, _)| name == key)?;
        Some(self.options.remove(at).1)
    }

    /// Takes a number out.
    pub(crate) fn take_number(&mut self, key: &str) -> Result<Option<usize>> {
        let Some(text) = self.take(key) else { return Ok(None) };
        match text.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(Error::invalid(format!("{}: option `{key}` must be a number above 0; got `{text}`", self.name()))),
        }
    }

    /// Refuses options that nobody took.
    pub(crate) fn expect_no_more(&self, known: &str) -> Result<()> {
        match self.options.first() {
            None => Ok(()),
            Some((key, _)) => {
                Err(Error::invalid(format!("{}: there is no option `{key}`; the options are {known}", self.name())))
            }
        }
    }

    /// The variables that may hold the key for this host, the first one that is set counting.
    fn key_variables(&self) -> Vec<String> {
        let own =
            |character: char| if character.is_ascii_alphanumeric() { character.to_ascii_uppercase() } else { '_' };
        let named = format!("{KEY_PREFIX}{}", self.host.chars().map(own).collect::<String>());
        let usual = KEYS.iter().filter(|(host, _)| *host == self.host).map(|(_, variable)| (*variable).to_owned());
        std::iter::once(named).chain(usual).collect()
    }

    /// The key for this host, from the environment.
    pub(crate) fn key(&self) -> Option<String> {
        let set = |name: String| std::env::var(name).ok().filter(|key| !key.trim().is_empty());
        self.key_variables().into_iter().find_map(set).map(|key| key.trim().to_owned())
    }

    /// What to do about a refusal, where a key would help.
    pub(crate) fn key_hint(&self, status: Option<u16>) -> String {
        match (status, self.key()) {
            (Some(401 | 403), None) => format!(" (it wants a key: set {})", self.key_variables().join(" or ")),
            (Some(401 | 403), Some(_)) => {
                format!(" (the key in {} is not accepted)", self.key_variables().join(" or "))
            }
            _ => String::new(),
        }
    }
}

/// `%XX` as the bytes that they stand for.
fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut at) = (Vec::new(), 0);
    let raw = text.as_bytes();
    while at < raw.len() {
        if raw[at] == b'%' {
            let digits = text.get(at + 1..at + 3)?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            bytes.push(raw[at]);
            at += 1;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_server_model_and_options() -> Result<()> {
        let mut endpoint =
            Endpoint::parse("http://localhost:11434/v1/#nomic/embed:latest?query=search%5fquery:%20&dims=64")?;
        assert_eq!(endpoint.name(), "http://localhost:11434/v1#nomic/embed:latest");
        assert_eq!(endpoint.take("query").as_deref(), Some("search_query: "));
        assert_eq!(endpoint.take_number("dims")?, Some(64));
        endpoint.expect_no_more("")?;
        assert_eq!(Endpoint::parse("http://[::1]:80")?.model, None);
        Ok(())
    }

    #[test]
    fn what_is_no_such_url_is_told() {
        for text in
            ["ftp://a/b", "http://", "http://u:p@a/v1#m", "http://a/v1?x=1#m", "http://a#m?x", "http://a#m?x=%zz"]
        {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    /// A key is bound to a host by the variable's name: no URL can ask for another's.
    #[test]
    fn keys_belong_to_hosts() -> Result<()> {
        let variables = |url: &str| Endpoint::parse(url).map(|endpoint| endpoint.key_variables());
        assert_eq!(variables("https://api.openai.com/v1#m")?, ["QUIVER_API_KEY_API_OPENAI_COM", "OPENAI_API_KEY"]);
        assert_eq!(
            variables("https://API.openai.com.evil.example/v1#m")?,
            ["QUIVER_API_KEY_API_OPENAI_COM_EVIL_EXAMPLE"]
        );
        assert_eq!(variables("http://localhost:8080/v1#m")?, ["QUIVER_API_KEY_LOCALHOST"]);
        Ok(())
    }
}
