//! Addresses of services become this machine's own, so that what is sent to them reaches the proxy's sockets: routes of
//! type `local` at the loopback device, for the whole networks that VIPs are taken from and for each other VIP.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use futures_util::stream::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle};

use super::serving::LINGER;
use super::{ends, local};
use crate::config::Config;
use crate::plane::{Problem, ROUTE_PROTOCOL, netlink};

/// What the kernel keeps a machine's own addresses in (RT_TABLE_LOCAL).
const TABLE: u32 = 255;

/// Those that are there.
pub struct Vips {
    /// Wanted whatever the snapshot says where the proxy is alone: where VIPs are taken from, and where the name server listens.
    always: BTreeSet<IpNet>,
    wanted: BTreeSet<IpNet>,
    /// `None`: not looked at yet. An agent before this one may have left some.
    there: Option<BTreeSet<IpNet>>,
    /// When those that are not wanted any more were.
    last: HashMap<IpNet, Instant>,
    failed: BTreeMap<IpNet, String>,
}

impl Vips {
    pub fn new(config: &Config) -> Self {
        let listen = config.dns.listen.iter().map(|address| address.ip());
        // Addresses of the machine, too: a device of the agent's own may have it now, and go.
        let own = listen.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        let pools = config.vip.pool.iter().copied();
        Self {
            always: pools.chain(own.map(IpNet::from)).collect(),
            wanted: BTreeSet::new(),
            there: None,
            last: HashMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Makes the routes for these VIPs; others of ours go with [`mend`](Self::mend). Beside packet programs what this machine's own
    /// processes send to other VIPs goes by `portico0`.
    pub async fn follow(&mut self, vips: impl Iterator<Item = IpAddr>, is_alone: bool, now: Instant) {
        let always = if is_alone {
            self.always.clone()
        } else {
            BTreeSet::new()
        };
        let single = vips.filter(|vip| !always.iter().any(|net| net.contains(vip)));
        let mut wanted: BTreeSet<IpNet> = single.map(IpNet::from).collect();
        wanted.extend(always);
        let before = std::mem::replace(&mut self.wanted, wanted);
        self.last.extend(before.into_iter().map(|net| (net, now)));
        self.last.retain(|net, _| !self.wanted.contains(net));
        self.work(None).await;
    }

    /// Whether it was ever said what is wanted.
    pub const fn are_started(&self) -> bool {
        self.there.is_some()
    }

    /// Whether all is as it should be.
    pub fn are_settled(&self) -> bool {
        self.there.as_ref() == Some(&self.wanted)
    }

    /// Whether what is sent to it reaches this machine's sockets.
    pub fn has(&self, ip: IpAddr) -> bool {
        let there = self.there.iter();
        // Other networks than single addresses are always wanted: few.
        let mut wide = self.always.iter();
        there.clone().any(|there| there.contains(&IpNet::from(ip)))
            || wide.any(|net| net.contains(&ip) && there.clone().any(|there| there.contains(net)))
    }

    /// Does what is left to be done. A route outlives its last wish by [`LINGER`]: until packet programs have the VIP, packets are
    /// left to the machine, and clients may wait to be accepted after that.
    pub async fn mend(&mut self, now: Instant) {
        self.work(Some(now)).await;
    }

    /// Believes no more that all is as it was left: others may have removed something.
    pub fn doubt(&mut self) {
        if self.are_settled() {
            // To make one that is there is no mistake, and costs less than to ask for all routes of the machine.
            self.there = Some(BTreeSet::new());
        }
    }

    async fn work(&mut self, removing: Option<Instant>) {
        if self.are_settled() {
            return;
        }
        self.failed.clear();
        let handle = match netlink::connect() {
            Ok(handle) => handle,
            Err(error) => {
                let failed = self.wanted.iter().map(|net| (*net, error.to_string()));
                self.failed = failed.collect();
                return;
            }
        };
        let mut there = match self.there.take() {
            Some(there) => there,
            None => left(&handle).await,
        };
        for net in &self.wanted {
            if there.contains(net) {
                continue;
            }
            match add(&handle, *net).await {
                Ok(()) => {
                    there.insert(*net);
                }
                Err(error) => {
                    self.failed.insert(*net, error.to_string());
                }
            }
        }
        let unwanted: Vec<IpNet> = there
            .difference(&self.wanted)
            .filter(|net| removing.is_some_and(|now| self.may_go(net, now)))
            .copied()
            .collect();
        let connected = if unwanted.is_empty() {
            BTreeSet::new()
        } else {
            ends::local()
        };
        for net in unwanted {
            // This machine's own connections there would have no way any more.
            if connected.iter().any(|ip| net.contains(ip)) {
                continue;
            }
            // One that somebody else has removed is gone all the same.
            let _ = remove(&handle, net).await;
            there.remove(&net);
            self.last.remove(&net);
        }
        self.there = Some(there);
    }

    fn may_go(&self, net: &IpNet, now: Instant) -> bool {
        let last = self.last.get(net);
        last.is_none_or(|last| now.duration_since(*last) >= LINGER)
    }

    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        self.failed.iter().map(|(net, reason)| Problem {
            error: format!("cannot take {net} for this node's own: {reason}"),
            traffic: "published ports are served; what this node and its tasks send to VIPs there is lost"
                .into(),
            fix: "give the agent CAP_NET_ADMIN, or set vip.pool = [] where only published ports are wanted"
                .into(),
        })
    }
}

/// What an agent before this one has left; nothing where the kernel does not say.
async fn left(handle: &Handle) -> BTreeSet<IpNet> {
    let mut left = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        let mut routes = handle.route().get(question).execute();
        while let Ok(Some(route)) = routes.try_next().await {
            left.extend(ours(&route));
        }
    }
    left
}

