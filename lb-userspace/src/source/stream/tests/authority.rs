//! An authority like a swarm's, and the files that it gives to nodes.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::source::stream::identity::{CERTIFICATE, KEY, ROOTS};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a node's certificate says.
pub struct Subject<'a> {
    pub node: &'a str,
    pub cluster: &'a str,
    /// Organizational unit, and one of the names.
    pub role: &'a str,
    pub names: &'a [&'a str],
    pub expired: bool,
}

/// A node's three files.
pub struct Files {
    pub certificate: String,
    pub key: String,
    pub roots: String,
}

pub const CLUSTER: &str = "e1r97kheabcqtf2a6o08wxupz";

impl Authority {
    pub fn new() -> Self {
        let params = Self::params();
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Every swarm calls it the same.
    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "swarm-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// The next authority of the same swarm, vouched for by this one: its own certificate is `pem`, the other is what nodes
    /// show to those who do not know it yet.
    pub fn rotate(&self) -> (Self, String) {
        let next = Self::new();
        let crossed = Self::params().signed_by(next.0.key(), &self.0).unwrap();
        (next, crossed.pem())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn manager(&self, node: &str) -> Files {
        self.issue(&Subject::of(node, "swarm-manager"))
    }

    pub fn worker(&self, node: &str) -> Files {
        self.issue(&Subject::of(node, "swarm-worker"))
    }

    pub fn issue(&self, subject: &Subject<'_>) -> Files {
        let mut names = vec![subject.role.to_owned(), subject.node.to_owned()];
        names.extend(subject.names.iter().map(|name| (*name).to_owned()));
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in [
            (DnType::OrganizationName, subject.cluster),
            (DnType::OrganizationalUnitName, subject.role),
            (DnType::CommonName, subject.node),
        ] {
            params.distinguished_name.push(kind, value);
        }
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(if subject.expired { 2021 } else { 2090 }, 1, 1);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate: Certificate = params.signed_by(&key, &self.0).unwrap();
        Files {
            certificate: certificate.pem(),
            key: with_headers(&key.serialize_pem()),
            roots: self.pem(),
        }
    }
}

impl<'a> Subject<'a> {
    pub fn of(node: &'a str, role: &'a str) -> Self {
        Self {
            node,
            cluster: CLUSTER,
            role,
            names: &[],
            expired: false,
        }
    }
}

/// As managers write keys.
fn with_headers(pem: &str) -> String {
    let (first, rest) = pem.split_once('\n').unwrap();
    format!("{first}\nkek-version: 0\nraft-dek: EiBpweE6TeZ89NNuSlDA6ZpCLG4iivSI+p8hMX1jOYooyA==\n\n{rest}")
}

impl Files {
    pub fn write(&self, directory: &Path) -> PathBuf {
        for (name, text) in [
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
            (ROOTS, &self.roots),
        ] {
            let new = directory.join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, directory.join(name)).unwrap();
        }
        directory.into()
    }
}
