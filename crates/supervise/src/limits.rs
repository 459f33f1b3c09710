//! Bounds of what is known of the lives of processes, each with the reason for its value.

use std::time::Duration;

/// Processes at a time whose end is waited for, each with a descriptor; builds have some hundreds.
/// Never more than half of the descriptors that the supervisor may open.
pub(crate) const LIVES_MAX: usize = 4096;

/// Ends that are recorded with one write; more of them wait for the next.
pub(crate) const ENDS_AT_ONCE: usize = 256;

/// Threads of a process whose bytes are added; of one with more, its bytes are not known.
pub(crate) const THREADS_MAX: u32 = 64;

/// How long a command without a process may still get one, before it has ended: a shell can end
/// before what it started in the background has executed its program.
pub(crate) const SCOPE_REST: Duration = Duration::from_secs(1);

/// Pause between the first samples of what a session uses.
pub(crate) const SAMPLE_PAUSE: Duration = Duration::from_secs(1);

/// Samples after which the pause doubles: some 4,000 in a day.
pub(crate) const SAMPLES_UNTIL_DOUBLED: u32 = 600;

/// Processes that one sample reads, about 30 µs each; those after them are read by the next.
pub(crate) const SAMPLED_MAX: usize = 256;
