//! Drain marks over a restart: a small file in the runtime directory.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::jobs;
use crate::model::{DrainMark, DrainObject, Drains};

/// In the runtime directory.
pub const FILE: &str = "drains.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    drained: bool,
    stamp: u64,
}

/// What was marked before this agent started. A file that cannot be read is as none: other agents repeat their marks.
pub fn load(runtime: &Path) -> Drains {
    let path = runtime.join(FILE);
    match read(&path) {
        Ok(drains) => drains,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Drains::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "drain marks cannot be read; other agents will repeat theirs");
            Drains::default()
        }
    }
}

/// Writes the marks whenever they change; ends with the writer.
pub fn keep(runtime: &Path, mut drains: watch::Receiver<Arc<Drains>>) -> JoinHandle<()> {
    let path: PathBuf = runtime.join(FILE);
    tokio::spawn(async move {
        while drains.changed().await.is_ok() {
            let latest = Arc::clone(&drains.borrow_and_update());
            let file = path.clone();
            let written = jobs::run("keep the drain marks", move || write(&file, &latest)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(
                    path = %path.display(), %error,
                    "drain marks cannot be kept: they hold, and after a restart only if another agent repeats them"
                );
            }
        }
    })
}

fn read(path: &Path) -> io::Result<Drains> {
    let marks: Vec<Written> = serde_json::from_slice(&std::fs::read(path)?)?;
    let mut drains = Drains::default();
    for Written {
        node,
        service,
        task,
        drained,
        stamp,
    } in marks
    {
        let object = match (node, service, task) {
            (Some(node), None, None) => DrainObject::Node(node.into()),
            (None, Some(service), Some(task)) => DrainObject::Backend {
                service: service.into(),
                task: task.into(),
            },
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a mark is of neither a node nor a backend",
                ));
            }
        };
        drains.learn(DrainMark {
            object,
            drained,
            stamp,
        });
    }
    Ok(drains)
}

/// In one step, so that a crash leaves the old file or the new one.
fn write(path: &Path, drains: &Drains) -> io::Result<()> {
    let marks: Vec<Written> = drains
        .iter()
        .map(
            |DrainMark {
                 object,
                 drained,
                 stamp,
             }| {
                let (node, service, task) = match &object {
                    DrainObject::Node(node) => (Some(node.to_string()), None, None),
                    DrainObject::Backend { service, task } => {
                        (None, Some(service.to_string()), Some(task.to_string()))
                    }
                };
                Written {
                    node,
                    service,
                    task,
                    drained,
                    stamp,
                }
            },
        )
        .collect();
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&marks)?)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_outlive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()), Drains::default());
        let mut drains = Drains::default();
        drains.learn(DrainMark {
            object: DrainObject::Node("node1".into()),
            drained: true,
            stamp: 1,
        });
        let object = DrainObject::Backend {
            service: "web".into(),
            task: "web.1".into(),
        };
        drains.learn(DrainMark {
            object,
            drained: false,
            stamp: u64::MAX,
        });
        write(&directory.path().join(FILE), &drains).unwrap();
        assert_eq!(load(directory.path()), drains);
    }

    #[test]
    fn a_broken_file_is_as_none() {
        let directory = tempfile::tempdir().unwrap();
        for text in [
            "",
            "[",
            "[{}]",
            "{\"a\": 1}",
            "[{\"drained\": true, \"stamp\": 1, \"node\": \"a\", \"task\": \"b\"}]",
        ] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            assert_eq!(load(directory.path()), Drains::default(), "{text}");
        }
    }
}
