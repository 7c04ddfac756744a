//! Replies on the wire: never larger than the client can take, whole records only, OPT always.

use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Edns, Metadata, ResponseCode};
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::answer::Reply;
use crate::wire::{HEADER, skip_name};

/// An OPT record without options.
pub(crate) const OPT: usize = 11;
/// RFC 1035 §4.2.1
pub(crate) const PLAIN_UDP: u16 = 512;

const QR: u8 = 0x80;
const TC: u8 = 0x02;

/// What the client can take, and whether it speaks EDNS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Of the whole message, in bytes.
    pub(crate) size: u16,
    /// What our OPT record announces and echoes; `None` where the client sent none (RFC 6891 §6.1.1).
    pub(crate) opt: Option<Opt>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opt {
    /// What we can take, in bytes.
    pub(crate) size: u16,
    /// Upper eight bits of the response code.
    pub(crate) code: u8,
    pub(crate) dnssec_ok: bool,
}

impl Room {
    /// For messages without the OPT record.
    pub(crate) fn body(&self) -> u16 {
        self.size - if self.opt.is_some() { OPT as u16 } else { 0 }
    }
}

/// Writes the reply to `out`, which is empty; the result says whether it was cut.
pub(crate) fn encode(
    request: &Request,
    metadata: Metadata,
    reply: &Reply,
    room: Room,
    out: &mut Vec<u8>,
) -> bool {
    if write(request, metadata, reply, room, out).is_err() {
        out.clear();
        bare(&metadata, ResponseCode::ServFail, out);
        return false;
    }
    let mut cut = out[2] & TC != 0;
    let answers = usize::from(u16::from_be_bytes([out[6], out[7]]));
    if cut && reply.authority.is_none() && answers == reply.answers.len() {
        // Only additional records are missing, and those are extra (RFC 2181 §9).
        out[2] &= !TC;
        cut = false;
    }
    append_opt(room, out);
    cut
}

fn write(
    request: &Request,
    mut metadata: Metadata,
    reply: &Reply,
    room: Room,
    out: &mut Vec<u8>,
) -> Result<(), ProtoError> {
    // The header's part; the rest is in our own OPT record, which the encoder does not know of and would miss, aloud.
    metadata.response_code = ResponseCode::from_low(reply.code.low());
    metadata.authoritative = reply.authoritative;
    let response = MessageResponseBuilder::new(&request.queries, None).build(
        metadata,
        &reply.answers,
        [],
        &reply.authority,
        &reply.additionals,
    );
    let mut encoder = BinEncoder::new(out);
    encoder.set_max_size(room.body());
    response.destructive_emit(&mut encoder)?;
    // The beginning of a record that did not fit is still there.
    encoder.trim();
    Ok(())
}

/// RFC 6891 §6.1.2, at the end of a whole message that leaves the room for it.
pub(crate) fn append_opt(room: Room, out: &mut Vec<u8>) {
    let Some(opt) = room.opt else { return };
    let [high, low] = opt.size.to_be_bytes();
    let flags = if opt.dnssec_ok { 0x80 } else { 0 };
    out.extend_from_slice(&[0, 0, 41, high, low, opt.code, 0, flags, 0, 0, 0]);
    let additionals = u16::from_be_bytes([out[10], out[11]]) + 1;
    out[10..12].copy_from_slice(&additionals.to_be_bytes());
}

/// A header alone, for what cannot be answered in any other way.
pub(crate) fn bare(request: &Metadata, code: ResponseCode, out: &mut Vec<u8>) {
    let flags = 0x80 | u8::from(request.op_code) << 3 | u8::from(request.recursion_desired);
    out.extend_from_slice(&request.id.to_be_bytes());
    out.extend_from_slice(&[flags, code.low(), 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// An empty truncated answer: the query up to the end of its question, with other flags. Never longer than the query.
pub(crate) fn truncated(query: &[u8], out: &mut Vec<u8>) {
    let question = skip_name(query, HEADER)
        .map(|end| end + 4)
        .filter(|end| *end <= query.len());
    out.extend_from_slice(&query[..question.unwrap_or(HEADER)]);
    // The opcode and RD are the client's.
    out[2] = QR | out[2] & 0x79 | TC;
    out[3] = 0;
    out[4..HEADER].copy_from_slice(&[0, u8::from(question.is_some()), 0, 0, 0, 0, 0, 0]);
}

/// How much the client can take. Sizes below 512 mean 512 (RFC 6891 §6.2.5).
pub(crate) fn room(edns: Option<&Edns>, udp: bool, max_udp: u16) -> Room {
    let size = match (udp, edns) {
        (false, _) => u16::MAX,
        (true, None) => PLAIN_UDP,
        (true, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP, max_udp.max(PLAIN_UDP)),
    };
    let opt = edns.map(|edns| Opt {
        size: max_udp,
        code: 0,
        dnssec_ok: edns.flags().dnssec_ok,
    });
    Room { size, opt }
}
