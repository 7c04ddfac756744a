use super::*;
use crate::source::engine::Membership;
use crate::source::stream::Figures;

#[tokio::test]
async fn where_the_swarms_address_is_not_one_of_its_own_it_is_reached_under_those() {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let directory = tempfile::tempdir().unwrap();
    let stream = Stream {
        port,
        certificates: Some(directory.path().to_owned()),
        figures: Arc::<Figures>::default(),
    };
    let local = Local {
        swarm: Some(Membership {
            node: "n1".into(),
            address: Some([203, 0, 113, 1].into()),
            manager: true,
            managers: Vec::new(),
            error: None,
        }),
        ..Local::default()
    };
    let (_local, locals) = watch::channel(Some(Arc::new(local)));
    let serving = Serving::start(locals, Arc::new(stream));
    serving.publish(Some(&Arc::default()));
    let reached = tokio::time::timeout(Duration::from_secs(10), async {
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
