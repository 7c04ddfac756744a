//! Nodes that cannot be reached.

use std::time::Instant;

use super::between::{patient, two};
use super::far::far;
use super::*;
use crate::model::Node;
use crate::plane::proxy::udp::trunk::Calling;

/// A connection to a node that says nothing is given up after so long.
struct Slow(Duration);

impl Call for Slow {
    fn call(&self, _: &Node) -> Calling {
        let patience = self.0;
        Box::pin(async move {
            tokio::time::sleep(patience).await;
            Err(std::io::ErrorKind::TimedOut.into())
        })
    }
}

/// A member of another node, and where that cannot be had one of this node.
struct TheOther(SocketAddr);

impl Choose for TheOther {
    fn choose(&self, _: SocketAddr, tried: &[u64]) -> Option<Target> {
        let ways = [(1, Way::There(far::node())), (2, Way::Here(self.0))];
        let (tag, way) = ways.into_iter().find(|(tag, _)| !tried.contains(tag))?;
        Some(Target { tag, way, held: None })
    }

    fn prospect(&self, _: u64) -> Prospect {
        Prospect::Active
    }

    fn generation(&self) -> u64 {
        1
    }
}

/// It is known only after some time that the node cannot be reached.
#[test]
fn the_first_datagram_to_a_node_that_says_nothing_goes_to_another_member() {
    far(async {
        let task = Task::v4("b").await;
        // Looked through often.
        let bounds = Bounds {
            hurried: Duration::from_millis(100),
            ..patient()
        };
        let shared = Shared::new(bounds, Arc::default());
        let socket = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let front = socket.local_addr().unwrap();
        let worker = Worker::new(&shared, Rc::new(Slow(Duration::from_millis(1500))));
        let serving = serve(Rc::new(socket), move || Some(TheOther(task.address)), worker);
        spawn_local(async move { serving.await.unwrap() });
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(front).await.unwrap();
        assert_eq!(ask(&client, "hello").await, "b:hello");
        assert_eq!(count(&shared.counters.retried), 1);
    });
}

#[test]
fn a_node_that_is_not_reached_is_left_for_a_while() {
    far(async {
        let (bed, _tasks) = two().await;
        bed.far.is_reachable.set(false);
        let client = bed.client().await;
        let began = Instant::now();
        // Both members are there: the client is told, and told again without a try.
        for _ in 0..3 {
            client.send(b"hello").await.unwrap();
            if bed.shared.can_tell(false) {
                assert!(receive(&client).await.is_err());
            }
        }
        bed.until("all are lost", |bed| bed.counters.lost(Loss::Refused) == 3)
            .await;
        let most = 1 + began.elapsed().as_millis() / 100;
        let tries = count(&bed.shared.trunks.unreached);
        assert!((1..=u64::try_from(most).unwrap()).contains(&tries), "{tries}");
        bed.far.is_reachable.set(true);
        let served = async {
            while client.send(b"hello").await.is_err() || receive(&client).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, served).await.unwrap();
    });
}
