//! Tool calls, which this dialect only has whole: gathered until their arguments are.

use super::answer::arguments;
use crate::json::quoted;
use crate::scan::Scan;

/// The calls of one alternative, in order.
#[derive(Debug, Default)]
pub(super) struct Calls {
    all: Vec<Call>,
    /// Number of calls that have been written.
    written: usize,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    json: String,
    signature: Option<String>,
    scan: Scan,
}

impl Calls {
    /// A call begins.
    pub(super) fn start(&mut self, id: &str, name: &str, signature: Option<String>) {
        let (id, name) = (id.to_owned(), name.to_owned());
        let scan = Scan::default();
        self.all.push(Call { id, name, json: String::new(), signature, scan });
    }

    /// More of a call's arguments. Those of an unknown call are dropped.
    pub(super) fn add(&mut self, call: u32, json: &str) {
        if let Some(call) = self.all.get_mut(call as usize) {
            call.json.push_str(json);
            call.scan.read(json);
        }
    }

    /// The next call as a part, if its arguments are whole, or if no more will come.
    pub(super) fn next(&mut self, over: bool) -> Option<String> {
        let call = self.all.get_mut(self.written).filter(|call| over || call.scan.is_complete())?;
        self.written += 1;
        let part = call.part();
        // The arguments are not needed after the write.
        call.json = String::new();
        Some(part)
    }

    /// One call as a part.
    pub(super) fn part(&self, call: usize) -> Option<String> {
        self.all.get(call).map(Call::part)
    }
}

impl Call {
    fn part(&self) -> String {
        let signature = self.signature.as_ref();
        let signature = signature
            .map(|value| format!(r#","thoughtSignature":{}"#, quoted(value)))
            .unwrap_or_default();
        format!(
            r#"{{"functionCall":{{"id":{},"name":{},"args":{}}}{signature}}}"#,
            quoted(&self.id),
            quoted(&self.name),
            arguments(&self.json),
        )
    }
}