/// Where a route of ours leads, if it is one.
fn ours(route: &RouteMessage) -> Option<IpNet> {
    let header = &route.header;
    if header.protocol != ROUTE_PROTOCOL
        || header.kind != RouteType::Local
        || u32::from(header.table) != TABLE
    {
        return None;
    }
    let ip = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::from(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::from(*ip)),
        _ => None,
    })?;
    IpNet::new(ip, header.destination_prefix_length).ok()
}

/// Beside one that the kernel has for an address of this machine: in its place ours would take it along when it goes.
async fn add(handle: &Handle, net: IpNet) -> Result<(), Error> {
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(local::route(net, TABLE)?));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
    let mut answers = handle.clone().request(message)?;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            // It is there.
            NetlinkPayload::Error(refused) if refused.raw_code() == -libc::EEXIST => {}
            NetlinkPayload::Error(refused) if refused.raw_code() != 0 => {
                return Err(Error::NetlinkError(refused));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn remove(handle: &Handle, net: IpNet) -> Result<(), Error> {
    handle.route().del(local::route(net, TABLE)?).execute().await
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;
    use std::time::Duration;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    fn vip(ip: &str) -> IpAddr {
        ip.parse().unwrap()
    }

    /// In a namespace of its own, which has a loopback device as every one.
    pub fn in_namespace<T: Send>(test: impl Future<Output = T> + Send) -> Option<T> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var("CI").is_err(), "it needs root, and CI has it");
            return None;
        }
        std::thread::scope(|scope| {
            let ran = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let handle = netlink::connect().unwrap();
                    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
                    handle.link().set(up).execute().await.unwrap();
                    test.await
                })
            });
            Some(ran.join().unwrap())
        })
    }

    #[test]
    fn a_vip_that_others_serve_from_now_on_stays_the_machines_own_for_a_while() {
        in_namespace(async {
            let text = "node = 'node1'\n[vip]\npool = []\n[dns]\nlisten = []\n";
            let mut vips = Vips::new(&Config::parse(Path::new("portico.toml"), text).unwrap());
            let (one, two, start) = (vip("10.96.0.1"), vip("10.96.0.2"), Instant::now());
            vips.follow([one, two].into_iter(), false, start).await;
            assert!(vips.has(one) && vips.has(two) && vips.are_settled());
            vips.follow([two].into_iter(), false, start).await;
            assert!(vips.has(one) && !vips.are_settled());
            vips.mend(start + LINGER - Duration::from_millis(1)).await;
            assert!(vips.has(one));
            vips.mend(start + LINGER).await;
            assert!(!vips.has(one) && vips.has(two) && vips.are_settled());
            // What an agent before this one has left goes with the first look.
            let mut next = Vips::new(&Config::parse(Path::new("portico.toml"), text).unwrap());
            next.follow([one].into_iter(), false, start).await;
            assert!(next.has(one) && next.has(two));
            next.mend(start).await;
            assert!(next.has(one) && !next.has(two));
        });
    }

    #[test]
    fn an_address_of_the_machine_stays_its_own_when_it_is_wanted_no_more() {
        in_namespace(async {
            let text =
                "node = 'node1'\n[vip]\npool = []\n[dns]\nlisten = ['192.0.2.7:53', '[2001:db8::7]:53']\n";
            let own = [vip("192.0.2.7"), vip("2001:db8::7")];
            let is_own = |ip: IpAddr| std::net::UdpSocket::bind((ip, 0)).is_ok();
            let handle = netlink::connect().unwrap();
            for (ip, length) in own.into_iter().zip([24, 64]) {
                handle.address().add(1, ip, length).execute().await.unwrap();
            }
            let mut vips = Vips::new(&Config::parse(Path::new("portico.toml"), text).unwrap());
            let start = Instant::now();
            vips.follow(std::iter::empty(), true, start).await;
            assert!(own.iter().all(|ip| vips.has(*ip)) && vips.are_settled());
            vips.follow(std::iter::empty(), false, start).await;
            vips.mend(start + LINGER).await;
            assert!(vips.are_settled() && own.into_iter().all(is_own));
            // Once it is not the machine's any more, it is ours.
            vips.follow(std::iter::empty(), true, start).await;
            let mut addresses = handle.address().get().set_address_filter(own[0]).execute();
            let address = addresses.try_next().await.unwrap().unwrap();
            handle.address().del(address).execute().await.unwrap();
            assert!(is_own(own[0]));
            vips.follow(std::iter::empty(), false, start).await;
            vips.mend(start + LINGER).await;
            assert!(vips.are_settled() && !is_own(own[0]) && is_own(own[1]));
        });
    }

    #[test]
    fn a_route_that_somebody_removes_is_made_again() {
        in_namespace(async {
            let text = "node = 'node1'\n[vip]\npool = ['10.96.0.0/16']\n[dns]\nlisten = []\n";
            let mut vips = Vips::new(&Config::parse(Path::new("portico.toml"), text).unwrap());
            let (net, start) = ("10.96.0.0/16".parse().unwrap(), Instant::now());
            let is_own = || std::net::UdpSocket::bind((vip("10.96.0.1"), 0)).is_ok();
            vips.follow(std::iter::empty(), true, start).await;
            let handle = netlink::connect().unwrap();
            let count = async || left(&handle).await.len();
            remove(&handle, net).await.unwrap();
            assert!(!is_own() && count().await == 0);
            for _ in 0..2 {
                vips.doubt();
                assert!(!vips.are_settled());
                vips.mend(start).await;
                assert!(vips.are_settled() && vips.problems().next().is_none());
                assert!(is_own() && count().await == 1);
            }
        });
    }
}
