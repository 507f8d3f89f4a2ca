//! Characters that were cut in two: half a surrogate pair at the end of one fragment, whose other
//! half opens the next. It must never lose one that is whole.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json;

/// The half that waits, as an escape; mostly none.
#[derive(Debug, Default)]
pub(super) struct Half(String);

impl Half {
    /// Reads a fragment together with the half that the one before left. `None`: nothing in it.
    pub(super) fn fragment<'f>(&mut self, raw: &'f RawValue) -> Option<Cow<'f, str>> {
        let text = match json::text(raw)? {
            Cow::Borrowed(text) if self.0.is_empty() => Cow::Borrowed(text),
            _ => Cow::Owned(self.join(raw)?),
        };
        (!text.is_empty()).then_some(text)
    }

    fn join(&mut self, raw: &RawValue) -> Option<String> {
        let rest = raw.get().strip_prefix('"')?;
        let literal = RawValue::from_string(format!("\"{}{rest}", self.0)).ok()?;
        self.0.clear();
        let Some(half) = json::dangling_surrogate(&literal) else {
            return json::text(&literal).map(Cow::into_owned);
        };
        half.clone_into(&mut self.0);
        let inner = literal.get().strip_suffix('"')?.strip_suffix(half)?;
        let whole = RawValue::from_string(format!("{inner}\"")).ok()?;
        json::text(&whole).map(Cow::into_owned)
    }
}
