//! A question to an upstream: what answers are remembered under, and its bytes.

use hickory_server::proto::op::{Metadata, Query};
use hickory_server::proto::rr::Name;

use crate::wire::HEADER;

/// What we tell upstreams that we take by UDP, and believe of them.
pub(super) const UDP_SIZE: usize = 1232;

const RD: u8 = 0x01;
const AD: u8 = 0x20;
const CD: u8 = 0x10;

/// Everything that an answer may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// As on the wire, lower-case.
    name: Box<[u8]>,
    kind: u16,
    class: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl Question {
    pub(crate) fn new(query: &Query, request: &Metadata, dnssec_ok: bool) -> Self {
        Self {
            name: wire(query.name()),
            kind: query.query_type().into(),
            class: query.query_class().into(),
            dnssec_ok,
            checking_disabled: request.checking_disabled,
        }
    }

    /// For questions of our own.
    pub(super) fn plain(name: &Name, kind: u16) -> Self {
        Self {
            name: wire(name),
            kind,
            class: 1,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    /// The message that asks it, with OPT unless the upstream has shown that it does not understand it.
    ///
    /// AD asks for the upstream's own judgement (RFC 6840 §5.7); whether the client hears it is decided when it is
    /// answered.
    pub(super) fn message(&self, id: u16, mix_case: bool, edns: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.name.len() + 15);
        out.extend_from_slice(&id.to_be_bytes());
        let checking = if self.checking_disabled { CD } else { 0 };
        out.extend_from_slice(&[RD, AD | checking, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
        match mix_case {
            true => out.extend(self.name.iter().map(|byte| {
                if rand::random() {
                    byte.to_ascii_uppercase()
                } else {
                    *byte
                }
            })),
            false => out.extend_from_slice(&self.name),
        }
        out.extend_from_slice(&self.kind.to_be_bytes());
        out.extend_from_slice(&self.class.to_be_bytes());
        if edns {
            let [high, low] = (UDP_SIZE as u16).to_be_bytes();
            let flags = if self.dnssec_ok { 0x80 } else { 0 };
            out.extend_from_slice(&[0, 0, 41, high, low, 0, 0, flags, 0, 0, 0]);
        }
        out
    }

    /// Labels of the name, for routes.
    pub(super) fn is_within(&self, domain: &[u8]) -> bool {
        // Only at the border of a label: a length byte could be part of one.
        let mut at = 0;
        loop {
            if self.name[at..] == *domain {
                return true;
            }
            match self.name.get(at) {
                None | Some(0) => return false,
                Some(length) => at += usize::from(*length) + 1,
            }
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.name.len() + size_of::<Self>()
    }
}

/// A name as on the wire, lower-case.
pub(super) fn wire(name: &Name) -> Box<[u8]> {
    let mut wire = Vec::with_capacity(Name::MAX_LENGTH);
    for label in name.iter() {
        wire.push(label.len() as u8);
        wire.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    wire.push(0);
    wire.into()
}

/// A name on the wire, as it is written in configurations; the root is empty.
pub(super) fn text(wire: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((length @ 1.., after)) = rest.split_first() {
        let (label, after) = after.split_at_checked(usize::from(*length)).unwrap_or_default();
        labels.push(String::from_utf8_lossy(label));
        rest = after;
    }
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str) -> Question {
        Question::plain(&Name::from_ascii(name).unwrap(), 1)
    }

    #[test]
    fn a_domain_is_written_as_it_was() {
        for domain in ["", "corp.example", "a.b-c.d"] {
            assert_eq!(text(&wire(&Name::from_ascii(domain).unwrap())), domain);
        }
    }

    #[test]
    fn domains_hold_whole_labels() {
        let domain = wire(&Name::from_ascii("corp.example.").unwrap());
        assert!(question("corp.example.").is_within(&domain));
        assert!(question("A.Corp.Example.").is_within(&domain));
        assert!(!question("xcorp.example.").is_within(&domain));
        assert!(!question("example.").is_within(&domain));
        assert!(question("example.").is_within(&[0]));
    }

    #[test]
    fn a_message_can_be_read() {
        let bytes = question("www.example.com.").message(7, true, true);
        let message = hickory_server::proto::op::Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, 7);
        assert!(message.metadata.recursion_desired);
        assert_eq!(
            message.queries[0].name(),
            &Name::from_ascii("www.example.com.").unwrap()
        );
        assert_eq!(message.edns.unwrap().max_payload(), UDP_SIZE as u16);
    }
}
