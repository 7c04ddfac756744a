//! Several engines as one swarm.

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

impl Cluster {
    /// Makes a swarm of all engines: the first nodes manage it, all of them work. One that is silent for six seconds is
    /// missed, instead of for fifteen.
    pub fn make_swarm(&self, managers: usize) -> Result<()> {
        let nodes = self.nodes();
        ensure!(
            (1..=nodes.len()).contains(&managers),
            "no swarm has {managers} managers"
        );
        let (first, others) = (&nodes[0], &nodes[1..]);
        let address = |node: &String| self.state.nodes[node].address(0).v4.to_string();
        self.docker(
            first,
            &[
                "swarm",
                "init",
                "--advertise-addr",
                &address(first),
                "--dispatcher-heartbeat",
                "2s",
            ],
        )?;
        let token = |role: &str| self.docker(first, &["swarm", "join-token", "--quiet", role]);
        let (manager, worker) = (token("manager")?, token("worker")?);
        let join = |node: &String, token: &str| {
            let (own, to) = (address(node), format!("{}:2377", address(first)));
            let join = ["swarm", "join", "--advertise-addr", &own, "--token", token, &to];
            self.docker(node, &join).map(drop)
        };
        // Managers one after another: each changes who they are that decide.
        let (managers, workers) = others.split_at(managers - 1);
        for node in managers {
            join(node, &manager)?;
        }
        std::thread::scope(|scope| {
            let (join, worker) = (&join, &worker);
            let workers = workers.iter();
            let joining: Vec<_> = workers
                .map(|node| scope.spawn(move || join(node, worker)))
                .collect();
            joining.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        Ok(())
    }
}
