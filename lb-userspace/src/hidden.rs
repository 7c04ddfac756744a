//! Sockets in the file system are never open to others than they shall be, not even for a moment.

use std::fs;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Has `bind` make a socket under another name, with all that it needs, and moves its file to `path`, in the place of whatever is
/// there.
pub fn bind<T>(path: &Path, bind: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".new");
    let hidden = PathBuf::from(hidden);
    if let Err(error) = fs::remove_file(&hidden)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let bound = bind(&hidden)?;
    fs::rename(&hidden, path)?;
    Ok(bound)
}
