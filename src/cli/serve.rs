//! How does the command line start a server?

use anyhow::Result;

use super::args::Serve;
use super::session::{Outcome, Session};

/// `quiver serve`.
#[cfg(feature = "server")]
pub(crate) fn run(session: &Session, arguments: &Serve) -> Result<Outcome> {
    use quiverdb::server::{Server, Settings};

    use super::output::note;

    let mut settings = match &arguments.config {
        Some(path) => Settings::parse(&std::fs::read_to_string(path)?)?,
        None => Settings::default(),
    };
    settings.listen = arguments.listen.unwrap_or(settings.listen);
    settings.api_keys.extend(arguments.api_key.iter().cloned());
    if arguments.print_config {
        settings.validate()?;
        session.output.text(&settings.print()?)?;
        return Ok(Outcome::Done);
    }
    let server = Server::bind(session.for_server()?, settings)?;
    let stop = server.stop();
    ctrlc::set_handler(move || stop.tell())?;
    note(&format!("listening on http://{}", server.address()?));
    server.run()?;
    Ok(Outcome::Done)
}

/// `quiver serve`, in a build without a server.
#[cfg(not(feature = "server"))]
pub(crate) fn run(_: &Session, _: &Serve) -> Result<Outcome> {
    Err(quiverdb::Error::FeatureMissing { what: "quiver serve".to_owned(), feature: "server" }.into())
}
