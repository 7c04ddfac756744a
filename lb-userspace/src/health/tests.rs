use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::probe::{ProbeError, probe};
use super::*;
use crate::model::desired::DEFAULT_SLOTS;
use crate::model::{
    Affinity, Desired, DesiredBackend, DesiredNode, DesiredService, Drains, Frontend, HealthCheck, Identity,
    Naming, Probe, Protocol, Readiness, Stamps, Standing,
};

/// A task that answers with a status that can be changed.
struct Task {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Task {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let task = Self {
            address,
            status: Arc::clone(&status),
            asked: Arc::clone(&asked),
        };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 1024]).await;
                let status = status.load(Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 3\r\n\r\nhey");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        task
    }
}

fn cluster(task: &Task, interval: Duration) -> Desired {
    let backend = DesiredBackend {
        task: "web.1".into(),
        names: Vec::new(),
        node: "node1".into(),
        addresses: vec![task.address.ip()],
        attachments: Vec::new(),
        weight: 1,
        readiness: Readiness::Ready,
        stamps: Stamps::UNKNOWN,
    };
    let elsewhere = DesiredBackend {
        task: "web.2".into(),
        names: Vec::new(),
        node: "node2".into(),
        ..backend.clone()
    };
    let target_port = task.address.port();
    let service = DesiredService {
        naming: Naming::default(),
        vips: Vec::new(),
        assigned: Vec::new(),
        exposed: Vec::new(),
        frontends: vec![Frontend {
            address: None,
            port: 8080,
            protocol: Protocol::Tcp,
            target_port,
            inside: false,
            held: false,
        }],
        slots: DEFAULT_SLOTS,
        affinity: Affinity::None,
        health: Some(HealthCheck {
            probe: Probe::Http {
                path: "/healthz".into(),
            },
            port: target_port,
            interval,
            timeout: interval,
            failures: 3,
            successes: 2,
        }),
        proxy: Default::default(),
        backends: vec![backend, elsewhere],
    };
    let node = |last| DesiredNode {
        address: [192, 0, 2, last].into(),
        draining: false,
    };
    Desired {
        nodes: [("node1".into(), node(1)), ("node2".into(), node(2))].into(),
        services: [("web".into(), Arc::new(service))].into(),
        ..Desired::default()
    }
}

async fn standing(view: &mut View, wanted: Standing) {
    let reached = async {
        loop {
            if view
                .current()
                .services
                .get("web")
                .is_some_and(|web| web.backends[0].standing == wanted)
            {
                return;
            }
            view.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failing_backend_of_this_node_is_taken_out_and_returns_when_it_answers_again() {
    let task = Task::start().await;
    let (writer, _) = Writer::start(Identity::new([0; 32]), ["file".into()], Drains::default());
    let mut view = writer.view();
    let (mut reports, _) = start("node1".into(), writer.clone());
    let interval = Duration::from_millis(50);
    writer
        .source("file".into(), Arc::new(cluster(&task, interval)))
        .await
        .unwrap();
    reports
        .wait_for(|report| report.settled && report.checks.len() == 1)
        .await
        .unwrap();
    assert_eq!(
        view.current().services["web"].backends[0].standing,
        Standing::Active
    );

    task.status.store(503, Ordering::Relaxed);
    let start = std::time::Instant::now();
    standing(&mut view, Standing::Unhealthy).await;
    // Within interval × failures, and what a busy machine adds.
    assert!(
        start.elapsed() < interval * 3 + Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    let report = reports.borrow().clone();
    assert_eq!(
        report.checks.values().next().unwrap().last,
        "127.0.0.1: answered 503"
    );
    assert_eq!(report.unhealthy.len(), 1);

    task.status.store(204, Ordering::Relaxed);
    standing(&mut view, Standing::Active).await;
}

#[tokio::test]
async fn a_backend_is_healthy_only_if_it_answers_at_each_of_its_addresses() {
    let task = Task::start().await;
    let both = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
    let mut desired = cluster(&task, Duration::from_millis(50));
    let web = Arc::make_mut(desired.services.get_mut("web").unwrap());
    (web.backends[0].addresses, web.health.as_mut().unwrap().probe) = (both, Probe::Tcp);
    let (writer, _) = Writer::start(Identity::new([0; 32]), ["file".into()], Drains::default());
    let mut view = writer.view();
    let (reports, _) = start("node1".into(), writer.clone());
    writer.source("file".into(), Arc::new(desired)).await.unwrap();
    standing(&mut view, Standing::Unhealthy).await;
    let last = reports.borrow().checks.values().next().unwrap().last.clone();
    assert!(last.starts_with("::1: no connection"), "{last}");

    let _other = TcpListener::bind(("::1", task.address.port())).await.unwrap();
    standing(&mut view, Standing::Active).await;
}

#[tokio::test]
async fn a_backend_that_is_gone_is_no_longer_asked() {
    let task = Task::start().await;
    let (writer, _) = Writer::start(Identity::new([0; 32]), ["file".into()], Drains::default());
    let (mut reports, _) = start("node1".into(), writer.clone());
    let desired = cluster(&task, Duration::from_millis(20));
    writer.source("file".into(), Arc::new(desired)).await.unwrap();
    reports
        .wait_for(|report| !report.checks.is_empty() && report.settled)
        .await
        .unwrap();
    writer.source("file".into(), Arc::default()).await.unwrap();
    reports.wait_for(|report| report.checks.is_empty()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = task.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(task.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test]
async fn a_task_that_listens_passes_a_tcp_probe_and_one_that_does_not_fails() {
    let second = Duration::from_secs(1);
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    probe(address, &Probe::Tcp, second).await.unwrap();
    drop(listener);
    assert!(matches!(
        probe(address, &Probe::Tcp, second).await,
        Err(ProbeError::Connect(_))
    ));
}

#[tokio::test]
async fn a_task_that_accepts_and_says_nothing_fails_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = Probe::Http { path: "/".into() };
    let result = probe(listener.local_addr().unwrap(), &http, Duration::from_millis(50)).await;
    assert!(matches!(result, Err(ProbeError::Timeout(_))), "{result:?}");
}

#[tokio::test]
async fn an_endless_or_senseless_answer_fails() {
    for answer in [
        "what?\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        let http = Probe::Http { path: "/".into() };
        let result = probe(address, &http, Duration::from_secs(5)).await;
        assert!(matches!(result, Err(ProbeError::Http(_))), "{result:?}");
    }
}
