//! Why two nodes do not get so far as to talk about a connection, in one sentence.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// The other side is "it".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it does not speak TLS as agents do")]
    Stranger,
    #[error("it asks for something else than the relay, which this node does not have")]
    Elsewhere,
    #[error("it shows no certificate, or none that can be read")]
    Certificate,
    #[error("its certificate is signed by another authority: is cluster.secret the same on both nodes?")]
    Authority,
    #[error("its certificate is that of another node")]
    Name,
    #[error("it does not believe this node: is cluster.secret the same on both nodes?")]
    Unbelieved,
    #[error("it does not relay")]
    Unserved,
    #[error("it does not say anything in time")]
    Silent,
    #[error("too many connections")]
    Crowd,
    #[error("no node of the cluster has its address and its certificate")]
    Unknown,
    #[error("it is {node}, which has another address")]
    Misplaced { node: String },
    #[error("what it asks for cannot be read: {0}")]
    Malformed(String),
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Of all that are counted.
    pub const LABELS: [&str; 8] = [
        "stranger",
        "certificate",
        "authority",
        "silent",
        "crowd",
        "unknown",
        "misplaced",
        "malformed",
    ];

    /// As metrics have it; a [`LABELS`](Self::LABELS).
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Stranger | Self::Elsewhere | Self::Unserved | Self::Unbelieved | Self::Other(_) => {
                "stranger"
            }
            Self::Certificate | Self::Name => "certificate",
            Self::Authority => "authority",
            Self::Silent => "silent",
            Self::Crowd => "crowd",
            Self::Unknown => "unknown",
            Self::Misplaced { .. } => "misplaced",
            Self::Malformed(_) => "malformed",
        }
    }

    /// What TLS has found, if it was that.
    pub fn behind(error: &io::Error) -> Option<Self> {
        let mut next = error.get_ref().map(|inside| inside as &(dyn Error + 'static));
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of(tls));
            }
            next = error.source();
        }
        None
    }

    /// As [`behind`](Self::behind), with words for the rest.
    pub fn of_handshake(error: &io::Error) -> Self {
        Self::behind(error).unwrap_or_else(|| Self::Other(error.to_string()))
    }

    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::Certificate,
            rustls::Error::InvalidCertificate(wrong) => Self::of_certificate(wrong),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::NoApplicationProtocol => Self::Elsewhere,
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::PeerMisbehaved(_) => Self::Stranger,
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(wrong: &CertificateError) -> Self {
        match wrong {
            // The second where its authority has the same name as ours, and every cluster's has.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Authority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::Name,
            CertificateError::BadEncoding => Self::Certificate,
            other => Self::Other(format!("its certificate is not good: {other}")),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired => Self::Unbelieved,
            AlertDescription::NoApplicationProtocol => Self::Unserved,
            other => Self::Other(format!("it ends the handshake: {other:?}")),
        }
    }
}
