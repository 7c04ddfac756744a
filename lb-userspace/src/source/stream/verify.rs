//! Whom this node talks to: nodes of its own swarm, by the swarm's own certificates.
//!
//! The chain is checked by rustls; cluster and role here. Both happen within the handshake, so that the other side hears
//! of it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::peer::{Peer, Role};
use super::refusal::Refusal;

/// For those who listen: any node of the cluster may follow.
#[derive(Debug)]
pub struct Followers {
    chain: Arc<dyn ClientCertVerifier>,
    cluster: String,
}

/// For those who follow: only managers of the cluster are believed.
#[derive(Debug)]
pub struct Managers {
    chain: Arc<WebPkiServerVerifier>,
    cluster: String,
}

impl Followers {
    pub fn new(roots: Arc<RootCertStore>, cluster: String) -> Result<Self, String> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, super::identity::provider());
        let chain = chain.build().map_err(|error| error.to_string())?;
        Ok(Self { chain, cluster })
    }
}

impl Managers {
    pub fn new(roots: Arc<RootCertStore>, cluster: String) -> Result<Self, String> {
        let chain = WebPkiServerVerifier::builder_with_provider(roots, super::identity::provider());
        let chain = chain.build().map_err(|error| error.to_string())?;
        Ok(Self { chain, cluster })
    }
}

/// A certificate of which the chain is good.
fn judge(certificate: &[u8], cluster: &str) -> Result<Peer, Refusal> {
    let peer = Peer::of(certificate)?;
    if peer.cluster == cluster {
        Ok(peer)
    } else {
        Err(Refusal::Cluster(peer.cluster))
    }
}

fn wrapped(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// Both traits want the same of a signature, and whoever checks the chain does it.
macro_rules! signatures_by_chain {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain
                .verify_tls12_signature(message, certificate, signed)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain
                .verify_tls13_signature(message, certificate, signed)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.chain.supported_verify_schemes()
        }
    };
}

impl ClientCertVerifier for Followers {
    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, intermediates, now)?;
        judge(certificate, &self.cluster).map_err(wrapped)?;
        Ok(verified)
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    signatures_by_chain!();
}

impl ServerCertVerifier for Managers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = self
            .chain
            .verify_server_cert(certificate, intermediates, name, staple, now);
        let verified = match chain {
            // Why it is not for that name is known better here.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => None,
            other => Some(other?),
        };
        let peer = judge(certificate, &self.cluster).map_err(wrapped)?;
        match (peer.role, verified) {
            (Role::Manager, Some(verified)) => Ok(verified),
            (Role::Worker, _) => Err(wrapped(Refusal::Worker)),
            (Role::Manager, None) => Err(wrapped(Refusal::Role)),
        }
    }

    signatures_by_chain!();
}
