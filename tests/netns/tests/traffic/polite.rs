//! The task program as a polite one: what the engines' tests stand on where containers come and go under load.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netns::client::http::Connection;
use netns::tool;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CLIENTS: u16 = 4;
const ROUNDS: u16 = 5;
/// Of one client. Nobody waits for an answer before the next asks: clients that did would not come while the task is busy.
const EVERY: Duration = Duration::from_millis(1);

/// Ports that nobody has, below those that clients are given.
fn ports() -> impl Iterator<Item = u16> {
    let first = 10_000 + (std::process::id() % 20_000) as u16;
    (first..32_000).filter(|port| TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port)).is_ok())
}

/// Opens one connection after another until the listener is gone. All whose handshake ended must be answered.
fn ask(target: SocketAddr) {
    let (opened, asked) = mpsc::channel::<Connection>();
    let hears = thread::spawn(move || {
        for (number, mut connection) in asked.iter().enumerate() {
            if let Err(error) = connection.receive() {
                panic!("connection {number}: {error}");
            }
        }
    });
    loop {
        match Connection::open(target, None) {
            Ok(mut connection) => {
                connection.send("/").unwrap();
                opened.send(connection).unwrap();
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            Err(error) => panic!("{error}"),
        }
        thread::sleep(EVERY);
    }
    drop(opened);
    hears.join().unwrap();
}

#[test]
fn a_polite_task_without_rights_answers_all_whom_it_promised_a_connection() {
    // Containers have few rights: with none a task must be as polite as with all.
    let helpless: &[&str] = if nix::unistd::geteuid().is_root() {
        &["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    } else {
        &["env"]
    };
    let mut ports = ports();
    for _ in 0..ROUNDS {
        let [port, echo] = [ports.next().unwrap(), ports.next().unwrap()];
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut task = Command::new(helpless[0])
            .args(&helpless[1..])
            .arg(tool::program("portico-task").unwrap())
            .args(["--polite", "--task", "polite"])
            .args(["--port", &port.to_string(), "--echo-port", &echo.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(task.stdout.take().unwrap());
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        assert_eq!(line, "polite serves\n");
        let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(move || ask(target))).collect();
        thread::sleep(Duration::from_millis(50));
        kill(Pid::from_raw(task.id().cast_signed()), Signal::SIGTERM).unwrap();
        let answered: Vec<_> = clients.into_iter().map(JoinHandle::join).collect();
        let mut rest = String::new();
        says.read_to_string(&mut rest).unwrap();
        assert!(task.wait().unwrap().success());
        assert_eq!(rest, "polite is done, lost=0\n");
        assert!(answered.iter().all(Result::is_ok), "{answered:?}");
    }
}
