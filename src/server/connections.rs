//! How are connections accepted, and how long may they take?
//!
//! Invariants: a connection that sends no head, or takes up no answer, is closed; where all connections are taken, a few
//! more are told so, or that the server is alive, and the rest wait outside; there are never more than the process has
//! sockets for, with a reserve for files; when the server is told to stop, what was asked is answered and no further
//! question is taken. `axum::serve` has none of these. A client that closes its side is taken to be gone, and its work
//! stops: whether one only closed half of the connection cannot be told from the other half.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::Stop;
use super::app::App;
use crate::Result;

/// How long to wait before the next try where the system has no socket left.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections beyond the limit that are told so.
const SPARE: usize = 16;
/// How long such a connection may take to ask.
const SPARE_SECONDS: u64 = 2;
/// Bytes of a request's head, and what of a body is read ahead.
const BUFFER_BYTES: usize = 64 << 10;
/// Files that the process needs besides its connections.
const FILES_RESERVED: u64 = 256;

/// Marks a request that came in over a spare connection.
#[derive(Clone, Copy)]
pub(super) struct Crowded;

/// Leave to have a connection, until this is dropped.
struct Place {
    /// Whether it is one beyond the limit.
    spare: bool,
    _permit: OwnedSemaphorePermit,
}

/// The connections that may be.
struct Places {
    ordinary: Arc<Semaphore>,
    spare: Arc<Semaphore>,
}

impl Places {
    /// One of either kind, as soon as there is one.
    async fn take(&self) -> Place {
        // Never closed, so each of these ends with a permit.
        tokio::select! {
            biased;
            Ok(permit) = self.ordinary.clone().acquire_owned() => Place { spare: false, _permit: permit },
            Ok(permit) = self.spare.clone().acquire_owned() => Place { spare: true, _permit: permit },
            else => std::future::pending().await,
        }
    }

    /// A better one, where there is one by now.
    fn better(&self, place: Place) -> Place {
        if place.spare
            && let Ok(permit) = self.ordinary.clone().try_acquire_owned()
        {
            return Place { spare: false, _permit: permit };
        }
        place
    }
}

/// Accepts and answers until it is told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    stop: Stop,
) -> Result<()> {
    let ordinary = connections_max(app.settings.limits.connections);
    let places = Places { ordinary: Arc::new(Semaphore::new(ordinary)), spare: Arc::new(Semaphore::new(SPARE)) };
    let graceful = GracefulShutdown::new();
    let mut stopped = pin!(stop.heard());
    loop {
        let next = async {
            let place = places.take().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut stopped => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let place = places.better(place);
        tokio::spawn(answer(stream, place, router.clone(), app.clone(), tls.clone(), graceful.watcher()));
    }
    drop(listener);
    let grace = Duration::from_secs(app.settings.limits.stop_seconds);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were not answered within {} s, and are given up", grace.as_secs());
    }
    Ok(())
}

/// As many as the operator wants and the system has sockets for.
fn connections_max(wanted: usize) -> usize {
    #[cfg(unix)]
    if let Ok((files, _)) = rlimit::getrlimit(rlimit::Resource::NOFILE) {
        let room = files.saturating_sub(FILES_RESERVED.min(files / 2));
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
        if room < wanted {
            tracing::warn!("limits.connections is {wanted}, and the process may have {files} files: {room} it is");
        }
        return wanted.min(room);
    }
    wanted
}

/// One connection to its end.
async fn answer(
    stream: TcpStream,
    place: Place,
    router: Router,
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    watcher: Watcher,
) {
    let _counted = app.metrics.connected();
    let limits = &app.settings.limits;
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    // Only for what is sent: what is received waits for a handler as long as the handler takes.
    stream.set_write_timeout(Some(Duration::from_secs(limits.body_seconds)));
    let stream = Box::pin(stream);
    let head = Duration::from_secs(limits.header_seconds);
    match tls {
        None => speak(stream, &place, router, head, watcher).await,
        Some(tls) => {
            // How a client ends its connection is its own business, here and below.
            if let Ok(Ok(stream)) = tokio::time::timeout(head, tls.accept(stream)).await {
                speak(stream, &place, router, head, watcher).await;
            }
        }
    }
    drop(place);
}

/// HTTP/1.1 over what carries it.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: &Place,
    router: Router,
    head: Duration,
    watcher: Watcher,
) {
    let spare = place.spare;
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        if spare {
            request.extensions_mut().insert(Crowded);
        }
        router.clone().oneshot(request)
    });
    let head = if spare { head.min(Duration::from_secs(SPARE_SECONDS)) } else { head };
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .keep_alive(!spare)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let _ = watcher.watch(connection).await;
}
