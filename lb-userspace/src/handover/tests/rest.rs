//! What an agent that was replaced does, and when it ends.

use std::io::Write;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt::SndBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use super::*;
use crate::handover::Rest;
use crate::model::ProxyRules;
use crate::plane::proxy::tests::rig::{Rig, is_reset, read};

/// An agent with one connection, which the rig's plane has replaced, and its successor's end of their channel.
struct Replaced {
    rest: Rest,
    successor: Channel,
    directory: TempDir,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl Replaced {
    /// To be called within a runtime.
    fn new(rig: &mut Rig, lent: Lent, patience: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (own, successor) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        // Some words, and no more.
        setsockopt(&own, SndBuf, &1).unwrap();
        let given = Given {
            successor: own,
            process: std::process::id(),
            listener: Listener::bind(&directory.path().join("handover.sock"))
                .unwrap()
                .sleep(),
            lent,
        };
        Self {
            rest: Rest::new(rig.replace(2, |_| {}), given, patience),
            successor: Channel::new(successor).unwrap(),
            directory,
        }
    }
}

#[test]
fn who_is_told_to_end_at_once_resets_what_it_has_and_says_so() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let runtime = runtime();
    let inside = runtime.enter();
    let replaced = Replaced::new(&mut rig, Lent::default(), 100 * PATIENCE);
    drop(inside);
    runtime.block_on(async {
        // It came between two words.
        replaced.rest.finish(std::future::ready(())).await.unwrap();
        assert_eq!(word(&replaced.successor).await, Some(Word::Over));
        assert_eq!(
            word(&replaced.successor).await,
            Some(Word::Cut { connections: 1 })
        );
        assert_eq!(word(&replaced.successor).await, None);
    });
    is_reset(&mut client);
    is_reset(&mut near);
}

#[test]
fn a_successor_that_does_not_listen_keeps_nobody_from_ending() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let runtime = runtime();
    let inside = runtime.enter();
    let patience = Duration::from_secs(4);
    let replaced = Replaced::new(&mut rig, Lent::default(), patience);
    drop(inside);
    runtime.block_on(async {
        let began = Instant::now();
        replaced.successor.tell(&Word::Serving).await.unwrap();
        let ending = replaced.rest.finish(std::future::pending::<()>());
        let meanwhile = tokio::task::spawn_blocking(move || {
            client.write_all(b"still").unwrap();
            assert_eq!(read(&mut near, 5), b"still");
            is_reset(&mut client);
        });
        timeout(PATIENCE, ending).await.unwrap().unwrap();
        let took = began.elapsed();
        assert!(took >= patience && took < 2 * patience, "{took:?}");
        meanwhile.await.unwrap();
    });
}

/// It was killed after it had put its own socket in the place of the one before, and before that one let everything go.
#[test]
fn a_successors_successor_finds_who_has_everything_whatever_the_first_one_left() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let (mut client, mut near) = rig.pair(&task);
    let runtime = runtime();
    let inside = runtime.enter();
    let (address, socket) = listener();
    let lent = Lent {
        sockets: vec![socket],
        before: Vec::new(),
    };
    let replaced = Replaced::new(&mut rig, lent, 100 * PATIENCE);
    drop(inside);
    let path = replaced.directory.path().join("handover.sock");
    runtime.block_on(async {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let rest = tokio::spawn(replaced.rest.finish(stopped));
        assert_eq!(word(&replaced.successor).await, Some(Word::Over));
        leave_file(&path);
        drop(replaced.successor);
        let taken = timeout(PATIENCE, async {
            loop {
                if let Some(taken) = take(&path).await.unwrap() {
                    return taken;
                }
                tokio::task::yield_now().await;
            }
        });
        let taken = taken.await.unwrap();
        assert_eq!((taken.sockets.len(), taken.before.len()), (1, 1));
        TcpStream::connect(address).unwrap();
        drop(stop);
        rest.await.unwrap().unwrap();
    });
    is_reset(&mut client);
    is_reset(&mut near);
}
