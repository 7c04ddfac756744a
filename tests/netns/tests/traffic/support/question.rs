//! One question to a node's name server, without the C library's patience.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use dns::proto::op::{Message, MessageType, OpCode, Query};
use dns::proto::rr::{Name, RecordType};
use netns::{Namespace, address};

/// An answer comes within a millisecond; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct Question(Vec<u8>);

impl Question {
    /// For the IPv4 address of a name of the mesh.
    pub fn of(name: &str) -> Self {
        let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii(format!("{name}.portico.internal.")).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        Self(message.to_vec().unwrap())
    }

    /// Asks the name server of tasks, from the namespace of the calling thread: how many addresses it gives. `None`
    /// without an answer.
    pub fn ask(&self) -> Option<usize> {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let server = SocketAddr::from((address::BRIDGE.v4, 53));
        socket.connect(server).unwrap();
        socket.send(&self.0).ok()?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).ok()?;
        Some(Message::from_vec(&buffer[..length]).unwrap().answers.len())
    }

    pub fn ask_from(&self, place: &Namespace) -> Option<usize> {
        place.run(|| self.ask()).unwrap()
    }
}
