//! Name servers in one namespace, asked in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use benches::machine::{self, Machine};
use netns::{Cluster, wait};

use crate::What;
use crate::contender::{self, Contender, NAMES, PORTS, Server, processor};
use crate::load::{Asker, Transport};
use crate::report::{Report, Row};

/// Starts all, warms all, and lets each have its turn in every round.
pub fn measure(what: &What) -> Result<Report> {
    // One node holds everything; the cluster's supervisor cleans up, however this ends.
    let builder = Cluster::builder("portico-dns").nodes(1);
    let builder = if what.contenders.contains(&Contender::Agent) {
        builder
            .configuration(&contender::agent())
            .file(contender::services())
    } else {
        builder.without_agents()
    };
    let cluster = builder.build()?;
    let (place, directory) = (cluster.place("node1"), cluster.state.directory());
    let _upstream = Server::upstream(&place, &directory)?;
    let mut servers = BTreeMap::new();
    for &contender in &what.contenders {
        let server = match contender {
            Contender::Agent => Server::adopt(&cluster, "node1"),
            _ => Server::start(contender, &place, &directory),
        };
        servers.insert(contender, server?);
    }
    let mut rows = Vec::new();
    for &question in &what.questions {
        let questions = question.write(&directory)?;
        for &contender in &what.contenders {
            let asker = Asker {
                place: &place,
                contender,
                transport: Transport::Udp,
                questions: &questions,
            };
            let what = format!("{} answers {} questions", contender.title(), question.title());
            let mut last = None;
            let answers = || asker.warm().map_err(|error| last = Some(error)).is_ok();
            let waited = wait::until(&what, Duration::from_secs(60), answers);
            waited.with_context(|| format!("{:#}", last.unwrap_or_else(|| anyhow::anyhow!("no answer"))))?;
        }
        rows.extend(
            what.transports
                .iter()
                .map(|&transport| (question, transport, questions.clone())),
        );
    }
    let mut rows: Vec<_> = rows
        .into_iter()
        .map(|(question, transport, questions)| (Row::new(question, transport), questions))
        .collect();
    let before = machine::load();
    for round in 0..what.rounds {
        eprintln!("names: round {} of {}", round + 1, what.rounds);
        for (row, questions) in &mut rows {
            let mut contenders = what.contenders.clone();
            // Nobody is always the first after something else.
            contenders.rotate_left(round as usize % what.contenders.len());
            for contender in contenders {
                let asker = Asker {
                    place: &place,
                    contender,
                    transport: row.transport,
                    questions,
                };
                let used = || servers[&contender].used();
                let start = used()?;
                let turn = asker
                    .flat_out(what.seconds)
                    .with_context(|| format!("{}, {}", contender.title(), row.question.title()))?;
                // dnsmasq's children for TCP are counted when they have ended.
                std::thread::sleep(Duration::from_millis(50));
                let busy = used()? - start;
                let times = asker.steadily(what.seconds, what.rate)?;
                row.add(contender, &turn, busy, times.percentile(99));
            }
        }
    }
    Ok(Report {
        machine: Machine::here(),
        rounds: what.rounds,
        seconds: what.seconds,
        rate: what.rate,
        load: [before, machine::load()],
        notes: vec![
            format!(
                "one namespace; dnsperf on processor {}, one thread each of the servers on processor {}",
                processor(0),
                processor(1)
            ),
            format!("{NAMES} names, {PORTS} of them with SRV; what is cached was asked for once before"),
        ],
        rows: rows.into_iter().map(|(row, _)| row).collect(),
    })
}
