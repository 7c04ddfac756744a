//! Who answers, from where.

use super::*;

#[test]
fn a_client_is_answered_by_one_task_from_the_address_it_asked() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("0.0.0.0:0", Members::of([task.address]));
        for front in ["127.0.0.1", "127.0.0.2", "127.1.2.3"] {
            // A connected socket takes answers from nowhere else.
            let client = bed.client_at("127.0.0.1", front).await;
            assert_eq!(ask(&client, "hello").await, "a:hello");
        }
        assert_eq!(bed.shared.flows(), 3);
    });
}

#[test]
fn one_client_port_that_asks_two_addresses_has_two_flows() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("0.0.0.0:0", Members::of([task.address]));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut buffer = [0; 100];
        for front in ["127.0.0.2", "127.0.0.3"] {
            let front = SocketAddr::new(front.parse().unwrap(), bed.front.port());
            client.send_to(b"hello", front).await.unwrap();
            let (_, from) = timeout(PATIENCE, client.recv_from(&mut buffer))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(from, front);
        }
        assert_eq!(bed.shared.flows(), 2);
    });
}

#[test]
fn ipv6_clients_are_served_and_either_family_reaches_tasks_of_the_other() {
    both(async || {
        let (v4, v6) = (Task::v4("four").await, Task::start("six", "::1").await);
        for (front, task, name) in [
            ("[::]:0", v6.address, "six"),
            ("[::]:0", v4.address, "four"),
            ("127.0.0.1:0", v6.address, "six"),
        ] {
            let bed = Bed::new(front, Members::of([task]));
            let client = bed.client().await;
            assert_eq!(ask(&client, "hello").await, format!("{name}:hello"));
        }
    });
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("127.0.0.1:0", Members::of([task.address]));
        let mut clients = Vec::new();
        for number in 0..200 {
            clients.push((bed.client().await, number));
        }
        for round in 0..5 {
            for (client, number) in &clients {
                client.send(format!("{number}.{round}").as_bytes()).await.unwrap();
            }
            for (client, number) in &clients {
                let answer = receive(client).await.unwrap();
                assert_eq!(answer, format!("a:{number}.{round}").as_bytes());
            }
        }
        assert_eq!(count(&bed.counters.begun), 200);
        assert_eq!(count(&bed.counters.to_tasks.datagrams), 1000);
        assert_eq!(count(&bed.counters.to_clients.datagrams), 1000);
        assert_eq!(bed.members.live(), 200);
    });
}

#[test]
fn datagrams_may_be_empty_or_as_large_as_they_can_be() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("127.0.0.1:0", Members::of([task.address]));
        let client = bed.client().await;
        assert_eq!(ask(&client, "").await, "a:");
        // Two bytes less than there can be: the answer has two more.
        let large = "x".repeat(65_505);
        assert_eq!(ask(&client, &large).await.len(), 65_507);
    });
}

#[test]
fn several_workers_share_the_clients_of_a_frontend() {
    both(async || {
        let task = Task::v4("a").await;
        let bed = Bed::new("127.0.0.1:0", Members::of([task.address]));
        bed.serve(listen(bed.front).unwrap());
        // None goes before the last has come: its port would be another's, and that one's flow the same.
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = bed.client().await;
            assert_eq!(ask(&client, "one").await, "a:one");
            assert_eq!(ask(&client, "two").await, "a:two");
            clients.push(client);
        }
        // Each client kept its worker.
        assert_eq!(bed.shared.flows(), 20);
    });
}

#[test]
fn only_its_task_is_heard_by_a_client() {
    both(async || {
        let task = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let bed = Bed::new("127.0.0.1:0", Members::of([task.local_addr().unwrap()]));
        let client = bed.client().await;
        client.send(b"hello").await.unwrap();
        let asked = timeout(PATIENCE, task.recv_from(&mut [0; 100])).await;
        let (_, flow) = asked.unwrap().unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(b"not from the task", flow).await.unwrap();
        task.send_to(b"answer", flow).await.unwrap();
        assert_eq!(receive(&client).await.unwrap(), b"answer");
        assert!(is_silent(&client).await);
        assert_eq!(count(&bed.counters.to_clients.datagrams), 1);
    });
}

/// No answer could come from such an address.
#[test]
fn what_is_sent_to_everybody_is_lost_and_counted() {
    run(async {
        let task = Task::v4("a").await;
        let bed = Bed::new("0.0.0.0:0", Members::of([task.address]));
        let client = bed.client_at("127.0.0.1", "127.0.0.1").await;
        assert_eq!(ask(&client, "hello").await, "a:hello");
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        other.set_broadcast(true).unwrap();
        let everybody = ("127.255.255.255", bed.front.port());
        other.send_to(b"hello", everybody).await.unwrap();
        bed.until("it is lost", |bed| bed.counters.lost(Loss::Broadcast) == 1)
            .await;
        assert_eq!(bed.shared.flows(), 1);
    });
}
