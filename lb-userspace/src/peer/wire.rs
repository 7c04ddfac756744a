//! The heartbeat's form: fixed header, bounded lists, a keyed BLAKE3 hash over all of it at the end.
//!
//! ```text
//! magic 4 · version 1 · flags 1 · tags 1 · drains 1 · boot 8 · sequence 8 · echo 8 · first 8 · last 8 · node 1+n
//! tags × 8 · drains × (kind 1 · stamp 8 · name 1+n [· name 1+n]) · hash 32
//! ```
//! Integers are big-endian. Whatever does not have exactly this form is refused.

use std::ops::RangeInclusive;

use crate::model::{DrainMark, DrainObject};

/// Fits the smallest IPv6 MTU with room for headers.
pub const MAX_DATAGRAM: usize = 1232;
/// Most tags in one heartbeat.
pub const MAX_TAGS: usize = 40;
/// Bytes that drain marks may take: what the longest node name and all tags leave.
pub const DRAIN_ROOM: usize = MAX_DATAGRAM - HEADER - 256 - 8 * MAX_TAGS - HASH;

const MAGIC: [u8; 4] = *b"PRTC";
const VERSION: u8 = 1;
const HEADER: usize = 48;
const HASH: usize = 32;
const SETTLED: u8 = 1;
const BY_PROXY: u8 = 2;
/// Bits of a mark's kind.
const BACKEND: u8 = 1;
const DRAINED: u8 = 2;

// The longest mark has room.
const _: () = assert!(DRAIN_ROOM >= 1 + 8 + 256 + 256);

/// What one agent says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Another in every life of the sender.
    pub boot: u64,
    /// Grows by one with each heartbeat of a life.
    pub sequence: u64,
    /// The receiver's boot, as the sender heard it last; 0 before.
    pub echo: u64,
    /// Every check of the sender has had a first result.
    pub settled: bool,
    /// The sender's node has no packet programs. (To agents that do not know this one its heartbeats are strange.)
    pub by_proxy: bool,
    /// The sender.
    pub node: String,
    /// Of all tags from the first to the last, exactly those listed are unhealthy.
    pub range: RangeInclusive<u64>,
    /// Ascending, within the range.
    pub unhealthy: Vec<u64>,
    pub drains: Vec<DrainMark>,
}

/// Why a datagram is not a heartbeat of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Strange {
    #[error("it is {0} bytes long")]
    Length(usize),
    #[error("it was not made with this cluster's key")]
    Forged,
    #[error("it is of another version")]
    Version,
    #[error("its form is wrong")]
    Form,
}

/// The datagram of a heartbeat whose lists are within bounds; see [`mark_size`] and [`MAX_TAGS`].
pub fn seal(key: &[u8; 32], heartbeat: &Heartbeat) -> Vec<u8> {
    let mut datagram = encode(heartbeat);
    let hash = blake3::keyed_hash(key, &datagram);
    datagram.extend(hash.as_bytes());
    datagram
}

/// The heartbeat of a datagram made with the same key.
pub fn open(key: &[u8; 32], datagram: &[u8]) -> Result<Heartbeat, Strange> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(Strange::Length(datagram.len()));
    }
    let (body, hash) = datagram
        .split_last_chunk::<HASH>()
        .ok_or(Strange::Length(datagram.len()))?;
    // Takes the same time whatever differs.
    if blake3::keyed_hash(key, body) != blake3::Hash::from_bytes(*hash) {
        return Err(Strange::Forged);
    }
    decode(body)
}

/// Bytes that a mark takes.
pub fn mark_size(mark: &DrainMark) -> usize {
    9 + match &mark.object {
        DrainObject::Node(name) => 1 + name.len(),
        DrainObject::Backend { service, task } => 2 + service.len() + task.len(),
    }
}

