//! What can be said of the proxy plane, the same wherever a service is written.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::time;

/// A time with its bounds.
pub struct Times {
    bounds: RangeInclusive<Duration>,
    /// The same in words.
    pub words: &'static str,
}

const WEEK: Duration = Duration::from_secs(168 * 3600);

/// For a task to accept.
pub const CONNECT_TIMEOUT: Times = Times {
    bounds: Duration::from_millis(10)..=Duration::from_secs(60),
    words: "a time from 10ms to 1m",
};
/// Of silence; none: for ever.
pub const IDLE: Times = Times {
    bounds: Duration::ZERO..=WEEK,
    words: "a time from 0s, which means never, to 168h",
};
/// Of connections to a draining task.
pub const DRAIN: Times = Times {
    bounds: Duration::ZERO..=WEEK,
    words: "a time from 0s to 168h",
};

/// How a time is written.
pub const TIMES: &str = "write a number and ms, s, m or h, such as 2s";

/// Most further tasks that can be tried.
pub const MAX_RETRIES: u32 = 16;
/// Most ranges of those in front of us.
pub const MAX_RANGES: usize = 256;

impl Times {
    pub fn parse(&self, text: &str) -> Option<Duration> {
        time::parse(text).filter(|time| self.bounds.contains(time))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    #[error("`{0}` is not a range of addresses")]
    Form(String),
    /// What is written behind the prefix is likely a mistake about its length.
    #[error("{net} is not a range: it begins at {}", net.trunc())]
    Within { net: IpNet },
}

impl BadRange {
    /// What to do next.
    pub fn fix(&self) -> String {
        match self {
            Self::Form(_) => "write one like 192.0.2.0/24 or 2001:db8::/32, or a single address".into(),
            Self::Within { net } => {
                format!("write {}, or {} for this address alone", net.trunc(), net.addr())
            }
        }
    }
}

/// `192.0.2.0/24`, `2001:db8::/32`, or one address.
pub fn range(text: &str) -> Result<IpNet, BadRange> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet = text.parse().map_err(|_| BadRange::Form(text.to_owned()))?;
    if net.trunc() != net {
        return Err(BadRange::Within { net });
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_network_or_an_address() {
        for (text, net) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(range(text).map(|net| net.to_string()).as_deref(), Ok(net));
        }
        for wrong in [
            "",
            "web",
            "192.0.2.0/33",
            "192.0.2/24",
            "192.0.2.0/",
            "/24",
            "2001:db8::/129",
        ] {
            assert_eq!(range(wrong), Err(BadRange::Form(wrong.to_owned())));
        }
        let within = range("192.0.2.7/24").unwrap_err();
        assert_eq!(
            within.to_string(),
            "192.0.2.7/24 is not a range: it begins at 192.0.2.0/24"
        );
        assert_eq!(
            within.fix(),
            "write 192.0.2.0/24, or 192.0.2.7 for this address alone"
        );
    }

    #[test]
    fn times_have_bounds() {
        assert_eq!(IDLE.parse("0s"), Some(Duration::ZERO));
        assert_eq!(IDLE.parse("168h"), Some(WEEK));
        assert_eq!(IDLE.parse("169h"), None);
        assert_eq!(CONNECT_TIMEOUT.parse("0s"), None);
        assert_eq!(CONNECT_TIMEOUT.parse("1m"), Some(Duration::from_secs(60)));
        assert_eq!(DRAIN.parse("0s"), Some(Duration::ZERO));
    }
}
