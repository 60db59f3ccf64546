//! How are connections accepted, and how long may they take?
//!
//! Invariants: a connection that sends no head, or takes up no answer, is closed; more connections than the limit wait
//! outside; when the server is told to stop, what was asked is answered and no further question is taken. `axum::serve` has
//! none of these.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::Stop;
use super::app::App;
use crate::Result;

/// How long to wait before the next try where the system has no socket left.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts and answers until it is told to stop.
pub(super) async fn serve(listener: TcpListener, router: Router, app: Arc<App>, stop: Stop) -> Result<()> {
    let open = Arc::new(Semaphore::new(app.settings.limits.connections));
    let graceful = GracefulShutdown::new();
    let mut stopped = pin!(stop.heard());
    loop {
        let next = async {
            // Never closed, so there is a permit in the end.
            let permit = open.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = &mut stopped => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = answer(stream, router.clone(), &app, &graceful);
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let grace = Duration::from_secs(app.settings.limits.stop_seconds);
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests were not answered within {} s", grace.as_secs());
    }
    Ok(())
}

/// One connection to its end.
fn answer(
    stream: TcpStream,
    router: Router,
    app: &App,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let limits = &app.settings.limits;
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits.header_seconds))
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        // How a client ends its connection is its own business.
        let _ = connection.await;
    }
}
