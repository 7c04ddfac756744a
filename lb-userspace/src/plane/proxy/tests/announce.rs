//! The PROXY protocol, on either side.

use std::io::Write;
use std::time::Duration;

use super::rig::{PATIENCE, Rig, is_reset, read};
use crate::model::{ProxyRules, ProxyVersion};
use crate::plane::proxy::{Cause, header};

#[test]
fn tasks_are_told_of_their_clients_in_either_version() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let rig = Rig::new(
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
