//! Which member has a flow when members come, go and refuse.

use super::*;

/// Two tasks, of which the first is chosen, and a client that it has answered.
async fn two() -> (Bed, [Task; 2], UdpSocket) {
    let tasks = [Task::v4("a").await, Task::v4("b").await];
    let bed = Bed::new(
        "127.0.0.1:0",
        Members::of(tasks.each_ref().map(|task| task.address)),
    );
    let client = bed.client().await;
    assert_eq!(ask(&client, "1").await, "a:1");
    (bed, tasks, client)
}

#[test]
fn a_draining_member_keeps_its_flows_and_gets_no_new_ones() {
    both(async || {
        let (bed, _tasks, client) = two().await;
        bed.members.set(1, Prospect::Draining);
        assert_eq!(ask(&client, "2").await, "a:2");
        assert_eq!(ask(&bed.client().await, "3").await, "b:3");
        assert_eq!(count(&bed.counters.moved), 0);
    });
}

#[test]
fn flows_of_a_member_that_is_gone_move_with_their_next_datagram() {
    both(async || {
        let (bed, _tasks, client) = two().await;
        bed.members.set(1, Prospect::Gone);
        assert_eq!(ask(&client, "2").await, "b:2");
        // Unless it ended before that.
        assert_eq!(count(&bed.counters.moved) + count(&bed.counters.gone), 1);
        assert_eq!(bed.members.live(), 1);
    });
}

#[test]
fn flows_of_a_member_that_is_gone_end_without_a_datagram_too() {
    both(async || {
        let (bed, _tasks, _client) = two().await;
        bed.members.set(1, Prospect::Gone);
        bed.until("the flow ends", |bed| bed.shared.flows() == 0).await;
        assert_eq!((count(&bed.counters.gone), bed.members.live()), (1, 0));
    });
}

#[test]
fn flows_of_an_unhealthy_member_move_if_there_is_another() {
    both(async || {
        let (bed, _tasks, client) = two().await;
        bed.members.set(1, Prospect::Unfit);
        assert_eq!(ask(&client, "2").await, "b:2");
        bed.members.set(2, Prospect::Unfit);
        bed.members.set(1, Prospect::Gone);
        assert_eq!(ask(&client, "3").await, "b:3");
        assert_eq!(count(&bed.counters.moved), 1);
    });
}

#[test]
fn the_first_datagram_that_a_task_refuses_goes_to_another_member() {
    both(async || {
        let task = Task::v4("b").await;
        let members = Members::of([nobody().await, nobody().await, task.address]);
        let bed = Bed::new("127.0.0.1:0", members);
        let client = bed.client().await;
        assert_eq!(ask(&client, "1").await, "b:1");
        assert_eq!(count(&bed.counters.retried), 2);
        assert_eq!(count(&bed.counters.told), 0);
        // The next client is not sent there at all.
        assert_eq!(ask(&bed.client().await, "2").await, "b:2");
        assert_eq!(count(&bed.counters.refused), 2);
        assert_eq!(bed.shared.flows(), 2);
    });
}

#[test]
fn a_flow_whose_task_stops_goes_on_with_another() {
    both(async || {
        let (bed, [first, _second], client) = two().await;
        first.stop().await;
        let _ = client.send(b"2").await;
        bed.until("it is refused", |bed| count(&bed.counters.refused) == 1)
            .await;
        assert_eq!(bed.counters.lost(Loss::Refused), 1);
        if bed.shared.can_tell(false) {
            // What was lost had been the second one: its client is told.
            let told = receive(&client).await.unwrap_err();
            assert_eq!(told.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(ask(&client, "3").await, "b:3");
    });
}

#[test]
fn a_client_is_told_that_nobody_takes_its_datagrams() {
    both(async || {
        for (front, is_v6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let bed = Bed::new(front, Members::of([nobody().await]));
            if !bed.shared.can_tell(is_v6) {
                assert!(std::env::var_os("CI").is_none(), "CAP_NET_RAW is needed");
                eprintln!("SKIPPED: no raw sockets without CAP_NET_RAW");
                return;
            }
            let client = bed.client().await;
            for number in 1..4 {
                client.send(b"hello").await.unwrap();
                let told = receive(&client).await.unwrap_err();
                assert_eq!(told.kind(), std::io::ErrorKind::ConnectionRefused, "{front}");
                assert_eq!(count(&bed.counters.told), number);
            }
            assert_eq!(bed.shared.flows(), 0);
            assert_eq!(bed.counters.lost(Loss::Refused), 3);
        }
    });
}

#[test]
fn nobody_to_choose_from_loses_datagrams_until_there_is_somebody() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("127.0.0.1:0", Members::of([task.address]));
        bed.members.set(1, Prospect::Gone);
        let client = bed.client().await;
        client.send(b"1").await.unwrap();
        bed.until("it is lost", |bed| bed.counters.lost(Loss::NoMember) == 1)
            .await;
        bed.members.set(1, Prospect::Active);
        assert_eq!(ask(&client, "2").await, "a:2");
    });
}
