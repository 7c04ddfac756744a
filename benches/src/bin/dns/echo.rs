//! A server that returns every question as its answer: what is left is the cost of asking. It takes and gives datagrams in
//! batches, as Portico's server does.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;

use anyhow::Result;
use clap::Args;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Datagrams of one system call.
const BATCH: usize = 32;
/// QR, the bit that makes an answer of a question (RFC 1035 §4.1.1).
const ANSWER: u8 = 0x80;

#[derive(Args, Clone, Debug)]
pub struct Echo {
    #[arg(long)]
    listen: SocketAddr,
}

pub fn run(echo: &Echo) -> Result<()> {
    let listener = TcpListener::bind(echo.listen)?;
    let socket = UdpSocket::bind(echo.listen)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks off is over, no more.
            thread::spawn(move || drop(stream_back(stream)));
        }
    });
    datagrams_back(&socket)
}

fn datagrams_back(socket: &UdpSocket) -> Result<()> {
    let mut buffers = vec![[0u8; 512]; BATCH];
    // Each way its own: sending leaves the addresses that it was given in them.
    let [mut taken, mut given] = [(); 2].map(|()| MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None));
    loop {
        let received: Vec<(usize, Option<SockaddrStorage>)> = {
            let mut slices: Vec<_> = buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            recvmmsg(
                socket.as_raw_fd(),
                &mut taken,
                slices.iter_mut(),
                MsgFlags::MSG_WAITFORONE,
                None,
            )?
            .map(|message| (message.bytes, message.address))
            .collect()
        };
        for (buffer, _) in buffers.iter_mut().zip(&received) {
            buffer[2] |= ANSWER;
        }
        let to: Vec<_> = received.iter().map(|(_, address)| *address).collect();
        let slices: Vec<_> = buffers
            .iter()
            .zip(&received)
            .map(|(buffer, (length, _))| [IoSlice::new(&buffer[..*length])])
            .collect();
        sendmmsg(socket.as_raw_fd(), &mut given, &slices, to, [], MsgFlags::empty())?;
    }
}

fn stream_back(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut filled) = (vec![0u8; 65536], 0);
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut whole = 0;
        while let Some(length) = message(&buffer[whole..filled]) {
            buffer[whole + 4] |= ANSWER;
            whole += length;
        }
        stream.write_all(&buffer[..whole])?;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// The length of the message that the bytes begin with, its own length included, once all of it is there.
fn message(bytes: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes(bytes.first_chunk::<2>().copied()?)) + 2;
    (length > 4 && bytes.len() >= length).then_some(length)
}
