//! Shell completions and man pages (`streamgate completions`, `streamgate man`), generated from the command line's own
//! description. It must never write outside the directory that is named.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Arguments;
use crate::{CliError, print_line};

/// Prints the completions for a shell.
pub(crate) fn completions(shell: Shell) {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let _closed = std::io::stdout().write_all(&script);
}

/// Writes the man pages of the program and of its commands into a directory, which is created.
pub(crate) fn man(directory: &Path) -> Result<(), CliError> {
    let shown = directory.display();
    let failed = |error: std::io::Error| {
        CliError::new(format!("cannot write man pages to {shown}: {error}"))
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)?;
    let written = format!("{shown}: read them with `man -l {shown}/streamgate.1`");
    print_line(&mut std::io::stdout(), &written);
    Ok(())
}
