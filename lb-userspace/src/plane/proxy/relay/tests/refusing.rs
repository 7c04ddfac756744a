//! Who is refused, and how it hears of it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::placement::State;
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::cluster::{Listening, Owner, SECRET, SOON, TAG, Task, dial, snapshot};
use crate::model::View;
use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::relay::identity::{self, Identity};
use crate::plane::proxy::relay::{Failure, PROTOCOL, Refusal, Relay, Setup};

fn answered<T>(outcome: Result<T, Failure>) -> Answer {
    match outcome {
        Err(Failure::Answered(answer)) => answer,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is carried"),
    }
}

#[tokio::test]
async fn a_member_that_does_not_run_there_is_gone() {
    let listening = Listening::new().await;
    let task = Task {
        tag: TAG,
        node: "node2",
        port: listening.address().port(),
        state: State::Active,
    };
    let others = Task {
        tag: TAG + 1,
        node: "node3",
        ..task
    };
    let owner = Owner::with(&[task, others]).await;
    let caller = owner.caller("node1", SECRET);
    for (said, tag) in [(1, others.tag), (2, TAG + 2)] {
        assert_eq!(answered(dial(&caller, tag).await), Answer::Gone);
        owner.has_answered("gone").await;
        assert_eq!(caller.report().heard["gone"], said);
    }
}

#[tokio::test]
async fn a_draining_member_is_left_to_the_others() {
    let listening = Listening::new().await;
    let task = Task {
        tag: TAG,
        node: "node2",
        port: listening.address().port(),
        state: State::Draining,
    };
    let other = Task {
        tag: 8,
        node: "node3",
        state: State::Active,
        ..task
    };
    let owner = Owner::with(&[task, other]).await;
    assert_eq!(
        answered(dial(&owner.caller("node1", SECRET), TAG).await),
        Answer::Draining
    );
    let last = Owner::with(&[task]).await;
    assert!(dial(&last.caller("node1", SECRET), TAG).await.is_ok());
}

#[tokio::test]
async fn a_task_that_refuses_is_said_to() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let owner = Owner::of(closed.local_addr().unwrap()).await;
    drop(closed);
    assert_eq!(
        answered(dial(&owner.caller("node1", SECRET), TAG).await),
        Answer::Refused
    );
}

#[tokio::test]
async fn a_node_of_another_secret_does_not_believe_and_is_not_believed() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let failure = dial(&owner.caller("node1", [8; 32]), TAG).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Untrusted(Refusal::Authority)),
        "{failure}"
    );
    owner.has_refused("stranger").await;

    // One that believes everybody of this cluster, and shows a certificate of another.
    let (own, other) = (identity_of(SECRET), identity_of([8; 32]));
    let lying = Identity {
        server: own.server,
        client: showing(&own.client, &other.client),
    };
    let caller = with(lying, &owner);
    let failure = dial(&caller, TAG).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Untrusted(Refusal::Unbelieved)),
        "{failure}"
    );
    owner.has_refused("authority").await;
}

fn identity_of(secret: [u8; 32]) -> Identity {
    Identity::new(&secret, "node1").unwrap()
}

