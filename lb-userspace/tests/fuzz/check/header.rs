//! What must be true of a PROXY header that is read, whatever was sent.

use lb_userspace::plane::proxy::header::{
    Command, Header, LONGEST, Parsed, Tlvs, Transport, parse, write_v1, write_v2,
};

/// Whether the bytes begin with a header. Panics where the answer is wrong.
pub fn accepted(bytes: &[u8]) -> bool {
    let answer = parse(bytes);
    let before = parse(&bytes[..bytes.len() / 2]);
    assert!(
        before == Ok(Parsed::More) || before == answer,
        "{before:?}, and with more bytes {answer:?}"
    );
    match answer {
        Ok(Parsed::More) => {
            assert!(bytes.len() < LONGEST, "waits for ever");
            false
        }
        Ok(Parsed::Whole { header, length }) => {
            assert!(length <= bytes.len() && length <= LONGEST);
            assert_eq!(parse(&bytes[..length]), answer, "alone");
            assert_eq!(parse(&bytes[..length - 1]), Ok(Parsed::More), "its last byte");
            check(header);
            true
        }
        Err(fault) => {
            assert!(fault.at <= bytes.len());
            assert_eq!(parse(&[bytes, b"\r\n"].concat()), answer, "it does not heal");
            false
        }
    }
}

fn check(header: Header<'_>) {
    let mut out = Vec::new();
    write_v2(&header, &mut out);
    let (Some(source), Some(destination)) = (header.source, header.destination) else {
        assert_eq!((header.source, header.destination), (None, None), "half a pair");
        let bare = Header {
            transport: Transport::Unspecified,
            tlvs: Tlvs::NONE,
            ..header
        };
        return again(&out, bare);
    };
    assert_eq!(header.command, Command::Proxy);
    assert_ne!(header.transport, Transport::Unspecified);
    again(&out, header);
    out.clear();
    write_v1(source, destination, &mut out);
    again(&out, Header::proxied(Transport::Stream, source, destination));
}

fn again(written: &[u8], header: Header<'_>) {
    let length = written.len();
    assert_eq!(parse(written), Ok(Parsed::Whole { header, length }));
}
