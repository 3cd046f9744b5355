// SPDX-License-Identifier: GPL-2.0-or-later
//! Atomic writes: readers see either the old or the complete new file.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}

/// Writes a temporary file in the folder of `path` and renames it to `path`.
pub(super) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), WriteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wrap = |source| WriteError { path: path.to_owned(), source };
    if !folder.is_dir() {
        // Checked here, because the later error would name the temporary file.
        return Err(wrap(std::io::Error::other(format!("the folder {} does not exist", folder.display()))));
    }
    let mut builder = tempfile::Builder::new();
    // Permissions of an ordinary new file (the umask applies), instead of owner-only access.
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
