//! The kernel's rules that lead what tasks answer to this machine's own sockets, and the table they lead to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::stream::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::{Error, Handle, IpVersion};

use crate::model::{Family, Protocol};
use crate::plane::proxy::ways::Task;
use crate::plane::proxy::{ends, local};
use crate::plane::{ROUTE_PROTOCOL, netlink};

/// Where everything is this machine's own: the number of the agents' port, which nobody else is likely to have.
const TABLE: u32 = 7950;
/// Before the main table's (32766), behind that of the machine's own addresses (0).
const PRIORITY: u32 = 7950;

/// By the tasks whose answers they are about.
#[derive(Debug, Default)]
pub struct Rules {
    wanted: BTreeSet<Task>,
    /// `None`: not looked at yet. An agent before this one may have left some.
    there: Option<BTreeSet<Task>>,
    failed: Option<String>,
}

impl Rules {
    /// Makes those that are missing; others go with [`mend`](Self::mend), which asks who still needs them.
    pub async fn follow(&mut self, wanted: BTreeSet<Task>) {
        self.wanted = wanted;
        self.work(false).await;
    }

    pub fn wanted(&self) -> &BTreeSet<Task> {
        &self.wanted
    }

    pub fn has(&self, task: &Task) -> bool {
        self.there.as_ref().is_some_and(|there| there.contains(task))
    }

    /// Whether all is as it should be. Before the first wish it is.
    pub fn are_settled(&self) -> bool {
        match &self.there {
            Some(there) => *there == self.wanted,
            None => self.wanted.is_empty() && self.failed.is_none(),
        }
    }

    pub fn problem(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Does what is left to be done.
    pub async fn mend(&mut self) {
        self.work(true).await;
    }

    /// Believes no more that all is as it was left: others may have removed something.
    pub fn doubt(&mut self) {
        if self.are_settled() {
            self.there = None;
        }
    }

    async fn work(&mut self, removing: bool) {
        if self.there.as_ref() == Some(&self.wanted) {
            return;
        }
        self.failed = self
            .try_to_work(removing)
            .await
            .err()
            .map(|error| error.to_string());
    }

    async fn try_to_work(&mut self, removing: bool) -> Result<(), Error> {
        let handle = netlink::connect()?;
        let there = match &mut self.there {
            Some(there) => there,
            none => none.insert(left(&handle).await),
        };
        let missing: Vec<Task> = self.wanted.difference(there).copied().collect();
        for family in Family::ALL {
            if self
                .wanted
                .iter()
                .any(|task| Family::of(task.address.ip()) == family)
            {
                handle
                    .route()
                    .add(everything(family)?)
                    .replace()
                    .execute()
                    .await?;
            }
        }
        for task in missing {
            let mut adding = handle.rule().add();
            *adding.message_mut() = rule(task);
            match adding.execute().await {
                Ok(()) => {}
                Err(Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => {}
                Err(error) => return Err(error),
            }
            there.insert(task);
        }
        let unwanted: Vec<Task> = there
            .difference(&self.wanted)
            .filter(|_| removing)
            .copied()
            .collect();
        let connected = if unwanted.is_empty() {
            BTreeSet::new()
        } else {
            ends::remote()
        };
        for task in unwanted {
            // What it still says to clients would go past their connections.
            if connected.contains(&(task.protocol, task.address)) {
                continue;
            }
            // One that somebody else has removed is gone all the same.
            let _ = handle.rule().del(rule(task)).execute().await;
            there.remove(&task);
        }
        Ok(())
    }
}

/// What an agent before this one has left; nothing where the kernel does not say.
async fn left(handle: &Handle) -> BTreeSet<Task> {
    let mut left = BTreeSet::new();
    for version in [IpVersion::V4, IpVersion::V6] {
        let mut rules = handle.rule().get(version).execute();
        while let Ok(Some(rule)) = rules.try_next().await {
            left.extend(ours(&rule));
        }
    }
    left
}

/// The task that a rule of ours is about, if it is one.
fn ours(rule: &RuleMessage) -> Option<Task> {
    let has = |wanted: &RuleAttribute| rule.attributes.contains(wanted);
    if !has(&RuleAttribute::Protocol(ROUTE_PROTOCOL)) || !has(&RuleAttribute::Table(TABLE)) {
        return None;
    }
    let ip = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Source(ip) => Some(*ip),
        _ => None,
    })?;
    let port = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::SourcePortRange(range) => Some(range.start),
        _ => None,
    })?;
    let protocol = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::IpProtocol(IpProtocol::Tcp) => Some(Protocol::Tcp),
        RuleAttribute::IpProtocol(IpProtocol::Udp) => Some(Protocol::Udp),
        _ => None,
    })?;
    Some(Task {
        protocol,
        address: SocketAddr::new(ip, port),
    })
}

/// As `ip rule add from TASK ipproto tcp sport PORT lookup TABLE`.
fn rule(Task { protocol, address }: Task) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = match address.ip() {
        IpAddr::V4(_) => rtnetlink::packet_route::AddressFamily::Inet,
        IpAddr::V6(_) => rtnetlink::packet_route::AddressFamily::Inet6,
    };
    rule.header.src_len = if address.is_ipv4() { 32 } else { 128 };
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Source(address.ip()),
        RuleAttribute::IpProtocol(match protocol {
            Protocol::Tcp => IpProtocol::Tcp,
            Protocol::Udp => IpProtocol::Udp,
        }),
        RuleAttribute::SourcePortRange(RulePortRange {
            start: address.port(),
            end: address.port(),
        }),
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Protocol(ROUTE_PROTOCOL),
    ];
    rule
}

/// As `ip route add local default dev lo table TABLE`.
fn everything(family: Family) -> Result<RouteMessage, Error> {
    let all: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    local::route(IpNet::new_assert(all, 0), TABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::proxy::vips::tests::in_namespace;

    #[test]
    fn what_somebody_removes_is_made_again() {
        in_namespace(async {
            let task = Task {
                protocol: Protocol::Tcp,
                address: "172.18.0.2:80".parse().unwrap(),
            };
            let mut rules = Rules::default();
            rules.follow([task].into()).await;
            assert!(rules.has(&task) && rules.are_settled());
            let handle = netlink::connect().unwrap();
            let table = || everything(Family::V4).unwrap();
            for _ in 0..2 {
                handle.rule().del(rule(task)).execute().await.unwrap();
                handle.route().del(table()).execute().await.unwrap();
                rules.doubt();
                rules.mend().await;
                assert!(rules.are_settled() && rules.problem().is_none());
                assert_eq!(left(&handle).await, [task].into());
                // With nothing removed, too.
                rules.doubt();
                rules.mend().await;
                assert!(rules.has(&task) && rules.problem().is_none());
            }
        });
    }

    #[test]
    fn a_rule_of_ours_is_known_by_itself_and_no_other_is() {
        let tasks = [
            (Protocol::Tcp, "172.18.0.2:80"),
            (Protocol::Udp, "172.18.0.2:53"),
            (Protocol::Tcp, "[2001:db8:18::2]:443"),
        ];
        for (protocol, address) in tasks {
            let task = Task {
                protocol,
                address: address.parse().unwrap(),
            };
            assert_eq!(ours(&rule(task)), Some(task));
            let mut other = rule(task);
            other
                .attributes
                .retain(|attribute| *attribute != RuleAttribute::Protocol(ROUTE_PROTOCOL));
            assert_eq!(ours(&other), None);
        }
    }
}
