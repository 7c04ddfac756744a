//! Why a manager's lists cannot be had.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("the swarm has no leader: too few of its managers reach each other")]
    NoLeader,
    #[error("this node is no manager of the swarm any more")]
    NotManager,
    #[error("the swarm of this node is locked")]
    Locked,
    #[error("the engine does not answer: {0}")]
    Unreachable(String),
    #[error("the engine does not answer: waited {waited:?}")]
    Silent { waited: Duration },
    #[error("the engine refused {path}: {status}: {message}")]
    Refused {
        path: String,
        status: u16,
        message: String,
    },
    #[error("the engine's answer cannot be understood: {0}")]
    Garbled(String),
}

impl Trouble {
    /// From what an engine says instead of an answer. It has one status for many reasons.
    pub fn of(path: &str, status: u16, message: &str) -> Self {
        let message: String = message.chars().take(300).collect();
        let says = |words: &str| message.to_ascii_lowercase().contains(words);
        if says("does not have a leader") || says("no leader") || says("raft: ") {
            Self::NoLeader
        } else if says("is locked") || says("encrypted and needs to be unlocked") {
            Self::Locked
        } else if says("not a swarm manager") || says("not part of a swarm") {
            Self::NotManager
        } else if says("context deadline exceeded") || says("deadlineexceeded") {
            // How a manager answers that cannot reach the leader it knows of.
            Self::NoLeader
        } else {
            Self::Refused {
                path: path.to_owned(),
                status,
                message,
            }
        }
    }

    pub fn broken(error: hyper::Error) -> Self {
        Self::Unreachable(error.to_string())
    }

    /// Laid out for people, several lines. `served`: something is.
    pub fn told(&self, served: bool) -> String {
        let traffic = if served {
            "flows on as the swarm was seen last; what changes meanwhile is not followed"
        } else {
            "what the kernel still holds keeps serving; nothing was seen of this swarm yet"
        };
        let fix = self.fix();
        format!("cannot list the swarm's services: {self}\n  traffic: {traffic}\n  fix: {fix}")
    }

    const fn fix(&self) -> &'static str {
        match self {
            Self::NoLeader => {
                "bring managers back until more than half are there (docker node ls); if they are lost for good, \
                 docker swarm init --force-new-cluster on one that is left"
            }
            Self::NotManager => "nothing is to be done: the agents of the managers tell this one",
            Self::Locked => "docker swarm unlock",
            Self::Unreachable(_) | Self::Silent { .. } => {
                "see whether dockerd runs (systemctl status docker)"
            }
            Self::Refused { .. } | Self::Garbled(_) => {
                "see what dockerd logs (journalctl -u docker); report it as a bug"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        500,
        "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are \
         online. Make sure more than half of the managers are online.",
        Trouble::NoLeader
    )]
    #[case(
        500,
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        Trouble::NoLeader
    )]
    #[case(
        503,
        "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this \
         command on a manager node or promote the current node to a manager.",
        Trouble::NotManager
    )]
    #[case(
        503,
        "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to \
         unlock it.",
        Trouble::Locked
    )]
    fn what_an_engine_says_is_understood(#[case] status: u16, #[case] said: &str, #[case] expected: Trouble) {
        assert_eq!(Trouble::of("/services", status, said), expected);
    }

    #[test]
    fn what_is_not_understood_is_repeated() {
        let trouble = Trouble::of("/services", 418, "I am a teapot");
        assert_eq!(
            trouble.to_string(),
            "the engine refused /services: 418: I am a teapot"
        );
    }

    #[test]
    fn it_is_told_whether_traffic_flows_and_what_to_do() {
        let told = Trouble::NoLeader.told(true);
        assert!(told.contains("traffic: flows on"), "{told}");
        assert!(told.contains("fix: bring managers back"), "{told}");
    }
}
