//! The running agent: what it finds wrong itself, and whether the kernel holds what the snapshot says.

use super::finding::Finding;
use crate::api::status::Status;
use crate::api::{Client, Problem};
use crate::plane::Difference;

/// `status`: what the agent answered.
pub async fn check(client: &Client, status: Result<Status, Problem>) -> Vec<Finding> {
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
    if status
        .planes
        .iter()
        .any(|plane| plane.problem.is_none() && plane.report.generation > 0)
    {
        findings.push(tables(client.get("/v1/differences").await));
    }
    findings
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

    #[tokio::test]
    async fn without_an_agent_the_preflight_alone_is_a_warning() {
        let client = Client::new("/nonexistent/portico.sock");
        let status = client.get("/v1/status").await;
        let findings = check(&client, status).await;
        assert_eq!((findings.len(), findings[0].state), (1, State::Warning));
    }
}
