//! Deserialises settings and checks their ranges.

use serde::de::{Deserialize, Deserializer, Error};

/// A number above 0 and at most 1.
pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let found = f64::deserialize(deserializer)?;
    let is_share = found > 0.0 && found <= 1.0;
    if is_share { Ok(found) } else { Err(D::Error::custom(format!("{found} is not above 0 and at most 1"))) }
}

/// A number of at least 1.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let found = usize::deserialize(deserializer)?;
    if found > 0 { Ok(found) } else { Err(D::Error::custom("0 is too few: expected 1 or more")) }
}

/// A number of values per record: at least 1, and small enough for memory.
pub(super) fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let found = usize::deserialize(deserializer)?;
    match found {
        1..=65_536 => Ok(found),
        _ => Err(D::Error::custom(format!("{found} is out of range: expected 1 to 65536"))),
    }
}
