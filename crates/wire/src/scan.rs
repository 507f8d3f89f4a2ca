//! End detection for a JSON value in fragments. The content must never be validated.

/// Detects the end of a JSON object across fragments, without validation.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
    complete: bool,
}

impl Scan {
    /// Reads one more fragment.
    pub(crate) fn read(&mut self, json: &str) {
        for byte in json.bytes() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    self.complete = false;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.complete = self.depth == 0;
                }
                _ => {}
            }
        }
    }

    /// Whether the fragments so far end exactly at the end of their outermost value.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }
}
