//! What must be true of a relay header that is read, whatever was sent.

use lb_userspace::plane::proxy::header::relay_header::{Purpose, purpose, read, write};
use lb_userspace::plane::proxy::header::{Parsed, Transport, parse};

/// Whether the bytes begin with a header. Panics where the answer is wrong.
pub fn accepted(bytes: &[u8]) -> bool {
    let answer = read(bytes);
    match purpose(bytes) {
        // The only one that names nobody.
        Ok(Some((Purpose::Trunk, length))) => assert!(length == 16 && answer.is_err()),
        Ok(Some((Purpose::Connection(wanted), length))) => assert_eq!(answer, Ok(Some((wanted, length)))),
        Ok(None) => assert_eq!(answer, Ok(None)),
        Err(fault) => assert_eq!(answer, Err(fault)),
    }
    match (parse(bytes), answer) {
        (Err(fault), _) => assert_eq!(answer, Err(fault)),
        (Ok(Parsed::More), _) => assert_eq!(answer, Ok(None)),
        (Ok(Parsed::Whole { length, .. }), Err(fault)) => assert_eq!(fault.at, length),
        (Ok(Parsed::Whole { header, length }), _) => {
            let (wanted, read_length) = answer.ok().flatten().expect("all of it is there");
            assert_eq!(read_length, length);
            assert_eq!(
                (Some(wanted.client), Some(wanted.front)),
                (header.source, header.destination)
            );
            assert_ne!(wanted.transport, Transport::Unspecified);
            let mut again = Vec::new();
            write(&wanted, &mut again);
            assert_eq!(read(&again), Ok(Some((wanted, again.len()))));
            return true;
        }
    }
    false
}
