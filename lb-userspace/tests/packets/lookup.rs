//! A port that another program of this node has: who comes in to a frontend there is led to the proxy's own sockets.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lb_common::host::ALONE;
use lb_common::key::{Front, TCP};
use lb_common::socket::map;
use socket2::{Domain, Socket, Type};

use crate::rig::Rig;
use crate::task::Task;

const PORT: u16 = 8080;

/// Listeners at one address, as several workers have them.
fn group(address: &str) -> Vec<TcpListener> {
    let mut address: SocketAddr = address.parse().unwrap();
    let open = |_| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        if address.is_ipv6() {
            socket.set_only_v6(true).unwrap();
        }
        socket.bind(&address.into()).unwrap();
        socket.listen(16).unwrap();
        socket.set_nonblocking(true).unwrap();
        address = socket.local_addr().unwrap().as_socket().unwrap();
        socket.into()
    };
    (0..2).map(open).collect()
}

/// Whose of these listeners a new connection comes to; it is found there under the address that was asked for.
#[track_caller]
fn taker(listeners: &[&TcpListener], to: SocketAddr, connect: impl FnOnce() -> TcpStream) -> usize {
    let client = connect();
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        for (number, listener) in listeners.iter().enumerate() {
            match listener.accept() {
                Ok((socket, from)) => {
                    assert_eq!(socket.local_addr().unwrap(), to);
                    assert_eq!(from, client.local_addr().unwrap());
                    return number;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(Instant::now() < end, "nobody has it");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_port_that_another_program_has_is_the_proxys_for_those_who_come_in_while_the_proxy_is_there() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, _) = Task::new();
    rig.look_up();
    for (own, any, loopback) in [
        ("172.18.0.1", "0.0.0.0", "127.0.0.1"),
        ("[2001:db8:18::1]", "[::]", "[::1]"),
    ] {
        let host = group(&format!("{any}:{PORT}"));
        let other = group(&format!("{any}:{}", PORT + 1));
        let proxy = group(&format!("{loopback}:0"));
        let all: Vec<&TcpListener> = host.iter().chain(&other).chain(&proxy).collect();
        let at = |ip: &str, port: u16| -> SocketAddr { format!("{ip}:{port}").parse().unwrap() };
        let to = at(own, PORT);
        let from_task = |to| taker(&all, to, || task.get(move || TcpStream::connect(to).unwrap()));
        let from_here = |to| taker(&all, to, || TcpStream::connect(to).unwrap());
        assert!(from_task(to) < 2, "nobody is led anywhere yet");

        // As the agent knows it.
        let octets = match to.ip() {
            IpAddr::V4(ip) => map(ip.octets()),
            IpAddr::V6(ip) => ip.octets(),
        };
        rig.put("OWN", octets, ALONE);
        let unspecified = if to.is_ipv4() { map([0; 4]) } else { [0; 16] };
        let key = Front::new(unspecified, PORT.to_be_bytes(), TCP);
        rig.take_port(key, &proxy[1]);
        let mut workers = [0; 2];
        for _ in 0..40 {
            workers[from_task(to) - 4] += 1;
        }
        assert!(workers.iter().all(|&taken| taken > 0), "{workers:?}");
        assert!((2..4).contains(&from_task(at(own, PORT + 1))), "another port");
        for own_way in [to, at(loopback, PORT)] {
            assert!(from_here(own_way) < 2, "its own processes mean its own program");
        }

        // An address that is the frontend's alone is so for everybody.
        rig.remove::<_, u64>("TAKEN", key);
        rig.take_port(Front::new(octets, PORT.to_be_bytes(), TCP), &proxy[0]);
        for taken in [from_task(to), from_here(to)] {
            assert!(taken >= 4);
        }
        assert!(from_here(at(loopback, PORT)) < 2);
        drop(proxy);
        let host: Vec<&TcpListener> = host.iter().collect();
        let left = taker(&host, to, || task.get(move || TcpStream::connect(to).unwrap()));
        assert!(left < 2, "the proxy has gone");
    }
}
