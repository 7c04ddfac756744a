//! `portico trace`.

use super::output::{Format, print};
use super::packet::Packet;
use crate::api::{Client, Problem};
use crate::plane::{Question, TraceReport};

pub async fn trace(client: &Client, packet: &Packet, format: Format) -> Result<(), Problem> {
    let question = packet.question();
    if question.source.is_ipv4() != question.destination.is_ipv4() {
        return Err(Problem::new(format!(
            "no packet goes from {} to {}",
            question.source, question.destination
        ))
        .because("they are of different address families")
        .fix("give both as IPv4 or both as IPv6"));
    }
    let report: TraceReport = client.post("/v1/trace", &question).await?;
    print(format, &report, |report| text(&question, report))
}

fn text(question: &Question, report: &TraceReport) -> String {
    let kind = match (question.protocol.label(), question.opens) {
        ("tcp", true) => "the SYN of a TCP connection",
        ("tcp", false) => "a segment of an established TCP connection",
        _ => "a UDP datagram",
    };
    let mut text = format!("{kind} from {} to {}\n", question.source, question.destination);
    for (number, step) in report.steps.iter().enumerate() {
        text += &format!("  {:>2}  {}\n", number + 1, step.words);
    }
    text += &format!("verdict {}: {}\n", report.verdict, report.words);
    let mut facts = Vec::new();
    facts.extend(
        report
            .service
            .as_ref()
            .map(|service| format!("service {service}")),
    );
    facts.extend(report.slot.map(|slot| format!("slot {slot}")));
    facts.extend(report.task.as_ref().map(|task| format!("task {task}")));
    facts.extend(report.node.as_ref().map(|node| format!("node {node}")));
    facts.extend(report.device.as_ref().map(|device| format!("device {device}")));
    if !facts.is_empty() {
        text += &format!("  {}\n", facts.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use crate::plane::TraceStep;

    #[test]
    fn every_decision_is_told_in_order_with_the_verdict_last() {
        let question = Question {
            source: "198.51.100.7:40000".parse().unwrap(),
            destination: "192.0.2.11:8080".parse().unwrap(),
            protocol: Protocol::Tcp,
            opens: true,
        };
        let step = |words: &str| TraceStep {
            step: "front".into(),
            words: words.into(),
        };
        let report = TraceReport {
            verdict: "relayed".into(),
            words: "sent inside Geneve to the node that owns the flow".into(),
            service: Some("web".into()),
            slot: Some(17),
            task: Some("web.2".into()),
            node: Some("node2".into()),
            device: Some("eth0".into()),
            steps: vec![step("is for a frontend"), step("falls into slot 17")],
        };
        assert_eq!(
            text(&question, &report),
            "the SYN of a TCP connection from 198.51.100.7:40000 to 192.0.2.11:8080\n   \
             1  is for a frontend\n   \
             2  falls into slot 17\n\
             verdict relayed: sent inside Geneve to the node that owns the flow\n  \
             service web, slot 17, task web.2, node node2, device eth0\n"
        );
    }
}
