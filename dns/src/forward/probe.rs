//! Questions of our own to each upstream: whether it is there, how fast, and whether it leads back to us.
//!
//! The name asked for is one that any server passes on for anybody: below the domain that the upstream has been given, or
//! below a top-level domain that is nobody's. It must not lie in a zone of ours: a site's own resolver may well ask us for
//! those, and for nothing else. It holds a number that nobody else knows and another each time, so that no server between
//! answers from memory, and says nothing else about us. The upstream denies it, which is answer enough; if the question
//! arrives here instead, asking that upstream goes in circles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::proto::rr::Name;
use tokio::time::sleep;

use super::exchange::{Manner, ask};
use super::question::Question;
use super::upstream::Upstream;
use crate::statistics::Statistics;

/// First label below the numbers.
const LABEL: &str = "loop-probe";
const ATTEMPT: Duration = Duration::from_secs(1);
const WHILE_GOOD: Duration = Duration::from_secs(30);
const WHILE_BAD: Duration = Duration::from_secs(1);

const TXT: u16 = 16;

/// The upstream's number in a whole name, if it is a probe's, of ours or of another server.
pub(crate) fn token(name: &str) -> Option<u64> {
    let mut labels = name.splitn(4, '.');
    let mut number = || {
        let digits = labels.next().filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok()
    };
    let (_, token) = (number()?, number()?);
    (labels.next() == Some(LABEL)).then_some(token)
}

/// Top-level domains to probe in, the first that is apart from all zones of ours. `internal` is nobody's for good, and
/// passed on by every server; some answer for `test` themselves.
pub(crate) const TOP: [&str; 3] = ["internal", "test", "invalid"];

/// A name below this domain that has not been asked for before.
fn fresh(token: u64, domain: &Name) -> Option<Name> {
    let labels = [
        format!("{:016x}", rand::random::<u64>()),
        format!("{token:016x}"),
        LABEL.to_owned(),
    ];
    let name = Name::from_labels(labels.iter().map(String::as_bytes)).ok()?;
    name.append_domain(domain).ok()
}

pub(super) async fn probe(upstream: Arc<Upstream>, domain: Name, statistics: Arc<Statistics>) {
    let manner = Manner {
        attempt: ATTEMPT,
        mix_case: false,
        statistics: &statistics,
    };
    let mut was_looping = false;
    // Only a domain that leaves no room for names cannot be probed.
    while let Some(name) = fresh(upstream.token, &domain) {
        let question = Question::plain(&name, TXT);
        upstream.before_probe();
        let start = Instant::now();
        if ask(&upstream, &question, &manner).await.is_ok() {
            upstream.after_probe();
            upstream.probed(start.elapsed());
        }
        if upstream.is_looping() != was_looping {
            was_looping = upstream.is_looping();
            if was_looping {
                statistics.upstream_loops.increment();
                tracing::error!(upstream = %upstream.address, "what this upstream is asked comes back to us; it is not asked any more");
            } else {
                tracing::info!(upstream = %upstream.address, "this upstream does not lead back to us any more");
            }
        }
        sleep(if upstream.is_down() || was_looping {
            WHILE_BAD
        } else {
            WHILE_GOOD
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probes_are_taken_for_probes() {
        let domain = Name::from_ascii("corp.example.").unwrap();
        let name = fresh(255, &domain).unwrap().to_string();
        assert_ne!(name, fresh(255, &domain).unwrap().to_string());
        assert_eq!(token(&name), Some(255));
        assert!(name.ends_with(".00000000000000ff.loop-probe.corp.example."));
        for other in [
            "loop-probe",
            "00000000000000ff.loop-probe.internal",
            "web",
            "0123456789abcdef.x0000000000000ff.loop-probe.internal",
            "0123456789abcdef.00000000000000ff.internal",
        ] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
