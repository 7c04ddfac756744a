//! Times: `500ms`, `2s`, `5m`, `1h`.

use std::time::Duration;

/// A number and a unit.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(
        number.parse::<u64>().ok()?.checked_mul(milliseconds)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("2s"), Some(Duration::from_secs(2)));
        for wrong in [
            "",
            "2",
            "s",
            "2 s",
            "-2s",
            "2.5s",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
