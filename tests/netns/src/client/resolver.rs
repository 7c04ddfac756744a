//! The least of a stub resolver: what `/etc/resolv.conf` says, one question by UDP, addresses in the answer's order.
//!
//! A program that is linked without libraries cannot use the C library's, which loads parts of itself at run time.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Record types (RFC 1035, 3596).
const A: u16 = 1;
const AAAA: u16 = 28;
/// As the C library: two rounds over all servers.
const ROUNDS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(2);

/// What `/etc/resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Resolver {
    /// Reads the file anew: it may be another one every time.
    pub fn here() -> Result<Self> {
        let resolver = Self::parse(&fs::read_to_string("/etc/resolv.conf")?);
        if resolver.servers.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "/etc/resolv.conf names no server",
            ));
        }
        Ok(resolver)
    }

    fn parse(text: &str) -> Self {
        let mut resolver = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => resolver
                    .servers
                    .extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => resolver.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    resolver.ndots = ndots.unwrap_or(resolver.ndots);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The addresses of a name, IPv4 before IPv6, or of what is an address already.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>> {
        if let Ok(address) = name.trim_matches(['[', ']']).parse() {
            return Ok(vec![address]);
        }
        for candidate in self.candidates(name) {
            let mut found = self.ask(&candidate, A)?;
            found.extend(self.ask(&candidate, AAAA)?);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("nobody is called {name}"),
        ))
    }

    /// A name with enough dots is asked for as it is first, any other one last (resolv.conf(5)).
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let within = self.search.iter().map(|domain| format!("{name}.{domain}"));
        let dots = name.matches('.').count();
        if dots >= self.ndots {
            std::iter::once(name.to_owned()).chain(within).collect()
        } else {
            within.chain([name.to_owned()]).collect()
        }
    }

    fn ask(&self, name: &str, kind: u16) -> Result<Vec<IpAddr>> {
        let mut last = Error::from(ErrorKind::TimedOut);
        for _ in 0..ROUNDS {
            for &server in &self.servers {
                match question(server, name, kind) {
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => last = error,
                }
            }
        }
        Err(Error::new(
            last.kind(),
            format!("no answer about {name} from {:?}: {last}", self.servers),
        ))
    }
}

fn question(server: IpAddr, name: &str, kind: u16) -> Result<Vec<IpAddr>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    // A port that the kernel has just picked is as good a number as any: answers come to this socket only.
    let id = socket.local_addr()?.port();
    socket.connect(SocketAddr::new(server, 53))?;
    socket.send(&encode(id, name, kind)?)?;
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        match decode(&buffer[..length], id, kind) {
            // Somebody else's.
            None => {}
            Some(answer) => return answer,
        }
    }
}

/// One question, recursion wanted.
fn encode(id: u16, name: &str, kind: u16) -> Result<Vec<u8>> {
    let mut packet = Vec::with_capacity(32 + name.len());
    for word in [id, 0x0100, 1, 0, 0, 0] {
        packet.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(Error::new(ErrorKind::InvalidInput, format!("{name} is no name")));
        }
        packet.push(label.len() as u8);
        packet.extend(label.bytes());
    }
    packet.push(0);
    for word in [kind, 1] {
        packet.extend(word.to_be_bytes());
    }
    Ok(packet)
}

/// The addresses of an answer; none where it is no answer to this question.
fn decode(packet: &[u8], id: u16, kind: u16) -> Option<Result<Vec<IpAddr>>> {
    let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    if word(0)? != id || word(2)? & 0x8000 == 0 {
        return None;
    }
    match word(2)? & 0xf {
        0 => {}
        // There is no such name.
        3 => return Some(Ok(Vec::new())),
        code => return Some(Err(Error::other(format!("the server says {code}")))),
    }
    let mut at = 12;
    for _ in 0..word(4)? {
        at = skip_name(packet, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(packet, at)?;
        let (own, length) = (word(at)?, word(at + 8)? as usize);
        let data = packet.get(at + 10..at + 10 + length)?;
        let address = if own != kind {
            None
        } else if let Ok(bytes) = <[u8; 4]>::try_from(data) {
            Some(bytes.into())
        } else {
            <[u8; 16]>::try_from(data).ok().map(IpAddr::from)
        };
        found.extend(address);
        at += 10 + length;
    }
    Some(Ok(found))
}

/// Where a name ends: at its root, or after a pointer (RFC 1035, 4.1.4).
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + length as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_the_c_library_does() {
        let text = "# Docker's\nnameserver 127.0.0.11\nnameserver 2001:db8::53\nsearch shop.example lab\noptions edns0 ndots:2\n";
        let resolver = Resolver::parse(text);
        assert_eq!(
            resolver.servers,
            [
                "127.0.0.11".parse::<IpAddr>().unwrap(),
                "2001:db8::53".parse().unwrap()
            ]
        );
        assert_eq!(
            resolver.candidates("web.shop"),
            ["web.shop.shop.example", "web.shop.lab", "web.shop"]
        );
        assert_eq!(resolver.candidates("a.b.c")[0], "a.b.c");
        assert_eq!(resolver.candidates("web."), ["web"]);
    }

    #[test]
    fn an_answer_is_read_and_anything_else_is_not() {
        let question = encode(7, "web.shop", A).unwrap();
        assert!(decode(&question, 7, A).is_none(), "a question is no answer");
        let mut answer = question.clone();
        answer[2] |= 0x80;
        answer[7] = 2;
        // An alias comes first; both names are pointers to the question's.
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 254, 0, 1]);
        let found = decode(&answer, 7, A).unwrap().unwrap();
        assert_eq!(found, ["10.254.0.1".parse::<IpAddr>().unwrap()]);
        assert!(decode(&answer, 8, A).is_none(), "another question's");
        for length in 0..answer.len() {
            let _ = decode(&answer[..length], 7, A);
        }
        answer[3] |= 3;
        assert_eq!(decode(&answer, 7, A).unwrap().unwrap(), [] as [IpAddr; 0]);
    }
}
