//! Why a connection between agents does not come about, in one sentence.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// The other side is "it". Sides differ in what they can find: both are here, so that both say it alike.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it does not speak TLS as agents do")]
    Stranger,
    #[error("it shows no certificate")]
    NoCertificate,
    #[error("its certificate is signed by another authority: it is of another swarm, or of none")]
    Authority,
    #[error("its certificate has expired, or is not valid yet by this node's clock")]
    Expired,
    #[error("its certificate is of another swarm, {0}")]
    Cluster(String),
    #[error("its certificate names neither a manager nor a worker of a swarm")]
    Role,
    #[error("it has the certificate of a worker, and only managers may say what the swarm wants")]
    Worker,
    #[error("its certificate cannot be read")]
    Damaged,
    #[error("it does not say anything in time")]
    Silent,
    #[error("too many connections")]
    Crowd,
    #[error("this node has no certificates of a swarm to show")]
    Unready,
    #[error("it is no manager's agent, or does not see itself what the swarm wants")]
    Untold,
    #[error("it refuses this node's certificate: {0}")]
    Refused(&'static str),
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    /// Of all that are counted.
    pub const LABELS: [&str; 9] = [
        "stranger",
        "certificate",
        "authority",
        "expired",
        "cluster",
        "role",
        "silent",
        "crowd",
        "unready",
    ];

    /// As metrics have it; a [`LABELS`](Self::LABELS).
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Stranger | Self::Untold | Self::Refused(_) | Self::Other(_) => "stranger",
            Self::NoCertificate | Self::Damaged => "certificate",
            Self::Authority => "authority",
            Self::Expired => "expired",
            Self::Cluster(_) => "cluster",
            Self::Role | Self::Worker => "role",
            Self::Silent => "silent",
            Self::Crowd => "crowd",
            Self::Unready => "unready",
        }
    }

    /// What is behind the error of a handshake or of a connection; `None`: nothing about trust.
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let tls = inside.and_then(|inside| inside.downcast_ref::<rustls::Error>());
            if let Some(refusal) = tls.or_else(|| error.downcast_ref()).map(Self::of) {
                return Some(refusal);
            }
            next = error.source();
        }
        None
    }

    fn of(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(wrong) => Self::of_certificate(wrong),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::PeerMisbehaved(_)
            | rustls::Error::NoApplicationProtocol => Self::Stranger,
            other => Self::Other(other.to_string()),
        }
    }

    fn of_certificate(wrong: &CertificateError) -> Self {
        match wrong {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::Authority,
            CertificateError::BadEncoding => Self::Damaged,
            // In this order: our own verdicts are wrapped.
            CertificateError::Other(other) => {
                let own = other.0.downcast_ref::<Self>();
                own.cloned().unwrap_or_else(|| Self::Other(other.to_string()))
            }
            other => Self::Other(format!("its certificate is not good: {other}")),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::Refused("it has expired by the clock over there"),
            // The second where its authority has the same name as theirs, and every swarm's has.
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                Self::Refused("its authority is not known there")
            }
            AlertDescription::CertificateRequired => Self::Refused("there is none"),
            AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::AccessDenied => Self::Refused("it is not that of a node of the same swarm"),
            // What has the port serves other protocols alone.
            AlertDescription::NoApplicationProtocol => Self::Untold,
            other => Self::Other(format!("it ends the handshake: {other:?}")),
        }
    }
}
