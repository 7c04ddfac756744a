//! Keeps the port open as long as it is wanted.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::greet::Doorstep;
use super::limits::{AGAIN, BREATH};
use super::{Rooms, Standing};

/// Ends when there is nobody left who could offer a room.
pub async fn keep(listen: SocketAddr, mut rooms: watch::Receiver<Rooms>, tell: watch::Sender<Standing>) {
    while rooms.wait_for(|rooms| !rooms.is_empty()).await.is_ok() {
        let open = TcpListener::bind(listen).await;
        match open.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => {
                tell.send_replace(Standing::Open(address));
                admit(&listener, &mut rooms).await;
                drop(listener);
                tell.send_replace(Standing::Closed);
            }
            Err(error) => {
                tell.send_replace(Standing::Hindered(Arc::new(error)));
                let closed = rooms.wait_for(Rooms::is_empty);
                if tokio::time::timeout(AGAIN, closed).await.is_ok() {
                    tell.send_replace(Standing::Closed);
                }
            }
        }
    }
}

/// Takes callers until there is no room for any. Who is on the doorstep then is sent away.
async fn admit(listener: &TcpListener, rooms: &mut watch::Receiver<Rooms>) {
    let doorstep = Arc::new(Doorstep::default());
    let mut greetings = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = greetings.join_next() => continue,
            _closed = rooms.wait_for(Rooms::is_empty) => return,
        };
        match accepted {
            Ok((socket, from)) => {
                let rooms = rooms.borrow().clone();
                if let Some(greeting) = doorstep.take(socket, from, rooms) {
                    greetings.spawn(greeting);
                }
            }
            // Out of file descriptors, mostly.
            Err(_) => tokio::time::sleep(BREATH).await,
        }
    }
}