fn encode(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut out = Vec::with_capacity(MAX_DATAGRAM);
    out.extend(MAGIC);
    let bit = |set, flag| if set { flag } else { 0 };
    let flags = bit(heartbeat.settled, SETTLED) | bit(heartbeat.by_proxy, BY_PROXY);
    out.extend([
        VERSION,
        flags,
        heartbeat.unhealthy.len() as u8,
        heartbeat.drains.len() as u8,
    ]);
    let (first, last) = (*heartbeat.range.start(), *heartbeat.range.end());
    for number in [heartbeat.boot, heartbeat.sequence, heartbeat.echo, first, last] {
        out.extend(number.to_be_bytes());
    }
    put_name(&mut out, &heartbeat.node);
    heartbeat
        .unhealthy
        .iter()
        .for_each(|tag| out.extend(tag.to_be_bytes()));
    for DrainMark {
        object,
        drained,
        stamp,
    } in &heartbeat.drains
    {
        let drained = if *drained { DRAINED } else { 0 };
        let kind = if matches!(object, DrainObject::Backend { .. }) {
            BACKEND
        } else {
            0
        };
        out.push(drained | kind);
        out.extend(stamp.to_be_bytes());
        match object {
            DrainObject::Node(name) => put_name(&mut out, name),
            DrainObject::Backend { service, task } => {
                put_name(&mut out, service);
                put_name(&mut out, task);
            }
        }
    }
    out
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(name.len() as u8);
    out.extend(name.as_bytes());
}

fn decode(body: &[u8]) -> Result<Heartbeat, Strange> {
    let mut rest = Rest(body);
    if rest.array()? != MAGIC {
        return Err(Strange::Form);
    }
    let [version, flags, tags, drains] = rest.array()?;
    if version != VERSION {
        return Err(Strange::Version);
    }
    let (boot, sequence, echo) = (rest.number()?, rest.number()?, rest.number()?);
    let range = rest.number()?..=rest.number()?;
    let node = rest.name()?.to_owned();
    let unhealthy: Vec<u64> = (0..tags).map(|_| rest.number()).collect::<Result<_, _>>()?;
    let drains = (0..drains).map(|_| rest.mark()).collect::<Result<_, _>>()?;
    let ordered = unhealthy.is_sorted_by(|a, b| a < b) && unhealthy.iter().all(|tag| range.contains(tag));
    if !rest.0.is_empty() || flags & !(SETTLED | BY_PROXY) != 0 || range.is_empty() || !ordered {
        return Err(Strange::Form);
    }
    Ok(Heartbeat {
        boot,
        sequence,
        echo,
        settled: flags & SETTLED != 0,
        by_proxy: flags & BY_PROXY != 0,
        node,
        range,
        unhealthy,
        drains,
    })
}

/// What is still to be read.
struct Rest<'d>(&'d [u8]);

impl<'d> Rest<'d> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Strange> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Strange::Form)?;
        self.0 = rest;
        Ok(*array)
    }

    fn number(&mut self) -> Result<u64, Strange> {
        self.array().map(u64::from_be_bytes)
    }

    /// 1 to 255 bytes of UTF-8.
    fn name(&mut self) -> Result<&'d str, Strange> {
        let [length] = self.array()?;
        let (name, rest) = self.0.split_at_checked(length.into()).ok_or(Strange::Form)?;
        self.0 = rest;
        std::str::from_utf8(name)
            .ok()
            .filter(|name| !name.is_empty())
            .ok_or(Strange::Form)
    }

    fn mark(&mut self) -> Result<DrainMark, Strange> {
        let [kind] = self.array()?;
        let stamp = self.number()?;
        let object = match kind & !DRAINED {
            0 => DrainObject::Node(self.name()?.into()),
            BACKEND => {
                let (service, task) = (self.name()?.into(), self.name()?.into());
                DrainObject::Backend { service, task }
            }
            _ => return Err(Strange::Form),
        };
        Ok(DrainMark {
            object,
            drained: kind & DRAINED != 0,
            stamp,
        })
    }
}

#[cfg(test)]
mod tests;
