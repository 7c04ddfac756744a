//! What a header of version 2 says besides addresses: type, length, value (section 2.2 of the specification).

use super::{Fault, Wrong};

/// Types whose length is known.
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;

/// A row of them as it is in a header, each known to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'d>(&'d [u8]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'d> {
    pub kind: u8,
    pub value: &'d [u8],
}

impl Tlvs<'static> {
    pub const NONE: Self = Self(&[]);
}

impl<'d> Tlvs<'d> {
    /// A row that is known to be one.
    pub(super) fn whole(bytes: &'d [u8]) -> Self {
        Self(bytes)
    }

    /// Reads a row that begins `at` bytes behind its header's beginning.
    pub(super) fn within(bytes: &'d [u8], at: usize) -> Result<Self, Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = at + bytes.len() - rest.len();
            let (tlv, behind) = split(rest).ok_or(Wrong::TlvCut.at(at))?;
            let length = tlv.value.len();
            let fits = match tlv.kind {
                CRC32C => length == 4,
                UNIQUE_ID => length <= 128,
                _ => true,
            };
            if !fits {
                let kind = tlv.kind;
                return Err(Wrong::TlvLength { kind, length }.at(at));
            }
            rest = behind;
        }
        Ok(Self(bytes))
    }

    /// In their order.
    pub fn iter(self) -> impl Iterator<Item = Tlv<'d>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (tlv, behind) = split(rest)?;
            rest = behind;
            Some(tlv)
        })
    }

    /// In bytes: at most what a header has room for that was read, so that there is room for addresses in the number.
    pub(super) fn size(self) -> u16 {
        self.0.len() as u16
    }

    pub(super) fn bytes(self) -> &'d [u8] {
        self.0
    }
}

/// The first of a row, and the others.
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    Some((Tlv { kind, value }, rest))
}
