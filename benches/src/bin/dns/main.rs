//! Names: questions a second and how long the slowest hundredth waits, beside dnsmasq and unbound. And what connect() to
//! a service costs, with and without the socket programs.

mod connect;
mod contender;
mod echo;
mod load;
mod names;
mod own;
mod report;

use anyhow::Result;
use benches::machine::Machine;
use clap::{Parser, Subcommand, ValueEnum};

use contender::Contender;
use load::{Question, Transport};

/// Measures Portico's names beside other name servers, and connections by name beside plain ones.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask bench dns", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    what: What,
}

#[derive(clap::Args, Debug)]
pub struct What {
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Names, Part::Connect])]
    parts: Vec<Part>,
    /// How often each contender has its turn
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each turn of questions lasts, in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Questions a second while waiting times are taken
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Question::ALL)]
    questions: Vec<Question>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Transport::ALL)]
    transports: Vec<Transport>,
    /// Name servers that take part
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contender::ALL)]
    contenders: Vec<Contender>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Questions to name servers.
    Names,
    /// Connections to a task by its address, by its VIP, and through nftables.
    Connect,
}

/// What the benchmark starts of itself.
#[derive(Subcommand, Clone, Debug)]
#[command(hide = true)]
enum Role {
    /// Portico's name server
    #[command(hide = true)]
    Serve(own::Serve),
    /// A server that does nothing but answer
    #[command(hide = true)]
    Echo(echo::Echo),
    /// Sockets to one address, one after the other
    #[command(hide = true)]
    Connect(connect::process::Connect),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(Role::Serve(serve)) => return own::run(&serve),
        Some(Role::Echo(echo)) => return echo::run(&echo),
        Some(Role::Connect(connect)) => return connect::process::run(&connect),
        None => {}
    }
    println!("{}", Machine::here());
    if cfg!(debug_assertions) {
        println!("This is a debug build; `cargo xtask bench dns` builds with optimisation.");
    }
    if arguments.what.parts.contains(&Part::Names) {
        let report = names::measure(&arguments.what)?;
        report.print();
        report.save()?;
    }
    if arguments.what.parts.contains(&Part::Connect) {
        let report = connect::measure(&arguments.what)?;
        report.print();
        report.save()?;
    }
    Ok(())
}
