//! What two nodes say to each other over a trunk, one frame after the other. `docs/relay.md` has the table.
//!
//! ```text
//! byte 0      1                5        7
//!      | kind | flow's number  | length | content
//! ```
//! Numbers are in network order. Reading is strict: whatever is not in the table is [`Unread`], and ends the connection.

use crate::plane::proxy::answer::Answer;
use crate::plane::proxy::header::relay_header::{self, Wanted};
use crate::plane::proxy::header::{self, Transport};

/// Bytes before a frame's content.
pub const HEAD: usize = 7;
/// Most bytes of a frame.
pub const LONGEST: usize = HEAD + u16::MAX as usize;
/// Most bytes of several datagrams that go in one frame.
pub const TOGETHER: usize = u16::MAX as usize - 2;

const DATAGRAM: u8 = 0;
const DATAGRAMS: u8 = 1;
const OPEN: u8 = 2;
const RESUME: u8 = 3;
const CLOSE: u8 = 4;
const REFUSED: u8 = 5;
const LEAVE: u8 = 6;

/// A frame's kind, with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'d> {
    Datagram(&'d [u8]),
    /// More than one, all of `size` bytes but the last, which may be shorter. The content begins with the size, two bytes.
    Datagrams {
        size: u16,
        content: &'d [u8],
    },
    /// To the member's node: whose flow this number is from now on. The content is the header of the relay, for datagrams.
    Open(Wanted),
    /// The same of a flow that the member has had before, and keeps while it drains.
    Resume(Wanted),
    /// The flow has ended there; nothing more comes of it.
    Close,
    /// From the member's node: it has no such flow, or no longer, and why. The content is the answer's byte.
    Refused(Answer),
    /// From the member's node, of no flow: another connection is to be used from now on. What this one has goes on.
    Leave,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    #[error("a frame of kind {0}, which has no meaning")]
    Kind(u8),
    #[error("a frame of kind {kind} with {length} bytes")]
    Length { kind: u8, length: usize },
    #[error("datagrams of {size} bytes in {length}")]
    Size { size: u16, length: usize },
    #[error("{0}")]
    Header(#[from] header::Fault),
    #[error("a flow that is not of datagrams")]
    Transport,
    #[error("answer {0}, which is no refusal")]
    Answer(u8),
    /// What only the other side says.
    #[error("a frame that goes the other way")]
    Direction,
    #[error("a flow that is there already")]
    Twice,
}

/// Reads the frame at the beginning of `bytes`: the number of its flow, what it says, and how long it is. Nothing: more bytes
/// are needed, of [`LONGEST`] at most. What has a content has it at its end.
pub fn read(bytes: &[u8]) -> Result<Option<(u32, Frame<'_>, usize)>, Unread> {
    let Some((&[kind, a, b, c, d, e, f], rest)) = bytes.split_first_chunk::<HEAD>() else {
        return match bytes.first() {
            Some(&kind) if kind > LEAVE => Err(Unread::Kind(kind)),
            _ => Ok(None),
        };
    };
    if kind > LEAVE {
        return Err(Unread::Kind(kind));
    }
    let length = usize::from(u16::from_be_bytes([e, f]));
    let Some(content) = rest.get(..length) else {
        return Ok(None);
    };
    let frame = match (kind, content) {
        (DATAGRAM, content) => Frame::Datagram(content),
        (DATAGRAMS, [high, low, content @ ..]) => {
            let (size, length) = (u16::from_be_bytes([*high, *low]), content.len());
            if size == 0 || length <= size.into() {
                return Err(Unread::Size { size, length });
            }
            Frame::Datagrams { size, content }
        }
        (OPEN, content) => Frame::Open(wanted(kind, content)?),
        (RESUME, content) => Frame::Resume(wanted(kind, content)?),
        (CLOSE, []) => Frame::Close,
        (LEAVE, []) => Frame::Leave,
        (REFUSED, &[byte]) => match Answer::of(byte) {
            Some(answer) if answer != Answer::Connected => Frame::Refused(answer),
            _ => return Err(Unread::Answer(byte)),
        },
        _ => return Err(Unread::Length { kind, length }),
    };
    Ok(Some((u32::from_be_bytes([a, b, c, d]), frame, HEAD + length)))
}

fn wanted(kind: u8, content: &[u8]) -> Result<Wanted, Unread> {
    match relay_header::read(content)? {
        Some((wanted, length)) if length == content.len() => match wanted.transport {
            Transport::Datagram => Ok(wanted),
            _ => Err(Unread::Transport),
        },
        _ => Err(Unread::Length {
            kind,
            length: content.len(),
        }),
    }
}

/// Appends a datagram, or several of that size, from pieces of `length` bytes together, [`TOGETHER`] at most.
pub fn write_datagrams<'p>(
    number: u32,
    size: Option<u16>,
    length: usize,
    pieces: impl Iterator<Item = &'p [u8]>,
    out: &mut Vec<u8>,
) {
    match size {
        None => head(DATAGRAM, number, length, out),
        Some(size) => {
            head(DATAGRAMS, number, length + 2, out);
            out.extend(size.to_be_bytes());
        }
    }
    pieces.for_each(|piece| out.extend_from_slice(piece));
}

/// Appends the opening of a flow.
pub fn write_open(number: u32, wanted: &Wanted, resumed: bool, out: &mut Vec<u8>) {
    let at = out.len();
    head(if resumed { RESUME } else { OPEN }, number, 0, out);
    relay_header::write(wanted, out);
    // Such a header has 63 bytes at most.
    let length = (out.len() - at - HEAD) as u16;
    out[at + 5..at + HEAD].copy_from_slice(&length.to_be_bytes());
}

