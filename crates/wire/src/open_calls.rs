//! Tool calls without a result so far, where a result names its call by id, by the name of the tool or not
//! at all. It must never search the calls one by one.

use std::collections::{HashMap, VecDeque};

/// The open calls, in order.
#[derive(Debug, Default)]
pub(crate) struct OpenCalls {
    /// `None`: it has its result.
    calls: Vec<Option<Call>>,
    /// Places in `calls`, the first one first. They are taken out when they are met.
    by_id: HashMap<String, VecDeque<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    /// No call before this one is open.
    first: usize,
    /// No call before this one is open and has an id of ours.
    first_invented: usize,
}

#[derive(Debug)]
struct Call {
    id: String,
    /// The id is ours, because the caller gave none.
    invented: bool,
}

impl OpenCalls {
    /// A call begins to wait for its result.
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

    /// Closes the first open call of the tool with this name. Returns the call's id.
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

    /// Closes the first open call whose id is ours. Returns its id.
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

/// The first place whose call is open.
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
        // The second call with this id is open still.
        assert_eq!(calls.close_by_id("a").as_deref(), Some("a"));
        assert_eq!(calls.close_by_id("a"), None);
        assert_eq!(calls.close_first_invented().as_deref(), Some("b"));
        assert_eq!((calls.close_first_invented(), calls.close_first()), (None, None));
        calls.open("d", "f", false);
        assert_eq!(calls.close_first_invented(), None);
        assert_eq!(calls.close_first().as_deref(), Some("d"));
    }
}
