//! The surface of a request: its JSON as the caller wrote it, the few members that the gateway reads, and edits
//! of single members. Every other byte must stay unchanged.

use serde::de::DeserializeOwned;

use crate::body::{refuse, syntax};
use crate::chat::ApiError;
use crate::dialect::Target;
use crate::json::{self, Members, quoted};

/// A body, its members, and the edits so far.
#[derive(Debug)]
pub(crate) struct Surface<'a> {
    body: &'a str,
    pub(crate) members: Members<'a>,
    edits: Vec<(&'static str, Option<String>)>,
}

impl<'a> Surface<'a> {
    pub(crate) fn parse(body: &'a str) -> Result<Self, ApiError> {
        let members = Members::parse(body).map_err(|error| syntax(&error))?;
        Ok(Self { body, members, edits: Vec::new() })
    }

    /// A member, or `None` if it is missing or null. `what` names the required type in the error, as in `a
    /// string`.
    pub(crate) fn member<T: DeserializeOwned>(
        &self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.members.get(name).filter(|value| !json::is_null(value)) else {
            return Ok(None);
        };
        let parsed = serde_json::from_str(value.get());
        parsed.map(Some).map_err(|_| refuse(name, &format!("must be {what}")))
    }

    /// The model, which every request must name.
    pub(crate) fn model(&self) -> Result<String, ApiError> {
        let model: Option<String> = self.member("model", "a string")?;
        model
            .filter(|model| !model.is_empty())
            .ok_or_else(|| refuse("model", "is missing: say which model is to answer"))
    }

    /// The value of `stream`, if set.
    pub(crate) fn streams(&self) -> Result<Option<bool>, ApiError> {
        self.member("stream", "true or false")
    }

    /// Sets a member, or adds it.
    pub(crate) fn set(&mut self, name: &'static str, json: impl Into<String>) {
        self.edits.push((name, Some(json.into())));
    }

    /// Removes a member, if present.
    pub(crate) fn remove(&mut self, name: &'static str) {
        self.edits.push((name, None));
    }

    /// Sets the upstream's model, and `stream` if it differs from the caller's value.
    pub(crate) fn retarget(&mut self, target: &Target<'_>, streams: bool) {
        self.set("model", quoted(target.model));
        if streams != target.stream {
            self.set("stream", if target.stream { "true" } else { "false" });
        }
    }

    /// The body with all edits.
    pub(crate) fn finish(self) -> String {
        let edits: Vec<_> =
            self.edits.iter().map(|(name, json)| (*name, json.as_deref())).collect();
        self.members.edit(self.body, &edits)
    }
}
