//! Does the server answer as it says? Each test has a server of its own, on a port of its own.

#![allow(dead_code, reason = "each module asks for what it needs")]

mod attacks;
mod collections;
mod console;
mod documents;
mod jobs;
mod openai;
mod operation;
mod qdrant;
mod searching;

use std::net::SocketAddr;
use std::thread::JoinHandle;

use quiverdb::Database;
use quiverdb::server::{Server, Settings, Stop};
use serde_json::Value;

/// A server that answers until it is dropped.
pub(crate) struct Serving {
    pub(crate) database: Database,
    pub(crate) address: SocketAddr,
    agent: ureq::Agent,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// A status and a body.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Serving {
    /// One with an empty database in memory, and settings as they are by default.
    pub(crate) fn new() -> Self {
        Self::with(Database::in_memory().unwrap(), Settings::default())
    }

    /// One of this database, with these settings but for the port, which is any that is free.
    pub(crate) fn with(database: Database, mut settings: Settings) -> Self {
        settings.listen.set_port(0);
        let server = Server::bind(database.clone(), settings).unwrap();
        let (address, stop) = (server.address().unwrap(), server.stop());
        let thread = std::thread::spawn(move || server.run().unwrap());
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Self { database, address, agent, stop, thread: Some(thread) }
    }

    /// The whole address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request with these headers; a body of `null` is none.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let json = [("content-type", "application/json")];
        let headers: Vec<_> = if body.is_null() { headers.to_vec() } else { [&json[..], headers].concat() };
        self.send(method, path, &headers, &bytes)
    }

    /// A request with these bytes as its body.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body).unwrap()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status: response.status().as_u16(), body }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], &Value::Null)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.ask("PUT", path, &[], body)
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], &Value::Null)
    }
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The code and the message of a failure in the native shape, which must have this status.
    #[track_caller]
    pub(crate) fn failure(self, status: u16) -> (String, String) {
        let body = self.expect(status);
        let text = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
        assert!(!text("request_id").is_empty(), "{body}");
        (text("code"), text("message"))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.tell();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}
