//! How does the command line start a server?
//!
//! Invariants: flags stand above the environment and that above the file; what is not known, whether in the file or in the
//! environment, is refused by its name; the first Ctrl-C lets requests end, and the second ends at once.

use anyhow::Result;

use super::args::Serve;
use super::session::{Outcome, Session};

/// `quiver serve`.
#[cfg(feature = "server")]
pub(crate) fn run(session: &Session, arguments: &Serve) -> Result<Outcome> {
    use quiverdb::server::Server;

    use super::output::note;

    expect_known_variables()?;
    let settings = settings(arguments)?.with_key_files()?;
    settings.validate()?;
    if arguments.print_config {
        session.output.text(&settings.print()?)?;
        return Ok(Outcome::Done);
    }
    quiverdb::server::log(&settings)?;
    // A socket a connection: as many as the system lets us have.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let server = Server::bind(session.for_server()?, settings)?;
    let stop = server.stop();
    let told = std::sync::atomic::AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if told.swap(true, std::sync::atomic::Ordering::Relaxed) {
            // What is not committed is not there, and what is committed stays.
            std::process::exit(130);
        }
        stop.tell();
    })?;
    note(&format!("listening on {scheme}://{}", server.address()?));
    server.run()?;
    Ok(Outcome::Done)
}

/// What the file says, and above it what flags and environment say.
#[cfg(feature = "server")]
fn settings(arguments: &Serve) -> Result<quiverdb::server::Settings> {
    use quiverdb::server::{LogFormat, Settings, Tls};

    use super::session::Mistake;

    let mut settings = match &arguments.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                anyhow::Error::from(error).context(format!("the settings of {} cannot be read", path.display()))
            })?;
            Settings::parse(&text)?
        }
        None => Settings::default(),
    };
    let lists = [
        (&mut settings.api_keys, &arguments.api_key),
        (&mut settings.read_only_keys, &arguments.read_only_key),
        (&mut settings.hosts, &arguments.host),
        (&mut settings.cors_origins, &arguments.cors_origin),
        (&mut settings.models, &arguments.model),
        (&mut settings.rerankers, &arguments.reranker),
    ];
    for (list, given) in lists.into_iter().filter(|(_, given)| !given.is_empty()) {
        list.clone_from(given);
    }
    let paths = [
        (&mut settings.api_key_file, &arguments.api_key_file),
        (&mut settings.read_only_key_file, &arguments.read_only_key_file),
        (&mut settings.import_root, &arguments.import_root),
        (&mut settings.backup_root, &arguments.backup_root),
    ];
    for (path, given) in paths.into_iter().filter(|(_, given)| given.is_some()) {
        path.clone_from(given);
    }
    settings.listen = arguments.listen.unwrap_or(settings.listen);
    settings.read_only |= arguments.read_only;
    settings.insecure |= arguments.insecure;
    settings.tls = match (&arguments.tls_certificate, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls { certificate: certificate.clone(), key: key.clone() }),
        (None, None) => settings.tls,
        _ => return Err(Mistake::new("HTTPS needs both --tls-certificate and --tls-key").into()),
    };
    if let Some(name) = &arguments.log {
        settings.log = LogFormat::named(name)?;
    }
    if let Some(filter) = &arguments.log_filter {
        settings.log_filter.clone_from(filter);
    }
    for word in arguments.limit_below.iter().chain(&arguments.limit) {
        settings.limits.set(word)?;
    }
    Ok(settings)
}

/// Refuses variables that look like settings and are none: `QUIVER_API_KEYS` would leave a door open in silence.
#[cfg(feature = "server")]
fn expect_known_variables() -> Result<()> {
    use clap::CommandFactory;

    use super::session::Mistake;

    let command = super::args::Arguments::command();
    let known: Vec<String> = std::iter::once(&command)
        .chain(command.get_subcommands())
        .flat_map(clap::Command::get_arguments)
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .collect();
    // Keys of models on other machines, by their host; what Kubernetes sets for a service named quiver; our own tests'.
    const OTHERS: [&str; 5] = ["QUIVER_API_KEY_", "QUIVER_SERVICE_", "QUIVER_PORT", "QUIVER_TEST_", "QUIVER_KILL_"];
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| name.starts_with("QUIVER_") && !known.contains(name));
    match unknown.filter(|name| !OTHERS.iter().any(|other| name.starts_with(other))).min() {
        Some(name) => Err(Mistake::new(format!("the environment has {name}, which is no setting of quiver"))
            .hint("`quiver serve --help` names them all; unset what is not meant for it")
            .into()),
        None => Ok(()),
    }
}

/// `quiver serve`, in a build without a server.
#[cfg(not(feature = "server"))]
pub(crate) fn run(_: &Session, _: &Serve) -> Result<Outcome> {
    Err(quiverdb::Error::FeatureMissing { what: "quiver serve".to_owned(), feature: "server" }.into())
}
