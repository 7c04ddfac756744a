//! The little that must be known of a message's bytes before, or instead of, decoding it.

/// Bytes of a header (RFC 1035 §4.1.1).
pub(crate) const HEADER: usize = 12;

/// The offset behind a name. Pointers must point backwards, as they do in every message that was compressed.
pub(crate) fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += usize::from(length) + 1,
            0xc0.. => {
                let low = *bytes.get(at + 1)?;
                let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                return (target >= HEADER && target < start).then_some(at + 2);
            }
            _ => return None,
        }
        if at - start > 255 {
            return None;
        }
    }
}

/// Whether the first name of a message is written out. A pointer in it could only lead into the header, where the answer
/// has other bytes than the query.
pub(crate) fn is_written_out(bytes: &[u8]) -> bool {
    let mut at = HEADER;
    while let Some(length @ ..=63) = bytes.get(at) {
        if *length == 0 {
            return true;
        }
        at += usize::from(*length) + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_skipped() {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(b"\x03www\x00\xc0\x0c\x01a\xc0\x0c\xc0\x17\x40x\x3f");
        assert_eq!(skip_name(&bytes, 12), Some(17));
        assert_eq!(skip_name(&bytes, 17), Some(19));
        assert_eq!(skip_name(&bytes, 19), Some(23));
        // To itself, a label of no known kind, and one that ends outside.
        assert_eq!(skip_name(&bytes, 23), None);
        assert_eq!(skip_name(&bytes, 25), None);
        assert_eq!(skip_name(&bytes, 27), None);
    }

    #[test]
    fn the_first_name_points_nowhere() {
        let with = |name: &[u8]| is_written_out(&[&[0; HEADER], name].concat());
        assert!(with(b"\x03www\x00") && with(b"\x00"));
        assert!(!with(b"\x03www\xc0\x02") && !with(b"\x03www") && !with(b""));
    }

    #[test]
    fn a_name_is_not_longer_than_a_name_can_be() {
        let mut bytes = vec![0; HEADER];
        for _ in 0..200 {
            bytes.extend_from_slice(b"\x01a");
        }
        bytes.push(0);
        assert_eq!(skip_name(&bytes, HEADER), None);
        assert_eq!(skip_name(&bytes, HEADER + 200), Some(bytes.len()));
    }
}
