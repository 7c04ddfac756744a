//! Follows the file: by the directory's events, and by looking now and then where there are none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::kept::Kept;
use super::writers::Writers;
use super::{Fault, NAME, Refused, parse};
use crate::jobs;
use crate::model::writer::Stopped;
use crate::model::{Desired, Writer};
use crate::source::SourceReport;

/// How long the file must rest before it is read: some open and close it for every step.
const REST: Duration = Duration::from_millis(50);
/// The same where nothing tells whether somebody writes it, for a file whose last line is not finished: it looks
/// half-written.
const LONG_REST: Duration = Duration::from_secs(1);
/// How often to look without being told.
const POLL: Duration = Duration::from_secs(2);
/// A writer who takes longer is named as a fault.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the file is read.
pub(super) type Read = fn(&Path) -> std::io::Result<Vec<u8>>;

/// Starts following `path`; the report is always the latest. A copy of the last good file is kept in `runtime`, for an
/// agent that starts beside a bad one.
pub fn start(
    path: PathBuf,
    runtime: &Path,
    writer: Writer,
) -> (watch::Receiver<SourceReport>, JoinHandle<()>) {
    start_reading(path, runtime, writer, |path| std::fs::read(path))
}

/// The same with another way to read: tests let it fail.
pub(super) fn start_reading(
    path: PathBuf,
    runtime: &Path,
    writer: Writer,
    read_file: Read,
) -> (watch::Receiver<SourceReport>, JoinHandle<()>) {
    let place = path.display().to_string();
    let (report, reports) = watch::channel(SourceReport::new(NAME, place));
    let follower = Follower {
        writers: Arc::new(Writers::new(path.clone())),
        path,
        kept: Kept::new(runtime),
        writer,
        report,
        read_file,
        read: None,
        written: None,
    };
    (reports, tokio::spawn(follower.run()))
}

struct Follower {
    path: PathBuf,
    writers: Arc<Writers>,
    kept: Kept,
    writer: Writer,
    report: watch::Sender<SourceReport>,
    read_file: Read,
    /// What the file was like when it was read last; the outer none: never yet.
    read: Option<Option<Print>>,
    /// Since when somebody has been seen to write it.
    written: Option<Instant>,
}

/// Tells one state of a file from another: inode, length, time of the last change of either content or inode.
type Print = (u64, u64, i64, i64);

impl Follower {
    async fn run(mut self) {
        let (events, mut inbox) = mpsc::channel(1);
        let mut watcher = None;
        loop {
            // The directory may not have been there yet.
            if watcher.is_none() {
                watcher = watch_directory(&self.path, &self.writers, events.clone());
            }
            if self.read != Some(print(&self.path)) && self.load().await.is_err() {
                return;
            }
            // Neither an event nor its absence says anything but "look".
            let _ = timeout(POLL, inbox.recv()).await;
        }
    }

    /// Waits until the file rests, reads it and hands it over; a file that is being written is left for a later look. Fails
    /// when the writer of snapshots has ended.
    async fn load(&mut self) -> Result<(), Stopped> {
        let first = self.read.is_none() && self.written.is_none();
        let mut rest = if first { Duration::ZERO } else { REST };
        let (before, text) = loop {
            let before = print(&self.path);
            sleep(rest).await;
            // Asked before reading: a writer who comes afterwards changes what the file is like.
            let written = self.writers.is_written();
            if written == Some(true) {
                return self.wait_for_writers().await;
            }
            if print(&self.path) != before {
                rest = rest.max(REST);
                continue;
            }
            let (path, read_file) = (self.path.clone(), self.read_file);
            let text = jobs::run("read the services file", move || read_file(&path)).await;
            let text = text.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            if print(&self.path) != before {
                continue;
            }
            let unfinished = text
                .as_ref()
                .is_ok_and(|text| !text.is_empty() && !text.ends_with(b"\n"));
            if written.is_none() && unfinished && rest < LONG_REST {
                rest = LONG_REST;
                continue;
            }
            break (before, text);
        };
        self.written = None;
        // What kept a file that is there from being read may pass without a change of the file.
        self.read = (text.is_ok() || before.is_none()).then_some(before);
        let (path, kept) = (self.path.clone(), self.kept.clone());
        let parsed = jobs::run("understand the services file", move || {
            understand(&path, text, &kept)
        })
        .await;
        let parsed = parsed.unwrap_or_else(|_| {
            let fault = Fault::whole("the reader failed on this file", "report this file as a bug");
            Err(Refused::new(&self.path, vec![fault]))
        });
        match parsed {
            Ok(desired) => {
                self.accept(&desired, SystemTime::now());
                self.writer.source(NAME.into(), Arc::new(desired)).await
            }
            Err(refused) => self.go_on_without(&refused).await,
        }
    }

