//! How many flows there may be, and how long.

use super::*;

fn bounds() -> Bounds {
    Bounds {
        flows: 100,
        per_source: 100,
        idle: Duration::from_secs(60),
        hurried: Duration::from_secs(60),
    }
}

#[test]
fn a_silent_flow_ends_and_the_client_begins_another() {
    run(async {
        let task = Task::v4("a").await;
        let bounds = Bounds {
            idle: Duration::from_millis(100),
            ..bounds()
        };
        let bed = Bed::with("127.0.0.1:0", Members::of([task.address]), bounds);
        let client = bed.client().await;
        for turn in 1..3 {
            assert_eq!(ask(&client, "hello").await, "a:hello");
            bed.until("the flow ends", |bed| bed.shared.flows() == 0).await;
            assert_eq!(count(&bed.counters.idle), turn);
            assert_eq!(bed.members.live(), 0);
        }
        assert_eq!(count(&bed.counters.begun), 2);
    });
}

#[test]
fn silent_flows_end_sooner_where_there_are_many() {
    run(async {
        let task = Task::v4("a").await;
        let bounds = Bounds {
            per_source: 4,
            hurried: Duration::from_millis(100),
            ..bounds()
        };
        let bed = Bed::with("0.0.0.0:0", Members::of([task.address]), bounds);
        let other = bed.client_at("127.0.0.9", "127.0.0.1").await;
        assert_eq!(ask(&other, "hello").await, "a:hello");
        for _ in 0..3 {
            assert_eq!(ask(&bed.client().await, "hello").await, "a:hello");
        }
        // One of three makes room, and the others are no longer more than half of four.
        bed.until("a flow ends", |bed| bed.shared.flows() == 3).await;
        assert!(is_silent(&other).await);
        assert_eq!(bed.shared.flows(), 3);
    });
}

#[test]
fn a_source_has_as_many_flows_as_it_may_and_others_have_theirs() {
    run(async {
        let task = Task::v4("a").await;
        let bounds = Bounds {
            per_source: 2,
            ..bounds()
        };
        let bed = Bed::with("127.0.0.1:0", Members::of([task.address]), bounds);
        let clients = [bed.client().await, bed.client().await, bed.client().await];
        assert_eq!(ask(&clients[0], "hello").await, "a:hello");
        assert_eq!(ask(&clients[1], "hello").await, "a:hello");
        clients[2].send(b"hello").await.unwrap();
        assert!(is_silent(&clients[2]).await);
        assert_eq!(bed.counters.lost(Loss::Source), 1);
        let other = bed.client_at("127.0.0.9", "127.0.0.1").await;
        assert_eq!(ask(&other, "hello").await, "a:hello");
        assert_eq!(ask(&clients[0], "again").await, "a:again");
    });
}

#[test]
fn flows_that_were_never_answered_make_room() {
    run(async {
        let task = Task::v4("a").await;
        let bounds = Bounds { flows: 3, ..bounds() };
        let bed = Bed::with("127.0.0.1:0", Members::of([task.address]), bounds);
        let talking = bed.client().await;
        assert_eq!(ask(&talking, "hello").await, "a:hello");
        // Of ports of their own: none is used again.
        let mut flooding = Vec::new();
        for number in 1..10 {
            let client = bed.client().await;
            client.send(b"do not answer").await.unwrap();
            flooding.push(client);
            bed.until("it is carried", |bed| {
                count(&bed.counters.to_tasks.datagrams) == number + 1
            })
            .await;
        }
        // One is left for others.
        assert_eq!(bed.shared.flows(), 2);
        assert_eq!(count(&bed.counters.evicted), 8);
        // Those that talk do not.
        assert_eq!(ask(&talking, "again").await, "a:again");
        assert_eq!(ask(&bed.client().await, "me, too").await, "a:me, too");
        assert_eq!(ask(&bed.client().await, "and me").await, "a:and me");
        let late = bed.client().await;
        late.send(b"hello").await.unwrap();
        assert!(is_silent(&late).await);
        assert_eq!(bed.counters.lost(Loss::Flows), 1);
    });
}

#[test]
fn a_flood_at_one_frontend_leaves_room_at_others() {
    both(async || {
        const FLOWS: usize = 20;
        let bounds = Bounds {
            flows: FLOWS,
            ..bounds()
        };
        let task = Task::v4("a").await;
        let members = Members::of([task.address]);
        let bed = if is_far() {
            Bed::beside("127.0.0.1:0", members, self::bounds(), Far::new(bounds))
        } else {
            Bed::with("127.0.0.1:0", members, bounds)
        };
        // On a worker of its own, as far as what it shares with the first one goes.
        let other = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = other.local_addr().unwrap();
        bed.serve(other);
        let carried = |bed: &Bed| {
            let near = &*bed.shared.counters;
            count(&if is_far() { &bed.far.shared.for_nodes } else { near }.begun)
        };
        // Of ports of their own: none is used again.
        let mut flooding = Vec::new();
        let mut flood = async |datagrams: usize| {
            for _ in 0..datagrams {
                let (before, client) = (carried(&bed), bed.client().await);
                client.send(b"do not answer").await.unwrap();
                bed.until("it is carried", |bed| carried(bed) > before).await;
                flooding.push(client);
            }
        };
        flood(2 * FLOWS).await;
        // It gives way until they have all but one.
        let mut clients = Vec::new();
        for _ in 1..FLOWS {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            client.connect(address).await.unwrap();
            assert_eq!(ask(&client, "hello").await, "a:hello");
            clients.push(client);
            flood(1).await;
        }
        for client in &clients {
            assert_eq!(ask(client, "again").await, "a:again");
        }
    });
}

#[test]
fn what_ends_with_its_frontend_is_given_back() {
    run(async {
        let task = Task::v4("a").await;
        let shared = Shared::new(bounds(), Arc::default());
        let members = Members::of([task.address]);
        let socket = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let front = socket.local_addr().unwrap();
        let choose = members.clone();
        let serving = spawn_local(serve(
            Rc::new(socket),
            move || Some(choose.clone()),
            Worker::new(&shared, Far::new(bounds())),
        ));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(front).await.unwrap();
        assert_eq!(ask(&client, "hello").await, "a:hello");
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert_eq!((shared.flows(), members.live()), (0, 0));
    });
}
