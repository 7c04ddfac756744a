//! The PROXY protocol, on either side.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rstest::rstest;

use super::rig::{Home, PATIENCE, Rig, is_reset, read};
use crate::model::{ProxyRules, ProxyVersion};
use crate::plane::proxy::{Cause, header};

#[rstest]
fn tasks_are_told_of_their_clients_in_either_version(#[values(Home::Here, Home::There)] home: Home) {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let rig = Rig::at(
            home,
            1,
            ProxyRules {
                send: Some(version),
                ..ProxyRules::default()
            },
        );
        let task = rig.listen(0);
        let (mut client, mut near) = rig.pair(&task);
        client.write_all(b"first").unwrap();
        let mut heard = Vec::new();
        let length = loop {
            heard.extend(read(&mut near, 1));
            if let header::Parsed::Whole { header, length } = header::parse(&heard).unwrap() {
                assert_eq!(header.source, Some(client.local_addr().unwrap()));
                assert_eq!(header.destination, Some(client.peer_addr().unwrap()));
                break length;
            }
        };
        assert_eq!(length, heard.len());
        assert_eq!(read(&mut near, 5), b"first");
    }
}

#[test]
fn trusted_proxies_say_whose_connection_it_is_and_must() {
    let rig = Rig::new(
        1,
        ProxyRules {
            send: Some(ProxyVersion::V1),
            accept: vec!["127.0.0.0/8".parse().unwrap()],
            ..ProxyRules::default()
        },
    );
    let task = rig.listen(0);
    let mut client = rig.client();
    // In pieces, and with what comes behind it.
    for piece in [
        &b"PROXY TCP4 198.51.100.7"[..],
        b" 203.0.113.9 40000 443\r\nfirst",
    ] {
        client.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    let (mut near, _) = task.accept().unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = b"PROXY TCP4 198.51.100.7 203.0.113.9 40000 443\r\nfirst";
    assert_eq!(read(&mut near, told.len()), told);
    // One that says nothing of the kind, and one that says nothing.
    let mut other = rig.client();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    is_reset(&mut other);
    rig.wait(Cause::Malformed, 1);
    is_reset(&mut rig.client());
    rig.wait(Cause::Malformed, 2);
}

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.9 40000 443\r\n";

/// Clients in this network are believed; tasks are told in version 1.
fn believing(network: &str) -> Rig {
    Rig::new(
        1,
        ProxyRules {
            send: Some(ProxyVersion::V1),
            accept: vec![network.parse().unwrap()],
            ..ProxyRules::default()
        },
    )
}

/// What the task hears from the beginning, with these words of the client's behind it.
fn is_told(task: &TcpListener, line: &[u8], words: &[u8]) {
    let (mut near, _) = task.accept().unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = [line, words].concat();
    assert_eq!(
        read(&mut near, told.len()).escape_ascii().to_string(),
        told.escape_ascii().to_string()
    );
}

/// As the client of its own connection.
fn itself(client: &TcpStream) -> Vec<u8> {
    let (from, to) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let mut line = Vec::new();
    header::write_v1(from, to, &mut line);
    line
}

#[test]
fn nobody_else_is_believed_whatever_it_says() {
    let rig = believing("192.0.2.0/24");
    let task = rig.listen(0);
    let mut client = rig.client();
    client.write_all(LINE).unwrap();
    is_told(&task, &itself(&client), LINE);
}

/// The beginning of version 2: command and version, family and transport, and how much follows.
fn binary(command: u8, kinds: u8, rest: u16) -> Vec<u8> {
    let fixed: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    [fixed, &[command, kinds], &rest.to_be_bytes()].concat()
}

#[test]
fn version_2_is_heard_with_all_that_it_may_carry() {
    let rig = believing("127.0.0.0/8");
    let task = rig.listen(0);
    for more in [0, 4084] {
        let mut said = binary(0x21, 0x11, 12 + more);
        said.extend([198, 51, 100, 7, 203, 0, 113, 9]);
        said.extend([40_000u16, 443].map(u16::to_be_bytes).as_flattened());
        if let Some(padding) = more.checked_sub(3) {
            // A TLV that means nothing.
            said.push(4);
            said.extend(padding.to_be_bytes());
            said.resize(said.len() + usize::from(padding), 0);
        }
        said.extend(b"first");
        rig.client().write_all(&said).unwrap();
        is_told(&task, LINE, b"first");
    }
}

/// As health checks do.
#[test]
fn a_trusted_proxy_that_speaks_for_itself_is_the_client() {
    let rig = believing("127.0.0.0/8");
    let task = rig.listen(0);
    for said in [binary(0x20, 0, 0), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = rig.client();
        client.write_all(&[&said[..], b"first"].concat()).unwrap();
        is_told(&task, &itself(&client), b"first");
    }
}

/// Whoever says that more follows than may follow is not heard out.
#[test]
fn what_is_longer_than_any_header_is_refused_at_once() {
    let rig = believing("127.0.0.0/8");
    let mut refused = 0;
    for said in [
        [&b"PROXY UNKNOWN "[..], &[b'x'; 186]].concat(),
        binary(0x21, 0x11, 4097),
    ] {
        // Long before the time for a header is over; a machine that stands still does not do that each time.
        let at_once = (0..5).any(|_| {
            let began = Instant::now();
            let mut client = rig.client();
            client.write_all(&said).unwrap();
            is_reset(&mut client);
            refused += 1;
            rig.wait(Cause::Malformed, refused);
            began.elapsed() < Duration::from_secs(2)
        });
        assert!(at_once, "{}", said.escape_ascii());
    }
}

/// The time is for all of it.
#[test]
fn a_header_that_trickles_is_refused_before_it_is_whole() {
    let rig = believing("127.0.0.0/8");
    let task = rig.listen(0);
    let mut client = rig.client();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let trickled = LINE.iter().find_map(|&byte| {
        let heard = client.write_all(&[byte]).and_then(|()| client.read(&mut [0]));
        heard.err().filter(|error| error.kind() != ErrorKind::WouldBlock)
    });
    assert_eq!(trickled.unwrap().kind(), ErrorKind::ConnectionReset);
    rig.wait(Cause::Malformed, 1);
    task.set_nonblocking(true).unwrap();
    assert_eq!(task.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
