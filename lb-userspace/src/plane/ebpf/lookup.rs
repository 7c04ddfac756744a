//! The program that has a say in the kernel's search for a listening socket: it leads clients to the proxy's sockets where another
//! program of this node has the port. Attached to the agent's network namespace while there is such a port; pinned, adopted and
//! replaced as all programs are.
//!
//! It is asked about connections that nobody has yet, and leaves everything else to the kernel. Sockets that are closed, as the
//! agent's are when it is killed, leave its table by themselves: the other program has its port to itself then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{MapData, MapError, SockHash};
use aya::programs::{ProgramError, SkLookup};
use lb_common::V6;
use lb_common::key::{Front, TCP};
use lb_common::socket::unmap;
use socket2::SockRef;

use super::link;
use super::maps::{Table, failed, table, taken, with_causes};
use super::pins::Pins;
use super::tables::{check_table, mapped};
use crate::config::Config;
use crate::model::Protocol;
use crate::plane::proxy::{Bind, Lookup};
use crate::plane::{Difference, EbpfError};

/// Of the program, and of the link's pin.
const NAME: &str = "lookup";

/// The program and its tables.
#[derive(Debug)]
pub struct SocketLookup(Mutex<State>);

struct State {
    /// Loaded; else why the kernel will not have it.
    program: Result<OwnedFd, String>,
    taken: Table<Front<V6>, u64>,
    listener: SockHash<MapData, u64>,
    /// While it is there the program is attached.
    pin: PathBuf,
    /// Why it is not, where it should be.
    unattached: Option<String>,
    /// Ports of the agent's own, which no frontend gets from it.
    own: BTreeSet<u16>,
    /// Cookies of the sockets that clients are led to: `TAKEN`, as it should be.
    led: HashMap<Front<V6>, u64>,
}

impl SocketLookup {
    /// Takes the maps out of a loaded object and has the kernel verify the program, in the place of one that an agent before this
    /// one left attached.
    pub fn start(object: &mut Ebpf, pins: &Pins, config: &Config) -> Result<Self, EbpfError> {
        let program = load(object);
        if let Err(reason) = &program {
            tracing::info!(reason, "nobody is led past other programs that have a port");
        }
        let taken_ports = table(object, "TAKEN")?;
        let listener = SockHash::try_from(taken(object, "LISTENER")?).map_err(failed("open", "LISTENER"))?;
        let listen = config.dns.listen.iter().chain(&config.metrics.listen);
        let state = State {
            program,
            led: taken_ports.all()?.into_iter().collect(),
            taken: taken_ports,
            listener,
            pin: pins.links().join(NAME),
            unattached: None,
            own: listen.map(SocketAddr::port).chain([config.peer.port]).collect(),
        };
        if state.is_attached() && !state.renew() {
            // Of a namespace that is gone.
            let _ = fs::remove_file(&state.pin);
        }
        Ok(Self(Mutex::new(state)))
    }

    /// Why nobody can be led; none: whoever has to be is.
    pub fn refusal(&self) -> Option<String> {
        let state = self.state();
        state
            .program
            .as_ref()
            .err()
            .or(state.unattached.as_ref())
            .cloned()
    }

