//! Whose handshake a segment completes.

/// The most that a task can have put into its side of a connection before the client's first acknowledgement: the SYN
/// counts as one, and the window in a client's SYN is never scaled (RFC 7323, section 2.2), so 65,535 bytes may follow.
const MOST: u32 = 1 + 65_535;

/// Whether the acknowledgement number of a client's segment can belong to the SYN-ACK that was numbered `isn`.
///
/// A SYN that was sent twice can leave a half-open connection on two nodes. Only one is the client's, and the segment
/// that follows finds out which: one in 65,536 is taken for the other's.
#[inline(always)]
pub const fn acknowledges(acknowledgement: u32, isn: u32) -> bool {
    let ahead = acknowledgement.wrapping_sub(isn);
    0 < ahead && ahead <= MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acknowledgement_lies_one_beyond_the_syn_ack() {
        assert!(acknowledges(1001, 1000));
        assert!(!acknowledges(1000, 1000));
        assert!(!acknowledges(999, 1000));
    }

    #[test]
    fn data_sent_with_the_syn_ack_may_be_acknowledged_too() {
        assert!(acknowledges(1000 + 65_536, 1000));
        assert!(!acknowledges(1000 + 65_537, 1000));
    }

    #[test]
    fn numbers_wrap_around() {
        assert!(acknowledges(0, u32::MAX));
        assert!(acknowledges(100, u32::MAX - 100));
        assert!(!acknowledges(u32::MAX, 0));
    }
}
