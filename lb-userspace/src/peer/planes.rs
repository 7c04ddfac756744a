//! Which nodes have no packet programs, over a restart: a small file in the runtime directory. An agent that starts would send
//! to them inside Geneve until it hears of them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::jobs;
use crate::model::{Snapshot, View};

/// In the runtime directory.
const FILE: &str = "by-proxy.json";

/// Whether this node has packet programs, as its heartbeats say it.
#[derive(Clone, Debug)]
pub struct Programs {
    /// It has none.
    pub never: bool,
    /// It gets them in place of its proxy: the others go on with that until a snapshot is carried out.
    pub later: bool,
    /// Generation of the snapshot that is.
    pub applied: watch::Receiver<u64>,
}

impl Programs {
    pub fn are_there(&self) -> bool {
        !self.never && (!self.later || *self.applied.borrow() > 0)
    }
}

/// Names of the nodes that had none when an agent before this one knew of them. A file that cannot be read is as none.
pub fn load(runtime: &Path) -> BTreeSet<Arc<str>> {
    let nodes = std::fs::read(runtime.join(FILE)).ok();
    let nodes: Option<Vec<String>> = nodes.and_then(|text| serde_json::from_slice(&text).ok());
    nodes.into_iter().flatten().map(Arc::from).collect()
}

/// Writes them whenever they change, with this one if it has `none`; ends with the writer.
pub fn keep(runtime: &Path, node: Arc<str>, none: bool, mut view: View) -> JoinHandle<()> {
    let path: PathBuf = runtime.join(FILE);
    let mut written = load(runtime);
    tokio::spawn(async move {
        while let Ok(snapshot) = view.changed().await {
            let known = known(&snapshot, &node, none);
            if snapshot.generation == 0 || known == written {
                continue;
            }
            written.clone_from(&known);
            let file = path.clone();
            let kept = jobs::run("keep who has no packet programs", move || write(&file, &known)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(
                    path = %path.display(), %error,
                    "which nodes have no packet programs is forgotten with this agent: the next one hears it from them"
                );
            }
        }
    })
}

fn known(snapshot: &Snapshot, node: &Arc<str>, none: bool) -> BTreeSet<Arc<str>> {
    let others = snapshot.nodes.values().filter(|other| other.name != *node);
    let others = others.filter(|other| other.by_proxy);
    let own = none.then(|| Arc::clone(node));
    others.map(|other| Arc::clone(&other.name)).chain(own).collect()
}

/// In one step, so that a crash leaves the old file or the new one.
fn write(path: &Path, nodes: &BTreeSet<Arc<str>>) -> io::Result<()> {
    let names: Vec<&str> = nodes.iter().map(|node| &**node).collect();
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec(&names)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identity, Writer, compose::Past, testing::web};

    #[tokio::test]
    async fn who_has_no_packet_programs_is_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path()).is_empty());
        let past = Past {
            by_proxy: [Arc::from("node2")].into(),
            ..Past::default()
        };
        let (writer, _task) = Writer::start(Identity::new([0; 32]), ["file".into()], past);
        let keeping = keep(directory.path(), "node1".into(), true, writer.view());
        writer
            .source("file".into(), Arc::new(web(Vec::new())))
            .await
            .unwrap();
        let both: BTreeSet<Arc<str>> = ["node1", "node2"].map(Arc::from).into();
        while load(directory.path()) != both {
            tokio::task::yield_now().await;
        }
        writer.by_proxy(BTreeSet::new()).await.unwrap();
        while load(directory.path()) != [Arc::from("node1")].into() {
            tokio::task::yield_now().await;
        }
        keeping.abort();
        std::fs::write(directory.path().join(FILE), "[").unwrap();
        assert!(load(directory.path()).is_empty());
    }

    #[test]
    fn a_node_whose_proxy_goes_has_packet_programs_once_they_carry_a_snapshot_out() {
        let (applying, applied) = watch::channel(0);
        let mut programs = Programs {
            never: false,
            later: true,
            applied,
        };
        assert!(!programs.are_there());
        applying.send_replace(1);
        assert!(programs.are_there());
        programs.never = true;
        assert!(!programs.are_there());
        applying.send_replace(0);
        (programs.never, programs.later) = (false, false);
        assert!(programs.are_there());
    }
}
