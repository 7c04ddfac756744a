//! Clients, run inside the client's namespace (or any other): they count what a person would complain about.

pub mod asker;
pub mod geneve;
pub mod http;
pub mod idle;
pub mod load;
pub mod raw;
pub mod report;
pub mod resolver;
pub mod udp;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// A socket of the address's family, bound to `source` where one is given.
fn socket(kind: Type, target: SocketAddr, source: Option<IpAddr>) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), kind, None)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// Moments at a steady rate; one that came late does not move those after it.
#[derive(Debug)]
struct Pace {
    next: Instant,
    every: Duration,
}

impl Pace {
    fn new(rate: f64, offset: Duration) -> Self {
        Self {
            next: Instant::now() + offset,
            every: Duration::from_secs_f64(1.0 / rate),
        }
    }

    fn wait(&mut self) {
        let now = Instant::now();
        if self.next > now {
            std::thread::sleep(self.next - now);
        } else if now - self.next > Duration::from_secs(1) {
            // After a long stall do not make up for it with a burst.
            self.next = now;
        }
        self.next += self.every;
    }
}
