//! Configuration files that commands write: as a whole, or not at all. They must never replace a file unless that is
//! forced.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use crate::CliError;

/// Rejects a file that exists, unless it may be replaced.
pub(crate) fn may_write(file: &Path, force: bool) -> Result<(), CliError> {
    if force || !file.exists() {
        return Ok(());
    }
    Err(CliError::configuration(&format!(
        "{} exists; name another file with --output, or replace it with --force",
        file.display()
    )))
}

/// Writes a file by way of a new one beside it, which `check` may reject.
pub(crate) fn write(
    file: &Path,
    text: &str,
    check: impl FnOnce(&Path) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let failed = |error: std::io::Error| {
        let (file, new) = (file.display(), new.display());
        CliError::new(format!("cannot write {file} by way of {new}: {error}"))
    };
    let mut written = File::create_new(&new).map_err(failed)?;
    let written = written.write_all(text.as_bytes()).map_err(failed);
    if let Err(error) = written.and_then(|()| check(&new)) {
        let _kept = std::fs::remove_file(&new);
        return Err(error);
    }
    std::fs::rename(&new, file).map_err(failed)
}
