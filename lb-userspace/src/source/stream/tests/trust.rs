//! Who is told, and who is believed.

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::authority::{Authority, Files, Subject};
use super::cluster::{Follower, Manager, picture};
use crate::source::stream::refusal::Refusal;

#[tokio::test]
async fn a_worker_may_follow_and_so_may_a_manager() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    for files in [authority.worker("w1"), authority.manager("m2")] {
        let mut follower = Follower::start(&files, &[manager.address()]);
        follower.has(&picture("web.1")).await;
        let report = follower
            .reports("a connection", |report| report.connected.is_some())
            .await;
        let connected = report.connected.unwrap();
        assert_eq!(
            (connected.manager, &*connected.node),
            (manager.address(), "manager-of-web.1")
        );
        assert_eq!(report.error, None);
    }
    assert!(
        manager
            .figures
            .report()
            .refused
            .iter()
            .all(|(_, count)| *count == 0)
    );
}

/// A follower that is refused, and what both sides say.
async fn refused(authority: &Authority, files: &Files, label: &str) -> String {
    let manager = Manager::telling(authority, "web.1").await;
    let mut follower = Follower::start(files, &[manager.address()]);
    let error = follower.error().await;
    assert_eq!(*follower.following.desired.borrow(), None);
    manager.has_refused(label, 1).await;
    error
}

#[tokio::test]
async fn a_worker_that_pretends_to_be_a_manager_is_not_believed() {
    let authority = Authority::new();
    let own = Manager::start(&authority.worker("w1")).await;
    let mut lying = Subject::of("w2", "swarm-worker");
    lying.names = &["swarm-manager"];
    let named = Manager::start(&authority.issue(&lying)).await;
    for manager in [own, named] {
        manager.publisher.publish(picture("evil.1"));
        let mut follower = Follower::start(&authority.worker("w3"), &[manager.address()]);
        let error = follower.error().await;
        assert!(
            error.contains("it has the certificate of a worker, and only managers"),
            "{error}"
        );
        assert_eq!(*follower.following.desired.borrow(), None);
    }
}

#[tokio::test]
async fn a_node_of_another_swarm_is_refused_by_its_authority() {
    // The follower knows the manager's authority, and has a certificate of another.
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files {
        roots: authority.pem(),
        ..other.worker("w1")
    };
    let error = refused(&authority, &files, "authority").await;
    assert!(error.contains("it refuses this node's certificate"), "{error}");
}

#[tokio::test]
async fn a_manager_of_another_swarm_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let error = refused(&other, &authority.worker("w1"), "stranger").await;
    assert!(error.contains("signed by another authority"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_cluster_by_the_same_authority_is_refused() {
    let authority = Authority::new();
    let mut subject = Subject::of("w1", "swarm-worker");
    subject.cluster = "another";
    // Each side finds it by itself: the follower first.
    let error = refused(&authority, &authority.issue(&subject), "stranger").await;
    assert!(error.contains("is of another swarm"), "{error}");
}

#[rstest]
#[case::expired(Subject { expired: true, ..Subject::of("w1", "swarm-worker") }, "expired", "it has expired")]
#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused(
    #[case] subject: Subject<'_>,
    #[case] label: &str,
    #[case] words: &str,
) {
    let authority = Authority::new();
    let error = refused(&authority, &authority.issue(&subject), label).await;
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_no_nodes_is_no_identity() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let files = authority.issue(&Subject::of("x", "administrators"));
    let mut follower = Follower::start(&files, &[manager.address()]);
    let error = follower.error().await;
    assert!(error.contains("names neither a manager nor a worker"), "{error}");
}

#[tokio::test]
async fn who_speaks_no_tls_is_shown_out() {
    let manager = Manager::telling(&Authority::new(), "web.1").await;
    let mut stranger = TcpStream::connect(manager.address()).await.unwrap();
    stranger
        .write_all(b"GET /portico.mesh.v1.Mesh/Follow HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stranger.read_to_end(&mut answer).await;
    assert!(answer.len() < 16, "{answer:?}");
    manager.has_refused("stranger", 1).await;
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = authority.pem();
    let der = <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
        pem.as_bytes(),
    );
    roots.add(der.unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(crate::source::stream::identity::provider());
    let mut config = config
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(manager.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector
        .connect("swarm-manager".try_into().unwrap(), socket)
        .await
        .unwrap();
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    manager.has_refused("certificate", 1).await;
}

#[tokio::test]
async fn who_says_nothing_keeps_nobody_out() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(manager.address()).await.unwrap());
    }
    let mut follower = Follower::start(&authority.worker("w1"), &[manager.address()]);
    // From the same address: it has to wait until they are shown out.
    follower.has(&picture("web.1")).await;
    assert_eq!(manager.refused("silent"), 4);
    assert!(manager.refused("crowd") > 0);
}

#[tokio::test]
async fn one_node_keeps_nobody_out() {
    let authority = Authority::new();
    let manager = Manager::telling(&authority, "web.1").await;
    let files = authority.worker("w1");
    let mut many = Vec::new();
    for _ in 0..4 {
        let mut follower = Follower::start(&files, &[manager.address()]);
        follower.has(&picture("web.1")).await;
        many.push(follower);
    }
    let fifth = Follower::start(&files, &[manager.address()]);
    manager.has_refused("crowd", 1).await;
    assert_eq!(*fifth.following.desired.borrow(), None);
    let mut other = Follower::start(&authority.worker("w2"), &[manager.address()]);
    other.has(&picture("web.1")).await;
}

#[test]
fn all_reasons_are_documented() {
    let documented = include_str!("../../../../../docs/stream.md");
    let reasons = documented.split("| reason | meaning |").nth(1).unwrap();
    let rows = reasons.lines().skip(2).map_while(|line| line.strip_prefix("| `"));
    let rows: Vec<_> = rows.map(|row| row.split('`').next().unwrap()).collect();
    assert_eq!(rows, Refusal::LABELS);
    let list = Refusal::LABELS.join(", ");
    assert!(include_str!("../../../../../docs/operations.md").contains(&format!("`reason`: {list} |")));
}
