//! Foreign clients, and what they print.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;

use crate::fixture::Served;

/// What a client understood of an answer.
#[derive(Debug)]
pub struct Seen {
    pub status: String,
    pub flags: Vec<String>,
    pub answer: Vec<String>,
    pub authority: Vec<String>,
    pub additional: Vec<String>,
    pub text: String,
}

impl Seen {
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|held| held == flag)
    }

    /// Last fields of the records of the answer, sorted.
    pub fn data(&self) -> Vec<&str> {
        let mut data: Vec<_> = self
            .answer
            .iter()
            .filter_map(|line| line.split_whitespace().last())
            .collect();
        data.sort_unstable();
        data
    }
}

/// Whether the tools are there. Where they are not, the test is skipped, and fails in CI.
pub fn have(test: &str, tools: &[&str]) -> bool {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output();
            !found.is_ok_and(|output| output.status.success())
        })
        .collect();
    missing.is_empty()
        || skip(
            test,
            &format!("{missing:?} missing; cargo xtask setup installs them"),
        )
}

pub fn skip(test: &str, reason: &str) -> bool {
    assert!(std::env::var("CI").is_err(), "{test}: {reason}");
    let _ = writeln!(std::io::stderr(), "{test} SKIPPED: {reason}");
    false
}

/// Runs a program to its end and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {} {text} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub fn dig(server: &Served, arguments: &[&str]) -> Seen {
    dig_at("127.0.0.1", server.address.port(), arguments)
}

pub fn dig_at(address: &str, port: u16, arguments: &[&str]) -> Seen {
    let (at, port) = (format!("@{address}"), port.to_string());
    let common = [&*at, "-p", &port, "+tries=1", "+time=10", "+nocookie"];
    read(run("dig", &[&common, arguments].concat()))
}

pub fn kdig(server: &Served, arguments: &[&str]) -> Seen {
    let port = server.address.port().to_string();
    read(run(
        "kdig",
        &[&["@127.0.0.1", "-p", &port, "+retry=0", "+time=10"], arguments].concat(),
    ))
}

pub fn drill(server: &Served, arguments: &[&str]) -> Seen {
    let port = server.address.port().to_string();
    read(run(
        "drill",
        &[&["-p", &port], arguments, &["@127.0.0.1"]].concat(),
    ))
}

/// Runs a script with dnspython's modules imported and `ask(name, type, **how)` defined.
pub fn dnspython(server: SocketAddr, script: &str) -> String {
    let prelude = format!(
        "import dns.message, dns.query, dns.flags, dns.rcode, dns.opcode, dns.edns, dns.rdatatype, socket, struct\n\
         host, port = '127.0.0.1', {}\n\
         def ask(name, kind='A', by=dns.query.udp, **how):\n    \
             return by(dns.message.make_query(name, kind, **how), host, port=port, timeout=10)\n",
        server.port()
    );
    // Debian's: the modules are not for any other Python.
    run("/usr/bin/python3", &["-c", &(prelude + script)])
}

/// dig, kdig and drill print the same things in slightly different words.
fn read(text: String) -> Seen {
    let mut seen = Seen {
        status: String::new(),
        flags: Vec::new(),
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        text: String::new(),
    };
    let mut section = "";
    for line in text.lines() {
        let lower = line.to_lowercase();
        for word in ["status: ", "rcode: "] {
            if let Some((_, rest)) = lower.split_once(word).filter(|_| lower.contains("header")) {
                seen.status = rest
                    .split([',', ';'])
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_uppercase();
            }
        }
        if let Some(flags) = lower.strip_prefix(";; flags:") {
            let flags = flags.split(';').next().unwrap_or_default();
            seen.flags = flags.split_whitespace().map(str::to_owned).collect();
        }
        if line.starts_with(';') || line.is_empty() {
            for name in ["answer", "authority", "additional", "question", "pseudosection"] {
                if lower.contains(&format!("{name} section"))
                    || lower.contains(name) && name == "pseudosection"
                {
                    section = name;
                }
            }
            continue;
        }
        match section {
            "answer" => seen.answer.push(line.to_owned()),
            "authority" => seen.authority.push(line.to_owned()),
            "additional" => seen.additional.push(line.to_owned()),
            _ => {}
        }
    }
    // What they could read, but should not have had to.
    for complaint in ["malformed", "extra bytes", "Warning"] {
        assert!(!text.contains(complaint), "{text}");
    }
    seen.text = text;
    seen
}
