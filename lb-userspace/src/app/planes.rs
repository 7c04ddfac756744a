//! Which planes carry the snapshots out on this node, and why.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::api::Problem;
use crate::api::facts::Plane;
use crate::config::{Config, Mode};
use crate::model::Snapshot;
use crate::plane::choice::Here;
use crate::plane::proxy::ProxyReport;
use crate::plane::{self, EbpfError, EbpfPlane, FlowReport, PlaneReport, ProxyPlane, former};

/// What serves this node's frontends.
pub struct Planes {
    ebpf: Result<Arc<EbpfPlane>, Problem>,
    proxy: ProxyPlane,
    here: Here,
    former: Arc<Mutex<Former>>,
}

/// Programs of an agent before this one, which has none.
enum Former {
    /// They may be attached, below this directory of pins.
    Attached(PathBuf),
    /// As far as they could be taken away; what is left is tried again.
    Gone(Option<plane::Problem>),
}

/// Between two tries to take them away.
const AGAIN: Duration = Duration::from_secs(10);

/// Packet programs where they are wanted and can be had; else why there are none, and the proxy serves alone. An error: they are
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
            // They carry connections, and what is wrong now may be over soon.
            Err(error) if former::are_at_work(&config.paths.pins) => Err(Problem::of(error)
                .traffic("programs attached before go on")
                .fix("mend that; or set mode = \"proxy\", which takes them and their connections away")),
            Err(error) => {
                tracing::warn!(%error, "the proxy serves instead of packet programs");
                Ok(Err(Problem::of(error)))
            }
        },
    }
}

impl Former {
    /// Until nothing of them is left.
    async fn end(this: Arc<Mutex<Self>>, pins: PathBuf) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let problem = former::end(&pins).await;
            let is_gone = problem.is_none();
            *this.lock().unwrap_or_else(PoisonError::into_inner) = Self::Gone(problem);
            if is_gone {
                return;
            }
        }
    }
}

impl Planes {
    pub fn new(config: &Config, ebpf: Result<Arc<EbpfPlane>, Problem>, proxy: ProxyPlane) -> Self {
        let reason = |problem: &Problem| problem.why.as_ref().unwrap_or(&problem.what).as_str().into();
        let here = Here {
            mode: config.mode,
            without_ebpf: ebpf.as_ref().err().map(reason),
        };
        let former = match &ebpf {
            Err(_) if former::are_at_work(&config.paths.pins) => Former::Attached(config.paths.pins.clone()),
            _ => Former::Gone(None),
        };
        Self {
            ebpf,
            proxy,
            here,
            former: Arc::new(Mutex::new(former)),
        }
    }

    /// What this node has to choose from.
    pub const fn here(&self) -> &Here {
        &self.here
    }

    /// For what only packet programs can do.
    pub fn ebpf(&self) -> Result<&Arc<EbpfPlane>, Problem> {
        self.ebpf.as_ref().map_err(Clone::clone)
    }

    /// What serves where packet programs do not.
    pub const fn proxy(&self) -> &ProxyPlane {
        &self.proxy
    }

    /// Each serves what the snapshot says. Blocks: to be called from a thread that may.
    pub fn apply(&self, snapshot: &Arc<Snapshot>) -> Result<(), EbpfError> {
        // Sockets are there before packets are left to them, and for a while after that.
        self.proxy.apply(snapshot, &self.here);
        match &self.ebpf {
            Ok(ebpf) => {
                ebpf.set_taken(self.proxy.missing());
                ebpf.set_open(self.proxy.open());
                ebpf.apply(snapshot)
            }
            Err(_) => {
                self.end_former(snapshot);
                Ok(())
            }
        }
    }

    /// Once the proxy serves in their place.
    fn end_former(&self, snapshot: &Snapshot) {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        if let Former::Attached(pins) = &*former
            && snapshot.generation > 0
        {
            tracing::info!("packet programs of an agent before this one are taken away");
            let pins = pins.clone();
            let problem = Handle::current().block_on(former::end(&pins));
            if problem.is_some() {
                Handle::current().spawn(Former::end(Arc::clone(&self.former), pins));
            }
            *former = Former::Gone(problem);
        }
    }

    pub fn report(&self) -> Vec<Plane> {
        let plane = |name: &str, report: PlaneReport| Plane {
            name: name.into(),
            problem: None,
            report,
        };
        let mut proxy = self.proxy.report();
        if let Former::Gone(problem) = &*self.former.lock().unwrap_or_else(PoisonError::into_inner) {
            proxy.problems.extend(problem.clone());
        }
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
