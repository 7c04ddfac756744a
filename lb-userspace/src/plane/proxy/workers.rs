//! One thread for each processor, with a runtime of its own: nothing of a connection is ever shared between threads.

use std::collections::HashMap;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet};

use super::Table;
use super::datagrams::Served;
use super::fronts::Bind;
use super::relay::{Dialer, Relay};
use super::{tcp, udp};

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
}

/// What a worker is told.
#[derive(Debug)]
enum Order {
    Listen(Bind, TcpListener),
    Receive(Bind, UdpSocket),
    /// Clients that wait there are reset; those that were accepted go on.
    Close(Bind),
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
            let (orders, received) = unbounded_channel();
            let (table, relay) = (Arc::clone(table), relay.clone());
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || LocalSet::new().block_on(&runtime, work(table, relay, received)))?;
            workers.orders.push(orders);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub fn count(&self) -> usize {
        self.orders.len()
    }

    /// One socket for each worker.
    pub fn listen(&self, bind: Bind, sockets: Vec<TcpListener>) {
        for (worker, socket) in self.orders.iter().zip(sockets) {
            // One that has ended is told of when the plane ends.
            let _ = worker.send(Order::Listen(bind, socket));
        }
    }

    /// As [`listen`](Self::listen), for datagrams.
    pub fn receive(&self, bind: Bind, sockets: Vec<UdpSocket>) {
        for (worker, socket) in self.orders.iter().zip(sockets) {
            let _ = worker.send(Order::Receive(bind, socket));
        }
    }

    pub fn close(&self, bind: Bind) {
        for worker in &self.orders {
            let _ = worker.send(Order::Close(bind));
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

/// Until nobody is left to give orders.
async fn work(table: Arc<Table>, relay: Relay, mut orders: UnboundedReceiver<Order>) {
    let mut listening: HashMap<Bind, AbortHandle> = HashMap::new();
    let worker = Rc::new(Worker {
        table,
        dialer: relay.dialer(),
        hold: tcp::Hold::default(),
    });
    // What other nodes want of this one's tasks.
    tokio::spawn(relay.lane().run(Arc::clone(&worker.table.live)));
    let udp = udp::Worker::new(&worker.table.udp);
    while let Some(order) = orders.recv().await {
        match order {
            Order::Listen(bind, socket) => match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => {
                    let serving = tokio::task::spawn_local(tcp::serve(socket, bind, Rc::clone(&worker)));
                    listening.insert(bind, serving.abort_handle());
                }
                Err(error) => tracing::error!(%bind, %error, "a worker cannot wait for clients"),
            },
            Order::Receive(bind, socket) => {
                let table = Arc::clone(&worker.table);
                let counters = Arc::clone(&table.datagrams);
                let front = move || Served::at(&table, bind);
                let carrying = udp::serve(socket, front, Rc::clone(&udp), counters);
                let serving = tokio::task::spawn_local(async move {
                    if let Err(error) = carrying.await {
                        tracing::error!(%bind, %error, "a worker cannot wait for datagrams");
                    }
                });
                listening.insert(bind, serving.abort_handle());
            }
            Order::Close(bind) => {
                if let Some(serving) = listening.remove(&bind) {
                    serving.abort();
                }
                worker.hold.over(bind);
            }
        }
    }
}
