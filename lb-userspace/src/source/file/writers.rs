//! Whether somebody is still writing the file: half of a services file can be a good one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use notify::Event;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};

/// Knows by asking the system, and where that is refused by what the directory's events have told.
#[derive(Debug)]
pub struct Writers {
    path: PathBuf,
    /// Data was written, and no writer has closed the file since.
    begun: AtomicBool,
}

impl Writers {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            begun: AtomicBool::new(false),
        }
    }

    /// Takes an event of the directory; tells whether it is worth a look at the file.
    pub fn hear(&self, event: &Event) -> bool {
        if event.need_rescan() {
            // The event that ends a write may be among those that were lost.
            self.begun.store(false, Ordering::Relaxed);
            return true;
        }
        let is_close = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
        if event
            .paths
            .iter()
            .any(|path| path.file_name() == self.path.file_name())
        {
            match event.kind {
                EventKind::Modify(ModifyKind::Data(_)) => self.begun.store(true, Ordering::Relaxed),
                // A whole file in the old one's place.
                EventKind::Modify(ModifyKind::Name(RenameMode::To)) | EventKind::Remove(_) => {
                    self.begun.store(false, Ordering::Relaxed);
                }
                _ if is_close => self.begun.store(false, Ordering::Relaxed),
                _ => {}
            }
        }
        // Looking opens the file: that must not be a reason to look.
        is_close || !matches!(event.kind, EventKind::Access(_))
    }

    /// Whether somebody has the file open for writing. None: the system does not tell, and no event has told either.
    pub fn is_written(&self) -> Option<bool> {
        match is_open_for_writing(&self.path) {
            Ok(open) => Some(open),
            Err(_) => self.begun.load(Ordering::Relaxed).then_some(true),
        }
    }
}

/// Which signal tells the holder of a lease (linux/fcntl.h; the libc crate does not have it).
const F_SETSIG: libc::c_int = 10;

/// Asked by taking a read lease, which the kernel refuses while the file is open for writing (fcntl(2), F_SETLEASE), and
/// giving it back. Fails where the file system has no leases or the file is somebody else's and CAP_LEASE is missing.
fn is_open_for_writing(path: &Path) -> io::Result<bool> {
    // A pipe in the file's place must not hold the agent up.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    // The signal that a writer who comes meanwhile would cause is, by default, one that ends the process; this one is
    // ignored by default.
    control(&file, F_SETSIG, libc::SIGURG)?;
    match control(&file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => control(&file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn control(file: &File, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and these commands take a number, no pointer.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RemoveKind};

    use super::*;

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    #[test]
    fn a_file_is_open_for_writing_until_its_last_writer_closes_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.yaml");
        let first = File::create(&path).unwrap();
        let second = OpenOptions::new().append(true).open(&path).unwrap();
        let _reader = File::open(&path).unwrap();
        assert!(is_open_for_writing(&path).unwrap());
        drop(first);
        assert!(is_open_for_writing(&path).unwrap());
        drop(second);
        assert!(!is_open_for_writing(&path).unwrap());
        // The question leaves nothing behind.
        OpenOptions::new().append(true).open(&path).unwrap();
    }

    #[test]
    fn where_the_system_does_not_tell_events_do() {
        // There is no such file, and so nothing to ask about.
        let writers = Writers::new("/nowhere/services.yaml".into());
        let tell = |kind: EventKind, name: &str| {
            writers.hear(&Event::new(kind).add_path(Path::new("/nowhere").join(name)))
        };
        assert_eq!(writers.is_written(), None);
        assert!(tell(WRITTEN, "another.yaml"));
        assert_eq!(writers.is_written(), None);
        for end in [
            CLOSED,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
            EventKind::Remove(RemoveKind::File),
        ] {
            assert!(tell(EventKind::Create(CreateKind::File), "services.yaml"));
            assert!(tell(WRITTEN, "services.yaml"));
            assert_eq!(writers.is_written(), Some(true));
            assert!(tell(end, "services.yaml"));
            assert_eq!(writers.is_written(), None);
        }
    }

    #[test]
    fn that_somebody_reads_is_no_news() {
        let writers = Writers::new("/nowhere/services.yaml".into());
        for kind in [
            AccessKind::Open(AccessMode::Any),
            AccessKind::Close(AccessMode::Read),
        ] {
            assert!(
                !writers.hear(&Event::new(EventKind::Access(kind)).add_path("/nowhere/services.yaml".into()))
            );
        }
    }
}
