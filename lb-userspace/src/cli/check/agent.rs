//! The running agent: what it finds wrong itself, and whether the kernel holds what the snapshot says.

use super::finding::Finding;
use crate::api::facts::Plane;
use crate::api::status::Status;
use crate::api::{Client, Problem};
use crate::cli::words::count;
use crate::config::Mode;
use crate::plane::{Difference, Portico0Report};

/// Whether it is the plane of packet programs. The other has routes of its own to VIPs, and no tables.
pub const fn is_of_packets(plane: &Plane) -> bool {
    plane.report.proxy.is_none()
}

/// `status`: what the agent answered. `mode`: what it is to serve with.
pub async fn check(client: &Client, status: Result<Status, Problem>, mode: Mode) -> Vec<Finding> {
    let status = match status {
        Ok(status) => status,
        Err(problem) => {
            let fix = problem.fix.clone().unwrap_or_default();
            return vec![Finding::warning("agent", first_line(&problem), fix)];
        }
    };
    let mut findings = vec![Finding::ok(
        "agent",
        format!("{} runs, generation {}", status.node, status.generation),
    )];
    findings.extend(status.problems.iter().map(problem));
    let (packets, sockets): (Vec<_>, Vec<_>) = status.planes.iter().partition(|plane| is_of_packets(plane));
    let proxies = || sockets.iter().filter_map(|plane| plane.report.proxy.as_ref());
    findings.extend(proxies().map(|proxy| {
        let words = format!("listens at {}", count(proxy.listeners as u64, "frontend"));
        Finding::ok("proxy", words)
    }));
    if packets.is_empty() {
        let differences: Result<Vec<Difference>, Problem> = client.get("/v1/differences").await;
        findings.extend(differences.err().map(|why| without_tables(&why, mode)));
        return findings;
    }
    let mut at_work = packets;
    at_work.retain(|plane| plane.report.generation > 0);
    if at_work.iter().any(|plane| plane.problem.is_none()) {
        findings.push(tables(client.get("/v1/differences").await));
    }
    let led = proxies().map(|proxy| proxy.led.len()).sum();
    findings.extend(at_work.iter().flat_map(|plane| {
        let refused = plane.report.sockets.lookup_refused.as_deref();
        [portico0(&plane.report.portico0), lookup(refused, led)]
    }));
    findings
}

/// Where there are no packet programs, and so no tables of theirs.
fn without_tables(why: &Problem, mode: Mode) -> Finding {
    let words = format!("there are none, the proxy serves: {}", first_line(why));
    match mode {
        Mode::Proxy => Finding::ok("tables", words),
        Mode::Auto | Mode::Ebpf => Finding::warning(
            "tables",
            words,
            "mend that and restart the agent, or set mode = \"proxy\" in portico.toml where it is by choice",
        ),
    }
}

fn first_line(problem: &Problem) -> String {
    problem.to_string().lines().next().unwrap_or_default().to_owned()
}

fn problem(problem: &Problem) -> Finding {
    let words = format!("{}; traffic: {}", first_line(problem), problem.traffic);
    Finding::failure(
        "agent",
        words,
        problem
            .fix
            .as_deref()
            .unwrap_or("see portico status and the agent's log"),
    )
}

/// The way of this node's own processes to VIPs.
fn portico0(device: &Portico0Report) -> Finding {
    let missing = device.wanted - device.routes.min(device.wanted);
    let lack = match device {
        Portico0Report { there: false, .. } => "is not there".into(),
        Portico0Report { up: false, .. } => "is not up".into(),
        Portico0Report { attached: false, .. } => "has no program behind it".into(),
        _ if missing > 0 => format!("lacks {missing} of {} routes", device.wanted),
        _ => {
            let words = format!("there, up, all {} routes in place", device.routes);
            return Finding::ok("portico0", words);
        }
    };
    Finding::failure(
        "portico0",
        format!("portico0 {lack}: processes of this node do not reach VIPs"),
        "the agent puts it right within a second; where it does not, see portico status for what the kernel refuses",
    )
}

/// The way to the proxy at ports that other programs have.
fn lookup(refused: Option<&str>, led: usize) -> Finding {
    match refused {
        None => Finding::ok(
            "lookup",
            format!(
                "clients are led past other programs at {}",
                count(led as u64, "port")
            ),
        ),
        Some(reason) => Finding::warning(
            "lookup",
            format!("the proxy cannot serve a port that another program has: {reason}"),
            "end such a program, or publish another port; the agent's log has all that the kernel says",
        ),
    }
}

fn tables(differences: Result<Vec<Difference>, Problem>) -> Finding {
    match differences {
        Err(problem) => Finding::failure("tables", first_line(&problem), problem.fix.unwrap_or_default()),
        Ok(differences) if differences.is_empty() => {
            Finding::ok("tables", "the kernel holds what the snapshot says")
        }
        Ok(differences) => {
            let first = &differences[0];
            let words = format!(
                "{} entries differ from the snapshot, as {}: {} instead of {}",
                differences.len(),
                first.entry,
                first.found,
                first.wanted
            );
            if differences.iter().all(|difference| difference.repaired) {
                return Finding::warning(
                    "tables",
                    words,
                    "none needed: they were set right just now; see who writes there",
                );
            }
            Finding::failure(
                "tables",
                words,
                "restart the agent: it rebuilds them from the snapshot, connections stay",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    fn difference(repaired: bool) -> Difference {
        Difference {
            entry: "FRONT4 192.0.2.11:8080/tcp".into(),
            wanted: "pool 0".into(),
            found: "nothing".into(),
            repaired,
        }
    }

    #[test]
    fn tables_that_differ_are_a_failure_unless_they_were_repaired() {
        assert_eq!(tables(Ok(vec![])).state, State::Ok);
        assert_eq!(tables(Ok(vec![difference(true)])).state, State::Warning);
        let failure = tables(Ok(vec![difference(true), difference(false)]));
        assert_eq!(failure.state, State::Failure);
        assert!(
            failure
                .words
                .contains("FRONT4 192.0.2.11:8080/tcp: nothing instead of pool 0")
        );
    }

    #[test]
    fn portico0_is_a_failure_until_it_is_whole() {
        let mut device = Portico0Report::default();
        assert_eq!(portico0(&device).state, State::Failure);
        (device.there, device.up, device.attached) = (true, true, true);
        (device.routes, device.wanted) = (1, 2);
        assert!(portico0(&device).words.contains("lacks 1 of 2 routes"));
        device.routes = 2;
        assert_eq!(portico0(&device).state, State::Ok);
    }

    #[tokio::test]
    async fn without_an_agent_the_preflight_alone_is_a_warning() {
        let client = Client::new("/nonexistent/portico.sock");
        let status = client.get("/v1/status").await;
        let findings = check(&client, status, Mode::Auto).await;
        assert_eq!((findings.len(), findings[0].state), (1, State::Warning));
    }

    #[test]
    fn a_node_without_packet_programs_by_choice_lacks_nothing() {
        let why = Problem::new("there are no packet programs here").because("mode = \"proxy\"");
        assert_eq!(without_tables(&why, Mode::Proxy).state, State::Ok);
        let finding = without_tables(&Problem::new("cannot load the programs: EPERM"), Mode::Auto);
        assert_eq!(finding.state, State::Warning);
        assert!(
            finding.words.ends_with("cannot load the programs: EPERM"),
            "{finding:?}"
        );
    }
}
