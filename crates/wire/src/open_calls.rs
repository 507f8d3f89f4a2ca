//! Tool calls that have no result so far. A result identifies its call by id, by the name of the tool, or not
//! at all. Calls must never be searched one by one.

use std::collections::{HashMap, VecDeque};

/// The open calls, in order.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    /// All calls so far. `None` once a call has its result.
    calls: Vec<Option<Call>>,
    /// Indexes into `calls`, in order. Closed calls are removed when they are reached.
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    /// No call before this index is open.
    first: usize,
    /// No call before this index is open with a generated id.
    first_invented: usize,
}

#[derive(Debug)]
struct Call {
    id: String,
    /// The id was generated, because the caller sent none.
    invented: bool,
}

impl OpenCalls {
    /// Adds an open call.
    pub(crate) fn open(&mut self, id: &str, name: &str, invented: bool) {
        let at = self.calls.len();
        self.by_id.entry(id.to_owned()).or_default().push_back(at);
        self.by_name.entry(name.to_owned()).or_default().push_back(at);
        self.calls.push(Some(Call { id: id.to_owned(), invented }));
    }

    /// Closes the first open call with this id.
    pub(crate) fn close_by_id(&mut self, id: &str) -> Option<String> {
        let at = next(self.by_id.get_mut(id)?, &self.calls)?;
        self.close(at)
    }

    /// Closes the first open call of the tool with this name. Returns its id.
    pub(crate) fn close_by_name(&mut self, name: &str) -> Option<String> {
        let at = next(self.by_name.get_mut(name)?, &self.calls)?;
        self.close(at)
    }

    /// Closes the first open call. Returns its id.
    pub(crate) fn close_first(&mut self) -> Option<String> {
        while matches!(self.calls.get(self.first), Some(None)) {
            self.first += 1;
        }
        self.close(self.first)
    }

    /// Closes the first open call with a generated id. Returns its id.
    pub(crate) fn close_first_invented(&mut self) -> Option<String> {
        let passed = |call: &Option<Call>| call.as_ref().is_none_or(|call| !call.invented);
        while self.calls.get(self.first_invented).is_some_and(passed) {
            self.first_invented += 1;
        }
        self.close(self.first_invented)
    }

    fn close(&mut self, at: usize) -> Option<String> {
        self.calls.get_mut(at)?.take().map(|call| call.id)
    }
}

/// The index of the first open call.
fn next(places: &mut VecDeque<usize>, calls: &[Option<Call>]) -> Option<usize> {
    while let Some(at) = places.pop_front() {
        if matches!(calls.get(at), Some(Some(_))) {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_closed_once_by_whatever_names_it() {
        let mut calls = OpenCalls::default();
        for (id, name, invented) in
            [("a", "f", false), ("b", "g", true), ("c", "f", true), ("a", "h", false)]
        {
            calls.open(id, name, invented);
        }
        assert_eq!(calls.close_by_name("f").as_deref(), Some("a"));
        assert_eq!(calls.close_by_name("f").as_deref(), Some("c"));
        assert_eq!(calls.close_by_name("f"), None);
        // The second call with this id is still open.
        assert_eq!(calls.close_by_id("a").as_deref(), Some("a"));
        assert_eq!(calls.close_by_id("a"), None);
        assert_eq!(calls.close_first_invented().as_deref(), Some("b"));
        assert_eq!((calls.close_first_invented(), calls.close_first()), (None, None));
        calls.open("d", "f", false);
        assert_eq!(calls.close_first_invented(), None);
        assert_eq!(calls.close_first().as_deref(), Some("d"));
    }
}
