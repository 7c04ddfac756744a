//! Another node, where all tasks are: its side of trunks runs beside the frontend's.

use std::any::Any;
use std::collections::HashMap;
use std::io::ErrorKind;

use super::*;
use crate::model::Node;
use crate::plane::proxy::found::Found;
use crate::plane::proxy::udp::trunk::{Call, Calling, Ended, Link, Members as Tasks, serve};

thread_local! {
    static FAR: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test as a worker runs, with tasks of this node and again with those of another.
pub fn both(test: impl AsyncFn()) {
    for far in [false, true] {
        FAR.set(far);
        run(test());
        FAR.set(false);
    }
}

/// The same with tasks of another node alone.
pub fn far<T>(test: impl Future<Output = T>) -> T {
    FAR.set(true);
    let done = run(test);
    FAR.set(false);
    done
}

pub fn is_far() -> bool {
    FAR.get()
}

pub fn node() -> Node {
    Node {
        name: "node2".into(),
        tag: 2,
        address: [127, 0, 0, 2].into(),
        draining: false,
        suspected: false,
        by_proxy: false,
    }
}

/// The node, and the way to it.
pub struct Far {
    pub shared: Arc<Shared>,
    pub tasks: Rc<RefCell<HashMap<u64, Found>>>,
    pub flows: Rc<Cell<usize>>,
    pub is_reachable: Cell<bool>,
    /// The node whose flows these are is one of the cluster.
    pub is_known: Rc<Cell<bool>>,
    pub calls: Cell<usize>,
    /// Connections are made, and nobody takes anything out of them.
    pub is_deaf: Cell<bool>,
    serving: RefCell<Vec<AbortHandle>>,
    workers: RefCell<Vec<Rc<Worker>>>,
    deaf: RefCell<Vec<tokio::io::DuplexStream>>,
}

impl Far {
    pub fn new(bounds: Bounds) -> Rc<Self> {
        Rc::new(Self {
            shared: Shared::new(bounds, Arc::default()),
            tasks: Rc::default(),
            flows: Rc::default(),
            is_reachable: Cell::new(true),
            is_known: Rc::new(Cell::new(true)),
            calls: Cell::default(),
            is_deaf: Cell::default(),
            serving: RefCell::default(),
            workers: RefCell::default(),
            deaf: RefCell::default(),
        })
    }

    pub fn has(&self, tag: u64, address: SocketAddr) {
        let found = Found {
            address,
            avoided: false,
        };
        self.tasks.borrow_mut().insert(tag, found);
    }

    /// The node's side of a connection.
    pub fn take(&self, link: impl Link + 'static) -> tokio::task::JoinHandle<Result<(), Ended>> {
        let worker = Worker::new(&self.shared, Rc::new(Nowhere));
        self.workers.borrow_mut().push(Rc::clone(&worker));
        let here = Here {
            tasks: Rc::clone(&self.tasks),
            flows: Rc::clone(&self.flows),
            is_known: Rc::clone(&self.is_known),
        };
        spawn_local(serve(link, here, worker))
    }

    /// Another agent takes what comes from now on.
    pub fn retire(&self) {
        self.workers.borrow().iter().for_each(|worker| worker.retire());
    }

    /// All connections break.
    pub fn cut(&self) {
        for serving in self.serving.borrow_mut().drain(..) {
            serving.abort();
        }
        self.deaf.take();
    }
}

impl Call for Far {
    fn call(&self, to: &Node) -> Calling {
        assert_eq!(*to, node());
        self.calls.set(self.calls.get() + 1);
        let (here, there) = tokio::io::duplex(256 << 10);
        if self.is_deaf.get() {
            self.deaf.borrow_mut().push(there);
        } else {
            let serving = self.take(there);
            self.serving.borrow_mut().push(serving.abort_handle());
        }
        let made = match self.is_reachable.get() {
            true => Ok(Box::new(here) as Box<dyn Link>),
            false => Err(ErrorKind::ConnectionRefused.into()),
        };
        Box::pin(std::future::ready(made))
    }
}

struct Nowhere;

impl Call for Nowhere {
    fn call(&self, _: &Node) -> Calling {
        panic!("its tasks are its own");
    }
}

struct Here {
    tasks: Rc<RefCell<HashMap<u64, Found>>>,
    flows: Rc<Cell<usize>>,
    is_known: Rc<Cell<bool>>,
}

impl Tasks for Here {
    fn are_for_a_node(&self) -> bool {
        self.is_known.get()
    }

    fn find(&self, tag: u64) -> Option<Found> {
        self.tasks.borrow().get(&tag).copied()
    }

    fn count(&self, _: u64) -> Option<Box<dyn Any>> {
        self.flows.set(self.flows.get() + 1);
        Some(Box::new(Guard(Rc::clone(&self.flows))))
    }
}
