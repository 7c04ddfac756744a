//! Which planes carry the snapshots out on this node, and why.

use std::sync::Arc;

use crate::api::Problem;
use crate::api::facts::Plane;
use crate::config::{Config, Mode};
use crate::model::Snapshot;
use crate::plane::choice::Here;
use crate::plane::proxy::ProxyReport;
use crate::plane::{EbpfError, EbpfPlane, FlowReport, PlaneReport, ProxyPlane};

/// What serves this node's frontends.
pub struct Planes {
    ebpf: Result<Arc<EbpfPlane>, Problem>,
    proxy: ProxyPlane,
    here: Here,
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
    pub fn new(mode: Mode, ebpf: Result<Arc<EbpfPlane>, Problem>, proxy: ProxyPlane) -> Self {
        let reason = |problem: &Problem| problem.why.as_ref().unwrap_or(&problem.what).as_str().into();
        let here = Here {
            mode,
            without_ebpf: ebpf.as_ref().err().map(reason),
        };
        Self { ebpf, proxy, here }
    }

    /// What this node has to choose from.
    pub const fn here(&self) -> &Here {
        &self.here
    }

    /// For what only packet programs can do.
    pub fn ebpf(&self) -> Result<&Arc<EbpfPlane>, Problem> {
        self.ebpf.as_ref().map_err(Clone::clone)
    }

    /// Each serves what the snapshot says. Blocks: to be called from a thread that may.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<(), EbpfError> {
        // Sockets are there before packets are left to them, and for a while after that.
        self.proxy.apply(snapshot, &self.here);
        match &self.ebpf {
            Ok(ebpf) => ebpf.apply(snapshot),
            Err(_) => Ok(()),
        }
    }

    pub fn report(&self) -> Vec<Plane> {
        let plane = |name: &str, report: PlaneReport| Plane {
            name: name.into(),
            problem: None,
            report,
        };
        let proxy = self.proxy.report();
        match &self.ebpf {
            Ok(ebpf) => {
                let beside =
                    !proxy.problems.is_empty() || proxy.proxy.as_ref().is_some_and(ProxyReport::is_used);
                let proxy = beside.then(|| plane("proxy", proxy));
                [plane("ebpf", ebpf.report())].into_iter().chain(proxy).collect()
            }
            Err(_) => vec![plane("proxy", proxy)],
        }
    }

    /// Connections of this node's tasks, whoever carries them; `reports` are those of [`report`](Self::report).
    pub fn flows(&self, reports: &[Plane]) -> FlowReport {
        let proxied = self.proxy.flows();
        let (Ok(_), [ebpf, ..]) = (&self.ebpf, reports) else {
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
