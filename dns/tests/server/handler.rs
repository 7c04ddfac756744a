//! Without our own sockets: questions from within the program, and hickory's listeners.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dns::{Handler, Server, Source};
use hickory_server::proto::op::{Message, ResponseCode};
use hickory_server::proto::rr::RecordType;
use tokio::net::{TcpListener, UdpSocket};

use crate::fixture::{INSIDER, Mesh, config, entry, query_for};
use crate::upstream::{Upstream, a};

#[tokio::test(flavor = "multi_thread")]
async fn a_question_from_within_says_where_its_answer_comes_from() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
    let mut config = config();
    config.forward.upstreams = vec![upstream.address];
    let server = Server::start(&config, Arc::new(Mesh::default())).unwrap();
    let handler = server.handler();
    let client = [172, 18, 0, 2].into();
    for (name, expected, source) in [
        ("web", "10.254.0.1", Source::Here),
        ("www.example.com", "192.0.2.1", Source::Upstream(upstream.address)),
        ("WWW.example.com.", "192.0.2.1", Source::Memory(upstream.address)),
    ] {
        let (answer, from) = handler.ask(name, RecordType::A, client).await.unwrap();
        assert_eq!(
            (answer.answers[0].data.to_string().as_str(), from),
            (expected, source),
            "{name}"
        );
    }
    let report = &handler.upstreams()[..];
    assert!(
        matches!(report, [dns::UpstreamReport { standing: dns::Standing::Answers, address, domain, .. }]
            if *address == upstream.address && domain.is_empty()),
        "{report:?}"
    );
    let hidden = |client| handler.ask("hidden", RecordType::A, client);
    assert_eq!(
        hidden(client).await.unwrap().0.metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(hidden(INSIDER).await.unwrap().0.answers.len(), 1);
    assert!(handler.ask("a..b", RecordType::A, client).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn hickorys_own_server_serves_the_same_answers() {
    let handler = Handler::new(&config(), Arc::new(Mesh::default())).unwrap();
    let mut server = hickory_server::Server::new(handler);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    server.register_socket(socket);
    server.register_listener(
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        Duration::from_secs(5),
        512,
    );
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    let mut buffer = [0; 4096];
    for (name, count, code) in [
        ("web.portico.internal.", 1, ResponseCode::NoError),
        ("tasks.web.", 3, ResponseCode::NoError),
        ("nothing.portico.internal.", 0, ResponseCode::NXDomain),
    ] {
        let query = query_for(name, RecordType::A);
        client.send(&query.to_vec().unwrap()).await.unwrap();
        let length = client.recv(&mut buffer).await.unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(
            (answer.answers.len(), answer.metadata.response_code),
            (count, code),
            "{name}"
        );
        assert!(answer.metadata.authoritative);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_new_is_denied_nothing_until_it_is_known() {
    let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
    let mut config = config();
    config.forward.upstreams = vec![upstream.address];
    let mesh = Arc::new(Mesh::default());
    let server = Server::start(&config, Arc::clone(&mesh) as Arc<dyn dns::Directory>).unwrap();
    let handler = Arc::new(server.handler());
    let client = [172, 18, 0, 9].into();
    mesh.new.store(true, Ordering::Relaxed);
    let ask = |name: &'static str| {
        let handler = Arc::clone(&handler);
        tokio::spawn(async move { handler.ask(name, RecordType::A, client).await.unwrap() })
    };
    // What is known is said at once, to whomever.
    assert_eq!(ask("web").await.unwrap().1, Source::Here);
    // A name of ours, and one that would be an upstream's as long as nothing is known of it.
    let (late, scoped) = (ask("late"), ask("late.front"));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!late.is_finished() && !scoped.is_finished());
    for name in ["late", "late@front"] {
        mesh.set(name, entry(&[[10, 254, 0, 8]], &[]));
    }
    mesh.new.store(false, Ordering::Relaxed);
    for asked in [late, scoped] {
        let (answer, source) = asked.await.unwrap();
        assert_eq!(
            (answer.answers[0].data.to_string().as_str(), source),
            ("10.254.0.8", Source::Here)
        );
    }
    // Nobody is new for long.
    mesh.new.store(true, Ordering::Relaxed);
    let (denied, elsewhere) = (ask("nothing"), ask("www.example.com"));
    assert_eq!(
        denied.await.unwrap().0.metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(elsewhere.await.unwrap().1, Source::Upstream(upstream.address));
}
