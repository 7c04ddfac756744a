//! What must be true of a frame between nodes that is read, whatever was sent.

use lb_userspace::plane::proxy::udp::trunk::frame::{
    Frame, LONGEST, read, write_close, write_datagrams, write_open, write_refused,
};

/// Whether the bytes begin with a frame. Panics where the answer is wrong.
pub fn accepted(bytes: &[u8]) -> bool {
    let answer = read(bytes);
    let Ok(Some((number, frame, length))) = answer else {
        // There is never more to wait for than the longest has.
        assert!(answer.is_err() || bytes.len() < LONGEST);
        return false;
    };
    assert!(length <= bytes.len().min(LONGEST));
    assert_eq!(read(&bytes[..length]), answer);
    let mut again = Vec::new();
    let mut datagrams = |size, content: &[u8]| {
        write_datagrams(number, size, content.len(), [content].into_iter(), &mut again);
    };
    match frame {
        Frame::Datagram(content) => datagrams(None, content),
        Frame::Datagrams { size, content } => {
            assert!(size > 0 && content.len() > usize::from(size));
            datagrams(Some(size), content);
        }
        Frame::Open(wanted) => write_open(number, &wanted, false, &mut again),
        Frame::Resume(wanted) => write_open(number, &wanted, true, &mut again),
        Frame::Close => write_close(number, &mut again),
        // Its number has no meaning.
        Frame::Leave => again.extend(&bytes[..length]),
        Frame::Refused(why) => write_refused(number, why, &mut again),
    }
    if let Frame::Open(_) | Frame::Resume(_) = frame {
        // It may have told more, and in other words.
        assert_eq!(read(&again), Ok(Some((number, frame, again.len()))));
    } else {
        assert_eq!(again, bytes[..length]);
    }
    true
}
