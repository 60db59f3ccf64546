//! How does a message of the protocol become a call of the library, and the outcome an answer?
//!
//! Invariant: an answer that tells of a failure tells it to the model (`isError`), unless there is no such tool or
//! resource, which is the client's to know.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::tools::{self, Reply};
use super::{Access, Host, resources};
use crate::Database;

/// Answers one client, or each request for itself.
pub(crate) struct Handler<H> {
    host: Arc<H>,
    access: Arc<Access>,
}

impl<H> Clone for Handler<H> {
    fn clone(&self) -> Self {
        Self { host: self.host.clone(), access: self.access.clone() }
    }
}

impl<H: Host> Handler<H> {
    pub(super) fn new(host: Arc<H>, access: Access) -> Self {
        Self { host, access: Arc::new(access) }
    }

    /// A call of the core, until it is done or the client does not want it any more.
    async fn call<T: Send + 'static>(
        &self,
        writes: bool,
        context: &RequestContext<RoleServer>,
        work: impl FnOnce(&Database, &Access, &AtomicBool) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let access = self.access.clone();
        let call = self.host.call(writes, move |database, cancel| work(database, &access, cancel));
        tokio::select! {
            outcome = call => outcome?,
            () = context.ct.cancelled() => Err("cancelled".to_owned()),
        }
    }
}

/// What a tool says, for programs and for people.
fn result(outcome: Result<Reply, String>) -> CallToolResult {
    match outcome {
        Ok(Reply { text, value }) => {
            let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
            result.structured_content = Some(value);
            result
        }
        Err(message) => CallToolResult::error(vec![ContentBlock::text(message)]),
    }
}

impl<H: Host> ServerHandler for Handler<H> {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("quiverdb", env!("CARGO_PKG_VERSION")).with_title("QuiverDB vector database"),
            )
            .with_instructions(
                "Collections of documents that are found by meaning and by words. `search` returns passages with the \
                 document they are from and their place in it: cite them. `get` returns whole documents.",
            )
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::shown(&self.access)))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::shown(&self.access).into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let verb = tools::Verb::named(&request.name).map_err(|message| ErrorData::invalid_params(message, None))?;
        let arguments = request.arguments.unwrap_or_default();
        let outcome = self.call(verb.writes(), &context, move |database, access, cancel| {
            tools::run(verb, arguments, database, access, cancel)
        });
        Ok(result(outcome.await).into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        let page =
            self.call(false, &context, move |database, access, _| resources::page(database, access, cursor.as_deref()));
        page.await.map_err(|message| ErrorData::invalid_params(message, None))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(vec![resources::template()]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri;
        let read = self.call(false, &context, move |database, access, _| resources::read(database, access, &uri));
        read.await.map(Into::into).map_err(|message| ErrorData::resource_not_found(message, None))
    }
}
