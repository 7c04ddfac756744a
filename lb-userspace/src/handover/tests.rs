//! Both sides of it, over real sockets in a directory of their own.

mod rest;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::VERSION;
use super::channel::{Channel, Listener};
use super::give::{Given, Lent, give};
use super::take::{Failure, take};
use super::words::Word;
use crate::rights::TOGETHER;

/// More than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent that gives so many listeners to whoever asks.
struct Agent {
    directory: TempDir,
    addresses: Vec<SocketAddr>,
    giving: JoinHandle<Given>,
}

impl Agent {
    fn new(count: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&directory.path().join("handover.sock")).unwrap();
        let open = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let sockets: Vec<TcpListener> = (0..count).map(open).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap());
        let addresses = addresses.collect();
        let lend = move || {
            let sockets = sockets.iter().map(|socket| socket.try_clone().unwrap().into());
            let sockets: Vec<OwnedFd> = sockets.collect();
            async move {
                Ok(Lent {
                    sockets,
                    before: Vec::new(),
                })
            }
        };
        Self {
            giving: tokio::spawn(async move { give(listener, lend).await }),
            addresses,
            directory,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("handover.sock")
    }

    /// What a successor is given, as far as it says words of its own.
    fn ask(&self) -> Channel {
        Channel::connect(&self.path()).unwrap()
    }

    fn are_open(&self) {
        for address in &self.addresses {
            TcpStream::connect(address).unwrap();
        }
    }

    fn are_closed(&self) {
        for address in &self.addresses {
            TcpStream::connect(address).unwrap_err();
        }
    }
}

async fn word(channel: &Channel) -> Option<Word> {
    let heard = timeout(PATIENCE, channel.hear()).await.unwrap().unwrap();
    heard.map(|heard| heard.word)
}

/// Says that everything has ended but its connections.
async fn let_go(given: &mut Given) -> Channel {
    let successor = given.successor.try_clone().unwrap();
    let channel = Channel::new(successor).unwrap();
    channel.tell(&Word::Over).await.unwrap();
    channel
}

#[tokio::test]
async fn a_successor_gets_every_socket_open() {
    // More than go with one word.
    let agent = Agent::new(TOGETHER + 50);
    let taking = tokio::spawn({
        let path = agent.path();
        async move { take(&path).await.unwrap().unwrap() }
    });
    let mut given = timeout(PATIENCE, agent.giving).await.unwrap().unwrap();
    assert_eq!(given.successor(), std::process::id());
    let _channel = let_go(&mut given).await;
    let taken = taking.await.unwrap();
    assert_eq!((taken.sockets.len(), taken.before.len()), (TOGETHER + 50, 1));
    // The one before has died.
    drop(given);
    for address in &agent.addresses {
        TcpStream::connect(address).unwrap();
    }
    drop(taken);
    TcpStream::connect(agent.addresses[0]).unwrap_err();
}

/// As an agent does that is killed: its socket is closed, in the place of whatever was there.
fn leave_file(path: &Path) {
    let own = path.with_extension("killed");
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    socket.bind(&SockAddr::unix(&own).unwrap()).unwrap();
    socket.listen(1).unwrap();
    std::fs::rename(own, path).unwrap();
}

#[tokio::test]
async fn where_no_agent_is_nothing_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover.sock");
    assert!(take(&path).await.unwrap().is_none());
    leave_file(&path);
    assert!(take(&path).await.unwrap().is_none());
}

#[tokio::test]
async fn an_agent_goes_on_if_its_successor_dies_before_it_has_everything() {
    let agent = Agent::new(2);
    // At once, after its first word, and when it was told that that was all.
    drop(agent.ask());
    let channel = agent.ask();
    channel.tell(&Word::TakeOver { version: VERSION }).await.unwrap();
    drop(channel);
    let channel = agent.ask();
    channel.tell(&Word::TakeOver { version: VERSION }).await.unwrap();
    assert_eq!(word(&channel).await, Some(Word::Sockets));
    assert_eq!(word(&channel).await, Some(Word::All { descriptors: 2 }));
    drop(channel);
    agent.are_open();
    assert!(!agent.giving.is_finished());
    // The next one gets it all.
    let channel = agent.ask();
    channel.tell(&Word::TakeOver { version: VERSION }).await.unwrap();
    while word(&channel).await != Some(Word::All { descriptors: 2 }) {}
    channel.tell(&Word::Have).await.unwrap();
    timeout(PATIENCE, agent.giving).await.unwrap().unwrap();
}

#[tokio::test]
async fn another_versions_agent_is_refused_with_the_reason_and_nothing_happens() {
    let agent = Agent::new(1);
    let channel = agent.ask();
    channel
        .tell(&Word::TakeOver { version: VERSION + 1 })
        .await
        .unwrap();
    let Some(Word::Refused { why }) = word(&channel).await else {
        panic!("not refused");
    };
    assert!(why.contains(&format!("version {VERSION}")), "{why}");
    assert_eq!(word(&channel).await, None);
    agent.are_open();
    assert!(!agent.giving.is_finished());
}

