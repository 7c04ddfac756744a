//! What programs see: `getaddrinfo` of glibc and of a static musl program, in a namespace with its own resolv.conf.
//!
//! The two differ where it hurts: musl asks for A and AAAA at once from all servers, takes the first answer, and stops
//! searching at an empty one; glibc asks again by TCP, and tries the search list differently.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::fixture::{Served, config, serve_with};
use crate::tools::{have, run, skip};
use crate::upstream::{Upstream, a, nxdomain};

const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
#include <netdb.h>
#include <arpa/inet.h>
int main(int argc, char **argv) {
    struct addrinfo hints, *found = 0, *one;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    int result = getaddrinfo(argv[1], "80", &hints, &found);
    if (result) { puts(result == EAI_AGAIN ? "AGAIN" : "NONE"); return 0; }
    for (one = found; one; one = one->ai_next) {
        char text[64], name[256];
        getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
        puts(text);
    }
    return 0;
}
"#;

/// The same program with each C library.
struct Programs {
    _directory: TempDir,
    glibc: PathBuf,
    musl: PathBuf,
}

fn compile() -> Programs {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("resolve.c");
    fs::write(&source, PROGRAM).unwrap();
    let build = |compiler: &str, name: &str, extra: &[&str]| {
        let target = directory.path().join(name);
        let paths = [source.to_str().unwrap(), "-o", target.to_str().unwrap()];
        run(compiler, &[&paths[..], extra].concat());
        target
    };
    Programs {
        glibc: build("cc", "glibc", &[]),
        musl: build("musl-gcc", "musl", &["-static"]),
        _directory: directory,
    }
}

/// Runs on a thread with a network and mounts of its own, and these lines in resolv.conf; threads and programs that it
/// starts are in there with it.
pub fn isolated(test: &str, resolv_conf: &str, body: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "it makes namespaces and needs root");
        return;
    }
    let directory = TempDir::new().unwrap();
    let files = [
        ("resolv.conf", resolv_conf),
        ("nsswitch.conf", "hosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n"),
    ];
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let path = directory.path().to_owned();
    let inside = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for (name, _) in files_of(&path) {
            let target = Path::new("/etc").join(&name);
            // A link to a place that exists only where a resolver runs cannot be mounted on.
            if target.canonicalize().is_ok() {
                mount(Some(&path.join(&name)), &target, none, MsFlags::MS_BIND, none).unwrap();
            }
        }
        run("ip", &["link", "set", "lo", "up"]);
        body();
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}

fn files_of(directory: &Path) -> Vec<(String, ())> {
    let entries = fs::read_dir(directory).unwrap();
    entries
        .map(|entry| (entry.unwrap().file_name().into_string().unwrap(), ()))
        .collect()
}

fn resolve(program: &Path, name: &str) -> Vec<String> {
    let output = Command::new(program).arg(name).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Where resolv.conf points.
fn serve_here(upstream: &Upstream) -> Served {
    let mut config = config();
    config.listen = vec!["127.0.0.53:53".parse().unwrap()];
    config.forward.upstreams = vec![upstream.address];
    serve_with(config)
}

#[test]
fn glibc_and_musl_find_every_form_of_a_name() {
    let test = "glibc_and_musl_find_every_form_of_a_name";
    if !have(test, &["cc", "musl-gcc", "ip"]) {
        return;
    }
    let programs = compile();
    let text = "nameserver 127.0.0.53\nsearch corp.example\noptions ndots:0 timeout:5 attempts:1\n";
    isolated(test, text, move || {
        let upstream = Upstream::start(|query| {
            Some(match query.queries[0].name().to_string().as_str() {
                "www.example.com." => a(query, 60, 1),
                _ => nxdomain(query, 60, 60),
            })
        });
        let server = serve_here(&upstream);
        for program in [&programs.glibc, &programs.musl] {
            let web: &[&str] = &["10.254.0.1", "fdfe:706f:7274::1"];
            for (name, expected) in [
                ("web", web),
                ("WEB", web),
                ("web.portico.internal", web),
                ("web.corp.example", web),
                ("tasks.web", &["172.18.0.2", "172.18.0.3", "172.18.0.4"]),
                ("gone", &["NONE"]),
                ("nothing", &["NONE"]),
                ("nothing.portico.internal", &["NONE"]),
                ("www.example.com", &["192.0.2.1"]),
            ] {
                let found = resolve(program, name);
                // What has A records only has no AAAA ones, whatever the upstream of this test says.
                let found: Vec<_> = found.iter().map(String::as_str).collect();
                assert_eq!(found, expected, "{} {name}", program.display());
            }
            // More than a datagram holds: glibc has an answer by TCP, and so has musl since 1.2.4.
            let many = resolve(program, "many");
            assert!(
                many.len() == 100 || many.len() > 20 && program == &programs.musl,
                "{many:?}"
            );
        }
        for name in upstream.all_asked() {
            let ours = ["web", "gone", "many", "internal"]
                .iter()
                .any(|part| name.contains(part));
            assert!(!ours, "{name} was asked of an upstream");
        }
        drop(server);
    });
}

#[test]
fn glibc_and_musl_get_through_the_search_list_of_kubernetes() {
    let test = "glibc_and_musl_get_through_the_search_list_of_kubernetes";
    if !have(test, &["cc", "musl-gcc", "ip"]) {
        return;
    }
    let programs = compile();
    let text = "nameserver 127.0.0.53\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n\
                options ndots:5 timeout:5 attempts:1\n";
    isolated(test, text, move || {
        let upstream = Upstream::start(|query| Some(a(query, 60, 1)));
        let server = serve_here(&upstream);
        for program in [&programs.glibc, &programs.musl] {
            for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
                assert_eq!(
                    resolve(program, name),
                    ["10.96.0.7"],
                    "{} {name}",
                    program.display()
                );
            }
            assert_eq!(
                resolve(program, "db-0.db"),
                ["10.96.1.1"],
                "{}",
                program.display()
            );
            // Somebody else's, which the whole list is tried for first: nothing of that leaves.
            assert!(!resolve(program, "www.example.com").is_empty());
        }
        assert_eq!(upstream.all_asked(), ["www.example.com."]);
        drop(server);
    });
}