    /// At the start nothing else can be served, and later somebody must be told whose file never ends.
    async fn wait_for_writers(&mut self) -> Result<(), Stopped> {
        let since = *self.written.get_or_insert_with(Instant::now);
        if self.report.borrow().loaded.is_some() && since.elapsed() < PATIENCE {
            return Ok(());
        }
        let fault = Fault::whole(
            "somebody is still writing it: it is read when every writer has closed it",
            "see who has it open (fuser -v FILE); write another file and rename it into place",
        );
        let refused = Refused::new(&self.path, vec![fault]);
        self.go_on_without(&refused).await
    }

    /// What was loaded before serves on; where nothing was, what an agent before this one kept.
    async fn go_on_without(&self, refused: &Refused) -> Result<(), Stopped> {
        let loaded = self.report.borrow().loaded.is_some();
        let recalled = if loaded { None } else { self.kept.recall() };
        if let Some((desired, kept)) = &recalled {
            self.accept(desired, *kept);
        }
        self.refuse(refused);
        match recalled {
            Some((desired, _)) => self.writer.source(NAME.into(), Arc::new(desired)).await,
            None => Ok(()),
        }
    }

    fn accept(&self, desired: &Desired, loaded: SystemTime) {
        let backends = desired
            .services
            .values()
            .map(|service| service.backends.len())
            .sum();
        let (services, nodes) = (desired.services.len(), desired.nodes.len());
        tracing::info!(path = %self.path.display(), services, backends, nodes, "services file loaded");
        self.report.send_modify(|report| {
            let loaded = Some(loaded);
            *report = SourceReport {
                loaded,
                services,
                backends,
                nodes,
                error: None,
                ..report.clone()
            };
        });
    }

    fn refuse(&self, refused: &Refused) {
        let loaded = self.report.borrow().loaded.is_some();
        let traffic = if loaded {
            "what was loaded before keeps serving"
        } else {
            "nothing was loaded from this file yet; what the kernel still holds keeps serving"
        };
        let error = format!("{refused}\n  traffic: {traffic}");
        // Tried again and again, told once.
        if self.report.borrow().error.as_ref() != Some(&error) {
            tracing::error!("services file refused: {error}");
            self.report.send_modify(|report| report.error = Some(error));
        }
    }
}

fn understand(path: &Path, text: std::io::Result<Vec<u8>>, kept: &Kept) -> Result<Desired, Refused> {
    let refused = |reason: String, fix: &str| Refused::new(path, vec![Fault::whole(reason, fix)]);
    let bytes = text.map_err(|error| {
        refused(
            format!("cannot read the services file: {error}"),
            "create it, or set sources.file.path",
        )
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        refused(format!("line {line} is not UTF-8"), "save the file as UTF-8")
    })?;
    let desired = parse(path, &text)?;
    kept.save(&text);
    Ok(desired)
}

/// None where there is no such file.
fn print(path: &Path) -> Option<Print> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        metadata.ino(),
        metadata.len(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

/// Watches the directory, because editors put a new file in the old one's place.
fn watch_directory(
    path: &Path,
    writers: &Arc<Writers>,
    events: mpsc::Sender<()>,
) -> Option<RecommendedWatcher> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // A full channel means that a look is due anyway.
    let writers = Arc::clone(writers);
    let tell = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !writers.hear(&event)) {
            return;
        }
        let _ = events.try_send(());
    };
    let mut watcher = notify::recommended_watcher(tell).ok()?;
    watcher.watch(directory, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}
