//! systemd-resolved between a program and us: it probes what we can do (EDNS sizes, DO), remembers what we say, and
//! believes NXDOMAIN.
//!
//! Its package is unpacked, not installed: installed, it would take over the machine's own resolution.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};

use crate::fixture::{config, eventually, serve_with};
use crate::getaddrinfo::isolated;
use crate::tools::{dig_at, have, run, skip};
use crate::upstream::{Upstream, a, nxdomain};

const STUB: &str = "127.0.0.53";

/// The directory that Debian's packages are unpacked in.
fn unpack() -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd-resolved");
    let root = directory.join("root");
    if root.join("complete").exists() {
        return Some(root);
    }
    fs::create_dir_all(&root).ok()?;
    let script = "apt-get download systemd-resolved libsystemd-shared libsystemd0 && \
                  for package in *.deb; do dpkg-deb -x $package root; done && touch root/complete";
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&directory)
        .output()
        .ok()?
        .status;
    status.success().then_some(root)
}

fn start(root: &Path) -> Child {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(root.join("lib/systemd/systemd-resolved"));
    command
        .env("LD_LIBRARY_PATH", format!("{0}:{0}/systemd", libraries.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: `prctl` is a system call that touches nothing but the new process, which dies with the test's thread.
    unsafe {
        command.pre_exec(|| {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into)
        })
    };
    command.spawn().unwrap()
}

/// Its user and its configuration, where only this namespace sees them.
fn furnish() {
    let none = None::<&str>;
    for place in ["/run", "/etc/systemd"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    fs::create_dir_all("/run/systemd/resolve").unwrap();
    for (file, line) in [
        ("passwd", "systemd-resolve:x:991:991::/:/usr/sbin/nologin\n"),
        ("group", "systemd-resolve:x:991:\n"),
    ] {
        let changed = format!("/run/{file}");
        let target = format!("/etc/{file}");
        fs::write(&changed, fs::read_to_string(&target).unwrap() + line).unwrap();
        mount(Some(&*changed), &*target, none, MsFlags::MS_BIND, none).unwrap();
    }
    let resolved = "[Resolve]\nDNS=127.0.0.2\nFallbackDNS=\nDomains=portico.internal corp.example\nLLMNR=no\n\
                    MulticastDNS=no\nDNSSEC=no\nReadEtcHosts=no\n";
    fs::write("/etc/systemd/resolved.conf", resolved).unwrap();
    nix::unistd::chown("/run/systemd/resolve", Some(991.into()), Some(991.into())).unwrap();
}

#[test]
fn systemd_resolved_gets_what_it_asks_for() {
    let test = "systemd_resolved_gets_what_it_asks_for";
    if !have(test, &["dig", "ip", "apt-get", "dpkg-deb"]) || !nix::unistd::geteuid().is_root() {
        return;
    }
    let Some(root) = unpack() else {
        skip(test, "Debian's systemd-resolved cannot be downloaded");
        return;
    };
    isolated(test, "nameserver 127.0.0.53\n", move || {
        furnish();
        // Without an address that leads somewhere it asks nobody.
        for arguments in [
            "link add outside type veth peer name away",
            "addr add 192.0.2.53/24 dev outside",
            "link set outside up",
            "link set away up",
        ] {
            run("ip", &arguments.split(' ').collect::<Vec<_>>());
        }
        let upstream = Upstream::start(|query| {
            Some(match query.queries[0].name().to_string().as_str() {
                "www.example.com." => a(query, 60, 1),
                _ => nxdomain(query, 60, 60),
            })
        });
        let mut config = config();
        config.listen = vec!["127.0.0.2:53".parse().unwrap()];
        config.forward.upstreams = vec![upstream.address];
        let server = serve_with(config);
        let mut resolved = start(&root);
        let ask = |arguments: &[&str]| dig_at(STUB, 53, arguments);
        eventually("resolved answers", || {
            assert!(resolved.try_wait().unwrap().is_none(), "it has ended");
            std::net::TcpStream::connect((STUB, 53)).is_ok()
        });
        for (name, kind, data) in [
            ("web.portico.internal", "A", vec!["10.254.0.1"]),
            ("web.portico.internal", "AAAA", vec!["fdfe:706f:7274::1"]),
            ("WEB.corp.example", "A", vec!["10.254.0.1"]),
            ("gone.portico.internal", "A", vec![]),
            (
                "tasks.web.portico.internal",
                "A",
                vec!["172.18.0.2", "172.18.0.3", "172.18.0.4"],
            ),
            ("www.example.com", "A", vec!["192.0.2.1"]),
        ] {
            let seen = ask(&[name, kind]);
            assert_eq!(
                (seen.status.as_str(), seen.data()),
                ("NOERROR", data),
                "{name} {kind}"
            );
        }
        assert_eq!(ask(&["nothing.portico.internal"]).status, "NXDOMAIN");
        // What does not fit into a datagram it gets by TCP, and hands out in the same way.
        assert_eq!(ask(&["many.portico.internal"]).answer.len(), 100);
        assert!(server.count("received_tcp") > 0);
        assert_eq!(
            ask(&["_http._tcp.web.portico.internal", "SRV"]).data(),
            ["web.portico.internal."]
        );
        resolved.kill().unwrap();
        resolved.wait().unwrap();
    });
}
