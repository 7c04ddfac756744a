//! What is only so where a task is another node's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::far::{Far, far};
use super::frames::wanted;
use super::*;
use crate::plane::proxy::found::Found;
use crate::plane::proxy::header::relay_header::Wanted;
use crate::plane::proxy::udp::trunk::frame::{self, Frame};

pub fn patient() -> Bounds {
    Bounds {
        idle: Duration::from_secs(60),
        hurried: Duration::from_secs(60),
        ..Bounds::default()
    }
}

/// Two tasks of another node.
pub async fn two() -> (Bed, [Task; 2]) {
    let tasks = [Task::v4("a").await, Task::v4("b").await];
    let members = Members::of(tasks.each_ref().map(|task| task.address));
    (Bed::with("127.0.0.1:0", members, patient()), tasks)
}

#[test]
fn all_flows_to_a_node_share_one_connection() {
    far(async {
        let (bed, _tasks) = two().await;
        let mut clients = Vec::new();
        for number in 0..50 {
            let client = bed.client().await;
            assert_eq!(ask(&client, &number.to_string()).await, format!("a:{number}"));
            clients.push(client);
        }
        assert_eq!((bed.far.calls.get(), bed.far.flows.get()), (1, 50));
        assert_eq!(count(&bed.shared.trunks.open), 1);
        let owner = &bed.far.shared;
        assert_eq!((count(&owner.trunks.taken), count(&owner.trunks.flows)), (1, 50));
        assert_eq!(count(&owner.for_nodes.to_tasks.datagrams), 50);
        assert_eq!(count(&owner.for_nodes.to_clients.datagrams), 50);
    });
}

#[test]
fn a_flow_ends_on_both_nodes_whichever_ends_it() {
    far(async {
        let quick = Bounds {
            idle: Duration::from_millis(100),
            ..patient()
        };
        for (here, there) in [(quick, patient()), (patient(), quick)] {
            let task = Task::v4("a").await;
            let bed = Bed::beside("127.0.0.1:0", Members::of([task.address]), here, Far::new(there));
            let client = bed.client().await;
            for turn in 1..3 {
                assert_eq!(ask(&client, "hello").await, "a:hello");
                bed.until("the flow ends", |bed| {
                    bed.shared.flows() == 0 && bed.far.shared.flows() == 0
                })
                .await;
                assert_eq!(count(&bed.counters.idle), turn);
                assert_eq!((bed.far.flows.get(), bed.members.live()), (0, 0));
            }
            assert_eq!(bed.far.calls.get(), 1);
        }
    });
}

#[test]
fn flows_go_on_over_another_connection_when_theirs_breaks() {
    far(async {
        let (bed, _tasks) = two().await;
        let clients = [bed.client().await, bed.client().await];
        for client in &clients {
            assert_eq!(ask(client, "1").await, "a:1");
        }
        bed.far.cut();
        bed.until("it is noticed", |bed| count(&bed.shared.trunks.broken) == 1)
            .await;
        // None is tried at once, and what is said meanwhile would go to another member.
        tokio::time::sleep(Duration::from_millis(150)).await;
        // The member keeps what it has, though it gets nothing new.
        bed.members.set(1, Prospect::Draining);
        for found in bed.far.tasks.borrow_mut().values_mut() {
            found.avoided = true;
        }
        for client in &clients {
            assert_eq!(ask(client, "2").await, "a:2");
        }
        assert_eq!((bed.far.calls.get(), bed.far.flows.get()), (2, 2));
        assert_eq!((count(&bed.counters.begun), count(&bed.counters.refused)), (2, 0));
    });
}

#[test]
fn flows_leave_an_agent_that_another_one_replaces() {
    far(async {
        let (bed, _tasks) = two().await;
        let task = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        bed.far.has(1, task.local_addr().unwrap());
        let client = bed.client().await;
        let mut buffer = [0; 100];
        client.send(b"1").await.unwrap();
        let (_, before) = task.recv_from(&mut buffer).await.unwrap();
        bed.far.retire();
        let after = loop {
            client.send(b"2").await.unwrap();
            let came = timeout(PATIENCE, task.recv_from(&mut buffer)).await;
            let (_, from) = came.unwrap().unwrap();
            if from != before {
                break from;
            }
        };
        // Both ports lead to the client.
        for from in [before, after] {
            task.send_to(b"answer", from).await.unwrap();
            assert_eq!(receive(&client).await.unwrap(), b"answer");
        }
        assert_eq!(count(&bed.counters.begun), 1);
        assert_eq!(count(&bed.shared.trunks.broken), 0);
        // It ends by itself once nothing is left, which takes as long as answers may take.
        bed.until("the first connection ends", |bed| {
            count(&bed.shared.trunks.open) == 1
        })
        .await;
        assert_eq!((count(&bed.shared.trunks.broken), bed.shared.flows()), (0, 1));
    });
}

