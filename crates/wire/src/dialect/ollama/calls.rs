//! Incomplete tool calls: this dialect has complete ones only, with their arguments as an object.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use crate::json::{Members, quoted, replace_lone_surrogates, write_str};
use crate::scan::Scan;

/// A call whose end may not have come yet.
#[derive(Debug)]
struct Pending {
    id: String,
    name: String,
    arguments: String,
    scan: Scan,
}

/// The calls that were begun and not yet handed out, in order.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pending: VecDeque<Pending>,
    /// Number of calls that were handed out before the pending ones.
    out: usize,
}

impl Calls {
    /// A call begins.
    pub(super) fn begin(&mut self, id: &str, name: &str) {
        self.pending.push_back(Pending {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: String::new(),
            scan: Scan::default(),
        });
    }

    /// More of a call's arguments.
    pub(super) fn add(&mut self, call: u32, json: &str) {
        let at = (call as usize).checked_sub(self.out);
        if let Some(pending) = at.and_then(|at| self.pending.get_mut(at)) {
            pending.arguments.push_str(json);
            pending.scan.read(json);
        }
    }

    /// Appends the next call as an element of `tool_calls`, and returns whether there was one. Only
    /// complete calls, unless this is the `end` of the answer.
    pub(super) fn next(&mut self, end: bool, out: &mut BytesMut) -> bool {
        let ready = self.pending.front().is_some_and(|call| end || call.scan.is_complete());
        let Some(call) = self.pending.pop_front_if(|_| ready) else { return false };
        out.put_slice(br#"{"id":"#);
        write_str(&call.id, out);
        let index = self.out;
        out.put_slice(format!(r#","function":{{"index":{index},"name":"#).as_bytes());
        write_str(&call.name, out);
        out.put_slice(br#","arguments":"#);
        out.put_slice(object(&call.arguments).as_bytes());
        out.put_slice(b"}}");
        self.out += 1;
        true
    }
}

/// Arguments as an object, their text untouched but for line breaks, which no line may hold.
/// Arguments that broke off, as they do at the limit on output, are no object and cannot stand here;
/// they are kept as text below `_truncated` so that no reader takes them for whole.
fn object(json: &str) -> String {
    let json = json.trim();
    if ["", "null"].contains(&json) {
        return "{}".to_owned();
    }
    match Members::parse(json) {
        // Between the tokens of valid JSON a line break is a space; within strings there is none.
        Ok(_) => replace_lone_surrogates(&json.replace(['\n', '\r'], " ")).into_owned(),
        Err(_) => format!(r#"{{"_truncated":{}}}"#, quoted(json)),
    }
}
