//! Points in time as Go writes them.

use serde::{Deserialize, Deserializer};

use crate::source::engine::instant::nanoseconds;

/// Since 1970; 0: not known, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanoseconds(pub u64);

impl<'de> Deserialize<'de> for Nanoseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let since = text.as_deref().and_then(nanoseconds);
        Ok(Self(since.and_then(|since| since.try_into().ok()).unwrap_or(0)))
    }
}
