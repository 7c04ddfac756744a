//! Who a certificate of a swarm is: the node is its common name, the cluster its organization, the role its
//! organizational unit.

use std::fmt;
use std::time::{Duration, SystemTime};

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::refusal::Refusal;

/// Names in certificates are shown up to this length, in bytes; swarm's have 25.
const SHOWN: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The swarm's id of the node.
    pub node: String,
    /// The swarm's own id.
    pub cluster: String,
    pub role: Role,
    /// End of the certificate's validity.
    pub until: SystemTime,
}

/// What a node may do in its swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Manager,
    Worker,
}

impl Role {
    /// As the swarm writes it, also into the names that the certificate is for.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Manager => "swarm-manager",
            Self::Worker => "swarm-worker",
        }
    }
}

impl Peer {
    pub fn of(der: &[u8]) -> Result<Self, Refusal> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| Refusal::Damaged)?;
        let subject = certificate.subject();
        let unit = text(subject, X509Name::iter_organizational_unit);
        let role = [Role::Manager, Role::Worker]
            .into_iter()
            .find(|role| unit.as_deref() == Some(role.label()))
            .ok_or(Refusal::Role)?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            node: text(subject, X509Name::iter_common_name).ok_or(Refusal::Damaged)?,
            cluster: text(subject, X509Name::iter_organization).ok_or(Refusal::Damaged)?,
            role,
            until: SystemTime::UNIX_EPOCH + Duration::from_secs(until.min(u32::MAX.into())),
        })
    }
}

/// The first of its kind: a name that has two is none of swarm's.
fn text<'a, I>(subject: &'a X509Name<'a>, kind: impl Fn(&'a X509Name<'a>) -> I) -> Option<String>
where
    I: Iterator<Item = &'a AttributeTypeAndValue<'a>>,
{
    let mut values = kind(subject);
    let value = values.next()?.as_str().ok()?;
    let one = values.next().is_none() && value.len() <= SHOWN;
    one.then(|| value.escape_debug().to_string())
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({})", self.node, self.role.label())
    }
}
