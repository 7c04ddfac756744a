//! What the control side does, step by step, in this process: source, writer, plane, kernel; without programs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::input::{HERE, SERVICE, TASK, agreed, identity, services_file};
use benches::sample::Sample;
use lb_userspace::config::Config;
use lb_userspace::model::{Desired, DesiredService, Drains, Snapshot, Standing, View, Writer};
use lb_userspace::plane::EbpfPlane;
use lb_userspace::source::file;
use tokio::runtime::Runtime;

use crate::PINS;
use crate::report::Row;

/// For one snapshot, at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measurements of one size of tables.
pub struct Bench<'r> {
    pub runtime: &'r Runtime,
    pub rounds: usize,
    pub changes: usize,
    pub slots: u32,
    pub limits: String,
}

/// Source, writer and plane of one agent.
struct Agent {
    writer: Writer,
    view: View,
    plane: EbpfPlane,
    desired: Desired,
}

impl Bench<'_> {
    /// What does not depend on the size of the tables.
    pub fn reading(&self) -> Result<Vec<Row>> {
        let text = services_file(self.slots);
        let path = Path::new("services.yaml");
        let mut read = Sample::default();
        for _ in 0..self.rounds {
            let began = Instant::now();
            if file::parse(path, &text).is_err() {
                bail!("the services file has mistakes");
            }
            read.add(milliseconds(began));
        }
        Ok(vec![Row::new(
            "the file source reads and checks the services file",
            read,
            "",
        )])
    }

    pub fn all(&self) -> Result<Vec<Row>> {
        let (mut load, mut adoption) = (Sample::default(), Sample::default());
        for _ in 0..self.rounds {
            forget_pins();
            load.add(self.load()?);
            adoption.add(self.load()?);
        }
        let mut agent = self.agent()?;
        agent.settle(self.runtime)?;
        let health = self.change(&mut agent, |agent, fails| agent.health(fails))?;
        let shared = self.change(&mut agent, |agent, more| agent.source(more, true))?;
        let fresh = self.change(&mut agent, |agent, more| agent.source(more, false))?;
        let name = |what: &str| format!("{} slots: {what}", self.slots);
        Ok(vec![
            Row::new(&name("first snapshot and full load"), load, "1 s"),
            Row::new(&name("the same after a restart"), adoption, ""),
            Row::of_a_change(&name("a backend fails or recovers"), health, "p99 5 ms"),
            Row::of_a_change(
                &name("a source changes one service, sharing the others"),
                shared,
                "p99 5 ms",
            ),
            Row::new(&name("a source brings all services anew, one changed"), fresh, ""),
        ])
    }

    /// From what the source wants to the kernel, in milliseconds.
    fn load(&self) -> Result<f64> {
        let mut agent = self.agent()?;
        let began = Instant::now();
        agent.settle(self.runtime)?;
        Ok(milliseconds(began))
    }

    fn agent(&self) -> Result<Agent> {
        let text = format!(
            "node = \"{HERE}\"\n[cgroup]\nattach = false\n[paths]\npins = \"{PINS}\"\nruntime = \"{PINS}-run\"\n{}",
            self.limits
        );
        let config = Config::parse(Path::new("portico.toml"), &text)?;
        let desired = file::parse(Path::new("services.yaml"), &services_file(self.slots))
            .ok()
            .context("the services file has mistakes")?;
        let _inside = self.runtime.enter();
        let (writer, _) = Writer::start(agreed(), [file::NAME.into()], Drains::default());
        let plane = self.runtime.block_on(EbpfPlane::start(&config))?;
        let view = writer.view();
        Ok(Agent {
            writer,
            view,
            plane,
            desired,
        })
    }

    /// One event after another, each until the kernel shows it.
    fn change(&self, agent: &mut Agent, event: impl Fn(&Agent, bool) -> Event) -> Result<Sample> {
        let mut sample = Sample::default();
        for round in 0..self.changes {
            let event = event(agent, round % 2 == 0);
            let began = Instant::now();
            let shown = event.shown();
            self.runtime.block_on(event.send(&agent.writer))?;
            // A backend that has warmed long enough makes a snapshot, too.
            while !shown(&*self.runtime.block_on(agent.carry_out())?) {}
            sample.add(milliseconds(began));
            // The plane looks at the machine after each snapshot: not a part of this.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(sample)
    }
}

/// News for the writer, made before the clock runs.
enum Event {
    Health(bool),
    Source(Arc<Desired>),
}

impl Event {
    /// Whether a snapshot has it.
    fn shown(&self) -> impl Fn(&Snapshot) -> bool + use<> {
        let (fails, weight) = match self {
            Self::Health(fails) => (*fails, 1),
            Self::Source(desired) => (false, desired.services[SERVICE].backends[0].weight),
        };
        move |snapshot| {
            let mut backends = snapshot.services[SERVICE].backends.iter();
            backends.any(|backend| {
                &*backend.task == TASK
                    && backend.weight == weight
                    && (backend.standing == Standing::Unhealthy) == fails
            })
        }
    }

    async fn send(self, writer: &Writer) -> Result<()> {
        match self {
            Self::Health(fails) => {
                let failing = fails.then(|| identity().backend(SERVICE, TASK));
                writer.health(HERE.into(), failing.into_iter().collect()).await?;
            }
            Self::Source(desired) => writer.source(file::NAME.into(), desired).await?,
        }
        Ok(())
    }
}

impl Agent {
    fn settle(&mut self, runtime: &Runtime) -> Result<()> {
        let desired = Arc::new(self.desired.clone());
        runtime.block_on(Event::Source(desired).send(&self.writer))?;
        runtime.block_on(self.carry_out())?;
        Ok(())
    }

    /// As the agent does it: off the runtime's own threads.
    async fn carry_out(&mut self) -> Result<Arc<Snapshot>> {
        let Ok(changed) = tokio::time::timeout(PATIENCE, self.view.changed()).await else {
            let latest = self.view.current();
            let service = latest.services.get(SERVICE);
            bail!("no snapshot after generation {}: {service:?}", latest.generation);
        };
        let snapshot = changed?;
        let (plane, applied) = (self.plane.clone(), Arc::clone(&snapshot));
        tokio::task::spawn_blocking(move || plane.apply(&applied)).await??;
        Ok(snapshot)
    }

    fn health(&self, fails: bool) -> Event {
        Event::Health(fails)
    }

    /// Everything as it was, but for the weight of a backend.
    fn source(&self, heavier: bool, share: bool) -> Event {
        let mut desired = self.desired.clone();
        if !share {
            for service in desired.services.values_mut() {
                *service = Arc::new(DesiredService::clone(service));
            }
        }
        if let Some(service) = desired.services.get_mut(SERVICE) {
            let backend = Arc::make_mut(service).backends.first_mut();
            backend
                .into_iter()
                .for_each(|backend| backend.weight += u16::from(heavier));
        }
        Event::Source(Arc::new(desired))
    }
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}

fn forget_pins() {
    let _ = std::fs::remove_dir_all(format!("{PINS}/v{}", lb_common::table::LAYOUT));
}
