//! Containers that have been told to end. Engines say so by an event and nowhere else.

use std::time::Duration;

/// What a container that still runs is granted beyond the time that its engine waits.
pub const GRACE: Duration = Duration::from_secs(5);
/// And in all at least: `docker stop --time` and a swarm's grace period are told to nobody.
pub const LEAST: Duration = Duration::from_secs(60);
/// And in all at most.
pub const MOST: Duration = Duration::from_secs(24 * 3600);

/// Whether a signal of this number or name is one that ends a container with this stop signal.
pub fn ends(signal: &str, stop_signal: Option<&str>) -> bool {
    const KILL: u8 = 9;
    const TERM: u8 = 15;
    match number(signal) {
        Some(KILL | TERM) => true,
        Some(signal) => stop_signal.and_then(number) == Some(signal),
        None => false,
    }
}

/// `15`, `TERM` or `SIGTERM`; signals of Linux on the machines that this is built for.
fn number(signal: &str) -> Option<u8> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: u8 = 34;
    const RTMAX: u8 = 64;
    if let Ok(number) = signal.parse() {
        return Some(number).filter(|number| (1..=RTMAX).contains(number));
    }
    let name = signal.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(place) = NAMES.iter().position(|known| *known == name) {
        return u8::try_from(place + 1).ok();
    }
    let above = name
        .strip_prefix("RTMIN")
        .map(|rest| rest.strip_prefix('+').unwrap_or(rest));
    let below = name
        .strip_prefix("RTMAX")
        .map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    let distance = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<u8>().ok()
        }
    };
    let number = match (above, below) {
        (Some(above), _) => RTMIN.checked_add(distance(above)?)?,
        (_, Some(below)) => RTMAX.checked_sub(distance(below)?)?,
        (None, None) => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("15", None, true)]
    #[case("9", None, true)]
    #[case("SIGTERM", None, true)]
    #[case("1", None, false)]
    #[case("10", Some("SIGUSR1"), true)]
    #[case("3", Some("quit"), true)]
    #[case("37", Some("SIGRTMIN+3"), true)]
    #[case("SIGRTMAX-1", Some("63"), true)]
    #[case("12", Some("SIGUSR1"), false)]
    #[case("", Some(""), false)]
    #[case("0", Some("0"), false)]
    fn its_stop_signal_term_and_kill_end_a_container(
        #[case] signal: &str,
        #[case] own: Option<&str>,
        #[case] ends_it: bool,
    ) {
        assert_eq!(ends(signal, own), ends_it);
    }

    proptest! {
        #[test]
        fn no_signal_makes_it_panic(signal in ".{0,12}", own in "(SIG)?RTM(IN|AX)[+-]?[0-9]{0,5}") {
            ends(&signal, Some(&own));
        }
    }
}
