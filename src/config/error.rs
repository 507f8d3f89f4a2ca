//! What is wrong with a configuration file, and where. Never holds a secret: whoever writes a
//! message puts in names and what the file itself says, never an expanded value.

use std::fmt;
use std::path::PathBuf;

use super::sources::Sources;

/// A place in the file. Lines and columns count from 1; line 0 is the file as a whole.
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

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, where it is another one than that of the configuration.
    pub file: Option<PathBuf>,
    /// The line, from 1; 0 when the file as a whole is wrong.
    pub line: usize,
    /// The column, from 1; 0 when the file as a whole is wrong.
    pub column: usize,
    /// What is wrong, and what is expected.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order of its lines, its own file first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub path: PathBuf,
    /// At least one error.
    pub list: Vec<ConfigError>,
    /// What was read until then: a change of any of it may mend the errors.
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
