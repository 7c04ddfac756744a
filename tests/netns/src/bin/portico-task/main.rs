//! The lab's task: says over HTTP and UDP who it is and whom it sees.

mod health;
mod http;
mod listener;
mod streams;
mod udp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Who this task is; every answer repeats it.
#[derive(Parser, Debug)]
#[command(version, about = "Answers HTTP and UDP on port 80, echoes streams on port 7")]
pub struct Identity {
    #[arg(long)]
    service: String,
    #[arg(long)]
    task: String,
    #[arg(long)]
    node: String,
    /// HTTP over TCP, and echo over UDP
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Echo of streams
    #[arg(long, default_value_t = 7)]
    echo_port: u16,
    /// While this file exists, /healthz answers 503
    #[arg(long)]
    health_file: Option<PathBuf>,
    /// At SIGTERM close the listeners at once and run on for this many seconds, whatever the connections do
    #[arg(long)]
    linger: Option<u64>,
    /// At SIGTERM wait no longer than this many seconds for connections to end
    #[arg(long, default_value_t = 10)]
    grace: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let identity = Arc::new(Identity::parse());
    let (stop, stopping) = watch::channel(false);
    let sockets = udp::bind(identity.port)?;
    let listeners = [
        listener::bind(identity.port)?,
        listener::bind(identity.echo_port)?,
    ];
    let [web, echo] = listeners;
    tokio::spawn(udp::serve(identity.clone(), sockets));
    let web = tokio::spawn(listener::serve(web, stopping.clone(), {
        let (identity, stopping) = (identity.clone(), stopping.clone());
        move |stream, client| http::serve(identity.clone(), stream, client, stopping.clone())
    }));
    let echo = tokio::spawn(listener::serve(echo, stopping, streams::echo));
    println!("{} serves", identity.task);

    let mut terminate = signal(SignalKind::terminate())?;
    terminate.recv().await;
    stop.send_replace(true);
    let finished = async {
        let lost = web.await.unwrap_or(0) + echo.await.unwrap_or(0);
        println!("{} is done, lost={lost}", identity.task);
    };
    match identity.linger.map(Duration::from_secs) {
        Some(linger) => drop(tokio::join!(timeout(linger, finished), sleep(linger))),
        None => drop(timeout(Duration::from_secs(identity.grace), finished).await),
    }
    Ok(())
}
