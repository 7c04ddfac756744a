//! Numbers as people read them.

use std::time::Duration;

use super::output::Format;

/// Things listed one by one where not all are asked for.
const LISTED: usize = 5;

/// `1.5 s`, `2 min 5 s`, `3 h 20 min`.
pub fn time(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 task`, `2 tasks`.
pub fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// `-` where something is not known.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// `a, b, c, d, e and 2 more`; all of them where every column is asked for.
pub fn first(things: &[impl AsRef<str>], format: Format) -> String {
    let listed = match format {
        Format::Wide => things.len(),
        _ => things.len().min(LISTED),
    };
    let named: Vec<&str> = things[..listed].iter().map(AsRef::as_ref).collect();
    match things.len() - listed {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// `30s`, `500ms`, `2m`, `1h`, as in the configuration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    crate::config::time::parse(text)
        .ok_or_else(|| "write a number with a unit, as 500ms, 30s, 2m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        assert_eq!(time(80), "80 ms");
        assert_eq!(time(1_500), "1.5 s");
        assert_eq!(time(125_000), "2 min 5 s");
        assert_eq!(time(12_000_000), "3 h 20 min");
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_duration("30").unwrap_err().contains("unit"));
        assert!(parse_duration("s").is_err());
    }
}
