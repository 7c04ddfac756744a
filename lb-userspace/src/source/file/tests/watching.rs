use std::fs;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::model::{Drains, Identity, Snapshot, View, Writer};
use crate::source::SourceReport;
use crate::source::file::watch::start_reading;

const ONE: &str = "services:\n  one: { ports: [80] }\n";
const TWO: &str = "services:\n  one: { ports: [80] }\n  two: { ports: [81] }\n";

struct Watched {
    directory: TempDir,
    view: View,
    reports: watch::Receiver<SourceReport>,
}

impl Watched {
    fn start(text: Option<&str>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), text)
    }

    fn start_in(directory: TempDir, text: Option<&str>) -> Self {
        let path = directory.path().join("services.yaml");
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let (writer, _) = Writer::start(Identity::new([0; 32]), [NAME.into()], Drains::default());
        let view = writer.view();
        let (reports, _) = start(path, directory.path(), writer);
        Self {
            directory,
            view,
            reports,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    async fn next(&mut self) -> Arc<Snapshot> {
        tokio::time::timeout(Duration::from_secs(10), self.view.changed())
            .await
            .unwrap()
            .unwrap()
    }

    async fn complaint(&mut self) -> String {
        let waiting = self.reports.wait_for(|report| report.error.is_some());
        let report = tokio::time::timeout(Duration::from_secs(10), waiting)
            .await
            .unwrap()
            .unwrap();
        report.error.clone().unwrap()
    }
}

#[tokio::test]
async fn an_edit_is_served_within_a_second() {
    let mut file = Watched::start(Some(ONE));
    assert_eq!(file.next().await.services.len(), 1);
    let start = Instant::now();
    file.write("services.yaml", TWO);
    assert_eq!(file.next().await.services.len(), 2);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(file.reports.borrow().services, 2);
}

#[tokio::test]
async fn a_bad_edit_leaves_the_last_good_state_and_a_good_one_clears_the_complaint() {
    let mut file = Watched::start(Some(ONE));
    file.next().await;
    file.write("services.yaml", "services:\n  one: { prots: [80] }\n");
    let complaint = file.complaint().await;
    assert!(
        complaint.contains("services.yaml:2:10: unknown key `prots`"),
        "{complaint}"
    );
    assert!(
        complaint.ends_with("\n  traffic: what was loaded before keeps serving"),
        "{complaint}"
    );
    assert_eq!(file.view.current().services.len(), 1);
    file.write("services.yaml", TWO);
    assert_eq!(file.next().await.services.len(), 2);
    assert_eq!(file.reports.borrow().error, None);
}

#[tokio::test]
async fn a_file_put_in_the_old_ones_place_is_noticed() {
    let mut file = Watched::start(Some(ONE));
    file.next().await;
    file.write("services.yaml.new", TWO);
    let path = file.directory.path();
    fs::rename(path.join("services.yaml.new"), path.join("services.yaml")).unwrap();
    assert_eq!(file.next().await.services.len(), 2);
}

#[tokio::test]
async fn a_file_that_is_gone_or_cut_to_nothing_leaves_the_last_good_state() {
    let mut file = Watched::start(Some(ONE));
    file.next().await;
    fs::remove_file(file.directory.path().join("services.yaml")).unwrap();
    assert!(file.complaint().await.contains("cannot read the services file"));
    file.write("services.yaml", "");
    let waiting = file
        .reports
        .wait_for(|report| report.error.as_ref().is_some_and(|e| e.contains("is empty")));
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(file.view.current().services.len(), 1);
}

#[tokio::test]
async fn a_file_written_in_steps_is_read_when_it_is_whole() {
    use std::io::Write;
    let mut file = Watched::start(Some(ONE));
    file.next().await;
    let mut handle = fs::File::create(file.directory.path().join("services.yaml")).unwrap();
    // Good YAML at every step, and only the last means both services.
    for piece in [
        "services:\n  one: { po",
        "rts: [80] }\n",
        "  two: { ports: [81",
        "] }\n",
    ] {
        handle.write_all(piece.as_bytes()).unwrap();
        handle.flush().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(handle);
    assert_eq!(file.next().await.services.len(), 2);
    assert_eq!(file.reports.borrow().error, None);
}

#[tokio::test]
async fn a_writer_that_pauses_between_whole_lines_takes_nothing_away() {
    use std::io::Write;
    let mut file = Watched::start(Some(TWO));
    file.next().await;
    let mut handle = fs::File::create(file.directory.path().join("services.yaml")).unwrap();
    // Each line makes a good file of what came so far.
    for piece in [ONE, "  two: { ports: [81] }\n", "  three: { ports: [82] }\n"] {
        handle.write_all(piece.as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(file.view.current().services.len(), 2);
        assert_eq!(file.view.current().generation, 1);
    }
    let kept = file.directory.path().join("services.kept.yaml");
    assert_eq!(fs::read_to_string(&kept).unwrap(), TWO);
    drop(handle);
    assert_eq!(file.next().await.services.len(), 3);
    assert_eq!(file.reports.borrow().error, None);
}

#[tokio::test]
async fn an_agent_that_starts_beside_a_file_being_written_serves_what_was_served_before() {
    use std::io::Write;
    let mut before = Watched::start(Some(TWO));
    before.next().await;
    let mut handle = fs::File::create(before.directory.path().join("services.yaml")).unwrap();
    handle.write_all(ONE.as_bytes()).unwrap();
    let mut after = Watched::start_in(before.directory, None);
    assert_eq!(after.next().await.services.len(), 2);
    let complaint = after.complaint().await;
    assert!(complaint.contains("somebody is still writing it"), "{complaint}");
    drop(handle);
    assert_eq!(after.next().await.services.len(), 1);
    assert_eq!(after.reports.borrow().error, None);
}

#[tokio::test]
async fn a_file_that_could_not_be_read_for_once_is_read_again() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static READ: AtomicU32 = AtomicU32::new(0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("services.yaml");
    fs::write(&path, ONE).unwrap();
    let (writer, _) = Writer::start(Identity::new([0; 32]), [NAME.into()], Drains::default());
    let view = writer.view();
    let (reports, _) = start_reading(path, directory.path(), writer, |path| {
        if READ.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(std::io::Error::from_raw_os_error(libc::EMFILE));
        }
        fs::read(path)
    });
    let mut file = Watched {
        directory,
        view,
        reports,
    };
    let complaint = file.complaint().await;
    assert!(complaint.contains("Too many open files"), "{complaint}");
    assert_eq!(file.next().await.services.len(), 1);
    assert_eq!(file.reports.borrow().error, None);
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_waited_for() {
    let mut file = Watched::start(None);
    let complaint = file.complaint().await;
    assert!(
        complaint.contains("nothing was loaded from this file yet"),
        "{complaint}"
    );
    assert_eq!(file.view.current().generation, 0);
    file.write("services.yaml", ONE);
    assert_eq!(file.next().await.services.len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_with_their_line() {
    let mut file = Watched::start(None);
    fs::write(
        file.directory.path().join("services.yaml"),
        b"services:\n  \xff: {}\n",
    )
    .unwrap();
    let waiting = file.reports.wait_for(|report| {
        report
            .error
            .as_ref()
            .is_some_and(|e| e.contains("line 2 is not UTF-8"))
    });
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn an_agent_that_starts_beside_a_bad_file_serves_what_was_served_before() {
    let mut before = Watched::start(Some(TWO));
    before.next().await;
    let mut after = Watched::start_in(before.directory, Some("services:\n  one: { po"));
    assert_eq!(after.next().await.services.len(), 2);
    let complaint = after.complaint().await;
    assert!(complaint.contains("services.yaml:2:"), "{complaint}");
    assert!(
        complaint.ends_with("what was loaded before keeps serving"),
        "{complaint}"
    );
}
