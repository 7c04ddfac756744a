//! Which planes carry the snapshots out on this node, and why.

use std::sync::Arc;

use crate::api::Problem;
use crate::api::facts::Plane;
use crate::config::{Config, Mode};
use crate::model::Snapshot;
use crate::plane::{EbpfError, EbpfPlane, FlowReport, PlaneReport, ProxyPlane};

/// What serves this node's frontends.
pub struct Planes {
    ebpf: Result<Arc<EbpfPlane>, Problem>,
    proxy: ProxyPlane,
}

/// Packet programs where they are wanted and the kernel takes them; else why there are none, and the proxy serves alone. An
/// error: nothing else will do.
pub async fn packet_programs(config: &Config) -> Result<Result<Arc<EbpfPlane>, Problem>, Problem> {
    let start = async || EbpfPlane::start(config).await.map(Arc::new);
    match config.mode {
        Mode::Proxy => Ok(Err(
            Problem::new("there are no packet programs here").because("mode = \"proxy\"")
        )),
        Mode::Ebpf => start().await.map(Ok).map_err(Problem::of),
        Mode::Auto => Ok(start().await.map_err(|error| {
            tracing::warn!(%error, "the proxy serves instead of packet programs");
            Problem::of(error).traffic("the proxy serves all frontends instead")
        })),
    }
}

impl Planes {
    pub fn new(ebpf: Result<Arc<EbpfPlane>, Problem>, proxy: ProxyPlane) -> Self {
        Self { ebpf, proxy }
    }

    /// For what only packet programs can do.
    pub fn ebpf(&self) -> Result<&Arc<EbpfPlane>, Problem> {
        self.ebpf.as_ref().map_err(Clone::clone)
    }

    /// Each serves what the snapshot says. Blocks: to be called from a thread that may.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<(), EbpfError> {
        match &self.ebpf {
            Ok(ebpf) => ebpf.apply(snapshot),
            Err(_) => {
                self.proxy.apply(snapshot);
                Ok(())
            }
        }
    }

    pub fn report(&self) -> Vec<Plane> {
        let plane = |name: &str, report: PlaneReport| Plane {
            name: name.into(),
            problem: None,
            report,
        };
        match &self.ebpf {
            Ok(ebpf) => vec![plane("ebpf", ebpf.report())],
            Err(_) => vec![plane("proxy", self.proxy.report())],
        }
    }
}

/// Connections of this node's tasks, whoever carries them.
pub fn flows(planes: &[Plane]) -> FlowReport {
    let mut planes = planes.iter().map(|plane| &plane.report.flows);
    let mut all = planes.next().cloned().unwrap_or_default();
    for flows in planes {
        all.generation = all.generation.min(flows.generation);
        all.established += flows.established;
        all.closing += flows.closing;
        for (tag, count) in &flows.members {
            *all.members.entry(*tag).or_default() += count;
        }
    }
    all
}
