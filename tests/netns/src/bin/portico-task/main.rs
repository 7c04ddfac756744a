//! The lab's task: says over HTTP and UDP who it is and whom it sees. In containers it asks others, too.

mod command;
mod health;
mod http;
mod listener;
mod streams;
mod udp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser};
use command::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

#[derive(Parser, Debug)]
#[command(
    version,
    about = "Answers HTTP and UDP on port 80, echoes streams on port 7",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    identity: Identity,
}

/// Who this task is; every answer repeats it.
#[derive(Args, Debug)]
pub struct Identity {
    /// [default: what SERVICE says in the environment]
    #[arg(long)]
    service: Option<String>,
    /// [default: what TASK says in the environment, or the host's name, which every container has one of its own of]
    #[arg(long)]
    task: Option<String>,
    /// [default: what NODE says in the environment]
    #[arg(long)]
    node: Option<String>,
    /// HTTP over TCP, and echo over UDP
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Echo of streams
    #[arg(long, default_value_t = 7)]
    echo_port: u16,
    /// While this file exists, /healthz answers 503 [default: /sick]
    #[arg(long)]
    health_file: Option<PathBuf>,
    /// At SIGTERM close the listeners at once and run on for this many seconds, whatever the connections do
    #[arg(long)]
    linger: Option<u64>,
    /// At SIGTERM wait no longer than this many seconds for connections to end
    #[arg(long, default_value_t = 10)]
    grace: u64,
    /// At SIGTERM finish the handshakes that clients were promised before closing: nobody is reset
    #[arg(long)]
    polite: bool,
}

impl Identity {
    /// Takes what was not said from where the program runs.
    fn complete(&mut self) {
        let environment = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = || nix::unistd::gethostname().ok()?.into_string().ok();
        self.service = self.service.take().or_else(|| environment("SERVICE"));
        self.task = self.task.take().or_else(|| environment("TASK")).or_else(host);
        self.node = self.node.take().or_else(|| environment("NODE"));
    }

    fn task(&self) -> &str {
        self.task.as_deref().unwrap_or_default()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Arguments {
        command,
        mut identity,
    } = Arguments::parse();
    if let Some(command) = command {
        return command.run().await;
    }
    identity.complete();
    let identity = Arc::new(identity);
    let (stop, stopping) = watch::channel(false);
    let sockets = udp::bind(identity.port)?;
    let listeners = [
        listener::bind(identity.port)?,
        listener::bind(identity.echo_port)?,
    ];
    let [web, echo] = listeners;
    tokio::spawn(udp::serve(identity.clone(), sockets));
    let polite = identity.polite;
    let web = tokio::spawn(listener::serve(web, polite, stopping.clone(), {
        let (identity, stopping) = (identity.clone(), stopping.clone());
        move |stream, client| http::serve(identity.clone(), stream, client, stopping.clone())
    }));
    let echo = tokio::spawn(listener::serve(echo, polite, stopping, streams::echo));
    // Whoever reads that it serves may tell it to stop at once.
    let mut terminate = signal(SignalKind::terminate())?;
    println!("{} serves", identity.task());
    terminate.recv().await;
    stop.send_replace(true);
    let finished = async {
        let lost = web.await.unwrap_or(0) + echo.await.unwrap_or(0);
        println!("{} is done, lost={lost}", identity.task());
    };
    match identity.linger.map(Duration::from_secs) {
        Some(linger) => drop(tokio::join!(timeout(linger, finished), sleep(linger))),
        None => drop(timeout(Duration::from_secs(identity.grace), finished).await),
    }
    Ok(())
}
