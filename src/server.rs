//! Who listens, what do they answer, and how does it stop? The HTTP server over the synchronous core.
//!
//! Invariants: nothing here is searched, embedded or stored in another way than by the library; a request runs on a
//! thread of its own kind and never on those that accept connections; what a client no longer waits for stops; the server
//! itself asks nobody: no URL that a request names is fetched, and no model is loaded but those that its operator
//! configured. Without an API key it listens on the loopback alone.

mod app;
mod body;
mod compat;
mod connections;
mod console;
mod encoding;
mod failure;
mod guard;
mod log;
#[cfg(feature = "mcp")]
mod mcp_http;
mod metrics;
mod native;
mod openapi;
mod operation;
mod pace;
mod path;
mod settings;
mod tls;
#[cfg(test)]
mod trials;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::app::App;
pub use self::log::log;
pub use self::settings::{Limits, LogFormat, Settings, Tls};
use crate::{Database, Error, Result};

/// A server that has its address and does not answer yet.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    stop: Stop,
}

/// Tells a [`Server`] to stop, from any thread: it takes no further connection, answers what it was asked, and returns.
#[derive(Clone, Debug)]
pub struct Stop {
    told: Arc<watch::Sender<bool>>,
}

impl Stop {
    fn new() -> Self {
        Self { told: Arc::new(watch::Sender::new(false)) }
    }

    /// Tells it. More than once is the same as once.
    pub fn tell(&self) {
        self.told.send_replace(true);
    }

    /// Resolves once it was told.
    pub(crate) async fn heard(&self) {
        let mut told = self.told.subscribe();
        // The sender lives in `self`, so this ends by being told.
        let _ = told.wait_for(|told| *told).await;
    }
}

impl Server {
    /// Takes the address that the settings name; port 0 is any that is free.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] where the settings contradict each other or are not safe (an address beyond the loopback
    /// without a key) or name files that do not fit; [`Error::Io`] where the address cannot be had.
    pub fn bind(database: Database, settings: Settings) -> Result<Self> {
        let settings = settings.with_key_files()?;
        settings.validate()?;
        let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = settings.listen;
        let io = |error| Error::io(address.to_string(), error);
        let listener = TcpListener::bind(address).map_err(io)?;
        listener.set_nonblocking(true).map_err(io)?;
        let stop = Stop::new();
        Ok(Self { listener, app: Arc::new(App::new(database, settings, stop.clone())?), tls, stop })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`Error::Io`] where the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|error| Error::io("the server's address", error))
    }

    /// What stops it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Answers until it is told to stop. Blocks; the threads that it needs are its own.
    ///
    /// # Errors
    /// [`Error::Io`] where its threads cannot be had.
    pub fn run(self) -> Result<()> {
        let routes = routes(self.app.settings.needs_key());
        #[cfg(feature = "mcp")]
        let routes = routes.merge(mcp_http::routes(&self.app));
        self.run_with(routes)
    }

    fn run_with(self, routes: Router<Arc<App>>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("quiver-http")
            .max_blocking_threads(self.app.settings.limits.threads())
            .enable_all()
            .build()
            .map_err(|error| Error::io("the server's threads", error))?;
        let Self { listener, app, tls, stop } = self;
        runtime.block_on(async {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(|error| Error::io("the server's socket", error))?;
            let router = guard::around(routes, &app).with_state(app.clone());
            connections::serve(listener, router, app, tls, stop).await
        })?;
        // What still runs was told to stop and is all or nothing.
        runtime.shutdown_timeout(Duration::from_secs(10));
        Ok(())
    }
}

/// All routes; their description says whether a key is needed.
fn routes(needs_key: bool) -> Router<Arc<App>> {
    openapi::documented(native::routes().merge(compat::documented()), needs_key)
        .merge(compat::undocumented())
        .merge(operation::routes())
        .merge(console::routes())
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
}
