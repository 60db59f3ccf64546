//! Which file may a request name?
//!
//! Invariants: only what lies below the operator's root, by its own name: a link, in the path or at its end, is refused, and
//! nothing is looked at outside; without a root nothing may be named.

use std::path::{Component, Path, PathBuf};

use crate::server::app::Answer;
use crate::server::failure::Failure;

/// The file below `root` that a request names, relative to the root or in full.
pub(super) fn below(root: Option<&Path>, named: &str) -> Answer<PathBuf> {
    let Some(root) = root else {
        return Err(forbidden(
            "this server imports no files by path: its operator allows it with --import-root FOLDER",
        ));
    };
    let real = root.canonicalize().map_err(|_| Failure::internal("the import root cannot be read"))?;
    let path = Path::new(named);
    let outside = || forbidden(format!("`{named}` does not lie below the import root"));
    let relative = match path.is_absolute() {
        true => path.strip_prefix(root).or_else(|_| path.strip_prefix(&real)).map_err(|_| outside())?,
        false => path,
    };
    let steps = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(steps) {
        return Err(outside());
    }
    let mut at = real.clone();
    for part in relative.components() {
        at.push(part);
        let there = at.symlink_metadata().map_err(|_| missing(named))?;
        if there.is_symlink() {
            return Err(forbidden(format!("`{named}` leads through a link, and links are not followed")));
        }
    }
    // Once more by the system's own account, in case something changed on the way.
    let full = at.canonicalize().map_err(|_| missing(named))?;
    if full != at || !full.starts_with(&real) {
        return Err(outside());
    }
    match full.is_file() {
        true => Ok(full),
        false => Err(Failure::invalid(format!("path: `{named}` is no file"))),
    }
}

fn missing(named: &str) -> Failure {
    Failure::invalid(format!("path: there is no file `{named}` below the import root, or it cannot be read"))
}

fn forbidden(message: impl Into<String>) -> Failure {
    Failure::of("forbidden", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_and_steps_outside_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (root, other) = (folder.path().join("root"), folder.path().join("other"));
        for made in [&root, &other, &root.join("inner")] {
            std::fs::create_dir(made).unwrap();
        }
        std::fs::write(root.join("inner/a.csv"), "id,text\n").unwrap();
        std::fs::write(other.join("b.csv"), "id,text\n").unwrap();
        std::os::unix::fs::symlink(&other, root.join("planted")).unwrap();
        std::os::unix::fs::symlink(other.join("b.csv"), root.join("b.csv")).unwrap();
        let status = |named: &str| below(Some(&root), named).map_err(|failure| failure.status.as_u16());
        assert!(status("inner/a.csv").unwrap().ends_with("inner/a.csv"));
        assert!(status(root.join("inner/a.csv").to_str().unwrap()).is_ok());
        let absolute = other.join("b.csv");
        for bad in ["../other/b.csv", "inner/../inner/a.csv", "planted/b.csv", "planted/none", "b.csv", "/etc/passwd"] {
            assert_eq!(status(bad), Err(403), "{bad}");
        }
        assert_eq!(status(absolute.to_str().unwrap()), Err(403));
        for none in ["inner", "inner/none.csv", "", "a\0b"] {
            assert_eq!(status(none), Err(400), "{none:?}");
        }
        assert_eq!(below(None, "a.csv").unwrap_err().status.as_u16(), 403);
    }
}
