//! This node's certificate, its key and the authorities it believes, read from the files that the engine keeps.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::peer::Peer;
use super::refusal::Refusal;
use super::verify::{Followers, Managers};

/// How callers ask for the stream (ALPN): it is HTTP/2.
pub const PROTOCOL: &[u8] = b"h2";
/// What the engine calls them.
pub const CERTIFICATE: &str = "swarm-node.crt";
pub const KEY: &str = "swarm-node.key";
pub const ROOTS: &str = "swarm-root-ca.crt";

/// All that is needed to talk to others; replaced as a whole.
#[derive(Debug)]
pub struct Identity {
    /// Who this node is by its own certificate.
    pub own: Peer,
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
    /// Of the authorities, in any order: connections that were made with others end.
    pub roots: blake3::Hash,
    /// Of the certificates that this node shows.
    pub shown: blake3::Hash,
}

/// Why there is no identity, or no newer one.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(
        "{} is encrypted, as `docker swarm update --autolock=true` does it: only the engine can read it; \
         `docker swarm update --autolock=false` on a manager writes it anew",
        .0.display()
    )]
    Locked(PathBuf),
    #[error("{} does not belong to {CERTIFICATE} beside it", .0.display())]
    OtherKey(PathBuf),
    #[error("the certificate {} is not that of a node of a swarm: {why}", path.display())]
    NoNode { path: PathBuf, why: Refusal },
}

impl Identity {
    /// Reads the three files of a directory.
    pub fn load(directory: &Path) -> Result<Self, Trouble> {
        let (certificate, key, roots) = (
            directory.join(CERTIFICATE),
            directory.join(KEY),
            directory.join(ROOTS),
        );
        let chain = certificates(&certificate)?;
        let own = Peer::of(&chain[0]).map_err(|why| Trouble::NoNode {
            path: certificate.clone(),
            why,
        })?;
        let shown = fingerprint(&chain);
        let pair = pair(chain, &certificate, &key)?;
        let authorities = certificates(&roots)?;
        let mut store = RootCertStore::empty();
        for authority in &authorities {
            let added = store.add(authority.clone());
            added.map_err(|error| damaged(&roots, error))?;
        }
        let store = Arc::new(store);
        let cluster = || own.cluster.clone();
        let followers = Followers::new(Arc::clone(&store), cluster()).map_err(|why| damaged(&roots, why))?;
        let managers = Managers::new(store, cluster()).map_err(|why| damaged(&roots, why))?;
        Ok(Self {
            server: Arc::new(server(followers, &pair)?),
            client: Arc::new(client(managers, pair)?),
            roots: fingerprint(&authorities),
            shown,
            own,
        })
    }
}

/// Who this node is by its certificate, whatever its key and the authorities are.
pub fn own(directory: &Path) -> Result<Peer, Trouble> {
    let path = directory.join(CERTIFICATE);
    let chain = certificates(&path)?;
    Peer::of(&chain[0]).map_err(|why| Trouble::NoNode { path, why })
}

/// There is no certificate: engines remove it when they leave their swarm.
pub fn is_uncertified(directory: &Path) -> bool {
    let there = std::fs::metadata(directory.join(CERTIFICATE));
    there.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server(followers: Followers, pair: &Arc<SingleCertAndKey>) -> Result<ServerConfig, Trouble> {
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let mut config = config
        .map_err(|error| damaged(Path::new(CERTIFICATE), error))?
        .with_client_cert_verifier(Arc::new(followers))
        .with_cert_resolver(Arc::clone(pair) as _);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Who comes again shows its certificate again: it may have expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(managers: Managers, pair: Arc<SingleCertAndKey>) -> Result<ClientConfig, Trouble> {
    let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let mut config = config
        .map_err(|error| damaged(Path::new(CERTIFICATE), error))?
        // Stricter than rustls' own: see `verify`.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(managers))
        .with_client_cert_resolver(pair);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn pair(
    chain: Vec<CertificateDer<'static>>,
    certificate: &Path,
    path: &Path,
) -> Result<Arc<SingleCertAndKey>, Trouble> {
    let pem = read(path)?;
    let text = String::from_utf8_lossy(&pem);
    if text.contains("ENCRYPTED") {
        return Err(Trouble::Locked(path.into()));
    }
    let key = PrivateKeyDer::from_pem_slice(without_headers(&text).as_bytes())
        .map_err(|error| damaged(path, error))?;
    let key = provider().key_provider.load_private_key(key);
    let key = key.map_err(|error| damaged(path, error))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) => Ok(Arc::new(pair.into())),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Trouble::OtherKey(path.into())),
        Err(error) => Err(damaged(certificate, error)),
    }
}

/// Managers keep further keys in the headers of the block (RFC 1421, 4.6), which readers of RFC 7468 do not expect.
fn without_headers(pem: &str) -> String {
    let lines = pem
        .lines()
        .filter(|line| !line.contains(':') && !line.trim().is_empty());
    // Of a folded header, what goes on begins with a space.
    let lines = lines.filter(|line| !line.starts_with([' ', '\t']));
    lines.fold(String::new(), |all, line| all + line + "\n")
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| damaged(path, error))?;
    if all.is_empty() {
        return Err(Trouble::Empty(path.into()));
    }
    Ok(all)
}

/// The files have a few kilobytes; what is longer is something else.
fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    const MOST: u64 = 1 << 20;
    let trouble = |error| Trouble::Io {
        path: path.into(),
        error,
    };
    let length = std::fs::metadata(path).map_err(trouble)?.len();
    if length > MOST {
        return Err(damaged(path, format!("{length} bytes are not a certificate")));
    }
    std::fs::read(path).map_err(trouble)
}

fn damaged(path: &Path, why: impl ToString) -> Trouble {
    Trouble::Damaged {
        path: path.into(),
        why: why.to_string(),
    }
}

fn fingerprint(certificates: &[CertificateDer<'_>]) -> blake3::Hash {
    let mut sorted: Vec<&[u8]> = certificates.iter().map(|der| &**der).collect();
    sorted.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for der in sorted {
        hasher.update(blake3::hash(der).as_bytes());
    }
    hasher.finalize()
}
