//! Who a node is to the others: a certificate by an authority that all who know the cluster's secret have in common.
//!
//! The authority's key is derived from the secret, so no certificate has to be brought anywhere. A node's own key is made
//! when its agent starts and never leaves its memory. Certificates do not expire: whoever knows the secret could issue
//! another, and a node whose clock is wrong is to be reached all the same.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519,
};
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// How callers ask for the relay (ALPN).
pub const PROTOCOL: &[u8] = b"portico-relay/1";
/// Nodes whose tickets are kept, for short handshakes.
const NODES: usize = 1024;
/// What an Ed25519 private key begins with in PKCS #8 (RFC 8410, 7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What this node shows, and whom it believes: others of the same authority.
pub struct Identity {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

/// Why there is no identity: this machine has no randomness to give, or the cryptography of this build is not what it was.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot set up the check of certificates: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

impl Identity {
    /// `authority`: the authority's private key.
    pub fn new(authority: &[u8; 32], node: &str) -> Result<Self, Unmade> {
        let authority = issuer(authority)?;
        let (certificate, key) = pair(&authority, node)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        let (roots, chain) = (Arc::new(roots), vec![certificate]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self {
            server: Arc::new(server(&provider, &roots, chain.clone(), key.clone_key())?),
            client: Arc::new(client(provider, roots, chain, key)?),
        })
    }
}

/// The name that a node's certificate is for. A node may be called what no machine on the Internet may.
pub fn host(node: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(label(node)).ok()
}

/// Whether a certificate, of which the chain is good, is that of a node.
pub fn is_of(certificate: &CertificateDer<'_>, node: &str) -> bool {
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else {
        return false;
    };
    host(node).is_some_and(|host| verify_server_name(&certificate, &host).is_ok())
}

fn label(node: &str) -> String {
    let hash = blake3::hash(node.as_bytes()).to_hex();
    format!("{}.portico", &hash[..32])
}

fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
) -> Result<ServerConfig, Unmade> {
    let callers = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(callers.build()?)
        .with_single_cert(chain, key.into())?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A caller that comes again shows what it was given here, with its certificate in it: nothing is kept for it. Whether
    // it is a node of the cluster, and comes from that node's address, is asked each time.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

fn client(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
) -> Result<ClientConfig, Unmade> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key.into())?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::in_memory_sessions(NODES);
    Ok(config)
}

/// The same on every node but for its signature, which nobody looks at: it is believed as it is.
fn issuer(key: &[u8; 32]) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let der = PrivatePkcs8KeyDer::from([&PKCS8[..], key].concat());
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = called("portico relay authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, key)
}

fn pair(
    authority: &CertifiedIssuer<'static, KeyPair>,
    node: &str,
) -> Result<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::new(vec![label(node)])?;
    params.distinguished_name = called("portico relay");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, authority)?;
    Ok((certificate.der().clone(), key.into()))
}

fn called(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
