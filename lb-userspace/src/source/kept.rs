//! A copy of what a source wanted last, so that an agent that starts while the source is silent knows what it served.
//!
//! ```text
//! MAGIC, hash of the rest, ORIGIN and a line feed, Picture
//! ```

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::stream::codec::{self, Fault};
use crate::model::Desired;

/// Copies are written at most this often: the newest each time.
const PAUSE: Duration = Duration::from_secs(1);
/// What the file begins with.
const MAGIC: &[u8] = b"portico desired 2\n";
const HASH: usize = blake3::OUT_LEN;

/// The kept copy of one source: the file `NAME.kept` in the runtime directory. Dropping it writes what was saved last.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    writer: Mutex<Option<Writer>>,
}

/// The thread that writes, once there is something to write.
#[derive(Debug)]
struct Writer {
    sender: Sender<Saved>,
    thread: JoinHandle<()>,
}

/// A picture and whose it is.
#[derive(Debug)]
struct Saved {
    origin: String,
    desired: Arc<Desired>,
}

/// What was kept.
#[derive(Debug)]
pub struct Recalled {
    pub desired: Desired,
    pub when: SystemTime,
    /// What the source told of itself with it, one line; it may be another one by now.
    pub origin: String,
}

/// Why a copy is of no use.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not a copy of this version, or it is damaged")]
    Damaged,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Kept {
    pub fn new(runtime: &Path, name: &str) -> Self {
        Self {
            path: runtime.join(format!("{name}.kept")),
            writer: Mutex::new(None),
        }
    }

    /// Keeps a picture that was good, without its guests. Returns at once; failing at it costs nothing but the copy.
    pub fn save(&self, desired: &Arc<Desired>) {
        self.save_of(String::new(), desired);
    }

    /// The same of a source that is not always the same one: `origin`, one line, tells which it was.
    pub fn save_of(&self, origin: String, desired: &Arc<Desired>) {
        let desired = Arc::clone(desired);
        let mut writer = self
            .writer
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if writer.is_none() {
            let (sender, receiver) = mpsc::channel();
            let path = self.path.clone();
            let thread = std::thread::Builder::new().name("kept".into());
            match thread.spawn(move || write_on(&path, &receiver)) {
                Ok(thread) => *writer = Some(Writer { sender, thread }),
                Err(error) => complain(&self.path, &error),
            }
        }
        if let Some(writer) = &*writer {
            // The thread ends with this sender, not before.
            let _ = writer.sender.send(Saved { origin, desired });
        }
    }

    /// What was kept, and when.
    pub fn recall(&self) -> Option<(Desired, SystemTime)> {
        self.recall_of().map(|recalled| (recalled.desired, recalled.when))
    }

    /// The same with its origin.
    pub fn recall_of(&self) -> Option<Recalled> {
        match read(&self.path) {
            Ok(kept) => Some(kept),
            Err(Useless::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(useless) => {
                let path = self.path.display();
                tracing::info!(%path, "the copy of the last picture is of no use, and nothing is lost by it: {useless}");
                None
            }
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(Writer { sender, thread }) = writer.take() {
            drop(sender);
            // It has at most one file to write.
            let _ = thread.join();
        }
    }
}

fn write_on(path: &Path, receiver: &Receiver<Saved>) {
    let mut next = receiver.recv().ok();
    while let Some(saved) = next.take() {
        if let Err(error) = write(path, &receiver.try_iter().last().unwrap_or(saved)) {
            complain(path, &error);
        }
        next = newest(receiver, Instant::now() + PAUSE);
    }
}

/// The last picture that comes until then, else the first one that comes at all; `None`: nobody sends any more.
fn newest(receiver: &Receiver<Saved>, until: Instant) -> Option<Saved> {
    let mut newest = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(saved) => newest = Some(saved),
            Err(RecvTimeoutError::Disconnected) => return newest,
            Err(RecvTimeoutError::Timeout) => return newest.or_else(|| receiver.recv().ok()),
        }
    }
}

fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    let mut body = saved.origin.replace('\n', " ").into_bytes();
    body.push(b'\n');
    body.extend_from_slice(&codec::encode(&saved.desired));
    let new = path.with_extension("kept.new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(MAGIC)?;
    file.write_all(blake3::hash(&body).as_bytes())?;
    file.write_all(&body)?;
    std::fs::rename(new, path)
}

fn read(path: &Path) -> Result<Recalled, Useless> {
    let when = std::fs::metadata(path)?.modified()?;
    let bytes = std::fs::read(path)?;
    let rest = bytes.strip_prefix(MAGIC).ok_or(Useless::Damaged)?;
    let (hash, body) = rest.split_at_checked(HASH).ok_or(Useless::Damaged)?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(Useless::Damaged);
    }
    let end = body.iter().position(|byte| *byte == b'\n');
    let (origin, picture) = body.split_at(end.ok_or(Useless::Damaged)?);
    Ok(Recalled {
        desired: codec::decode(&picture[1..], None)?,
        when,
        origin: String::from_utf8_lossy(origin).into_owned(),
    })
}

fn complain(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "no copy of the last picture is kept");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{backend, web};

    fn picture(task: &str) -> Arc<Desired> {
        Arc::new(web(vec![backend(task, "node1")]))
    }

    #[test]
    fn what_was_saved_last_is_recalled() {
        let runtime = tempfile::tempdir().unwrap();
        let kept = Kept::new(runtime.path(), "swarm");
        assert!(kept.recall().is_none());
        for task in ["web.1", "web.2", "web.3"] {
            kept.save(&picture(task));
        }
        drop(kept);
        let (desired, when) = Kept::new(runtime.path(), "swarm").recall().unwrap();
        assert_eq!(desired, *picture("web.3"));
        assert!(when.elapsed().unwrap() < Duration::from_secs(60));
        assert!(Kept::new(runtime.path(), "docker").recall().is_none());
    }

    #[test]
    fn whose_it_was_is_kept_with_it() {
        let runtime = tempfile::tempdir().unwrap();
        let kept = Kept::new(runtime.path(), "swarm");
        kept.save_of("swarm1 node1".to_owned(), &picture("web.1"));
        drop(kept);
        let recalled = Kept::new(runtime.path(), "swarm").recall_of().unwrap();
        assert_eq!(recalled.origin, "swarm1 node1");
        assert_eq!(recalled.desired, *picture("web.1"));
    }

    #[test]
    fn the_first_is_written_at_once_and_the_newest_of_a_second_later() {
        let runtime = tempfile::tempdir().unwrap();
        let kept = Kept::new(runtime.path(), "swarm");
        let recalled = |task: &str, within| {
            let end = Instant::now() + within;
            while kept.recall().is_none_or(|(desired, _)| desired != *picture(task)) {
                assert!(Instant::now() < end, "{task} is not written");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        kept.save(&picture("web.1"));
        recalled("web.1", Duration::from_millis(900));
        kept.save(&picture("web.2"));
        kept.save(&picture("web.3"));
        recalled("web.3", Duration::from_secs(5));
    }

    #[test]
    fn a_damaged_copy_is_no_copy() {
        let runtime = tempfile::tempdir().unwrap();
        let kept = Kept::new(runtime.path(), "swarm");
        kept.save(&picture("web.1"));
        drop(kept);
        let path = runtime.path().join("swarm.kept");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(Kept::new(runtime.path(), "swarm").recall().is_none(), "byte {at}");
        }
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(
                Kept::new(runtime.path(), "swarm").recall().is_none(),
                "{cut} bytes"
            );
        }
    }
}
