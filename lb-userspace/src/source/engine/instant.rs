//! Times as engines write them (RFC 3339): `2026-11-20T23:51:57.998855191Z`.

/// Nanoseconds since 1970; `None` for what is no time, and for the year 1, by which engines mean "never".
pub fn nanoseconds(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| number(part, 4));
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.splitn(3, ':').map(|part| number(part, 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let fits =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !fits || year < 1970 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos(fraction)?)
}

fn number(digits: &str, most: usize) -> Option<i64> {
    let plain =
        !digits.is_empty() && digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Digits beyond the ninth say nothing that is kept.
fn nanos(fraction: &str) -> Option<i64> {
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && !fraction.is_empty();
    let kept = fraction.get(..9).unwrap_or(fraction);
    let scale = 10_i64.pow(9 - kept.len() as u32);
    digits
        .then(|| number(kept, 9))
        .flatten()
        .map(|value| value * scale)
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, zone) = zone.split_at(1);
    let (hours, minutes) = zone.split_once(':')?;
    let seconds = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Counted from March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1970-01-01T00:00:00Z", 0)]
    #[case("2000-03-01T00:00:00Z", 951_868_800_000_000_000)]
    #[case("2026-11-20T23:51:57.998855191Z", 1_795_218_717_998_855_191)]
    #[case("2026-11-21T00:51:57.998855191+01:00", 1_795_218_717_998_855_191)]
    #[case("2024-02-29T12:00:00.5-05:30", 1_709_227_800_500_000_000)]
    fn a_time_is_counted_from_1970(#[case] text: &str, #[case] expected: i64) {
        assert_eq!(nanoseconds(text), Some(expected));
    }

    #[rstest]
    #[case("0001-01-01T00:00:00Z")]
    #[case("")]
    #[case("2026-11-20")]
    #[case("2026-13-20T00:00:00Z")]
    #[case("2026-11-20T00:00:00")]
    #[case("2026-11-20T00:00:00.Z")]
    fn what_is_no_time_is_none(#[case] text: &str) {
        assert_eq!(nanoseconds(text), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:+. ä-]{0,40}") {
            let _ = nanoseconds(&text);
        }

        #[test]
        fn later_days_are_later(year in 1970..2200_i64, month in 1..13_i64, day in 1..28_i64) {
            prop_assert_eq!(days(year, month, day) + 1, days(year, month, day + 1));
        }
    }
}
