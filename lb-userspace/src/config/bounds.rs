//! Numbers with bounds; the parser adds file and line to what these say.

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