/// What one believes, with what the other shows.
fn showing(
    believes: &Arc<rustls::ClientConfig>,
    shows: &Arc<rustls::ClientConfig>,
) -> Arc<rustls::ClientConfig> {
    let mut config = rustls::ClientConfig::clone(believes);
    config.client_auth_cert_resolver = Arc::clone(&shows.client_auth_cert_resolver);
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn with(identity: Identity, owner: &Owner) -> Relay {
    let setup = Setup {
        node: "node1".into(),
        authority: SECRET,
        port: owner.port,
        view: View::fixed(snapshot(Vec::new())),
        keepalive: Duration::from_secs(60),
    };
    Relay::with(identity, setup)
}

#[rstest]
#[case::no_node("node9", Answer::Stranger, "unknown")]
#[case::at_another_address("node3", Answer::Misplaced, "misplaced")]
#[tokio::test]
async fn only_nodes_at_their_addresses_are_relayed_for(
    #[case] name: &str,
    #[case] answer: Answer,
    #[case] label: &str,
) {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    // It calls from 127.0.0.1, which is node1's.
    let caller = caller_from_node1(&owner, name);
    assert_eq!(answered(dial(&caller, TAG).await), answer);
    owner.has_refused(label).await;
}

/// A node that takes itself to be at node1's address.
fn caller_from_node1(owner: &Owner, name: &str) -> Relay {
    let mut picture = snapshot(Vec::new());
    let mut own = picture.nodes["node1"].clone();
    own.name = name.into();
    picture.nodes.insert(name.into(), own);
    let setup = Setup {
        node: name.into(),
        authority: SECRET,
        port: owner.port,
        view: View::fixed(picture),
        keepalive: Duration::from_secs(60),
    };
    Relay::new(setup).unwrap()
}

#[tokio::test]
async fn a_node_that_shows_no_certificate_is_refused() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let own = identity_of(SECRET);
    let mut config = rustls::ClientConfig::clone(&own.client);
    config.client_auth_cert_resolver = Arc::new(Nothing);
    let bare = Identity {
        server: own.server,
        client: Arc::new(config),
    };
    let failure = dial(&with(bare, &owner), TAG).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Untrusted(Refusal::Unbelieved)),
        "{failure}"
    );
    owner.has_refused("certificate").await;
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A finished handshake, and nothing has been asked for yet.
async fn greeted(owner: &Owner) -> TlsStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let to = (Ipv4Addr::new(127, 0, 0, 2), owner.port);
    let socket = socket.connect(to.into()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(identity_of(SECRET).client);
    let host = identity::host("node2").unwrap();
    connector.connect(host, socket).await.unwrap()
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let mut tls = greeted(&owner).await;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: node2\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(tls.read_u8().await.unwrap(), Answer::Malformed.byte());
    assert_eq!(tls.read(&mut [0; 1]).await.unwrap(), 0);
    owner.has_refused("malformed").await;
}

#[tokio::test]
async fn who_has_nothing_to_ask_for_is_left_after_some_time() {
    for said in [&b""[..], b"\r\n\r\n"] {
        let owner = Owner::bounded(snapshot(Vec::new()), 1, Duration::from_millis(100)).await;
        let mut tls = greeted(&owner).await;
        tls.write_all(said).await.unwrap();
        tls.flush().await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(SOON, tls.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty(), "{answer:?}");
        owner.has_refused("silent").await;
    }
}

#[tokio::test]
async fn so_many_callers_have_nothing_to_ask_for_and_no_more() {
    let owner = Owner::bounded(snapshot(Vec::new()), 1, SOON).await;
    let callers = [greeted(&owner).await, greeted(&owner).await];
    owner.has_refused("crowd").await;
    assert_eq!(owner.relay.report().refused["crowd"], 1);
    // The place of whoever goes is free for others.
    drop(callers);
    let caller = owner.caller("node1", SECRET);
    let served = async { while !matches!(dial(&caller, TAG).await, Err(Failure::Answered(Answer::Gone))) {} };
    timeout(SOON, served).await.unwrap();
}

#[tokio::test]
async fn who_speaks_no_tls_or_asks_for_something_else_is_refused() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let to = (Ipv4Addr::new(127, 0, 0, 2), owner.port);
    let mut stranger = TcpStream::connect(to).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer).await;
    assert!(answer.len() < 16, "{answer:?}");
    owner.has_refused("stranger").await;

    let mut config = rustls::ClientConfig::clone(&identity_of(SECRET).client);
    assert_eq!(config.alpn_protocols, [PROTOCOL]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(to).await.unwrap();
    let host = identity::host("node2").unwrap();
    let error = connector.connect(host, socket).await.unwrap_err();
    assert_eq!(Refusal::behind(&error), Some(Refusal::Unserved));
}

#[tokio::test]
async fn a_node_that_shows_another_nodes_certificate_is_not_believed() {
    let listening = Listening::new().await;
    let owner = Owner::of(listening.address()).await;
    let dialer = owner.caller("node1", SECRET).dialer();
    // At the address where node2 answers.
    let elsewhere = super::cluster::node("node3", 2);
    let (client, front) = (super::cluster::CLIENT, super::cluster::FRONT);
    let dialed = dialer.dial(
        &elsewhere,
        TAG,
        client.parse().unwrap(),
        front.parse().unwrap(),
        super::cluster::SOON,
    );
    let failure = dialed.await.unwrap_err();
    assert!(matches!(failure, Failure::Untrusted(Refusal::Name)), "{failure}");
}
