//! Configuration errors: a message, and its location in a file. A message holds names and literal text of the file; it must
//! never hold an expanded value.

use std::fmt;
use std::path::PathBuf;

use super::sources::Sources;

/// A location in a file. Lines and columns count from 1; line 0 is the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Location {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Location {
    /// The file as a whole.
    pub(super) const FILE: Self = Self { line: 0, column: 0 };

    /// An error at this location.
    pub(super) fn error(self, message: impl Into<String>) -> ConfigError {
        ConfigError { file: None, line: self.line, column: self.column, message: message.into() }
    }
}

/// One error of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, if it is not the configuration file itself.
    pub file: Option<PathBuf>,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// The column, from 1; 0 for the file as a whole.
    pub column: usize,
    /// The error, and what is expected.
    pub message: String,
}

/// All errors of a configuration in the order of their lines, those of the configuration file itself first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// At least one error.
    pub list: Vec<ConfigError>,
    /// The files that were read: a change of any of them may correct the errors.
    pub sources: Sources,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ConfigError { file, line, column, message }) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let path = file.as_ref().unwrap_or(&self.path).display();
            match line {
                0 => write!(f, "{path}: {message}")?,
                _ => write!(f, "{path}:{line}:{column}: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
