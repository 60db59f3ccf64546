//! Which version does a request expect?
//!
//! RFC 9110: `If-Match` compares strongly, so a weak tag (`W/`) equals none; a tag that is not ours is a version that the
//! document does not have.

use axum::http::{HeaderMap, HeaderName, header};

use crate::server::app::Answer;
use crate::server::failure::Failure;
use crate::{ExpectedVersion, Version};

/// What `If-Match` and `If-None-Match` of a write expect.
pub(super) fn expected(headers: &HeaderMap) -> Answer<ExpectedVersion> {
    let (matches, none) = (tags(headers, &header::IF_MATCH)?, tags(headers, &header::IF_NONE_MATCH)?);
    match (matches, none) {
        (None, None) => Ok(ExpectedVersion::Any),
        (Some(Tags::Any), None) => Ok(ExpectedVersion::Present),
        (Some(Tags::Of(versions)), None) => Ok(Version::one_of(versions)),
        (None, Some(Tags::Any)) => Ok(ExpectedVersion::Absent),
        (None, Some(Tags::Of(_))) => {
            Err(Failure::invalid("If-None-Match of a write is `*` (it must not be there); a version goes to If-Match"))
        }
        (Some(_), Some(_)) => {
            Err(Failure::invalid("If-Match and If-None-Match contradict each other; send one of them"))
        }
    }
}

/// Whether the client of a read has this version already.
pub(super) fn knows(headers: &HeaderMap, version: Version) -> bool {
    match tags(headers, &header::IF_NONE_MATCH) {
        Ok(Some(Tags::Any)) => true,
        Ok(Some(Tags::Of(versions))) => versions.contains(&version),
        Ok(None) | Err(_) => false,
    }
}

/// What one of the two headers names.
enum Tags {
    Any,
    Of(Vec<Version>),
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Answer<Option<Tags>> {
    let mut found = None;
    for value in headers.get_all(name) {
        let unreadable = || Failure::invalid(format!("{name} is no list of versions in quotes, and not `*`"));
        let value = value.to_str().map_err(|_| unreadable())?.trim();
        if value == "*" {
            return Ok(Some(Tags::Any));
        }
        if value.is_empty() {
            return Err(unreadable());
        }
        let versions: &mut Vec<Version> = found.get_or_insert_default();
        for tag in value.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            let inner = strong.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).ok_or_else(unreadable)?;
            let is_weak = strong.len() != tag.len();
            versions.extend(inner.parse::<Version>().ok().filter(|_| !is_weak));
        }
    }
    Ok(found.map(Tags::Of))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Answer<ExpectedVersion> {
        let headers = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        expected(&headers.collect())
    }

    #[test]
    fn headers_say_what_is_expected() {
        let version = "000102030405060708090a0b0c0d0e0f".parse::<Version>().unwrap();
        assert_eq!(version.to_string(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(of(&[]).unwrap(), ExpectedVersion::Any);
        assert_eq!(of(&[("if-match", "*")]).unwrap(), ExpectedVersion::Present);
        assert_eq!(of(&[("if-none-match", "*")]).unwrap(), ExpectedVersion::Absent);
        let tags = "\"000102030405060708090a0b0c0d0e0f\", W/\"000102030405060708090a0b0c0d0e0f\", \"another\"";
        assert_eq!(of(&[("if-match", tags)]).unwrap(), version.into());
        assert_eq!(of(&[("if-match", "\"another\"")]).unwrap(), Version::one_of([]));
        for refused in [
            [("if-match", "bare")].as_slice(),
            &[("if-none-match", "\"x\"")],
            &[("if-match", "*"), ("if-none-match", "*")],
        ] {
            assert!(of(refused).is_err(), "{refused:?}");
        }
    }
}
