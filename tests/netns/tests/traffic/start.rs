//! The very first start of an agent, beside what the node did before.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use netns::client::http;
use netns::{Service, testing, wait};

const DEADLINE: Duration = Duration::from_secs(10);

/// Says `word` on one end and hears it on the other.
fn passes(from: &mut TcpStream, to: &mut TcpStream, word: &[u8; 4]) {
    from.write_all(word).unwrap();
    let mut heard = [0; 4];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, word);
}

#[test]
fn a_connection_of_the_node_itself_goes_on_when_its_port_is_published() {
    // The service is published on the port only once the connection is there.
    let Some(mut cluster) = testing::cluster("before")
        .service("web", Service::new(&["8081:80"]), 3)
        .stage()
    else {
        return;
    };
    let target = cluster.ports(8080)[0];
    let listener = cluster
        .place("node1")
        .run(|| TcpListener::bind("0.0.0.0:8080").unwrap())
        .unwrap();
    let mut client = cluster
        .client()
        .run(|| TcpStream::connect(target).unwrap())
        .unwrap();
    let (mut node, _) = listener.accept().unwrap();
    for end in [&client, &node] {
        end.set_read_timeout(Some(DEADLINE)).unwrap();
    }
    passes(&mut client, &mut node, b"ping");

    cluster.set_service("web", Service::new(&["8080:80"]));
    cluster.publish().unwrap();
    let is_published = || {
        let says = cluster.portico("node1", &["trace", "198.51.100.10:40000", &target.to_string()]);
        says.is_ok_and(|words| words.contains("is for a frontend"))
    };
    wait::until("the port is published", DEADLINE, is_published).unwrap();

    let served = http::ask(&cluster.client(), target).unwrap();
    assert_eq!(served.service, "web", "new connections reach the service");
    passes(&mut client, &mut node, b"more");
    passes(&mut node, &mut client, b"back");
}
