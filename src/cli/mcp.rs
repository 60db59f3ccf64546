//! How does the command line speak the Model Context Protocol? Over stdin and stdout, with one program.

use anyhow::Result;

use super::args::Mcp;
use super::session::{Outcome, Session};

/// `quiver mcp`.
#[cfg(feature = "mcp")]
pub(crate) fn run(session: &Session, arguments: Mcp) -> Result<Outcome> {
    use quiverdb::mcp::{Access, serve_stdio};

    let Mcp { read_only, collection, model } = arguments;
    if read_only {
        // What only reads makes no database.
        session.existing()?;
    }
    let access = Access { read_only, collections: collection, models: model, ..Access::default() };
    serve_stdio(session.for_server()?, access)?;
    Ok(Outcome::Done)
}

/// `quiver mcp`, in a build without the protocol.
#[cfg(not(feature = "mcp"))]
pub(crate) fn run(_: &Session, _: Mcp) -> Result<Outcome> {
    Err(quiverdb::Error::FeatureMissing { what: "quiver mcp".to_owned(), feature: "mcp" }.into())
}
