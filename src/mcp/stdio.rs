//! How is one client served over stdin and stdout?
//!
//! Invariants: each message is a line; a line that is no message harms no other; when stdin ends, what was asked before is
//! done and answered first, however long it takes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::service::{ServerInitializeError, serve_server};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{Stdin, Stdout};
use tokio::sync::{Notify, Semaphore};

use super::{Access, Handler, Host};
use crate::{Database, Error, Result};

/// Bytes of a line. A text of 16 MiB may be four times as long where JSON escapes it.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Calls at once; the others wait, because the one client that there is has asked for all of them.
const CALLS_AT_ONCE: usize = 4;

/// Serves one client over stdin and stdout until stdin ends. Blocks. What is asked is all or nothing, as in the library, and
/// what was answered is durable.
///
/// # Errors
/// [`Error::InvalidInput`] where the client does not begin as the protocol demands, or `access` names what cannot be;
/// [`Error::Io`] where the threads cannot be had.
pub fn serve_stdio(database: Database, access: Access) -> Result<()> {
    for name in &access.collections {
        quiverdb_storage::validate_collection_name(name)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("quiver-mcp")
        .enable_all()
        .build()
        .map_err(|error| Error::io("the threads for the Model Context Protocol", error))?;
    let served = runtime.block_on(serve(database, access));
    // Whatever still runs was told to stop and is all or nothing; a thread that reads stdin cannot be told.
    runtime.shutdown_timeout(Duration::from_secs(10));
    served
}

async fn serve(database: Database, access: Access) -> Result<()> {
    let host = Arc::new(Alone { database, calls: Arc::new(Semaphore::new(CALLS_AT_ONCE)) });
    let lines = AsyncRwTransport::new_server(tokio::io::stdin(), tokio::io::stdout());
    let lines = Patient { lines: lines.with_max_line_length(LINE_BYTES_MAX), open: Arc::default() };
    match serve_server(Handler::new(host, access), lines).await {
        Ok(running) => running.waiting().await.map(drop).map_err(|error| Error::invalid(error.to_string())),
        // Nothing was asked.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => {
            let said: String = error.to_string().chars().take(300).collect();
            Err(Error::invalid(format!("the client did not begin as the Model Context Protocol demands: {said}")))
        }
    }
}

/// Calls the core for one client.
struct Alone {
    database: Database,
    calls: Arc<Semaphore>,
}

/// Tells the call to stop when nobody waits for it any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Host for Alone {
    async fn call<T: Send + 'static>(
        &self,
        _writes: bool,
        work: impl FnOnce(&Database, &AtomicBool) -> T + Send + 'static,
    ) -> std::result::Result<T, String> {
        let permit = self.calls.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let cancel = Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(cancel.clone());
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&database, &cancel)
        });
        done.await.map_err(|_| "the call met a fault of quiver; nothing else is harmed, please report it".to_owned())
    }
}

/// Lines whose end is told only when all that was asked is answered.
struct Patient {
    lines: AsyncRwTransport<RoleServer, Stdin, Stdout>,
    open: Arc<Open>,
}

/// What was asked and not answered yet.
#[derive(Default)]
struct Open {
    ids: Mutex<HashSet<RequestId>>,
    closed: Notify,
}

impl Open {
    fn begin(&self, id: RequestId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn end(&self, id: &RequestId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.closed.notify_waiters();
    }

    /// Resolves once nothing is open.
    async fn settled(&self) {
        loop {
            let closed = self.closed.notified();
            if self.ids.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return;
            }
            closed.await;
        }
    }
}

impl Transport<RoleServer> for Patient {
    type Error = std::io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = std::result::Result<(), Self::Error>> + Send + 'static {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(response.id.clone()),
            JsonRpcMessage::Error(error) => error.id.clone(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let (sending, open) = (self.lines.send(message), self.open.clone());
        async move {
            let sent = sending.await;
            answered.iter().for_each(|id| open.end(id));
            sent
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let Some(message) = self.lines.receive().await else {
            self.open.settled().await;
            return None;
        };
        match &message {
            JsonRpcMessage::Request(request) => self.open.begin(request.id.clone()),
            // It gets no answer.
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification {
                    cancelled.params.request_id.iter().for_each(|id| self.open.end(id));
                }
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        Some(message)
    }

    async fn close(&mut self) -> std::result::Result<(), Self::Error> {
        self.lines.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_panics_is_an_answer_and_the_next_one_works() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("threads can be had");
        let database = Database::in_memory().expect("memory is there");
        let host = Alone { database, calls: Arc::new(Semaphore::new(1)) };
        runtime.block_on(async {
            let panicked: std::result::Result<(), String> = host.call(true, |_, _| panic!("on purpose")).await;
            assert!(panicked.expect_err("it panicked").contains("report"));
            assert_eq!(host.call(false, |_, _| 7).await, Ok(7));
        });
    }
}
