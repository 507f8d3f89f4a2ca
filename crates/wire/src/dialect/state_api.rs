//! State that a vendor keeps between requests, and that the gateway keeps for upstreams that have none: responses by
//! their ids, and the items of conversations. Items are JSON texts in the dialect's own format.

use super::{Endpoint, ResponseContext};
use crate::chat::ApiError;

/// References of a request to kept state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// The id of the response that it continues.
    pub previous: Option<String>,
    /// The id of the conversation that it belongs to.
    pub conversation: Option<String>,
    /// The ids of single items in its input.
    pub items: Vec<String>,
    /// Whether its response is to be kept.
    pub store: bool,
    /// Whether it is to be answered in the background.
    pub background: bool,
}

impl References {
    /// Whether it refers to anything.
    pub fn is_empty(&self) -> bool {
        self.previous.is_none() && self.conversation.is_none() && self.items.is_empty()
    }
}

/// A vendor's API of kept state.
pub trait StateApi: Sync {
    /// The endpoint whose responses are kept.
    fn endpoint(&self) -> Endpoint;
    /// The path of conversations.
    fn conversations(&self) -> &'static str;
    /// The references of a request.
    fn references(&self, body: &str) -> Result<References, ApiError>;
    /// A request with the items that it refers to: `earlier` before its input, and those of `item` in the place of
    /// references. Its references are marked as resolved, so that a translation accepts them.
    fn resolve(
        &self,
        body: &str,
        earlier: &[&str],
        item: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, ApiError>;
    /// The items of a request's input, without those that it only refers to.
    fn input(&self, body: &str) -> Vec<String>;
    /// The id of a response.
    fn id(&self, call: &ResponseContext) -> String;
    /// A response that has just begun.
    fn begun(&self, call: &ResponseContext) -> String;
    /// The whole response within the last bytes of an answer, streamed or not; `None`: there is none.
    fn response(&self, produced: &[u8]) -> Option<String>;
    /// The items of a whole response, with their ids.
    fn output(&self, response: &str) -> Vec<(Option<String>, String)>;
    /// A list of items, as the vendor's API returns it.
    fn list(&self, items: &[String]) -> String;
}
