//! The clock of the agent.

use std::time::{SystemTime, UNIX_EPOCH};

use stockade_types::UnixMillis;

/// Returns the time, in milliseconds since 1970; 0 if the clock is before that.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    UnixMillis(u64::try_from(millis).unwrap_or(u64::MAX))
}
