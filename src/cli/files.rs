// SPDX-License-Identifier: GPL-2.0-or-later
//! Writing files so that nobody ever sees half of one.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}

/// Writes beside the target and renames.
pub(super) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), WriteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wrap = |source| WriteError { path: path.to_owned(), source };
    if !folder.is_dir() {
        // The temporary file would be blamed, whose name nobody knows.
        return Err(wrap(std::io::Error::other(format!("there is no folder {}", folder.display()))));
    }
    let mut builder = tempfile::Builder::new();
    // As any new file, not for the owner alone: what the umask allows is still taken off.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(wrap)?;
    let mut out = BufWriter::new(&mut file);
    write(&mut out).and_then(|()| out.flush()).map_err(wrap)?;
    drop(out);
    file.as_file().sync_all().map_err(wrap)?;
    file.persist(path).map_err(|error| wrap(error.error))?;
    Ok(())
}