    /// What of it is not there as it should be, put right.
    pub fn check(&self) -> Result<Vec<Difference>, EbpfError> {
        let state = &mut *self.state();
        let mut differences = Vec::new();
        check_table("TAKEN", &mut state.taken, &state.led, &mut differences)?;
        if !state.led.is_empty() && !state.is_attached() {
            differences.push(Difference {
                entry: "program at this node's listening sockets".into(),
                wanted: NAME.into(),
                found: "detached".into(),
                repaired: state.attach().is_ok(),
            });
        }
        Ok(differences)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookup for SocketLookup {
    fn found(&self) -> BTreeMap<u64, Bind> {
        let state = self.state();
        let found = state.led.iter();
        found.map(|(front, cookie)| (*cookie, bind_of(front))).collect()
    }

    fn lead(&self, bind: Bind, socket: BorrowedFd<'_>) -> Result<(), String> {
        let mut state = self.state();
        if state.own.contains(&bind.address.port()) {
            return Err("this agent itself listens there".into());
        }
        state.attach()?;
        let words = |error: io::Error| error.to_string();
        let cookie = SockRef::from(&socket).cookie().map_err(words)?;
        let words = |error: MapError| with_causes(&error);
        // What is pointed to comes before what points.
        let inserted = state.listener.insert(cookie, socket.as_raw_fd(), 0);
        inserted.map_err(words)?;
        let front = front_of(&bind);
        match state.taken.put(front, cookie) {
            Ok(true) => {
                let before = state.led.insert(front, cookie);
                if let Some(before) = before.filter(|before| *before != cookie) {
                    // One that is closed has left already.
                    let _ = state.listener.remove(&before);
                }
                Ok(())
            }
            Ok(false) => Err("no room for more such ports".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn keep(&self, binds: &BTreeSet<Bind>) {
        let state = &mut *self.state();
        let gone: Vec<Front<V6>> = state.led.keys().copied().collect();
        for front in gone {
            if binds.contains(&bind_of(&front)) {
                continue;
            }
            if let Err(error) = state.taken.remove(&front) {
                tracing::warn!(%error, "clients are led to a socket that is not wanted any more");
                continue;
            }
            if let Some(cookie) = state.led.remove(&front) {
                let _ = state.listener.remove(&cookie);
            }
        }
        // The pin holds it, and may go with its file system. Without it every new connection is spared the question.
        let attached = if state.led.is_empty() {
            let _ = fs::remove_file(&state.pin);
            Ok(())
        } else {
            state.attach()
        };
        state.unattached = attached.err();
    }
}

impl State {
    fn is_attached(&self) -> bool {
        self.pin.exists()
    }

    fn attach(&self) -> Result<(), String> {
        if self.is_attached() {
            return Ok(());
        }
        let words = |error: io::Error| format!("the program cannot be attached: {error}");
        let program = self.program.as_ref().map_err(Clone::clone)?;
        // Of this thread: whoever started the agent may have put it into another one than its process began in.
        let namespace = File::open("/proc/thread-self/ns/net").map_err(words)?;
        let link = link::attach_lookup(program.as_fd(), namespace.as_fd()).map_err(words)?;
        link::pin(&link, &self.pin).map_err(words)?;
        tracing::info!("connections are led past other programs that have a port");
        Ok(())
    }

    /// Puts the program in the place of the one that is attached.
    fn renew(&self) -> bool {
        let (Ok(program), Ok(link)) = (&self.program, link::open(&self.pin)) else {
            return false;
        };
        link::update(&link, program.as_fd()).is_ok()
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("led", &self.led)
            .finish_non_exhaustive()
    }
}

fn load(object: &mut Ebpf) -> Result<OwnedFd, String> {
    let words = |error: ProgramError| {
        let words = with_causes(&error);
        tracing::debug!(%words, "refused");
        let first = words.lines().next().unwrap_or_default();
        format!("the kernel refuses the program {NAME}: {first}")
    };
    let program = object.program_mut(NAME).ok_or("it is not built in")?;
    let program: &mut SkLookup = program.try_into().map_err(words)?;
    program.load().map_err(words)?;
    let program = program.fd().map_err(words)?.as_fd().try_clone_to_owned();
    program.map_err(|error| error.to_string())
}

fn front_of(bind: &Bind) -> Front<V6> {
    Front::new(mapped(bind.address.ip()), bind.address.port().to_be_bytes(), TCP)
}

fn bind_of(front: &Front<V6>) -> Bind {
    let ip = match unmap(front.address) {
        Some(four) => IpAddr::from(four),
        None => front.address.into(),
    };
    Bind {
        address: SocketAddr::new(ip, u16::from_be_bytes(front.port)),
        protocol: Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontend_is_found_again_by_its_key() {
        for address in ["0.0.0.0:80", "[::]:80", "192.0.2.7:8080", "[2001:db8::7]:443"] {
            let bind = Bind {
                address: address.parse().unwrap(),
                protocol: Protocol::Tcp,
            };
            assert_eq!(bind_of(&front_of(&bind)), bind);
        }
    }
}
