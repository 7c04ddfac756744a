//! Sockets that outlive every agent: systemd keeps a handle of each (its file descriptor store), so that clients wait while
//! there is no agent at all, and the next one gets them with its start (sd_listen_fds(3), sd_pid_notify_with_fds(3)).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use tokio::time::sleep;

use crate::door::Door;
use crate::plane::ProxyPlane;
use crate::plane::proxy::{Bind, Sockets};
use crate::rights::{self, TOGETHER};

/// Before it is tried again what systemd is to keep.
const AGAIN: Duration = Duration::from_secs(1);

/// What systemd has given this process. To be called once, before there are threads.
pub fn given() -> Sockets {
    let mut sockets = Sockets::default();
    match sd_notify::listen_fds() {
        Ok(given) => {
            for socket in given {
                // SAFETY: it was opened for this process by whoever started it, and nobody else here knows it.
                let socket = unsafe { OwnedFd::from_raw_fd(socket) };
                if let Err(error) = sockets.add(socket) {
                    tracing::warn!(%error, "systemd has kept something that is not needed");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "systemd has kept sockets that cannot be had"),
    }
    sockets
}

/// Which sockets there are, by where clients find them: at one place others may follow.
type Kept = BTreeMap<Bind, BTreeSet<u64>>;

/// Handles of those that clients find.
type Open = BTreeMap<Bind, Vec<OwnedFd>>;

/// What systemd has: what it has given, and where sockets were taken over from another agent, these or others.
pub fn kept(given: &Sockets, taken: &Sockets) -> Kept {
    let mut kept: Kept = taken.binds().map(|bind| (bind, BTreeSet::new())).collect();
    kept.extend(given.identities());
    kept
}

/// Has systemd keep what clients find, whenever that changes; `kept` is what it has. Nothing where systemd has not started
/// this agent.
pub async fn keep(mut kept: Kept, proxy: ProxyPlane, door: Door) {
    let Some(manager) = Manager::of_this_process() else {
        return;
    };
    let (mut sockets, mut port) = (proxy.sockets(), door.openness());
    // Some may be open by now.
    sockets.mark_changed();
    loop {
        let changed = tokio::select! {
            changed = sockets.changed() => changed,
            changed = port.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        manager
            .inform(&mut kept, || lend(proxy.clone(), door.clone()))
            .await;
    }
}

async fn lend(proxy: ProxyPlane, door: Door) -> io::Result<Open> {
    let lent = proxy.lend().await?;
    Ok(by_place(lent.into_iter().chain(door.lend())))
}

fn by_place(sockets: impl Iterator<Item = OwnedFd>) -> Open {
    let mut places = Open::new();
    for socket in sockets {
        if let Ok(bind) = Sockets::bind(&socket) {
            places.entry(bind).or_default().push(socket);
        }
    }
    places
}

/// systemd's ear.
struct Manager(std::os::unix::net::UnixDatagram);

impl Manager {
    fn of_this_process() -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let socket = std::os::unix::net::UnixDatagram::unbound().ok()?;
        // As sd-notify does it: a name of the abstract namespace is none that systemd gives a service.
        socket.connect(path).ok()?;
        // There is another time, and a thread of the runtime is not to wait for systemd.
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }

    /// Until it has heard of all that is lent.
    async fn inform<L>(&self, kept: &mut Kept, lend: impl Fn() -> L)
    where
        L: Future<Output = io::Result<Open>>,
    {
        let mut is_said = false;
        loop {
            let told = match lend().await {
                Ok(open) => self.follow(kept, &open),
                Err(error) => Err(error),
            };
            let Err(error) = told else { return };
            if !is_said {
                tracing::warn!(%error, "systemd is not told of all sockets: without an agent clients of the others are refused; it is tried again each second");
            }
            is_said = true;
            // There may be descriptors then, or room for messages.
            sleep(AGAIN).await;
        }
    }

    /// What has been told when it fails is not told again.
    fn follow(&self, kept: &mut Kept, open: &Open) -> io::Result<()> {
        let gone: Vec<Bind> = kept
            .keys()
            .filter(|bind| !open.contains_key(bind))
            .copied()
            .collect();
        for bind in gone {
            self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}\n", name(&bind)), &[])?;
            kept.remove(&bind);
        }
        for (bind, sockets) in open {
            let identities = sockets.iter().map(Sockets::identity).collect::<io::Result<_>>()?;
            if kept.get(bind) == Some(&identities) {
                continue;
            }
            // One that was closed here would go on listening, and nobody would serve its clients.
            if kept.contains_key(bind) {
                self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}\n", name(bind)), &[])?;
                kept.remove(bind);
            }
            for together in sockets.chunks(TOGETHER) {
                let together: Vec<RawFd> = together.iter().map(AsRawFd::as_raw_fd).collect();
                // An error of a socket, as one of UDP may have, is no reason to forget it.
                let words = format!("FDSTORE=1\nFDNAME={}\nFDPOLL=0\n", name(bind));
                self.tell(&words, &together)?;
            }
            kept.insert(*bind, identities);
        }
        Ok(())
    }

    fn tell(&self, words: &str, sockets: &[RawFd]) -> io::Result<()> {
        rights::send(&self.0, words.as_bytes(), sockets)
    }
}

