//! How far the engine is believed where it takes something back. A slip of its must not empty a node's tables: what it says
//! of its swarm is right nearly always, and wrong while it starts anew.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::role::Kind;
use crate::source::engine::Membership;

/// How long an engine must say that it is in no swarm, unless its certificate of one is gone too. It is asked every five
/// seconds, so that it has said so twice.
pub const DOUBT: Duration = Duration::from_secs(10);
/// How often the certificate is looked for meanwhile.
pub const LOOK: Duration = Duration::from_secs(1);

/// Which swarm it is, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swarm {
    /// The swarm's own id, where the certificates of this node can be read.
    pub cluster: Option<Arc<str>>,
    /// What it calls this node: another one in each swarm that a node joins.
    pub node: Option<Arc<str>>,
}

/// What is believed.
#[derive(Debug, Default)]
pub struct Belief {
    /// Whose wishes are served.
    pub swarm: Swarm,
    /// The engine's last word that named this node; it is of that swarm.
    pub member: Option<Membership>,
    /// Since when it has been saying that it is in none.
    outside: Option<Instant>,
}

/// What there is to judge by, beside the engine's word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// A swarm's services are served, which would end.
    pub at_stake: bool,
    /// The engine answers.
    pub answers: bool,
    /// There is no certificate of this node where there would be one.
    pub uncertified: bool,
}

impl Swarm {
    /// Nothing speaks against it.
    pub fn may_be(&self, other: &Self) -> bool {
        match (&self.cluster, &other.cluster) {
            (Some(one), Some(other)) => one == other,
            _ => match (&self.node, &other.node) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            },
        }
    }

    /// From what [`Display`](fmt::Display) made of it.
    pub fn read(line: &str) -> Self {
        let mut words = line.split(' ').map(|word| match word {
            "" | "-" => None,
            word => Some(word.into()),
        });
        Self {
            cluster: words.next().flatten(),
            node: words.next().flatten(),
        }
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |word: &Option<Arc<str>>| word.clone().unwrap_or_else(|| "-".into());
        write!(f, "{} {}", word(&self.cluster), word(&self.node))
    }
}

impl Belief {
    /// What of that is to be acted on; `None`: all stays as it is.
    pub fn judge(&mut self, said: Kind, now: &Kind, evidence: Evidence) -> Option<Kind> {
        if said != Kind::Outside {
            self.outside = None;
            let vague = matches!(said, Kind::Unknown | Kind::Unsettled);
            return (!vague || now.node().is_none()).then_some(said);
        }
        let gone = self.swarm.cluster.is_some() && evidence.uncertified;
        if *now == Kind::Outside || !evidence.at_stake || gone {
            self.outside = None;
            return Some(said);
        }
        let since = *self.outside.get_or_insert_with(Instant::now);
        if since.elapsed() < DOUBT {
            return None;
        }
        // It may have said so once, and nothing since.
        self.outside = (!evidence.answers).then(Instant::now);
        evidence.answers.then_some(said)
    }

    /// When to judge again, whatever happens.
    pub fn doubts_until(&self) -> Option<Instant> {
        self.outside.map(|_| Instant::now() + LOOK)
    }

    /// Takes note of what the engine says of this node as long as it does.
    pub fn heed(&mut self, member: Option<&Membership>) {
        let Some(member) = member.filter(|member| !member.node.is_empty()) else {
            return;
        };
        let before = self.member.take().filter(|before| before.node == member.node);
        let mut member = member.clone();
        if let Some(before) = before {
            member.address = member.address.or(before.address);
        }
        self.member = Some(member);
    }

    /// Turns to this swarm. Whether it may be the one before.
    pub fn turn_to(&mut self, mut swarm: Swarm) -> bool {
        let same = self.swarm.may_be(&swarm);
        if same {
            swarm.cluster = swarm.cluster.or_else(|| self.swarm.cluster.take());
        }
        self.swarm = swarm;
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm(cluster: Option<&str>, node: Option<&str>) -> Swarm {
        Swarm {
            cluster: cluster.map(Arc::from),
            node: node.map(Arc::from),
        }
    }

    #[test]
    fn swarms_are_told_apart_by_their_own_id_and_else_by_that_of_the_node() {
        let known = swarm(Some("c1"), Some("n1"));
        assert!(known.may_be(&swarm(Some("c1"), Some("n2"))));
        assert!(!known.may_be(&swarm(Some("c2"), Some("n1"))));
        assert!(known.may_be(&swarm(None, Some("n1"))));
        assert!(!known.may_be(&swarm(None, Some("n2"))));
        assert!(Swarm::default().may_be(&known));
    }

    #[test]
    fn a_swarm_is_read_as_it_is_written() {
        for one in [
            swarm(Some("c1"), Some("n1")),
            swarm(None, Some("n1")),
            Swarm::default(),
        ] {
            assert_eq!(Swarm::read(&one.to_string()), one);
        }
        assert_eq!(Swarm::read(""), Swarm::default());
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_no_longer_answers_has_not_said_it_twice() {
        let mut belief = Belief::default();
        let now = Kind::Follower("n1".into());
        let mut evidence = Evidence {
            at_stake: true,
            ..Evidence::default()
        };
        assert_eq!(belief.judge(Kind::Outside, &now, evidence), None);
        tokio::time::sleep(DOUBT).await;
        assert_eq!(belief.judge(Kind::Outside, &now, evidence), None);
        evidence.answers = true;
        assert_eq!(belief.judge(Kind::Outside, &now, evidence), None);
        tokio::time::sleep(DOUBT).await;
        assert_eq!(belief.judge(Kind::Outside, &now, evidence), Some(Kind::Outside));
    }
}
