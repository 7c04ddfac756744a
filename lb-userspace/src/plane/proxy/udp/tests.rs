//! Datagrams through real sockets of the loopback device.

mod batches;
mod between;
mod bounds;
mod echo;
mod far;
mod frames;
mod moves;
mod unreached;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use self::far::{Far, both, is_far};
use super::*;

/// What comes at all comes at once; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What has not come by then does not come.
const SILENCE: Duration = Duration::from_millis(200);

/// Runs a test as a worker runs.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Members in the order in which they are chosen.
#[derive(Clone, Default)]
struct Members(Rc<Inner>);

#[derive(Default)]
struct Inner {
    members: RefCell<Vec<(u64, SocketAddr, Prospect)>>,
    generation: Cell<u64>,
    /// Flows by the guards that they hold.
    live: Rc<Cell<usize>>,
}

struct Guard(Rc<Cell<usize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Members {
    fn of(tasks: impl IntoIterator<Item = SocketAddr>) -> Self {
        let members = Self::default();
        for (tag, task) in (1..).zip(tasks) {
            members.0.members.borrow_mut().push((tag, task, Prospect::Active));
        }
        members
    }

    fn set(&self, tag: u64, standing: Prospect) {
        for member in &mut *self.0.members.borrow_mut() {
            if member.0 == tag {
                member.2 = standing;
            }
        }
        self.0.generation.set(self.0.generation.get() + 1);
    }

    fn live(&self) -> usize {
        self.0.live.get()
    }
}

impl Choose for Members {
    fn choose(&self, _: SocketAddr, tried: &[u64]) -> Option<Target> {
        let members = self.0.members.borrow();
        let of = |standing| {
            let mut left = members.iter().filter(|(tag, ..)| !tried.contains(tag));
            left.find(|member| member.2 == standing)
        };
        let (tag, address, _) = of(Prospect::Active).or_else(|| of(Prospect::Unfit))?;
        self.0.live.set(self.live() + 1);
        Some(Target {
            tag: *tag,
            way: if is_far() {
                Way::There(far::node())
            } else {
                Way::Here(*address)
            },
            held: Some(Box::new(Guard(Rc::clone(&self.0.live)))),
        })
    }

    fn prospect(&self, tag: u64) -> Prospect {
        let members = self.0.members.borrow();
        let found = members.iter().find(|member| member.0 == tag);
        found.map_or(Prospect::Gone, |member| member.2)
    }

    fn generation(&self) -> u64 {
        self.0.generation.get()
    }
}

/// A frontend that is served.
struct Bed {
    front: SocketAddr,
    members: Members,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    /// The node that has the members where they are not this one's.
    far: Rc<Far>,
}

impl Bed {
    fn new(front: &str, members: Members) -> Self {
        Self::with(front, members, Bounds::default())
    }

    fn with(front: &str, members: Members, bounds: Bounds) -> Self {
        Self::beside(front, members, bounds, Far::new(Bounds::default()))
    }

    fn beside(front: &str, members: Members, bounds: Bounds, far: Rc<Far>) -> Self {
        for (tag, address, _) in &*members.0.members.borrow() {
            if !far.tasks.borrow().contains_key(tag) {
                far.has(*tag, *address);
            }
        }
        let shared = Shared::new(bounds, Arc::default());
        let socket = listen(front.parse().unwrap()).unwrap();
        let bed = Self {
            front: socket.local_addr().unwrap(),
            members,
            counters: Arc::clone(&shared.counters),
            shared,
            far,
        };
        bed.serve(socket);
        bed
    }

    fn serve(&self, socket: std::net::UdpSocket) {
        let worker = Worker::new(&self.shared, Rc::clone(&self.far) as Rc<dyn Call>);
        let members = self.members.clone();
        let front = move || Some(members.clone());
        let serving = serve(Rc::new(socket), front, worker);
        spawn_local(async move { serving.await.unwrap() });
    }

    async fn client(&self) -> UdpSocket {
        let address = if self.front.is_ipv4() { "127.0.0.1" } else { "::1" };
        self.client_at(address, address).await
    }

    /// A client with an address of its own that asks for the frontend at that address.
    async fn client_at(&self, own: &str, front: &str) -> UdpSocket {
        let front: IpAddr = front.parse().unwrap();
        let own: IpAddr = own.parse().unwrap();
        let client = UdpSocket::bind((own, 0)).await.unwrap();
        client.connect((front, self.front.port())).await.unwrap();
        client
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            timeout(PATIENCE, waiting).await.is_ok(),
            "{what}: {:?}",
            self.counters
        );
    }
}

/// A task that answers each datagram with its name and what was in it.
struct Task {
    address: SocketAddr,
    answering: AbortHandle,
}

impl Task {
    async fn start(name: &'static str, address: &str) -> Self {
        let socket = UdpSocket::bind((address, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let answering = spawn_local(async move {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let content = &buffer[..length];
                if content.starts_with(b"do not answer") {
                    continue;
                }
                let answer = [name.as_bytes(), b":", content].concat();
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        Self {
            address,
            answering: answering.abort_handle(),
        }
    }

    async fn v4(name: &'static str) -> Self {
        Self::start(name, "127.0.0.1").await
    }

    /// Closes its socket: what is sent to it is refused from now on.
    async fn stop(&self) {
        self.answering.abort();
        // It is dropped when its turn comes.
        while tokio::net::UdpSocket::bind(self.address).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

/// An address where nobody is.
async fn nobody() -> SocketAddr {
    // Of which no other test takes a port.
    let task = Task::start("nobody", "127.0.0.77").await;
    task.stop().await;
    task.address
}

async fn receive(client: &UdpSocket) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 16];
    let length = timeout(PATIENCE, client.recv(&mut buffer))
        .await
        .expect("an answer")?;
    buffer.truncate(length);
    Ok(buffer)
}

async fn ask(client: &UdpSocket, question: &str) -> String {
    client.send(question.as_bytes()).await.unwrap();
    String::from_utf8(receive(client).await.unwrap()).unwrap()
}

async fn is_silent(client: &UdpSocket) -> bool {
    timeout(SILENCE, client.recv(&mut [0; 100])).await.is_err()
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