pub fn write_close(number: u32, out: &mut Vec<u8>) {
    head(CLOSE, number, 0, out);
}

pub fn write_leave(out: &mut Vec<u8>) {
    head(LEAVE, 0, 0, out);
}

pub fn write_refused(number: u32, answer: Answer, out: &mut Vec<u8>) {
    head(REFUSED, number, 1, out);
    out.push(answer.byte());
}

fn head(kind: u8, number: u32, length: usize, out: &mut Vec<u8>) {
    debug_assert!(length <= usize::from(u16::MAX), "whoever writes has looked");
    out.push(kind);
    out.extend(number.to_be_bytes());
    out.extend((length as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            member: 0x0102_0304_0506_0708,
            transport: Transport::Datagram,
            client: "192.0.2.1:56324".parse().unwrap(),
            front: "192.0.2.80:53".parse().unwrap(),
        }
    }

    fn opening(wanted: &Wanted) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_open(1, wanted, false, &mut bytes);
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_nothing_before_it_is_whole() {
        let mut bytes = Vec::new();
        let mut frames = Vec::new();
        write_datagrams(7, None, 5, [&b"he"[..], b"llo"].into_iter(), &mut bytes);
        frames.push((7, Frame::Datagram(b"hello")));
        write_datagrams(7, None, 0, [].into_iter(), &mut bytes);
        frames.push((7, Frame::Datagram(b"")));
        write_datagrams(u32::MAX, Some(2), 5, [&b"aabbc"[..]].into_iter(), &mut bytes);
        let (size, content) = (2, &b"aabbc"[..]);
        frames.push((u32::MAX, Frame::Datagrams { size, content }));
        write_open(8, &wanted(), false, &mut bytes);
        frames.push((8, Frame::Open(wanted())));
        write_open(9, &wanted(), true, &mut bytes);
        frames.push((9, Frame::Resume(wanted())));
        write_close(9, &mut bytes);
        frames.push((9, Frame::Close));
        write_refused(8, Answer::Gone, &mut bytes);
        frames.push((8, Frame::Refused(Answer::Gone)));
        write_leave(&mut bytes);
        frames.push((0, Frame::Leave));
        let mut rest = &bytes[..];
        for (number, frame) in frames {
            let (read_number, read_frame, length) = read(rest).unwrap().unwrap();
            assert_eq!((read_number, read_frame), (number, frame));
            for shorter in 0..length {
                assert_eq!(read(&rest[..shorter]), Ok(None));
            }
            rest = &rest[length..];
        }
        assert_eq!(rest, b"");
    }

    #[test]
    fn numbers_are_in_network_order() {
        let mut bytes = Vec::new();
        write_datagrams(
            0x0102_0304,
            Some(0x0506),
            0x0507,
            [&[0; 0x507][..]].into_iter(),
            &mut bytes,
        );
        assert_eq!(bytes[..9], [1, 1, 2, 3, 4, 5, 9, 5, 6]);
        assert_eq!(opening(&wanted()).len(), HEAD + 39);
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for (bytes, why) in [
            (&[7][..], Unread::Kind(7)),
            (&[255, 0, 0, 0, 0, 255, 255], Unread::Kind(255)),
            (&[1, 0, 0, 0, 1, 0, 1, 9], Unread::Length { kind: 1, length: 1 }),
            (
                &[1, 0, 0, 0, 1, 0, 3, 0, 0, 9],
                Unread::Size { size: 0, length: 1 },
            ),
            (
                &[1, 0, 0, 0, 1, 0, 3, 0, 1, 9],
                Unread::Size { size: 1, length: 1 },
            ),
            (&[4, 0, 0, 0, 1, 0, 1, 9], Unread::Length { kind: 4, length: 1 }),
            (&[5, 0, 0, 0, 1, 0, 0], Unread::Length { kind: 5, length: 0 }),
            (&[5, 0, 0, 0, 1, 0, 1, 0], Unread::Answer(0)),
            (&[5, 0, 0, 0, 1, 0, 1, 99], Unread::Answer(99)),
            (&[2, 0, 0, 0, 1, 0, 0], Unread::Length { kind: 2, length: 0 }),
        ] {
            assert_eq!(read(bytes), Err(why), "{bytes:?}");
        }
        let stream = Wanted {
            transport: Transport::Stream,
            ..wanted()
        };
        assert_eq!(read(&opening(&stream)), Err(Unread::Transport));
        // A header and something behind it, and less than one.
        let (mut more, mut less) = (opening(&wanted()), opening(&wanted()));
        more.push(0);
        more[6] += 1;
        less[6] -= 1;
        for (bytes, length) in [(more, 40), (less, 38)] {
            assert_eq!(read(&bytes), Err(Unread::Length { kind: 2, length }));
        }
        let mut broken = opening(&wanted());
        broken[HEAD] = 0;
        assert!(matches!(read(&broken), Err(Unread::Header(_))));
    }

    #[test]
    fn the_document_has_all_kinds() {
        let document = include_str!("../../../../../../docs/relay.md");
        let table = document.split("| kind | frame |").nth(1).unwrap();
        let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
        let kinds: Vec<&str> = rows.map(|row| row.split(" | ").nth(1).unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "`datagram`",
                "`datagrams`",
                "`open`",
                "`resume`",
                "`close`",
                "`refused`",
                "`leave`"
            ]
        );
    }
}
