//! Import command (`streamgate import`): another gateway's configuration to ours, with a note on everything that is not
//! carried over. It must never guess silently.

mod balance;
mod deployment;
mod fallback;
mod litellm;
mod output;
mod price;
mod settings;
mod vendors;
mod yaml;

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::{CliError, new_file, print_line};

/// The most bytes of a file.
const MAX_FILE: u64 = 4 << 20;

const AFTER_HELP: &str = "\
Example:
  streamgate import litellm config.yaml --output streamgate.yaml && streamgate check streamgate.yaml

Notes on what is not carried over go to standard error, and into the file as comments. Keys by `os.environ/NAME` become `${NAME}`.";

/// The gateways whose configuration can be read.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportSource {
    /// Convert a configuration of LiteLLM's proxy: models, providers, fallbacks, limits, timeouts, the master key.
    #[command(after_help = AFTER_HELP)]
    Litellm {
        /// The file, `config.yaml`.
        file: PathBuf,
        /// The file to write, instead of standard output. Nothing is written if the import fails.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Overwrite that file.
        #[arg(long, requires = "output")]
        force: bool,
    },
}

/// A remark on something that is not carried over, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note {
    /// The line in the file, from 1.
    line: usize,
    /// The setting, and the reason or the remedy.
    message: String,
}

/// Notes so far; each is kept once.
#[derive(Debug, Default)]
struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, line: usize, message: impl Into<String>) {
        let note = Note { line, message: message.into() };
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    /// In the order of the file.
    fn sorted(mut self) -> Vec<Note> {
        self.0.sort_by_key(|note| note.line);
        self.0
    }
}

/// Converts a file, prints the result, and reports notes.
pub(crate) fn import(source: &ImportSource) -> Result<(), CliError> {
    let ImportSource::Litellm { file, output, force } = source;
    let shown = file.display();
    if let Some(output) = output {
        new_file::may_write(output, *force)?;
    }
    let text = read(file)?;
    let root =
        yaml::parse(&text).map_err(|error| CliError::configuration(&format!("{shown}:{error}")))?;
    let imported = litellm::import(&root)
        .map_err(|why| CliError::configuration(&format!("{shown}: {why}")))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let text = output::text(&imported, &name);
    match output {
        Some(output) => new_file::write(output, &text, |_| Ok(()))?,
        None => print_line(&mut std::io::stdout(), text.trim_end()),
    }
    let errors = &mut std::io::stderr();
    for Note { line, message } in &imported.notes {
        print_line(errors, &format!("{shown}:{line}: {message}"));
    }
    if let Some(key) = &imported.new_key {
        print_line(errors, &format!("key of the caller `master`, shown only once:\n  {key}"));
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, CliError> {
    let shown = file.display();
    let length = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    if length > MAX_FILE {
        return Err(CliError::configuration(&format!("{shown} is larger than 4 MiB")));
    }
    std::fs::read_to_string(file)
        .map_err(|error| CliError::configuration(&format!("{shown} cannot be read: {error}")))
}
