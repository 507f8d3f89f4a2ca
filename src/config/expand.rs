//! Expansion of `${NAME}`, `${NAME:-DEFAULT}` and `${file:PATH}` in values. A result must never be parsed as YAML, expanded again, or shown in a
//! message.

use std::io;
use std::path::Path;

use super::sources::Sources;

/// The most bytes of a file that a value names; a credential is far smaller.
const MAX_FILE: u64 = 64 * 1024;

/// The environment and the files that values come from.
pub(super) struct Source<'a> {
    /// Reads the environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The directory that relative paths start from: that of the configuration file.
    pub(super) dir: &'a Path,
    /// Whether `${...}` is plain text.
    pub(super) literal: bool,
    /// The files that were read so far.
    pub(super) sources: Sources,
}

impl Source<'_> {
    /// Replaces every `${...}` of a text. The errors are messages, one for each that cannot be replaced.
    pub(super) fn expand(&mut self, raw: &str) -> Result<String, Vec<String>> {
        if self.literal {
            return Ok(raw.to_owned());
        }
        let mut out = String::new();
        let mut wrong = Vec::new();
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                wrong.push("has a `${` without `}`; expected `${NAME}` or `${file:PATH}`".into());
                return Err(wrong);
            };
            match self.lookup(name) {
                Ok(value) => out.push_str(&value),
                Err(message) => wrong.push(message),
            }
            rest = tail;
        }
        out.push_str(rest);
        if wrong.is_empty() { Ok(out) } else { Err(wrong) }
    }

    /// Reads a file of at most `limit` bytes that the configuration names, so that a change of it is
    /// noticed. `None`: it has more.
    pub(super) fn read(&mut self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.sources.read(&self.dir.join(path), limit)
    }

    fn lookup(&mut self, name: &str) -> Result<String, String> {
        if let Some(path) = name.strip_prefix("file:") {
            return self.file(path).map_err(|error| {
                format!("names the file `{path}` ({error}); expected a readable text file")
            });
        }
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        if !is_variable(name) {
            return Err("has a malformed `${...}`; expected `${NAME}`, `${NAME:-DEFAULT}` or `${file:PATH}`".into());
        }
        // As in a shell, an empty variable takes the default, too.
        let value = (self.env)(name).filter(|value| default.is_none() || !value.is_empty());
        value.or_else(|| default.map(str::to_owned)).ok_or_else(|| {
            format!("names the environment variable `{name}`, which is not set; set it, or give a default: `${{{name}:-DEFAULT}}`")
        })
    }

    /// The text of a file, without the newlines at its end.
    pub(super) fn file(&mut self, path: &str) -> Result<String, io::ErrorKind> {
        self.text(path, MAX_FILE)
    }

    /// The same for a file of at most `limit` bytes.
    pub(super) fn text(&mut self, path: &str, limit: u64) -> Result<String, io::ErrorKind> {
        let bytes = self.read(path, limit).map_err(|error| error.kind())?;
        let bytes = bytes.ok_or(io::ErrorKind::FileTooLarge)?;
        let mut text = String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        // Editors and `echo` end a file with a newline that is no part of the credential.
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Ok(text)
    }
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
