//! Another program has the port: clients come to sockets somewhere else.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;

use socket2::SockRef;

use super::super::listen::GONE;
use super::super::*;
use super::rig::{PATIENCE, Rig, read};
use crate::model::{Protocol, ProxyRules};

/// Where the kernel would lead clients: the cookie and the address of a socket.
#[derive(Debug, Default)]
struct Led(Mutex<BTreeMap<Bind, (u64, SocketAddr)>>);

impl Led {
    fn to(&self, bind: Bind) -> Option<SocketAddr> {
        self.0.lock().unwrap().get(&bind).map(|(_, at)| *at)
    }
}

impl Lookup for Led {
    fn found(&self) -> BTreeMap<u64, Bind> {
        let led = self.0.lock().unwrap();
        led.iter().map(|(bind, (cookie, _))| (*cookie, *bind)).collect()
    }

    fn lead(&self, bind: Bind, socket: BorrowedFd<'_>) -> Result<(), String> {
        let socket = SockRef::from(&socket);
        let at = socket.local_addr().unwrap().as_socket().unwrap();
        self.0
            .lock()
            .unwrap()
            .insert(bind, (socket.cookie().unwrap(), at));
        Ok(())
    }

    fn keep(&self, binds: &BTreeSet<Bind>) {
        self.0.lock().unwrap().retain(|bind, _| binds.contains(bind));
    }
}

fn client(at: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(at).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn is_served(client: &mut TcpStream, task: &TcpListener) {
    let (mut near, _) = task.accept().unwrap();
    near.write_all(b"!").unwrap();
    assert_eq!(read(client, 1), b"!");
}

#[test]
fn clients_are_led_past_a_program_until_it_goes_whichever_agent_is_there() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let task = rig.listen(0);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = Bind {
        address: other.local_addr().unwrap(),
        protocol: Protocol::Tcp,
    };
    let led = Arc::new(Led::default());
    rig.beside.lookup = Some(Arc::clone(&led) as _);
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.frontends[0].port = bind.address.port();
    rig.replace(2, |_| {});
    let report = rig.plane.report();
    assert_eq!(report.problems, []);
    assert_eq!(report.proxy.unwrap().led, [bind.to_string()].into());
    let at = led.to(bind).unwrap();
    is_served(&mut client(at), &task);

    let mut waiting = Vec::new();
    rig.succeed(3, |_| waiting.extend((0..10).map(|_| client(at))));
    rig.plane.shared.look();
    assert_eq!(led.to(bind), Some(at), "nothing is known yet");
    rig.apply();
    assert_eq!(led.to(bind), Some(at), "the same sockets");
    for _ in &waiting {
        task.accept().unwrap().0.write_all(b"!").unwrap();
    }
    for client in &mut waiting {
        assert_eq!(read(client, 1), b"!");
    }

    // Programs are started again, and it is looked each second as well.
    let look = |later: Duration| {
        let shared = &rig.plane.shared;
        shared
            .state()
            .listeners
            .retry(&shared.workers, Instant::now() + later);
        led.to(bind)
    };
    drop(other);
    assert_eq!(look(Duration::ZERO), Some(at));
    let other = TcpListener::bind(bind.address).unwrap();
    assert_eq!(look(GONE), Some(at), "it is back");
    drop(other);
    assert_eq!(look(Duration::ZERO), Some(at));
    assert_eq!(look(GONE / 2), Some(at));
    is_served(&mut client(at), &task);
    assert_eq!(look(GONE), None);
    is_served(&mut rig.client(), &task);
    is_served(&mut client(at), &task);
}

#[test]
fn nobody_is_led_to_where_tasks_see_their_clients_at_the_same_port_and_it_is_told() {
    let mut rig = Rig::new(1, ProxyRules::default());
    let led = Arc::new(Led::default());
    rig.beside.lookup = Some(Arc::clone(&led) as _);
    let other = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    let front = &mut service.frontends[0];
    (front.address, front.port, front.target_port) = (None, port, port);
    for pool in &mut rig.snapshot.pools {
        Arc::make_mut(pool).target_port = port;
    }
    rig.replace(2, |_| {});
    let bind = Bind {
        address: (Ipv4Addr::UNSPECIFIED, port).into(),
        protocol: Protocol::Tcp,
    };
    assert!(led.to(bind).is_some());

    // Those that are led already are led no more.
    let service = Arc::make_mut(rig.snapshot.services.get_mut("web").unwrap());
    service.proxy.transparent = true;
    rig.snapshot.generation += 1;
    rig.apply();
    assert_eq!(led.to(bind), None);
    let problems = rig.plane.report().problems;
    let told = |part: &str| problems.iter().any(|problem| problem.error.contains(part));
    assert!(
        told(&format!("0.0.0.0:{port}/tcp")) && told("(transparent)"),
        "{problems:?}"
    );
    let missing = rig.plane.report().proxy.unwrap().missing;
    assert!(
        missing[&format!("0.0.0.0:{port}/tcp")].contains("(transparent)"),
        "{missing:?}"
    );
    let unspecified = Ipv4Addr::UNSPECIFIED.into();
    assert!(
        rig.plane
            .missing()
            .contains(&(unspecified, port, Protocol::Tcp.number()))
    );
}