/// The other side, word by word.
async fn say(path: &Path, words: Vec<(Word, Vec<OwnedFd>)>) {
    let listener = Listener::bind(path).unwrap();
    let channel = listener.accept().await.unwrap();
    assert_eq!(word(&channel).await, Some(Word::TakeOver { version: VERSION }));
    for (word, descriptors) in words {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        channel.tell_with(&word, &raw).await.unwrap();
    }
}

fn listener() -> (SocketAddr, OwnedFd) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    (listener.local_addr().unwrap(), listener.into())
}

async fn told(words: Vec<(Word, Vec<OwnedFd>)>) -> Result<super::Taken, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover.sock");
    let at = path.clone();
    let saying = tokio::spawn(async move { say(&at, words).await });
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    let taken = take(&path).await.map(Option::unwrap);
    saying.await.unwrap();
    taken
}

#[tokio::test]
async fn what_was_sent_before_the_other_one_died_is_kept() {
    let (address, socket) = listener();
    let taken = told(vec![(Word::Sockets, vec![socket])]).await.unwrap();
    assert_eq!((taken.sockets.len(), taken.before.len()), (1, 0));
    TcpStream::connect(address).unwrap();

    // The same once everything was there.
    let (address, socket) = listener();
    let words = vec![
        (Word::Sockets, vec![socket]),
        (Word::All { descriptors: 1 }, vec![]),
    ];
    let taken = told(words).await.unwrap();
    assert_eq!((taken.sockets.len(), taken.before.len()), (1, 0));
    TcpStream::connect(address).unwrap();
}

#[tokio::test]
async fn who_asks_one_that_has_given_everything_away_gets_it_from_the_other_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover.sock");
    let old = Listener::bind(&path).unwrap();
    let taking = tokio::spawn({
        let path = path.clone();
        async move { take(&path).await.unwrap().unwrap() }
    });
    // It has come to the old one when the new one is there already.
    let asked = old.accept().await.unwrap();
    let new = Listener::bind(&path).unwrap();
    drop((asked, old));
    let channel = new.accept().await.unwrap();
    assert_eq!(word(&channel).await, Some(Word::TakeOver { version: VERSION }));
    let (_, socket) = listener();
    let raw = [socket.as_raw_fd()];
    channel.tell_with(&Word::Sockets, &raw).await.unwrap();
    drop(channel);
    assert_eq!(taking.await.unwrap().sockets.len(), 1);
}

#[tokio::test]
async fn what_is_not_understood_is_no_hand_over() {
    let (_, socket) = listener();
    let lost = vec![
        (Word::Sockets, vec![socket]),
        (Word::All { descriptors: 2 }, vec![]),
    ];
    let strange = told(lost).await.unwrap_err();
    assert!(matches!(strange, Failure::Strange(_)), "{strange}");
    let why = "not now".to_owned();
    let refused = told(vec![(Word::Refused { why }, vec![])]).await.unwrap_err();
    assert_eq!(refused.to_string(), "it refuses: not now");
    assert!(strange.changes_nothing() && refused.changes_nothing());

    // One that has let everything go by then.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover.sock");
    let listener = Listener::bind(&path).unwrap();
    let taking = tokio::spawn(async move { take(&path).await });
    let channel = listener.accept().await.unwrap();
    assert_eq!(word(&channel).await, Some(Word::TakeOver { version: VERSION }));
    channel.tell(&Word::All { descriptors: 0 }).await.unwrap();
    assert_eq!(word(&channel).await, Some(Word::Have));
    channel.tell(&Word::Have).await.unwrap();
    let late = taking.await.unwrap().unwrap_err();
    assert!(!late.changes_nothing(), "{late}");
}

#[tokio::test]
async fn only_its_own_user_may_open_the_socket_and_its_file_stays_with_the_newest() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover.sock");
    let old = Listener::bind(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let new = Listener::bind(&path).unwrap();
    drop(old);
    Channel::connect(&path).unwrap();
    drop(new);
    assert!(!path.exists());
}

#[tokio::test]
async fn who_listens_in_the_place_of_another_one_keeps_it_until_it_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("handover.sock");
    let is_found = async |listener: &Listener| {
        let asking = Channel::connect(&path).unwrap();
        asking.tell(&Word::TakeOver { version: VERSION }).await.unwrap();
        let asked = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        assert_eq!(word(&asked).await, Some(Word::TakeOver { version: VERSION }));
    };
    let mut old = Listener::bind(&path).unwrap();
    old.come_back().unwrap();
    is_found(&old).await;
    let next = Listener::bind(&path).unwrap();
    old.come_back().unwrap();
    is_found(&next).await;
    // It was killed.
    leave_file(&path);
    drop(next);
    old.come_back().unwrap();
    is_found(&old).await;
    std::fs::remove_file(&path).unwrap();
    old.come_back().unwrap();
    is_found(&old).await;
}

#[tokio::test]
async fn sockets_that_nobody_has_are_closed() {
    let agent = Agent::new(3);
    agent.are_open();
    agent.giving.abort();
    while !agent.giving.is_finished() {
        tokio::task::yield_now().await;
    }
    agent.are_closed();
}
