//! An upstream's answer as it came, with marks where it must be changed for each client.
//!
//! Not decoded by hickory and encoded again: the bytes stay what the upstream sent, whatever types they hold, and an
//! answer from memory is one copy and a few patches.

use std::net::SocketAddr;
use std::time::Duration;

use crate::encode::{Room, append_opt};
use crate::wire::{HEADER, skip_name};
use hickory_server::proto::op::Metadata;

const QR: u8 = 0x80;
const TC: u8 = 0x02;
const RA: u8 = 0x80;
const AD: u8 = 0x20;
const CD: u8 = 0x10;

const SOA: u16 = 6;
const OPT: u16 = 41;

const NO_ERROR: u16 = 0;
const SERVER_FAILURE: u16 = 2;
const NAME_ERROR: u16 = 3;

/// A well-formed answer, without its OPT record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Whose answer it is.
    pub(crate) from: SocketAddr,
    bytes: Box<[u8]>,
    /// Where the question ends.
    question: usize,
    records: Box<[Mark]>,
    /// Records per section.
    counts: [u16; 3],
    code: u16,
    /// Seconds that it may be remembered.
    ttl: u32,
}

/// Where a record has its TTL, and where it ends.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    ttl: u16,
    end: u16,
}

/// How old an answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Age {
    Fresh(Duration),
    /// Past its time; its TTLs are those of RFC 8767 §4.
    Stale,
}

const STALE_TTL: u32 = 30;

impl Packed {
    /// `None` for what is no well-formed answer to one question.
    pub(super) fn parse(mut bytes: Vec<u8>, from: SocketAddr) -> Option<Self> {
        let header: [u8; HEADER] = *bytes.first_chunk()?;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        // All marks are offsets of sixteen bits.
        if bytes.len() > usize::from(u16::MAX) || header[2] & QR == 0 || count(4) != 1 {
            return None;
        }
        let question = skip_name(&bytes, HEADER)? + 4;
        let mut read = Reading {
            bytes: &bytes,
            at: question,
            code: u16::from(header[3] & 0x0f),
            ttl: u32::MAX,
            has_soa: false,
            records: Vec::with_capacity(8),
        };
        let mut counts = [0; 3];
        for (section, kept) in counts.iter_mut().enumerate() {
            for _ in 0..count(6 + 2 * section) {
                // OPT is between us and the upstream, and comes last but for signatures of the message as a whole: what
                // follows it could point behind it and is left out.
                if !read.record(section)? {
                    break;
                }
                *kept += 1;
            }
        }
        let Reading {
            code,
            ttl,
            has_soa,
            records,
            ..
        } = read;
        let end = records
            .last()
            .map_or(question, |mark: &Mark| usize::from(mark.end));
        bytes.truncate(end);
        // RFC 2308 §5: a negative answer without SOA is not remembered. §7: failures are, but elsewhere.
        let remembered = match code {
            NO_ERROR => counts[0] > 0 || has_soa,
            NAME_ERROR => has_soa,
            _ => false,
        };
        Some(Self {
            from,
            bytes: bytes.into(),
            question,
            records: records.into(),
            counts,
            code,
            ttl: if remembered { ttl } else { 0 },
        })
    }

    pub(super) fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whether it says what there is, or that there is nothing; not, that the upstream will not or cannot say.
    pub(super) fn is_conclusive(&self) -> bool {
        matches!(self.code, NO_ERROR | NAME_ERROR)
    }

    pub(super) fn is_format_error(&self) -> bool {
        self.code == 1
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.bytes[2] & TC != 0
    }

    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.records.len() * size_of::<Mark>()
    }

    /// Writes it to `out`, which is empty, as an answer to a request for the same question, whose own bytes are given: the
    /// letter case of its name comes back. The result says whether it was cut.
    pub(crate) fn write(
        &self,
        request: &Metadata,
        question: &[u8],
        mut room: Room,
        age: Age,
        out: &mut Vec<u8>,
    ) -> bool {
        let fits = self.records.partition_point(|mark| mark.end <= room.body());
        let end = self.records[..fits]
            .last()
            .map_or(self.question, |mark| usize::from(mark.end));
        out.extend_from_slice(&self.bytes[..end]);
        if question.len() == self.question - HEADER {
            out[HEADER..self.question].copy_from_slice(question);
        }
        for mark in &self.records[..fits] {
            let at = usize::from(mark.ttl);
            let ttl = match age {
                Age::Fresh(age) => {
                    let old = u32::from_be_bytes([out[at], out[at + 1], out[at + 2], out[at + 3]]);
                    old.saturating_sub(u32::try_from(age.as_secs()).unwrap_or(u32::MAX))
                }
                Age::Stale => STALE_TTL,
            };
            out[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        let mut left = fits;
        for (section, count) in self.counts.iter().enumerate() {
            let kept = left.min(usize::from(*count)) as u16;
            left -= usize::from(kept);
            out[6 + 2 * section..8 + 2 * section].copy_from_slice(&kept.to_be_bytes());
        }
        let wanted = usize::from(self.counts[0]) + usize::from(self.counts[1]);
        let cut = fits < wanted || self.is_truncated();
        // What does not fit into the header's four bits needs OPT.
        let code = match (self.code, &mut room.opt) {
            (code, Some(opt)) => {
                opt.code = (code >> 4) as u8;
                code
            }
            (code, None) if code < 16 => code,
            _ => SERVER_FAILURE,
        };
        let wants_judgement = request.authentic_data || room.opt.is_some_and(|opt| opt.dnssec_ok);
        let authentic = if wants_judgement { self.bytes[3] & AD } else { 0 };
        out[..2].copy_from_slice(&request.id.to_be_bytes());
        out[2] = QR | if cut { TC } else { 0 } | u8::from(request.recursion_desired);
        out[3] = RA | authentic | if request.checking_disabled { CD } else { 0 } | (code & 0x0f) as u8;
        append_opt(room, out);
        cut
    }
}

struct Reading<'a> {
    bytes: &'a [u8],
    at: usize,
    code: u16,
    ttl: u32,
    has_soa: bool,
    records: Vec<Mark>,
}

impl Reading<'_> {
    /// Steps over a record; `Some(false)` if it was OPT, `None` if it is malformed.
    fn record(&mut self, section: usize) -> Option<bool> {
        let fixed = skip_name(self.bytes, self.at)?;
        let [k0, k1, _, _, t0, t1, t2, t3, l0, l1] = *self.bytes.get(fixed..)?.first_chunk::<10>()?;
        let kind = u16::from_be_bytes([k0, k1]);
        let data = fixed + 10;
        let end = data + usize::from(u16::from_be_bytes([l0, l1]));
        let data = self.bytes.get(data..end)?;
        self.at = end;
        if kind == OPT {
            if section != 2 {
                return None;
            }
            self.code |= u16::from(t0) << 4;
            return Some(false);
        }
        let mut ttl = u32::from_be_bytes([t0, t1, t2, t3]);
        if ttl > i32::MAX as u32 {
            // RFC 2181 §8
            ttl = 0;
        }
        match (section, kind) {
            (0, _) => self.ttl = self.ttl.min(ttl),
            (1, SOA) => {
                // RFC 2308 §5: the smaller of the record's TTL and its last field.
                let minimum = u32::from_be_bytes(*data.last_chunk::<4>()?);
                self.ttl = self.ttl.min(ttl).min(minimum);
                self.has_soa = true;
            }
            _ => {}
        }
        self.records.push(Mark {
            ttl: (fixed + 4) as u16,
            end: end as u16,
        });
        Some(true)
    }
}

#[cfg(test)]
mod tests;
