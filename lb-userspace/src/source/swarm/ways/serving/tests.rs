use std::net::Ipv4Addr;
use std::sync::mpsc;

use super::*;
use crate::door::Door;
use crate::source::engine::Membership;
use crate::source::stream::Figures;

#[tokio::test]
async fn where_the_swarms_address_is_not_one_of_its_own_it_is_reached_under_those() {
    let directory = tempfile::tempdir().unwrap();
    let door = Door::new((Ipv4Addr::UNSPECIFIED, 0).into());
    let stream = Stream {
        port: 0,
        door: door.clone(),
        certificates: Some(directory.path().to_owned()),
        figures: Arc::<Figures>::default(),
    };
    let local = Local {
        swarm: Some(membership(Some([203, 0, 113, 1].into()))),
        ..Local::default()
    };
    let (_local, locals) = watch::channel(Some(Arc::new(local)));
    let serving = Serving::start(locals, Arc::new(stream));
    serving.publish(Some(&Arc::default()));
    let reached = tokio::time::timeout(Duration::from_secs(10), async {
        let port = door.address().await.unwrap().port();
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It has no certificates, and says so.
        while serving.hindrance().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    reached.await.unwrap();
    let note = serving.hindrance().unwrap();
    assert!(note.what.starts_with("cannot show other agents"), "{note:?}");
    assert!(note.what.contains("swarm-node.crt"), "{note:?}");
}

#[tokio::test]
async fn a_port_that_another_has_is_a_hindrance() {
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let stream = Stream {
        port: taken.port(),
        door: Door::new(taken),
        certificates: Some(directory.path().to_owned()),
        figures: Arc::<Figures>::default(),
    };
    let local = Local {
        swarm: Some(membership(None)),
        ..Local::default()
    };
    let (_local, locals) = watch::channel(Some(Arc::new(local)));
    let serving = Serving::start(locals, Arc::new(stream));
    serving.publish(Some(&Arc::default()));
    let hindered = tokio::time::timeout(Duration::from_secs(10), async {
        let told = || {
            serving
                .hindrance()
                .filter(|note| note.what.contains("cannot tell other agents"))
        };
        loop {
            if let Some(note) = told() {
                break note;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let note = hindered.await.unwrap();
    assert!(
        note.fix.contains(&format!("sport = :{}", taken.port())),
        "{note:?}"
    );
}

#[test]
fn a_node_that_tells_nothing_waits_until_it_has_to() {
    let (done, ended) = mpsc::channel();
    // A keeper that does not wait gives its thread back to nobody, not even to a deadline.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let stream = Stream {
                port: 0,
                door: Door::new((Ipv4Addr::LOCALHOST, 0).into()),
                certificates: None,
                figures: Arc::<Figures>::default(),
            };
            let (engine, locals) = watch::channel(None);
            let serving = Serving::start(locals, Arc::new(stream));
            tokio::time::sleep(Duration::from_millis(1)).await;
            // It is in no swarm; then it is in one, and not asked for.
            for swarm in [None, Some(membership(None))] {
                let local = Local {
                    swarm,
                    ..Local::default()
                };
                engine.send_replace(Some(Arc::new(local)));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // And when nobody is left who could have it serve.
            drop(engine);
            tokio::time::sleep(Duration::from_millis(1)).await;
            serving.publish(None);
        });
        done.send(())
    });
    ended
        .recv_timeout(Duration::from_secs(10))
        .expect("it keeps its thread");
}

fn membership(address: Option<Ipv4Addr>) -> Membership {
    Membership {
        node: "n1".into(),
        address,
        manager: true,
        managers: Vec::new(),
        error: None,
    }
}
