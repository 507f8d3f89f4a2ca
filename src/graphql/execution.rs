//! Operations of GraphQL: a request's query and variables, and the stream of its results. A query must have its bounds
//! before it is parsed.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_graphql::{Request, Response, Value as GraphQlValue, Variables};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, Stream, StreamExt};
use http::Uri;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::invalid;
use super::schema::{Session, SubscriptionSchema};
use crate::error::Error;
use crate::gateway::own_endpoint::OwnRequest;
use crate::wire::chat::{ApiError, Kind};

/// The most bytes of a query.
const MAX_QUERY: usize = 64 * 1024;

/// The most bytes of a client's id of an operation.
const MAX_ID: usize = 256;

/// A request of an operation (GraphQL over HTTP), checked.
#[derive(Debug)]
pub(super) struct OperationRequest {
    /// The client's id of it.
    pub(super) id: Option<String>,
    query: String,
    operation_name: Option<String>,
    variables: Variables,
}

/// The members of a request. Others change nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Members {
    query: String,
    operation_name: Option<String>,
    variables: Option<Map<String, Value>>,
    extensions: Option<Map<String, Value>>,
}

impl OperationRequest {
    /// That of a POST request.
    pub(super) async fn posted(request: &mut OwnRequest<'_>) -> Result<Self, Error> {
        let read = |body: &str| serde_json::from_str::<Members>(body);
        let members = request.json(read).await?.map_err(|error| {
            invalid(&format!(
                "the body is no request of GraphQL: {error}; expected a JSON object with `query` and, if need be, \
                 `operationName`, `variables` and `extensions`"
            ))
        })?;
        Self::of(members)
    }

    /// That of the query of a GET request.
    pub(super) fn queried(head: &Parts) -> Result<Self, Error> {
        let object = |name: &str| match parameter(&head.uri, name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                invalid(&format!("the parameter `{name}` is no JSON object: {error}"))
            }),
        };
        Self::of(Members {
            query: parameter(&head.uri, "query").unwrap_or_default(),
            operation_name: parameter(&head.uri, "operationName"),
            variables: object("variables")?,
            extensions: object("extensions")?,
        })
    }

    fn of(members: Members) -> Result<Self, Error> {
        let Members { query, operation_name, variables, extensions } = members;
        if query.trim().is_empty() {
            return Err(invalid("the request has no `query`; send an operation of GraphQL"));
        }
        if query.len() > MAX_QUERY {
            let message = format!("`query` has {} bytes; the limit is {MAX_QUERY}", query.len());
            return Err(Error::caller(ApiError::new(Kind::TooLarge, message)));
        }
        let id = extensions.unwrap_or_default().remove("operationId");
        let id = id.and_then(|id| id.as_str().map(str::to_owned));
        if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_ID) {
            let message = format!("`extensions.operationId` must have 1 to {MAX_ID} bytes");
            return Err(invalid(&message));
        }
        let variables = Variables::from_json(Value::Object(variables.unwrap_or_default()));
        let operation_name = operation_name.filter(|name| !name.is_empty());
        Ok(Self { id, query, operation_name, variables })
    }

    /// The request as the schema reads it.
    pub(super) fn request(self, session: Session) -> Request {
        let request = Request::new(self.query).variables(self.variables).data(session);
        match self.operation_name {
            Some(name) => request.operation_name(name),
            None => request,
        }
    }
}

/// A parameter of a query.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A result as text.
pub(super) fn text(result: &Response) -> String {
    serde_json::to_string(result)
        .unwrap_or_else(|_| super::errors("the result has no text in JSON").to_string())
}

/// The results of an operation, as texts in JSON.
pub(super) struct Operation {
    /// A result that has been looked at.
    first: Option<Response>,
    rest: BoxStream<'static, Response>,
}

impl Operation {
    /// Begins an operation, and goes as far as it can without waiting.
    pub(super) fn begin(
        schema: &SubscriptionSchema,
        session: Session,
        asked: OperationRequest,
    ) -> Self {
        let mut rest = schema.execute_stream(asked.request(session));
        let first = rest.next().now_or_never().flatten();
        Self { first, rest }
    }

    /// The result of an operation that cannot be run.
    pub(super) fn refusal(&mut self) -> Option<String> {
        let first = self.first.as_ref();
        first.filter(|it| it.is_err() && it.data == GraphQlValue::Null).map(text)
    }
}

impl Stream for Operation {
    type Item = String;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(text(&first))),
            None => this.rest.poll_next_unpin(cx).map(|next| next.as_ref().map(text)),
        }
    }
}
