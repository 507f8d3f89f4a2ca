//! The parts of one turn while it is read, with the state of other vendors put back in place of the thoughts
//! that it repeats. It must never move a part that was read.

use std::collections::HashSet;

use crate::chat::Part;

/// Maximum number of thoughts without a match in a state before the comparison ends, the latest first.
/// Thoughts stand right before the state that repeats them, so misses are rare; and each miss costs a
/// search of the whole state.
const MOST_MISSES: usize = 16;

/// Separator between the texts of a state, so that no thought is found across two of them.
const SEPARATOR: char = '\0';

/// The parts so far.
#[derive(Debug, Default)]
pub(super) struct TurnParts {
    parts: Vec<Part>,
    /// Places of thoughts that are not signed and that no state has repeated, in order.
    thoughts: Vec<usize>,
    /// Places of thoughts that a state has repeated.
    repeated: HashSet<usize>,
    /// State, and the place that it precedes.
    restored: Vec<(usize, Vec<Part>)>,
    /// The place behind the last call.
    after_call: usize,
}

impl TurnParts {
    /// Adds a part.
    pub(super) fn push(&mut self, part: Part) {
        match &part {
            Part::Reasoning { signature: None, .. } => self.thoughts.push(self.parts.len()),
            Part::ToolCall { .. } => self.after_call = self.parts.len() + 1,
            _ => {}
        }
        self.parts.push(part);
    }

    /// Puts back state of other vendors, in place of the thoughts that it repeats: before the call that
    /// carries it, else directly after the last call.
    pub(super) fn restore(&mut self, sealed: Vec<Part>, called: bool) {
        self.leave_out_repeated(&sealed);
        let at = if called { self.parts.len() } else { self.after_call };
        self.restored.push((at, sealed));
    }

    /// Drops thoughts that a state repeats, walking back through both in parallel.
    fn leave_out_repeated(&mut self, sealed: &[Part]) {
        let mut words = String::new();
        for part in sealed {
            if let Part::Reasoning { text, .. } = part {
                words.push_str(text);
                words.push(SEPARATOR);
            }
        }
        let (mut end, mut misses, mut kept) = (words.len(), 0, Vec::new());
        while misses < MOST_MISSES
            && let Some(at) = self.thoughts.pop()
        {
            let Some(Part::Reasoning { text, .. }) = self.parts.get(at) else { continue };
            if let Some(found) = words.get(..end).and_then(|words| words.rfind(text.as_str())) {
                end = found;
                self.repeated.insert(at);
                continue;
            }
            misses += 1;
            if words.contains(text.as_str()) {
                self.repeated.insert(at);
            } else {
                kept.push(at);
            }
        }
        self.thoughts.extend(kept.into_iter().rev());
    }

    /// All of them, in order.
    pub(super) fn finish(self) -> Vec<Part> {
        if self.restored.is_empty() {
            return self.parts;
        }
        let mut restored = self.restored.into_iter().peekable();
        let mut out = Vec::with_capacity(self.parts.len() + restored.len());
        for (at, part) in self.parts.into_iter().enumerate() {
            while let Some((_, sealed)) = restored.next_if(|(place, _)| *place <= at) {
                out.extend(sealed);
            }
            if !self.repeated.contains(&at) {
                out.push(part);
            }
        }
        out.extend(restored.flat_map(|(_, sealed)| sealed));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Scheme, Signature};
    use serde_json::value::RawValue;

    fn thought(text: &str) -> Part {
        Part::Reasoning { text: text.to_owned(), signature: None }
    }

    fn sealed(text: &str) -> Part {
        let signature = Some(Signature { value: "s".to_owned(), scheme: Scheme::Anthropic });
        Part::Reasoning { text: text.to_owned(), signature }
    }

    fn shown(parts: TurnParts) -> Vec<String> {
        let show = |part: Part| match part {
            Part::Reasoning { text, signature: None } => format!("thought {text}"),
            Part::Reasoning { text, .. } => format!("sealed {text}"),
            Part::ToolCall { id, .. } => format!("call {id}"),
            part => format!("{part:?}"),
        };
        parts.finish().into_iter().map(show).collect()
    }

    #[test]
    fn state_stands_where_its_thoughts_stood() {
        let call = |id: &str| Part::ToolCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            arguments: RawValue::NULL.to_owned(),
        };
        let mut parts = TurnParts::default();
        for part in [thought("mine"), thought("a b"), thought("c")] {
            parts.push(part);
        }
        parts.restore(vec![sealed("a bc")], true);
        parts.push(call("1"));
        parts.push(thought("d"));
        parts.restore(vec![sealed("d"), sealed("e")], false);
        let expected = ["thought mine", "sealed a bc", "call 1", "sealed d", "sealed e"];
        assert_eq!(shown(parts), expected);
    }

    /// No thought is found across two texts, and two equal thoughts need two texts.
    #[test]
    fn a_thought_is_found_within_one_text() {
        let mut parts = TurnParts::default();
        for part in [thought("ab"), thought("x"), thought("x")] {
            parts.push(part);
        }
        parts.restore(vec![sealed("a"), sealed("bx")], false);
        assert_eq!(shown(parts), ["sealed a", "sealed bx", "thought ab"]);
    }
}
