//! The clocks of the machine.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use stockade_event::Stamp;

/// Reads both clocks of the machine.
pub fn now() -> Stamp {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mono = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(mono.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(mono.tv_nsec).unwrap_or_default();
    Stamp {
        time_unix_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        mono_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
    }
}
