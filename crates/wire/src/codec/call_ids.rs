//! Ids of the tool calls of one answer, which callers require to be unique. A unique id is never changed.

use std::borrow::Cow;
use std::collections::HashSet;

/// The ids that an answer has used.
#[derive(Debug, Default)]
pub(crate) struct CallIds {
    used: HashSet<String>,
}

impl CallIds {
    /// Returns the upstream's id if it is present and new, else the first new id that `made` returns for
    /// `number` and the numbers after it.
    pub(crate) fn claim<'f>(
        &mut self,
        id: Cow<'f, str>,
        mut number: u64,
        made: impl Fn(&str, u64) -> String,
    ) -> Cow<'f, str> {
        if !id.is_empty() && self.used.insert(id.clone().into_owned()) {
            return id;
        }
        loop {
            let other = made(&id, number);
            if self.used.insert(other.clone()) {
                return Cow::Owned(other);
            }
            number = number.saturating_add(1);
        }
    }

    /// The same with ids `ID_NUMBER`, from the upstream's own id, or from `prefix` if it is empty.
    pub(crate) fn numbered<'f>(
        &mut self,
        id: Cow<'f, str>,
        prefix: &str,
        number: u32,
    ) -> Cow<'f, str> {
        self.claim(id, number.into(), |id, number| {
            format!("{}_{number}", if id.is_empty() { prefix } else { id })
        })
    }

    /// The same with one id of the gateway's, followed by as many letters as it takes to be new.
    pub(crate) fn or<'f>(&mut self, id: Cow<'f, str>, ours: impl Fn() -> String) -> Cow<'f, str> {
        let letters = |number| "x".repeat(usize::try_from(number).unwrap_or_default());
        self.claim(id, 0, |_, number| ours() + &letters(number))
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether there are no ids.
    pub(crate) fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::CallIds;

    #[test]
    fn no_id_is_given_twice() {
        let mut ids = CallIds::default();
        let given = [
            ids.numbered("a".into(), "call", 0),
            ids.numbered("a".into(), "call", 1),
            ids.numbered("".into(), "call", 2),
            ids.numbered("a_3".into(), "call", 3),
            ids.numbered("a".into(), "call", 3),
            ids.or("".into(), || "m".to_owned()),
            ids.or("a".into(), || "m".to_owned()),
            ids.or("b".into(), || "m".to_owned()),
        ];
        assert_eq!(given, ["a", "a_1", "call_2", "a_3", "a_4", "m", "mx", "b"]);
        assert_eq!((ids.len(), ids.is_empty()), (8, false));
    }
}
