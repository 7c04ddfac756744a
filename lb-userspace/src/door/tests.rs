use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// Tells who came.
struct Parlour {
    protocol: &'static [u8],
    came: mpsc::UnboundedSender<&'static [u8]>,
    refused: Mutex<Vec<String>>,
    /// Everybody it was asked for stays on the doorstep.
    held: Mutex<Vec<Caller>>,
}

impl Room for Parlour {
    fn protocol(&self) -> &'static [u8] {
        self.protocol
    }

    fn expects(&self, _: IpAddr) -> bool {
        false
    }

    fn admit(&self, caller: Caller) {
        self.held.lock().unwrap().push(caller);
        self.came.send(self.protocol).unwrap();
    }

    fn refuse(&self, _: SocketAddr, refused: Refused) {
        self.refused.lock().unwrap().push(format!("{refused:?}"));
    }
}

type Came = mpsc::UnboundedReceiver<&'static [u8]>;

fn parlours(protocols: [&'static [u8]; 2]) -> ([Arc<Parlour>; 2], Came) {
    let (came, who) = mpsc::unbounded_channel();
    let parlour = |protocol| {
        Arc::new(Parlour {
            protocol,
            came: came.clone(),
            refused: Mutex::default(),
            held: Mutex::default(),
        })
    };
    (protocols.map(parlour), who)
}

/// The beginning of a handshake that asks for these.
async fn ask(to: SocketAddr, protocols: &[&[u8]]) -> TcpStream {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut config = config;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let host = "portico".try_into().unwrap();
    let mut tls = rustls::ClientConnection::new(Arc::new(config), host).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut socket = TcpStream::connect(to).await.unwrap();
    socket.write_all(&hello).await.unwrap();
    socket
}

fn door() -> Door {
    Door::new((Ipv4Addr::LOCALHOST, 0).into())
}

async fn next(came: &mut Came) -> &'static [u8] {
    tokio::time::timeout(SOON, came.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_caller_is_led_to_what_it_asks_for_and_else_to_the_newest() {
    let door = door();
    let ([one, two], mut came) = parlours([b"one", b"two"]);
    let _one = door.offer(one);
    let newest = door.offer(two);
    let at = door.address().await.unwrap();
    let asked: [(&[&[u8]], &[u8]); 4] = [
        (&[b"one"], b"one"),
        (&[b"two"], b"two"),
        (&[b"three", b"one"], b"one"),
        (&[], b"two"),
    ];
    let mut callers = Vec::new();
    for (protocols, wanted) in asked {
        callers.push(ask(at, protocols).await);
        assert_eq!(next(&mut came).await, wanted);
    }
    drop((newest, callers));
    let _caller = ask(at, &[b"two"]).await;
    // Four are on the doorstep, of one address; those of the room that is gone are not any more.
    assert_eq!(next(&mut came).await, b"one");
}

#[tokio::test]
async fn it_is_open_as_long_as_there_is_a_room() {
    let door = door();
    let ([one, two], _came) = parlours([b"one", b"two"]);
    assert!(matches!(*door.openness().borrow(), Openness::Closed));
    let (first, second) = (door.offer(one), door.offer(two));
    let at = door.address().await.unwrap();
    drop(first);
    TcpStream::connect(at).await.unwrap();
    drop(second);
    let mut openness = door.openness();
    let closed = openness.wait_for(|openness| matches!(openness, Openness::Closed));
    tokio::time::timeout(SOON, closed).await.unwrap().unwrap();
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_tried_again() {
    let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = other.local_addr().unwrap();
    let door = Door::new(at);
    let ([one, _], _came) = parlours([b"one", b"two"]);
    let _offer = door.offer(one);
    let mut openness = door.openness();
    let hindered = openness.wait_for(|openness| matches!(openness, Openness::Hindered(_)));
    tokio::time::timeout(SOON, hindered).await.unwrap().unwrap();
    drop(other);
    let opened = tokio::time::timeout(SOON, door.address());
    assert_eq!(opened.await.unwrap().unwrap(), at);
}

#[tokio::test]
async fn a_crowd_from_one_address_waits_outside() {
    let door = door();
    let ([one, _], mut came) = parlours([b"one", b"two"]);
    let _offer = door.offer(Arc::clone(&one) as Arc<dyn Room>);
    let at = door.address().await.unwrap();
    let mut callers = Vec::new();
    for _ in 0..limits::UNEXPECTED {
        callers.push(ask(at, &[b"one"]).await);
        next(&mut came).await;
    }
    let mut one_more = TcpStream::connect(at).await.unwrap();
    assert_eq!(one_more.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(*one.refused.lock().unwrap(), ["Crowd"]);
    one.held.lock().unwrap().clear();
    callers.push(ask(at, &[b"one"]).await);
    next(&mut came).await;
}

#[tokio::test]
async fn who_says_nothing_is_shown_out() {
    let door = door();
    let ([one, _], _came) = parlours([b"one", b"two"]);
    let _offer = door.offer(Arc::clone(&one) as Arc<dyn Room>);
    let mut silent = TcpStream::connect(door.address().await.unwrap()).await.unwrap();
    let mut byte = [0];
    let read = tokio::time::timeout(SOON, silent.read(&mut byte));
    assert_eq!(read.await.unwrap().unwrap_or(0), 0);
    assert_eq!(*one.refused.lock().unwrap(), ["Silent"]);
}
