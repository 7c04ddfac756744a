//! Addresses that come and go, and the wildcard.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use dns::{Server, StartError};
use hickory_server::proto::op::Message;
use hickory_server::proto::rr::RecordType;

use crate::fixture::{Mesh, config, query_for, serve_with};
use crate::getaddrinfo::isolated;
use crate::tools::{dig_at, have, run};

/// The address that answers, if any.
fn answers(address: SocketAddr) -> Option<SocketAddr> {
    let socket = UdpSocket::bind((if address.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // What nobody listens to is refused by the machine itself, which only a connected socket hears.
    socket.connect(address).unwrap();
    socket
        .send(&query_for("web.", RecordType::A).to_vec().unwrap())
        .unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).ok()?;
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().answers.len(), 1);
    Some(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_comes_and_goes() {
    let mut server = Server::start(&config(), Arc::new(Mesh::default())).unwrap();
    let first = server.addresses().next().unwrap();
    let second = server.listen("127.0.0.3:0".parse().unwrap()).unwrap();
    let asked = |address| tokio::task::spawn_blocking(move || answers(address));
    assert!(asked(first).await.unwrap().is_some() && asked(second).await.unwrap().is_some());
    assert!(
        matches!(server.listen(second), Err(StartError::Listen { .. })),
        "it is served already"
    );
    assert!(server.unlisten(second) && !server.unlisten(second));
    // Tasks end when they are next scheduled.
    while asked(second).await.unwrap().is_some() {}
    assert!(asked(first).await.unwrap().is_some());
    assert_eq!(server.listen(second).unwrap(), second);
}

#[test]
fn a_wildcard_address_answers_from_where_it_was_asked() {
    for (wildcard, asked) in [
        ("0.0.0.0:0", vec!["127.0.0.1", "127.0.0.77", "127.1.2.3"]),
        ("[::]:0", vec!["::1"]),
    ] {
        let server = serve_with(dns::Config {
            listen: vec![wildcard.parse().unwrap()],
            ..config()
        });
        for address in asked {
            let address: IpAddr = address.parse().unwrap();
            // The socket is connected: an answer from elsewhere would not be heard.
            assert!(
                answers((address, server.address.port()).into()).is_some(),
                "{address}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_the_server_opens_is_answered_when_it_does() {
    let mut server = Server::new(&config(), Arc::new(Mesh::default())).unwrap();
    let address = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(server.addresses().collect::<Vec<_>>(), [address]);
    let asked = tokio::task::spawn_blocking(move || answers(address));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!asked.is_finished());
    server.open();
    assert!(asked.await.unwrap().is_some());
    assert!(server.unlisten(address) && server.addresses().next().is_none());
}

#[test]
fn an_address_may_be_listened_on_before_it_is_there() {
    let test = "an_address_may_be_listened_on_before_it_is_there";
    if !have(test, &["ip", "dig"]) {
        return;
    }
    isolated(test, "", || {
        let mut config = config();
        config.listen = ["169.254.20.10:53", "[fd70::11]:53"]
            .map(|address| address.parse().unwrap())
            .into();
        config.freebind = true;
        let _server = serve_with(config);
        for (address, length) in [("169.254.20.10", "32"), ("fd70::11", "128")] {
            run(
                "ip",
                &[
                    "addr",
                    "add",
                    &format!("{address}/{length}"),
                    "dev",
                    "lo",
                    "nodad",
                ],
            );
            for way in ["+notcp", "+tcp"] {
                let seen = dig_at(address, 53, &["web.portico.internal", way]);
                assert_eq!(seen.data(), ["10.254.0.1"], "{address} {way}");
            }
        }
    });
}
