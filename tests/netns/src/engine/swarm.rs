//! Several engines as one swarm.

use anyhow::{Result, ensure};

use crate::cluster::Cluster;

impl Cluster {
    /// Makes a swarm of all engines: the first nodes manage it, all of them work.
    pub fn make_swarm(&self, managers: usize) -> Result<()> {
        let nodes = self.nodes();
        ensure!(
            (1..=nodes.len()).contains(&managers),
            "no swarm has {managers} managers"
        );
        let (first, others) = (&nodes[0], &nodes[1..]);
        let address = |node: &String| self.state.nodes[node].address(0).v4.to_string();
        self.docker(first, &["swarm", "init", "--advertise-addr", &address(first)])?;
        let token = |role: &str| self.docker(first, &["swarm", "join-token", "--quiet", role]);
        let (manager, worker) = (token("manager")?, token("worker")?);
        for (number, node) in others.iter().enumerate() {
            let token = if number + 1 < managers { &manager } else { &worker };
            let own = address(node);
            let to = format!("{}:2377", address(first));
            self.docker(
                node,
                &["swarm", "join", "--advertise-addr", &own, "--token", token, &to],
            )?;
        }
        Ok(())
    }
}
