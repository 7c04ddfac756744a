//! Echo of streams: what comes is sent back, for as long as the client likes.

use std::net::SocketAddr;

use tokio::net::TcpStream;

pub async fn echo(mut stream: TcpStream, _client: SocketAddr) {
    let (mut from, mut to) = stream.split();
    // The client's FIN ends the copy; ours follows when the stream is dropped.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}
