//! Client and server over a real socket.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;

use super::*;
use crate::api::backend::BackendRow;
use crate::api::drain::Progress;
use crate::api::explain::Explanation;
use crate::api::published::Published;
use crate::api::server::{Mark, serve};
use crate::api::service::ServiceView;
use crate::api::socket::Socket;
use crate::api::status::Status;
use crate::api::{Agent, Facts, sample};
use crate::model::{DrainObject, Protocol};
use crate::names::report::{DnsAnswer, DnsQuestion};
use crate::plane::{Difference, Question, TraceReport};

struct Sample;

impl Agent for Sample {
    fn facts(&self) -> Facts {
        sample::facts()
    }

    fn trace(&self, question: &Question) -> Result<TraceReport, Problem> {
        Ok(TraceReport {
            verdict: "not_ours".into(),
            words: format!("no frontend at {}", question.destination),
            service: None,
            slot: None,
            task: None,
            node: None,
            device: None,
            steps: vec![],
        })
    }

    fn mark(&self, _: &DrainObject, _: bool) -> Result<(), Problem> {
        Ok(())
    }

    fn ask(&self, question: DnsQuestion) -> Result<DnsAnswer, Problem> {
        Err(Problem::new("cannot ask the name server").because(format_args!(
            "nobody knows {} but {}",
            question.name, question.from
        )))
    }

    fn differences(&self) -> Result<Vec<Difference>, Problem> {
        Ok(vec![])
    }

    fn sockets(&self) -> Result<BTreeSet<u64>, Problem> {
        Ok([7].into())
    }
}

fn start(directory: &Path) -> Client {
    let path = directory.join("portico.sock");
    let socket = Socket::bind(&path).unwrap();
    tokio::spawn(serve(socket, Arc::new(Sample), pending()));
    Client::new(path)
}

#[tokio::test]
async fn every_view_comes_through_the_socket_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let client = start(directory.path());
    let facts = Sample.facts();
    assert_eq!(
        client.get::<BTreeSet<u64>>("/v1/sockets").await.unwrap(),
        [7].into()
    );
    assert_eq!(
        client.get::<Status>("/v1/status").await.unwrap(),
        crate::api::status::status(&facts)
    );
    let service: ServiceView = client.get("/v1/services/web").await.unwrap();
    assert_eq!(service, crate::api::service::service(&facts, "web").unwrap());
    let backends: Vec<BackendRow> = client.get("/v1/backends?service=web").await.unwrap();
    assert_eq!(backends.len(), 3);
    let published: Published = client.get("/v1/published").await.unwrap();
    assert_eq!(published, Published::of(&facts));
    let explanation: Explanation = client.get("/v1/explain/web").await.unwrap();
    assert_eq!(explanation, crate::api::explain::explain(&facts, "web").unwrap());
    let question = Question {
        source: "198.51.100.7:40000".parse().unwrap(),
        destination: "192.0.2.11:22".parse().unwrap(),
        protocol: Protocol::Tcp,
        opens: true,
    };
    let answer: TraceReport = client.post("/v1/trace", &question).await.unwrap();
    assert_eq!(answer.verdict, "not_ours");
    let mark = Mark {
        name: "node1".into(),
        draining: true,
    };
    let progress: Progress = client.post("/v1/drain", &mark).await.unwrap();
    assert_eq!(progress.left, Some(14));
}

#[tokio::test]
async fn a_problem_of_the_agent_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let client = start(directory.path());
    let problem = client.get::<Explanation>("/v1/explain/wbe").await.unwrap_err();
    assert_eq!(
        problem,
        crate::api::explain::explain(&Sample.facts(), "wbe").unwrap_err()
    );
}

#[tokio::test]
async fn without_an_agent_the_problem_says_how_to_start_one_and_whose_traffic_flows() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(directory.path().join("portico.sock"));
    let problem = client.get::<Status>("/v1/status").await.unwrap_err();
    assert!(problem.what.starts_with("cannot reach the agent at "));
    assert!(problem.fix.unwrap().contains("portico run"));
    assert!(problem.traffic.contains("packet programs go on"));
    assert!(
        problem
            .traffic
            .contains("(with mode = \"proxy\" everything) ends")
    );
}
