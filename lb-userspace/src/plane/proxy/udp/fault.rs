//! Errors of sockets, by what is to be done about them.

use std::io;

/// What is to be done about an error of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device does not take such a super-packet; single datagrams it may.
    Together,
    /// The other side refused something, or there is no way to it.
    Refused,
    /// No room for now.
    Full,
    /// This one datagram cannot be sent.
    One,
}

impl Fault {
    /// `together`: of several datagrams that were to go as a super-packet.
    pub fn of(error: &io::Error, together: bool) -> Self {
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP) if together => Self::Together,
            Some(
                libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ENETDOWN,
            ) => Self::Refused,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Self::Full,
            _ => Self::One,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_of_a_super_packet_single_datagrams_are_tried() {
        let too_large = io::Error::from_raw_os_error(libc::EMSGSIZE);
        assert_eq!(Fault::of(&too_large, true), Fault::Together);
        assert_eq!(Fault::of(&too_large, false), Fault::One);
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(Fault::of(&refused, true), Fault::Refused);
    }
}
