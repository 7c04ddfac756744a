//! Sockets in the file system are never open to others than they shall be, not even for a moment, and go with whoever has made
//! them.

use std::fs;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A socket's file. It goes with this, unless another one has its place by then.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    inode: u64,
}

/// Has `bind` make a socket under another name, with all that it needs, and moves its file to `path`, in the place of whatever is
/// there.
pub fn bind<T>(path: &Path, bind: impl FnOnce(&Path) -> Result<T>) -> Result<(T, File)> {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".new");
    let hidden = PathBuf::from(hidden);
    if let Err(error) = fs::remove_file(&hidden)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let bound = bind(&hidden)?;
    let file = File {
        path: path.into(),
        inode: fs::metadata(&hidden)?.ino(),
    };
    fs::rename(&hidden, path)?;
    Ok((bound, file))
}

impl File {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether no other one has its place, and nobody has removed it.
    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.is_there() {
            // It may be gone by now, with its directory.
            let _ = fs::remove_file(&self.path);
        }
    }
}
