//! Which hub, which cache, and may we ask?
//!
//! The environment says, by the names that Python's tools know: what works for `huggingface_hub` works here.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use super::http::Patience;
use crate::{Error, Result};

/// The hub where none is named.
const ENDPOINT: &str = "https://huggingface.co";
/// What Python's tools wait for the next bytes.
const SILENCE: Duration = Duration::from_secs(10);

/// Where models are cached and where they are fetched from.
#[derive(Clone)]
pub struct HubSettings {
    /// The cache's folder: `HF_HUB_CACHE`, or `hub` below `HF_HOME`, or `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// The hub: `HF_ENDPOINT`, or the public one.
    pub endpoint: String,
    /// Sent to the hub, and to no other host: `HF_TOKEN`, or the file that `hf auth login` writes.
    pub token: Option<String>,
    /// Ask nobody: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub offline: bool,
    /// How long to wait and how often to try; `HF_HUB_DOWNLOAD_TIMEOUT` sets the seconds of silence.
    pub patience: Patience,
}

impl std::fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cache, endpoint, token, offline, patience } = self;
        f.debug_struct("HubSettings")
            .field("cache", cache)
            .field("endpoint", endpoint)
            .field("token", &token.as_ref().map(|_| "..."))
            .field("offline", offline)
            .field("patience", patience)
            .finish()
    }
}

impl HubSettings {
    /// What the environment says.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where it names no folder and there is no home folder, or names a hub that is no URL.
    pub fn from_env() -> Result<Self> {
        Self::from_lookup(|name| env::var(name).ok().filter(|value| !value.trim().is_empty()), env::home_dir())
    }

    fn from_lookup(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Result<Self> {
        let expand = |path: String| match (path.strip_prefix("~/"), &home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(path),
        };
        let default_home = || {
            let caches = variable("XDG_CACHE_HOME").map(&expand).or_else(|| Some(home.as_ref()?.join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        };
        let hub_home = variable("HF_HOME").map(&expand).or_else(default_home);
        let named = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")).map(&expand);
        let cache = named
            .or_else(|| Some(hub_home.as_ref()?.join("hub")))
            .ok_or_else(|| Error::invalid("there is no home folder to keep models in: set HF_HOME to a folder"))?;
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !super::is_url(&endpoint) {
            return Err(Error::invalid(format!("HF_ENDPOINT is `{endpoint}`; it must be a URL such as {ENDPOINT}")));
        }
        let is_set = |name| variable(name).is_some_and(|value| is_true(&value));
        let implicit = !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        let file = variable("HF_TOKEN_PATH").map(&expand).or_else(|| Some(hub_home.as_ref()?.join("token")));
        let stored = || std::fs::read_to_string(file.as_ref()?).ok();
        let token = variable("HF_TOKEN").or_else(|| if implicit { stored() } else { None });
        let seconds = variable("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.trim().parse().ok());
        let silence = seconds.filter(|seconds| *seconds > 0).map_or(SILENCE, Duration::from_secs);
        Ok(Self {
            cache,
            endpoint,
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            patience: Patience { connect: SILENCE, silence, request: None, retries: 5, pause: Duration::from_secs(1) },
        })
    }
}

/// As Python's tools read it.
fn is_true(value: &str) -> bool {
    matches!(value.trim().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        HubSettings::from_lookup(find, Some(PathBuf::from("/root-of-ann")))
    }

    #[test]
    fn the_cache_is_where_python_s_tools_have_it() -> Result<()> {
        let cache = |variables: &[(&str, &str)]| settings(variables).map(|settings| settings.cache);
        assert_eq!(cache(&[])?, PathBuf::from("/root-of-ann/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c")])?, PathBuf::from("/c/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/c")])?, PathBuf::from("/root-of-ann/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/x")])?, PathBuf::from("/x"));
        assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/y")])?, PathBuf::from("/y"));
        Ok(())
    }

    #[test]
    fn offline_is_said_in_several_words() -> Result<()> {
        for (name, value, offline) in [
            ("HF_HUB_OFFLINE", "1", true),
            ("HF_HUB_OFFLINE", "yes", true),
            ("TRANSFORMERS_OFFLINE", "True", true),
            ("HF_HUB_OFFLINE", "0", false),
            ("HF_HUB_OFFLINE", "false", false),
        ] {
            assert_eq!(settings(&[(name, value)])?.offline, offline, "{name}={value}");
        }
        Ok(())
    }

    #[test]
    fn endpoint_token_and_timeout_are_taken() -> Result<()> {
        let given = settings(&[
            ("HF_ENDPOINT", "http://mirror.example/"),
            ("HF_TOKEN", " hf_secret\n"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "30"),
        ])?;
        assert_eq!(given.endpoint, "http://mirror.example");
        assert_eq!(given.token.as_deref(), Some("hf_secret"));
        assert_eq!(given.patience.silence, Duration::from_secs(30));
        assert!(!format!("{given:?}").contains("secret"));
        assert!(settings(&[("HF_ENDPOINT", "mirror")]).is_err());
        Ok(())
    }
}