/// Of the sockets at one place. systemd allows no colon in it.
fn name(bind: &Bind) -> String {
    bind.to_string().replace(':', ";")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::model::Protocol;

    fn heard(systemd: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 500];
        systemd.set_nonblocking(true).unwrap();
        let length = systemd.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    #[test]
    fn what_opens_is_kept_once_and_what_closes_is_forgotten() {
        let (systemd, own) = UnixDatagram::pair().unwrap();
        let manager = Manager(own);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let bind = Bind {
            address: listener.local_addr().unwrap(),
            protocol: Protocol::Tcp,
        };
        let name = format!("127.0.0.1;{}/tcp", bind.address.port());
        let gone = Bind {
            address: "[2001:db8::1]:80".parse().unwrap(),
            protocol: Protocol::Udp,
        };
        let mut kept: Kept = [(gone, BTreeSet::new())].into();
        let mut open = Open::new();
        open.insert(bind, vec![listener.try_clone().unwrap().into()]);

        manager.follow(&mut kept, &open).unwrap();
        let forgotten = heard(&systemd).unwrap();
        assert_eq!(forgotten, "FDSTOREREMOVE=1\nFDNAME=[2001;db8;;1];80/udp\n");
        let store = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
        assert_eq!(heard(&systemd), Some(store.clone()));
        manager.follow(&mut kept, &open).unwrap();
        assert_eq!(heard(&systemd), None);

        // A handle of the same one is the same one; another one takes its place.
        open.insert(bind, vec![listener.into()]);
        manager.follow(&mut kept, &open).unwrap();
        assert_eq!(heard(&systemd), None);
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        open.insert(bind, vec![other.into()]);
        manager.follow(&mut kept, &open).unwrap();
        assert_eq!(heard(&systemd), Some(format!("FDSTOREREMOVE=1\nFDNAME={name}\n")));
        assert_eq!(heard(&systemd), Some(store));
        manager.follow(&mut kept, &BTreeMap::new()).unwrap();
        assert_eq!(heard(&systemd), Some(format!("FDSTOREREMOVE=1\nFDNAME={name}\n")));
        assert!(kept.is_empty());
    }

    /// It may have been ended before it had told systemd of them all.
    #[test]
    fn what_another_agent_has_told_of_is_told_anew() {
        let (systemd, own) = UnixDatagram::pair().unwrap();
        let [given, taken] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let sockets = |listener: &TcpListener| {
            let mut sockets = Sockets::default();
            sockets.add(listener.try_clone().unwrap().into()).unwrap();
            sockets
        };
        let mut kept = kept(&sockets(&given), &sockets(&taken));
        let name = format!("127.0.0.1;{}/tcp", taken.local_addr().unwrap().port());
        let open = by_place([given.into(), taken.into()].into_iter());
        Manager(own).follow(&mut kept, &open).unwrap();
        assert_eq!(heard(&systemd), Some(format!("FDSTOREREMOVE=1\nFDNAME={name}\n")));
        let stored = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
        assert_eq!(heard(&systemd), Some(stored));
        assert_eq!(heard(&systemd), None);
    }
    #[tokio::test(start_paused = true)]
    async fn what_systemd_does_not_take_is_told_later() {
        let (systemd, own) = UnixDatagram::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        while own.send(b"READY=1").is_ok() {}
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = format!("127.0.0.1;{}/tcp", listener.local_addr().unwrap().port());
        let mut sockets = Sockets::default();
        sockets.add(listener.try_clone().unwrap().into()).unwrap();
        // Another agent's, which is told anew: that takes two messages.
        let mut kept = kept(&Sockets::default(), &sockets);
        let (turns, mut last) = (Cell::new(0), None);
        let lend = || {
            turns.set(turns.get() + 1);
            match turns.get() {
                1 => return ready(Err(io::ErrorKind::OutOfMemory.into())),
                2 => {}
                3 => drop(heard(&systemd)),
                _ => while heard(&systemd).is_some() {},
            }
            let open = [listener.try_clone().unwrap().into()];
            ready(Ok(by_place(open.into_iter())))
        };
        Manager(own).inform(&mut kept, lend).await;
        assert_eq!(turns.get(), 4);
        while let Some(words) = heard(&systemd) {
            last = Some(words);
        }
        assert_eq!(last, Some(format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n")));
        assert_eq!(kept, sockets.identities());
    }
}
