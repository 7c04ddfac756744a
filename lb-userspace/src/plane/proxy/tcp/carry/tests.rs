use std::io::Write;
use std::net::TcpListener;
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use super::*;

/// Two ends of a connection; the first one is this node's, and does not block.
fn pair() -> (Side, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (near, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    (Side::new(near), far)
}

/// Carries so many bytes from a client to a task on this thread, and says whether any went through a pipe.
fn carry(bytes: usize) -> bool {
    let (client, mut far_client) = pair();
    let (mut task, mut far_task) = pair();
    let sent: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        far_client.write_all(&sent).unwrap();
        far_client.shutdown(Shutdown::Write).unwrap();
        far_client
    });
    let receiver = thread::spawn(move || {
        let mut heard = Vec::new();
        far_task.read_to_end(&mut heard).unwrap();
        heard
    });
    let mut exchange = Exchange::new(client);
    let mut is_spliced = false;
    loop {
        // News of everything is never wrong, only in vain.
        exchange.client.hear(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
        task.hear(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT);
        let turn = exchange.turn(&mut task).unwrap();
        is_spliced |= exchange.up.is_bulk || matches!(exchange.up.load, Load::Pages(_));
        if let Turn::Over = turn {
            break;
        }
        thread::yield_now();
    }
    assert_eq!(exchange.moved().to_task, bytes as u64);
    drop((exchange, task, sender.join().unwrap()));
    assert!(receiver.join().unwrap() == expected);
    is_spliced
}

/// Refuses a system call to this thread for good.
fn refuse(call: libc::c_long) {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let rules = [(call, vec![])].into();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

const LONG: usize = 8 << 20;

#[test]
fn what_is_large_goes_through_a_pipe_and_what_is_small_does_not() {
    assert!(carry(LONG));
    assert!(!carry(100));
}

#[test]
fn without_splice_bytes_go_through_the_buffer() {
    let carried = thread::spawn(|| {
        refuse(libc::SYS_splice);
        [carry(LONG), carry(LONG)]
    });
    // The first one finds out, with a pipe in its hands.
    assert!(!carried.join().unwrap()[1]);
}

#[test]
fn without_pipes_bytes_go_through_the_buffer() {
    let carried = thread::spawn(|| {
        refuse(libc::SYS_pipe2);
        carry(LONG)
    });
    assert!(!carried.join().unwrap());
}
