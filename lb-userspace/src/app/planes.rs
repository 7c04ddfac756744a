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

/// Packet programs where they are wanted and built; else why there are none, and the proxy serves alone. An error: they are
/// wanted and cannot be had.
pub async fn packet_programs(config: &Config) -> Result<Result<Arc<EbpfPlane>, Problem>, Problem> {
    let start = async || EbpfPlane::start(config).await.map(Arc::new);
    match config.mode {
        Mode::Proxy => Ok(Err(
            Problem::new("there are no packet programs here").because("mode = \"proxy\"")
        )),
        Mode::Ebpf => start().await.map(Ok).map_err(Problem::of),
        Mode::Auto => match start().await {
            Ok(plane) => Ok(Ok(plane)),
            Err(error @ EbpfError::NotBuilt) => {
                tracing::warn!("the proxy serves instead of packet programs");
                Ok(Err(Problem::of(error)))
            }
            // Programs of an agent before this one may be at work: in front of sockets, by tables that nobody would keep.
            Err(error) => Err(Problem::of(error)),
        },
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
            Ok(ebpf) => {
                self.proxy.know(snapshot);
                ebpf.apply(snapshot)
            }
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

    /// Connections of this node's tasks, whoever carries them; `reports` are those of [`report`](Self::report).
    pub fn flows(&self, reports: &[Plane]) -> FlowReport {
        let proxied = self.proxy.flows();
        let (Ok(_), [ebpf]) = (&self.ebpf, reports) else {
            return proxied;
        };
        let mut all = ebpf.report.flows.clone();
        all.generation = all.generation.min(proxied.generation);
        all.established += proxied.established;
        for (tag, count) in &proxied.members {
            *all.members.entry(*tag).or_default() += count;
        }
        all
    }
}