#[test]
fn a_member_that_its_node_does_not_have_or_takes_away_is_left() {
    far(async {
        let (bed, _tasks) = two().await;
        let first = bed.far.tasks.borrow()[&1];
        bed.far.tasks.borrow_mut().remove(&1);
        assert_eq!(ask(&bed.client().await, "1").await, "b:1");
        assert_eq!(count(&bed.counters.retried), 1);
        // A second front, by which nobody has been refused yet.
        let avoided = Found {
            avoided: true,
            ..first
        };
        bed.far.tasks.borrow_mut().insert(1, avoided);
        let bed = Bed::beside("127.0.0.1:0", bed.members.clone(), patient(), Rc::clone(&bed.far));
        assert_eq!(ask(&bed.client().await, "2").await, "b:2");
        assert_eq!(count(&bed.counters.retried), 1);
    });
}

#[test]
fn flows_of_a_task_that_has_gone_from_its_node_end_there() {
    far(async {
        let (bed, _tasks) = two().await;
        let client = bed.client().await;
        assert_eq!(ask(&client, "1").await, "a:1");
        bed.far.tasks.borrow_mut().remove(&1);
        bed.until("the flow is refused", |bed| count(&bed.counters.refused) == 1)
            .await;
        assert_eq!(count(&bed.far.shared.for_nodes.gone), 1);
        if bed.shared.can_tell(false) {
            assert!(receive(&client).await.is_err());
        }
        assert_eq!(ask(&client, "2").await, "b:2");
    });
}

#[test]
fn a_connection_that_ends_without_flows_is_not_broken() {
    far(async {
        let quick = Bounds {
            idle: Duration::from_millis(100),
            ..patient()
        };
        let task = Task::v4("a").await;
        let far = Far::new(patient());
        let bed = Bed::beside("127.0.0.1:0", Members::of([task.address]), quick, far);
        assert_eq!(ask(&bed.client().await, "1").await, "a:1");
        bed.until("the flow ends", |bed| bed.far.shared.flows() == 0)
            .await;
        bed.far.cut();
        bed.until("it is noticed", |bed| count(&bed.shared.trunks.open) == 0)
            .await;
        assert_eq!(count(&bed.shared.trunks.broken), 0);
    });
}

#[test]
fn what_a_connection_does_not_take_is_lost_and_not_kept() {
    far(async {
        let (bed, _tasks) = two().await;
        bed.far.is_deaf.set(true);
        let client = bed.client().await;
        let large = [0; 32_000];
        for _ in 0..200 {
            client.send(&large).await.unwrap();
            tokio::task::yield_now().await;
        }
        bed.until("some are lost", |bed| bed.counters.lost(Loss::Congested) > 0)
            .await;
        // What waits, what is being written, and the connection itself.
        let held = (2 * trunk::MOST + (256 << 10)) as u64;
        assert!(count(&bed.counters.to_tasks.bytes) <= held);
        assert!(count(&bed.counters.to_tasks.bytes) > trunk::MOST as u64);
        // What waits is lost with it.
        assert_eq!(bed.counters.lost(Loss::Broken), 0);
        bed.far.cut();
        bed.until("the rest is lost", |bed| bed.counters.lost(Loss::Broken) > 0)
            .await;
        assert!(bed.counters.lost(Loss::Broken) <= (trunk::MOST / large.len()) as u64);
    });
}

#[test]
fn flows_of_other_nodes_keep_the_bounds_of_this_one() {
    far(async {
        let bounds = Bounds {
            flows: 5,
            per_source: 3,
            ..patient()
        };
        let tasks = [Task::v4("a").await, Task::v4("b").await];
        let members = Members::of(tasks.each_ref().map(|task| task.address));
        let bed = Bed::beside("127.0.0.1:0", members, patient(), Far::new(bounds));
        let mut clients = Vec::new();
        for _ in 0..3 {
            let client = bed.client().await;
            client.send(b"do not answer").await.unwrap();
            clients.push(client);
        }
        bed.until("they are there", |bed| bed.far.shared.flows() == 3)
            .await;
        // Of this source there are enough.
        let more = bed.client().await;
        more.send(b"hello").await.unwrap();
        bed.until("it is refused", |bed| count(&bed.counters.refused) == 1)
            .await;
        assert_eq!(bed.far.shared.flows(), 3);
        // That is nobody's fault but its own: nothing was tried elsewhere, and others get the same member.
        assert_eq!(
            (count(&bed.counters.retried), bed.counters.lost(Loss::Source)),
            (0, 1)
        );
        let other = bed.client_at("127.0.0.2", "127.0.0.1").await;
        assert_eq!(ask(&other, "hello").await, "a:hello");
        drop(other);
        // Another's displace those of the same connection that were never answered, and their node hears of it.
        let (mut here, there) = tokio::io::duplex(1 << 16);
        let _serving = bed.far.take(there);
        let mut bytes = Vec::new();
        for (number, client) in [(1, "192.0.2.1:1"), (2, "192.0.2.2:1")] {
            let wanted = Wanted {
                client: client.parse().unwrap(),
                ..wanted(1)
            };
            frame::write_open(number, &wanted, false, &mut bytes);
        }
        here.write_all(&bytes).await.unwrap();
        let mut answer = [0; frame::HEAD];
        here.read_exact(&mut answer).await.unwrap();
        assert_eq!(frame::read(&answer), Ok(Some((1, Frame::Close, answer.len()))));
        assert_eq!(
            (bed.far.shared.flows(), count(&bed.far.shared.for_nodes.evicted)),
            (5, 1)
        );
    });
}
