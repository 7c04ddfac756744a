//! Numbers and times with bounds; the parser adds file and line to what these say.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// A count from `MIN` to `MAX`.
pub fn within<'de, D: Deserializer<'de>, const MIN: u32, const MAX: u32>(input: D) -> Result<u32, D::Error> {
    let value = i64::deserialize(input)?;
    u32::try_from(value)
        .ok()
        .filter(|count| (MIN..=MAX).contains(count))
        .ok_or_else(|| D::Error::custom(format_args!("{value} is not within {MIN} to {MAX}")))
}

/// A port, 1 to 65535.
pub fn port<'de, D: Deserializer<'de>>(input: D) -> Result<u16, D::Error> {
    within::<D, 1, 65535>(input).map(|port| port as u16)
}

/// A time like `"30s"`, from `MIN` to `MAX` seconds.
pub fn time<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    input: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(input)?;
    let bounds = Duration::from_secs(MIN)..=Duration::from_secs(MAX);
    super::time::parse(&text)
        .filter(|time| bounds.contains(time))
        .ok_or_else(|| {
            let [min, max] = [MIN, MAX].map(super::time::written);
            D::Error::custom(format_args!("`{text}` is not a time from {min} to {max}"))
        })
}
