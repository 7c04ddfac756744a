//! Questions of our own to each upstream: whether it is there, how fast, and whether it leads back to us.
//!
//! The name asked for lies in our own zone and holds a number that nobody else knows. An upstream that does not know the
//! zone denies it, which is answer enough; if the question arrives here instead, asking that upstream goes in circles.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::proto::rr::Name;
use tokio::time::sleep;

use super::exchange::{Manner, ask};
use super::question::Question;
use super::upstream::Upstream;
use crate::statistics::Statistics;

/// First label below the number.
const LABEL: &str = "loop-probe";
const ATTEMPT: Duration = Duration::from_secs(1);
const WHILE_GOOD: Duration = Duration::from_secs(30);
const WHILE_BAD: Duration = Duration::from_secs(1);

const TXT: u16 = 16;

/// The number in a name below our zone, if it is a probe's.
pub(crate) fn token(relative: &str) -> Option<u64> {
    let number = relative.strip_suffix(LABEL)?.strip_suffix('.')?;
    (number.len() == 16).then(|| u64::from_str_radix(number, 16).ok())?
}

pub(super) async fn probe(upstream: Arc<Upstream>, domain: Name, statistics: Arc<Statistics>) {
    let labels = [format!("{:016x}", upstream.token), LABEL.to_owned()];
    let name =
        Name::from_labels(labels.iter().map(String::as_bytes)).and_then(|name| name.append_domain(&domain));
    // Only a domain that leaves no room for names cannot be probed.
    let Ok(name) = name else { return };
    let question = Question::plain(&name, TXT);
    let manner = Manner {
        attempt: ATTEMPT,
        mix_case: false,
        statistics: &statistics,
    };
    let mut was_looping = false;
    loop {
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
        assert_eq!(token("00000000000000ff.loop-probe"), Some(255));
        for other in [
            "loop-probe",
            "ff.loop-probe",
            "web",
            "x0000000000000ff.loop-probe",
        ] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
