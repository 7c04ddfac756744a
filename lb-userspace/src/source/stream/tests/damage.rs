//! A manager's agent that is trusted and talks nonsense.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status};

use super::authority::Authority;
use super::cluster::{Follower, picture};
use crate::source::stream::codec;
use crate::source::stream::identity::Identity;
use crate::source::stream::wire::mesh_server::{Mesh, MeshServer};
use crate::source::stream::wire::update::Body;
use crate::source::stream::wire::{Difference, FollowRequest, Node, Update};

/// Says the same to everybody, and remembers what it was asked.
#[derive(Clone)]
struct Parrot {
    says: Vec<Update>,
    asked: Arc<std::sync::Mutex<Vec<FollowRequest>>>,
}

#[tonic::async_trait]
impl Mesh for Parrot {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<Update, Status>> + Send>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let says = stream::iter(self.says.clone().into_iter().map(Ok)).chain(stream::pending());
        Ok(Response::new(Box::pin(says)))
    }
}

/// A follower of it, and what the parrot has been asked by the time that an error was told.
async fn hear(says: Vec<Update>) -> (Follower, String, Vec<FollowRequest>) {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::load(&authority.manager("m1").write(directory.path())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let parrot = Parrot {
        says,
        asked: Arc::default(),
    };
    let service = MeshServer::new(parrot.clone());
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.server));
    tokio::spawn(async move {
        let links = stream::unfold((listener, acceptor), |(listener, acceptor)| async move {
            let (socket, _) = listener.accept().await.unwrap();
            let link = acceptor.accept(socket).await;
            Some((link.map(Raw), (listener, acceptor)))
        });
        let _ = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(links)
            .await;
    });
    let mut follower = Follower::start(&authority.worker("w1"), &[address]);
    let error = follower.error().await;
    // It asks again by itself.
    while parrot.asked.lock().unwrap().len() < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let asked = parrot.asked.lock().unwrap().clone();
    (follower, error, asked)
}

fn full(generation: u64, body: Bytes) -> Update {
    Update {
        epoch: 7,
        generation,
        body: Some(Body::Full(body)),
    }
}

fn diff(generation: u64, body: impl prost::Message) -> Update {
    Update {
        epoch: 7,
        generation,
        body: Some(Body::Diff(body.encode_to_vec().into())),
    }
}

#[tokio::test]
async fn noise_leaves_the_picture_and_asks_for_all_of_it() {
    let good = full(3, codec::encode(&picture("web.1")));
    let (follower, error, asked) = hear(vec![good, full(4, Bytes::from_static(b"noise"))]).await;
    assert!(
        error.contains("an update that cannot be used: the bytes are damaged"),
        "{error}"
    );
    assert_eq!(
        follower.following.desired.borrow().as_deref(),
        Some(&*picture("web.1"))
    );
    assert_eq!((asked[1].epoch, &*asked[1].node), (0, "node9"));
}

#[tokio::test]
async fn a_bad_address_is_said_with_its_place() {
    let wrong = Node {
        name: "node5".into(),
        address: vec![1, 2],
        draining: false,
    };
    let wrong = Difference {
        since: 3,
        nodes: vec![wrong],
        ..Difference::default()
    };
    let good = full(3, codec::encode(&picture("web.1")));
    let (follower, error, asked) = hear(vec![good, diff(4, wrong)]).await;
    assert!(error.contains("node node5: an address of 2 bytes"), "{error}");
    assert_eq!(
        follower.following.desired.borrow().as_deref(),
        Some(&*picture("web.1"))
    );
    assert_eq!(asked[1].epoch, 0);
}

#[tokio::test]
async fn a_difference_of_another_generation_is_not_applied() {
    let stray = Difference {
        since: 9,
        removed_services: vec!["web".into()],
        ..Difference::default()
    };
    let good = full(3, codec::encode(&picture("web.1")));
    let (follower, error, asked) = hear(vec![good, diff(10, stray)]).await;
    assert!(
        error.contains("it changes a picture that is not the one held here"),
        "{error}"
    );
    assert_eq!(
        follower.following.desired.borrow().as_deref(),
        Some(&*picture("web.1"))
    );
    assert_eq!(asked[1].epoch, 0);
}

#[tokio::test]
async fn an_update_without_anything_is_refused() {
    let (follower, error, _) = hear(vec![Update {
        epoch: 7,
        generation: 1,
        body: None,
    }])
    .await;
    assert!(error.contains("neither a picture nor a difference"), "{error}");
    assert_eq!(*follower.following.desired.borrow(), None);
}

/// As tonic wants connections.
struct Raw(tokio_rustls::server::TlsStream<tokio::net::TcpStream>);

impl tonic::transport::server::Connected for Raw {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
