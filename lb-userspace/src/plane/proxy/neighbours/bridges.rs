//! A bridge whose link-layer address nobody has set takes another one when its ports change. Its tasks go on to send to the one before:
//! packet programs take that all the same, the proxy's sockets, which tasks answer by the bridge's address, do not get it. So
//! bridges with tasks behind them say at once what they are (RFC 4861, section 7.2.6, and ARP's announcement, RFC 5227).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use futures_util::stream::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};

use super::Task;
use crate::outside;
use crate::plane::Problem;
use crate::plane::netlink;

/// Below the directory of sysctls, around the device's name.
const SYSCTLS: [(&str, &str); 2] = [("ipv4/conf", "arp_notify"), ("ipv6/conf", "ndisc_notify")];

#[derive(Debug, Default)]
pub struct Bridges {
    /// Addresses of tasks that are on no device of this node yet, as far as is known.
    unknown: BTreeSet<IpAddr>,
    /// Devices that were looked at, by index.
    done: HashSet<u32>,
    failed: BTreeMap<String, String>,
}

impl Bridges {
    /// Sees to the bridges of the addresses that are new among those of all tasks.
    pub async fn follow(&mut self, tasks: &HashSet<Task>, new: &HashSet<IpAddr>) {
        if !self.unknown.is_empty() {
            let still: HashSet<IpAddr> = tasks.iter().map(|(_, address)| *address).collect();
            self.unknown.retain(|address| still.contains(address));
        }
        self.unknown.extend(new);
        self.mend().await;
    }

    pub fn are_settled(&self) -> bool {
        self.unknown.is_empty()
    }

    pub async fn mend(&mut self) {
        self.failed.clear();
        if self.are_settled() {
            return;
        }
        let Ok(handle) = netlink::connect() else {
            return;
        };
        for address in std::mem::take(&mut self.unknown) {
            if !self.see_to(&handle, address).await {
                self.unknown.insert(address);
            }
        }
    }

    /// False where it is to be tried again.
    async fn see_to(&mut self, handle: &Handle, address: IpAddr) -> bool {
        let Some(device) = device(handle, address).await else {
            return false;
        };
        if self.done.contains(&device) {
            return true;
        }
        let Some((name, is_bridge)) = describe(handle, device).await else {
            return false;
        };
        if is_bridge && let Err(error) = announce(&outside::place("/proc/sys/net"), &name) {
            self.failed.insert(name, error.to_string());
            return false;
        }
        self.done.insert(device)
    }

    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.failed.iter().map(|(name, reason)| Problem {
            error: format!("cannot have the bridge {name} say when its link-layer address changes: {reason}"),
            traffic: "when it does, what its tasks answer to the proxy is late by some seconds, once".into(),
            fix: if outside::is_contained() {
                "mount the machine's /proc/sys/net at /host/proc/sys/net in the agent's container".into()
            } else {
                format!("sysctl -w net.ipv4.conf.{name}.arp_notify=1 net.ipv6.conf.{name}.ndisc_notify=1")
            },
        })
    }
}

/// The device behind which an address is without a router between.
async fn device(handle: &Handle, address: IpAddr) -> Option<u32> {
    let mut question = RouteMessage::default();
    (
        question.header.address_family,
        question.header.destination_prefix_length,
    ) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    question
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    let answer = handle.route().get(question).execute().try_next().await.ok()??;
    let is_far = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_));
    if answer.attributes.iter().any(is_far) {
        return None;
    }
    answer.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// Its name, and whether it is a bridge.
async fn describe(handle: &Handle, device: u32) -> Option<(String, bool)> {
    let mut links = handle.link().get().match_index(device).execute();
    let link = links.try_next().await.ok()??;
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let is_bridge = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.contains(&LinkInfo::Kind(InfoKind::Bridge)),
        _ => false,
    });
    Some((name, is_bridge))
}

/// `sysctls` is the directory of those of the network.
fn announce(sysctls: &Path, bridge: &str) -> io::Result<()> {
    for (family, name) in SYSCTLS {
        let path = sysctls.join(family).join(bridge).join(name);
        match fs::read_to_string(&path) {
            Ok(value) if value.trim() == "1" => {}
            Ok(_) => fs::write(&path, "1\n")?,
            // A kernel without that family.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_told_once_and_in_the_families_that_there_are() {
        let sysctls = tempfile::tempdir().unwrap();
        let file = sysctls.path().join("ipv4/conf/br0/arp_notify");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "0\n").unwrap();
        announce(sysctls.path(), "br0").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
        let mut read_only = fs::metadata(&file).unwrap().permissions();
        read_only.set_readonly(true);
        fs::set_permissions(&file, read_only).unwrap();
        announce(sysctls.path(), "br0").unwrap();
        assert!(!sysctls.path().join("ipv6").exists());
    }
}
