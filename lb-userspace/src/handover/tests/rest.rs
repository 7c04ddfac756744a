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
    _directory: TempDir,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

impl Replaced {
    /// To be called within a runtime.
    fn new(rig: &mut Rig, patience: Duration) -> Self {
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
            lent: Lent::default(),
        };
        Self {
            rest: Rest::new(rig.replace(2, |_| {}), given, patience),
            successor: Channel::new(successor).unwrap(),
            _directory: directory,
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
    let replaced = Replaced::new(&mut rig, 100 * PATIENCE);
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
    let replaced = Replaced::new(&mut rig, patience);
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
