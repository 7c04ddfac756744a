//! UDP flows: their task's end is their sender's trouble for less than a second.

use std::net::SocketAddr;
use std::time::Duration;

use netns::client::udp::Sender;
use netns::{testing, wait};

#[test]
fn a_sender_whose_task_is_stopped_is_served_by_another_within_a_second() {
    let Some(mut cluster) = testing::web("udp", 3).stage() else {
        return;
    };
    // Enough flows that each task has some.
    let targets: Vec<_> = cluster.ports(8080).into_iter().cycle().take(12).collect();
    let senders: Vec<_> = targets
        .iter()
        .map(|&target| Sender::start(&cluster.client(), target, 100.0))
        .collect();
    senders.iter().for_each(|sender| sender.wait_for(20).unwrap());
    cluster.stop_task("web.2").unwrap();
    // What is counted is the silence of this time.
    std::thread::sleep(Duration::from_millis(1500));
    let mut moved = 0;
    for (target, sender) in targets.iter().zip(senders) {
        let account = sender.stop().unwrap();
        let by_task = account.by_task();
        moved += usize::from(by_task.contains_key("web.2"));
        assert!(
            account.longest_silence() < Duration::from_secs(1),
            "{target}: silent for {:?}, {by_task:?}",
            account.longest_silence()
        );
        assert_ne!(account.last_task().unwrap(), "web.2");
    }
    assert!(moved > 0, "no flow was at the task that was stopped");
}

#[test]
fn a_flow_stays_with_its_task_while_others_come_and_go() {
    let Some(mut cluster) = testing::web("udpstay", 3).stage() else {
        return;
    };
    let targets: Vec<_> = cluster.ports(8080).into_iter().cycle().take(12).collect();
    let senders: Vec<_> = targets
        .iter()
        .map(|&target| Sender::start(&cluster.client(), target, 20.0))
        .collect();
    let go_on = || senders.iter().for_each(|sender| sender.wait_for(5).unwrap());
    go_on();
    cluster.scale("web", 6).unwrap();
    cluster.settle().unwrap();
    go_on();
    cluster.scale("web", 3).unwrap();
    go_on();
    for (target, sender) in targets.iter().zip(senders) {
        let account = sender.stop().unwrap();
        assert_eq!(account.by_task().len(), 1, "{target}: {:?}", account.by_task());
        assert!(
            // One in a hundred, and the last two, whose answers a busy machine may bring too late.
            account.lost() * 100 <= account.packets.len() + 200,
            "{target}: {} lost",
            account.lost()
        );
    }
}

#[test]
fn flows_of_a_draining_task_move_when_it_goes() {
    let Some(mut cluster) = testing::web("udpdrain", 3).stage() else {
        return;
    };
    let target = cluster.ports(8080)[0];
    let senders: Vec<_> = (0..9)
        .map(|_| Sender::start(&cluster.client(), target, 50.0))
        .collect();
    senders.iter().for_each(|sender| sender.wait_for(10).unwrap());
    cluster.scale("web", 1).unwrap();
    // What is counted is the silence of this time.
    std::thread::sleep(Duration::from_millis(1500));
    for sender in senders {
        let account = sender.stop().unwrap();
        assert!(
            account.longest_silence() < Duration::from_secs(1),
            "silent for {:?}",
            account.longest_silence()
        );
        assert_eq!(account.last_task().unwrap(), "web.1");
    }
}

/// The connection between the two nodes that carries its datagrams breaks, and another one cannot be made for a while.
#[test]
fn datagrams_are_answered_again_when_nodes_reach_each_other_again() {
    let Some(cluster) = testing::web("udpcut", 1).nodes(2).mode("proxy").stage() else {
        return;
    };
    assert_eq!(cluster.task("web.1").unwrap().node, "node1");
    let by_node2 = SocketAddr::new(cluster.state.nodes["node2"].address(0).v4.into(), 8080);
    let sender = Sender::start(&cluster.client(), by_node2, 50.0);
    sender.wait_for(20).unwrap();
    let failed = |why: &str| {
        let status = cluster.portico_json("node2", &["status"]).unwrap();
        status["planes"][0]["report"]["proxy"]["trunks"][why]
            .as_u64()
            .unwrap()
    };
    assert_eq!((failed("broken"), failed("unreached")), (0, 0));
    cluster.set_peer_port("node1", false).unwrap();
    for why in ["broken", "unreached"] {
        wait::until(&format!("one is {why}"), Duration::from_secs(60), || {
            failed(why) > 0
        })
        .unwrap();
    }
    cluster.set_peer_port("node1", true).unwrap();
    sender.wait_for(50).unwrap();
    assert_eq!(sender.stop().unwrap().last_task(), Some("web.1"));
}
