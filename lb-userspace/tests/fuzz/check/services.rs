//! What must be true of a services file that is read, whatever is written in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lb_userspace::model::compose::{Composer, Event};
use lb_userspace::model::validate::validate;
use lb_userspace::model::{Agreed, Desired, Identity, Past, Snapshot};
use lb_userspace::source::file;

/// Whether the text is a services file. Panics where the answer is wrong.
pub fn accepted(bytes: &[u8]) -> bool {
    // Files that are no text are refused by those who open them.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match file::parse(Path::new("services.yaml"), text) {
        Ok(desired) => {
            assert_eq!(validate(&desired), []);
            check(desired);
            true
        }
        Err(refused) => {
            assert!(!refused.faults.is_empty());
            assert!(refused.faults.is_sorted_by_key(|fault| fault.place));
            for fault in &refused.faults {
                assert!(!fault.reason.is_empty() && !fault.fix.is_empty());
                assert_eq!(fault.reason.lines().count(), 1, "{:?}", fault.reason);
                let (line, column) = fault.place.unwrap_or((1, 1));
                // For YAML, a line may end in each of these ways; so does the last, whatever it ends with.
                let ends = text
                    .matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
                    .count() as u64;
                assert!((1..=ends + 2).contains(&line) && column > 0, "{fault:?}");
            }
            assert!(refused.to_string().starts_with("services.yaml:"));
            false
        }
    }
}

/// All agents must come to the same picture of it.
fn check(desired: Desired) {
    let desired = Arc::new(desired);
    let now = Instant::now();
    let (one, other) = (compose(&desired, now), compose(&desired, now));
    assert!(one.services.keys().eq(desired.services.keys()));
    assert_eq!(one, other);
}

fn compose(desired: &Arc<Desired>, now: Instant) -> Snapshot {
    let source: Arc<str> = file::NAME.into();
    let pools = ["10.254.0.0/16", "fdfe:706f:7274::/112"];
    let agreed = Agreed {
        identity: Identity::new([7; 32]),
        pools: pools.map(|pool| pool.parse().expect("a network")).into(),
    };
    let mut composer = Composer::new(agreed, [Arc::clone(&source)], Past::default());
    let desired = Arc::clone(desired);
    composer.absorb(Event::Source { source, desired });
    composer.compose(now).expect("the first picture")
}
