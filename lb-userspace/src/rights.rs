//! Descriptors that go with a message to another process (SCM_RIGHTS).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Descriptors with one message; the kernel takes 253.
pub const TOGETHER: usize = 200;

/// Sends all of one message, with these descriptors.
pub fn send(socket: &impl AsFd, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights };
    let (socket, flags) = (socket.as_fd().as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    let sent = sendmsg::<UnixAddr>(socket, &[IoSlice::new(bytes)], rights, flags, None)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(ErrorKind::WriteZero.into())
    }
}

/// Receives one message of at most `longest` bytes. Fails where it, or what came with it, did not arrive whole.
pub fn receive(socket: &impl AsFd, longest: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; longest];
    let mut room = nix::cmsg_space!([RawFd; 253]);
    let (length, flags, descriptors) = {
        let mut into = [IoSliceMut::new(&mut bytes)];
        let (socket, flags) = (socket.as_fd().as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
        let message = recvmsg::<UnixAddr>(socket, &mut into, Some(&mut room), flags)?;
        let mut descriptors = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(rights) = control {
                // SAFETY: the kernel has just made them for this process, and nobody else knows them.
                descriptors.extend(rights.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, message.flags, descriptors)
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        // This process may not open more files, say.
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "a word did not arrive whole",
        ));
    }
    bytes.truncate(length);
    Ok((bytes, descriptors))
}
