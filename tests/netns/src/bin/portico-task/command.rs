//! What the program does when it does not serve: it asks others, as a person inside a container would with tools that are
//! not there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use netns::client::asker::{self, Url};
use netns::client::http::Connection;
use netns::client::resolver::Resolver;
use netns::wait;
use tokio::signal::unix::{SignalKind, signal};

use crate::health;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Gets a page; fails unless the answer is 200
    Probe { url: Url },
    /// Prints the addresses of a name
    Resolve { name: String },
    /// Gets a page once and prints it, or at a rate until told to stop, and prints who answered as JSON
    Ask {
        url: Url,
        /// Requests per second
        #[arg(long)]
        rate: Option<f64>,
        #[arg(long, default_value_t = 4)]
        workers: usize,
        /// Begin when the name is found
        #[arg(long)]
        patient: bool,
        /// Stop after so many seconds
        #[arg(long)]
        seconds: Option<f64>,
        /// Write the number of requests made so far to this file, over and over
        #[arg(long)]
        progress: Option<std::path::PathBuf>,
    },
    /// From now on /healthz of this container answers 503
    Sick,
    /// From now on /healthz of this container answers 200
    Well,
}

impl Command {
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Probe { url } => get(&url).map(drop),
            Self::Resolve { name } => {
                for address in Resolver::here()?.resolve(&name)? {
                    println!("{address}");
                }
                Ok(())
            }
            Self::Ask { url, rate: None, .. } => {
                print!("{}", get(&url)?);
                Ok(())
            }
            Self::Ask {
                url,
                rate: Some(rate),
                workers,
                patient,
                seconds,
                progress,
            } => {
                if patient {
                    let found = || Ok::<_, std::convert::Infallible>(url.resolve().ok());
                    wait::until_some("the name is found", PATIENCE, found)?;
                }
                steady(url, rate, workers, seconds, progress).await
            }
            Self::Sick => Ok(std::fs::write(health::SICK, "")?),
            Self::Well => match std::fs::remove_file(health::SICK) {
                Err(error) if Path::new(health::SICK).exists() => Err(error.into()),
                _ => Ok(()),
            },
        }
    }
}

fn get(url: &Url) -> Result<String> {
    let target = url.resolve()?;
    let (_, body) = Connection::open(target, None)
        .and_then(|mut connection| connection.get(&url.path))
        .with_context(|| format!("{target} does not answer"))?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn steady(
    url: Url,
    rate: f64,
    workers: usize,
    seconds: Option<f64>,
    progress: Option<std::path::PathBuf>,
) -> Result<()> {
    static STOP: AtomicBool = AtomicBool::new(false);
    static DONE: AtomicU64 = AtomicU64::new(0);
    if rate <= 0.0 || workers == 0 {
        bail!("nothing to do");
    }
    let asking = thread::spawn(move || asker::ask(&url, rate, workers, &STOP, &DONE));
    let mut terminate = signal(SignalKind::terminate())?;
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    while end.is_none_or(|end| Instant::now() < end) {
        if let Some(file) = &progress {
            std::fs::write(file, DONE.load(Ordering::Relaxed).to_string())?;
        }
        tokio::select! {
            _ = terminate.recv() => break,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    STOP.store(true, Ordering::Relaxed);
    let report = asking.join().ok().context("the asking thread panicked")?;
    println!("{}", asker::tell(&report)?);
    Ok(())
}
