//! One thread for each processor, with a runtime of its own: nothing of a connection is ever shared between threads.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{AbortHandle, LocalSet};

use super::Table;
use super::datagrams::Chooser;
use super::fronts::Bind;
use super::news::News;
use super::relay::{Dialer, Relay};
use super::{tcp, udp};

/// Sooner than a task is given up.
const BEAT: Duration = Duration::from_secs(1);

/// All of them. Dropping them ends their connections.
#[derive(Debug)]
pub struct Workers {
    orders: Vec<UnboundedSender<Order>>,
    threads: Vec<JoinHandle<()>>,
}

/// What one of them has for its connections.
pub struct Worker {
    pub table: Arc<Table>,
    pub dialer: Dialer,
    pub hold: tcp::Hold,
    pub carrier: Rc<tcp::Carrier>,
    /// Another agent has the sockets.
    pub retired: watch::Sender<bool>,
}

/// What a worker is told.
#[derive(Debug)]
enum Order {
    /// Clients of a frontend come to a socket that is bound somewhere.
    Listen {
        at: Bind,
        bind: Bind,
        socket: TcpListener,
    },
    Receive(Bind, UdpSocket),
    /// Clients that wait in sockets bound there are reset; those that were accepted go on.
    Close(Bind),
    /// Handles of all its sockets.
    Lend(mpsc::Sender<io::Result<OwnedFd>>),
    /// Another agent has the sockets: nothing more is taken out of them, what was goes on. The sender is dropped then.
    Retire(mpsc::Sender<()>),
}

/// A socket that clients find.
struct Open {
    socket: Rc<dyn AsFd>,
    serving: AbortHandle,
}

impl Workers {
    pub fn start(count: usize, table: &Arc<Table>, relay: &Relay) -> io::Result<Self> {
        let mut workers = Self {
            orders: Vec::new(),
            threads: Vec::new(),
        };
        for number in 0..count {
            // Made here, where it can be told that it cannot be.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let inside = runtime.enter();
            let news = News::open()?;
            drop(inside);
            let (orders, received) = unbounded_channel();
            let (table, relay) = (Arc::clone(table), relay.clone());
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || LocalSet::new().block_on(&runtime, work(table, relay, news, received)))?;
            workers.orders.push(orders);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub fn count(&self) -> usize {
        self.orders.len()
    }

    /// One socket for each worker, bound somewhere for the clients of a frontend; where there are more, as another agent had more
    /// workers, they are shared out.
    pub fn listen(&self, at: Bind, bind: Bind, sockets: Vec<TcpListener>) {
        for (worker, socket) in self.orders.iter().cycle().zip(sockets) {
            // One that has ended is told of when the plane ends.
            let _ = worker.send(Order::Listen { at, bind, socket });
        }
    }

    /// As [`listen`](Self::listen), for datagrams.
    pub fn receive(&self, bind: Bind, sockets: Vec<UdpSocket>) {
        for (worker, socket) in self.orders.iter().cycle().zip(sockets) {
            let _ = worker.send(Order::Receive(bind, socket));
        }
    }

    pub fn close(&self, at: Bind) {
        for worker in &self.orders {
            let _ = worker.send(Order::Close(at));
        }
    }

    /// Handles of all sockets that clients find, or none.
    pub fn lend(&self) -> impl Future<Output = io::Result<Vec<OwnedFd>>> + Send + use<> {
        let (lend, mut lent) = mpsc::channel(1);
        for worker in &self.orders {
            let _ = worker.send(Order::Lend(lend.clone()));
        }
        async move {
            drop(lend);
            let mut all = Vec::new();
            while let Some(socket) = lent.recv().await {
                all.push(socket?);
            }
            Ok(all)
        }
    }

    /// Until nobody takes anything more out of these sockets.
    pub fn retire(&self) -> impl Future<Output = ()> + Send + use<> {
        let (retire, mut retired) = mpsc::channel(1);
        for worker in &self.orders {
            let _ = worker.send(Order::Retire(retire.clone()));
        }
        async move {
            drop(retire);
            // Nothing is sent: each says it by dropping its end.
            retired.recv().await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.orders.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A timer that comes before those of connections. For one that would be the next, the runtime interrupts its own wait: a system
/// call and a wait in vain for each client that comes while no other is being connected.
async fn beat() {
    let mut beat = tokio::time::interval(BEAT);
    loop {
        beat.tick().await;
    }
}

/// Until nobody is left to give orders.
async fn work(table: Arc<Table>, relay: Relay, news: AsyncFd<News>, mut orders: UnboundedReceiver<Order>) {
    let mut open: HashMap<Bind, Vec<Open>> = HashMap::new();
    let worker = Rc::new(Worker {
        table,
        dialer: relay.dialer(),
        hold: tcp::Hold::default(),
        carrier: tcp::Carrier::new(news),
        retired: watch::Sender::default(),
    });
    let udp = udp::Worker::new(&worker.table.udp, Rc::new(worker.dialer.clone()));
    // What other nodes want of this one's tasks.
    let (live, ways) = (Arc::clone(&worker.table.live), Arc::clone(&worker.table.ways));
    tokio::task::spawn_local(relay.lane().run(live, ways, Rc::clone(&udp)));
    tokio::task::spawn_local(beat());
    let mut carrying = tokio::task::spawn_local(Rc::clone(&worker.carrier).run());
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            outcome = &mut carrying => {
                // Others of this frontend take the next clients; those of this thread are reset, and may come again.
                tracing::error!(?outcome, "a worker of the proxy has failed");
                return;
            }
        };
        let Some(order) = order else {
            return;
        };
        match order {
            // Another agent has the place: nobody would be served here.
            Order::Listen { .. } | Order::Receive(..) if *worker.retired.borrow() => {}
            Order::Listen { at, bind, socket } => {
                // SAFETY: it owns its descriptor, and nobody replaces it.
                match unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) } {
                    Ok(socket) => {
                        // What was before it was closed does not count; who waited there is told in time all the same.
                        worker.hold.over(bind);
                        let socket = Rc::new(socket);
                        let serving = tcp::serve(Rc::clone(&socket), bind, Rc::clone(&worker));
                        let serving = tokio::task::spawn_local(serving).abort_handle();
                        open.entry(at).or_default().push(Open { socket, serving });
                    }
                    Err(error) => tracing::error!(%bind, %error, "a worker cannot wait for clients"),
                }
            }
            Order::Receive(bind, socket) => {
                let socket = Rc::new(socket);
                let table = Arc::clone(&worker.table);
                let front = move || Chooser::at(&table, bind);
                let carrying = udp::serve(Rc::clone(&socket), front, Rc::clone(&udp));
                let serving = tokio::task::spawn_local(async move {
                    if let Err(error) = carrying.await {
                        tracing::error!(%bind, %error, "a worker cannot wait for datagrams");
                    }
                });
                let serving = serving.abort_handle();
                open.entry(bind).or_default().push(Open { socket, serving });
            }
            Order::Close(at) => {
                for open in open.remove(&at).into_iter().flatten() {
                    open.serving.abort();
                }
            }
            Order::Lend(lend) => {
                for open in open.values().flatten() {
                    // Who has asked may have gone.
                    if lend.send(open.socket.as_fd().try_clone_to_owned()).await.is_err() {
                        break;
                    }
                }
            }
            Order::Retire(_told) => {
                worker.retired.send_replace(true);
                udp.retire();
                // Each holds its socket as long as it needs it.
                open.clear();
                // After their next turn all know.
                tokio::task::yield_now().await;
            }
        }
    }
}
