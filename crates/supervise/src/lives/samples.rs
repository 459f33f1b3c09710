//! What a session uses, second by second, in a bounded number of events.

use std::time::{Duration, Instant};

use stockade_event::{Event, Measured, Usage};

use super::used::Used;
use crate::limits::{SAMPLE_PAUSE, SAMPLES_UNTIL_DOUBLED};

/// Differences below which a sample says the same as the one before: what an idle agent does.
const SAME_MEMORY_BYTES: u64 = 1 << 20;
const SAME_CPU_US: u64 = 20_000;
const SAME_BYTES: u64 = 64 << 10;

/// What a control group says of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUse {
    /// Memory in use, in bytes.
    pub memory_bytes: Option<u64>,
    /// The most memory at one time, in bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Processor time in programs, in microseconds.
    pub cpu_user_us: Option<u64>,
    /// Processor time in the kernel, in microseconds.
    pub cpu_system_us: Option<u64>,
}

/// The samples of a session.
pub(super) struct Samples {
    /// When processes are read next.
    due: Instant,
    /// When a sample is recorded next.
    recorded: Instant,
    pause: Duration,
    taken: u32,
    /// What all used that have ended.
    ended: Usage,
    /// The most memory that a sample has found.
    peak: Option<u64>,
    group: Option<GroupUse>,
    last: Option<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    processes: u64,
    memory_bytes: Option<u64>,
    usage: Usage,
}

impl Samples {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now + SAMPLE_PAUSE,
            recorded: now + SAMPLE_PAUSE,
            pause: SAMPLE_PAUSE,
            taken: 0,
            ended: Usage::default(),
            peak: None,
            group: None,
            last: None,
        }
    }

    /// Adds what a process had used that has ended.
    pub(super) fn ended(&mut self, usage: &Usage) {
        self.ended.add(usage);
    }

    /// Notes what the control group says.
    pub(super) const fn group(&mut self, group: GroupUse) {
        self.group = Some(group);
    }

    /// Returns when the next sample is taken.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// Takes a sample of what `running` processes use; it is recorded if it is the last one, or its time
    /// has come and it says something new.
    pub(super) fn take<'u>(
        &mut self,
        running: impl Iterator<Item = &'u Used>,
        now: Instant,
        is_last: bool,
    ) -> Option<Event> {
        self.due = now + SAMPLE_PAUSE;
        let (sample, measured) = self.now(running);
        if !is_last {
            if now < self.recorded {
                return None;
            }
            self.recorded = now + self.pause;
            if self.last.is_some_and(|last| last.says_the_same(&sample)) {
                return None;
            }
        }
        self.last = Some(sample);
        self.taken += 1;
        if self.taken >= SAMPLES_UNTIL_DOUBLED {
            self.taken = 0;
            self.pause = self.pause.saturating_mul(2);
        }
        Some(Event::ResourcesSampled {
            processes: sample.processes,
            memory_bytes: sample.memory_bytes,
            usage: sample.usage,
            measured,
        })
    }

    fn now<'u>(&mut self, running: impl Iterator<Item = &'u Used>) -> (Sample, Measured) {
        let mut sample = Sample {
            processes: 0,
            memory_bytes: None,
            usage: self.ended,
        };
        for used in running {
            sample.processes += 1;
            sample.usage.add(&used.usage);
            if let Some(bytes) = used.memory_bytes {
                let all = sample.memory_bytes.get_or_insert_default();
                *all = all.saturating_add(bytes);
            }
        }
        let measured = match self.group {
            Some(group) => {
                sample.memory_bytes = group.memory_bytes.or(sample.memory_bytes);
                let usage = &mut sample.usage;
                usage.cpu_user_us = group.cpu_user_us.or(usage.cpu_user_us);
                usage.cpu_system_us = group.cpu_system_us.or(usage.cpu_system_us);
                usage.memory_peak_bytes = usage.memory_peak_bytes.max(group.memory_peak_bytes);
                Measured::ControlGroup
            }
            None => Measured::Processes,
        };
        self.peak = self.peak.max(sample.memory_bytes);
        sample.usage.memory_peak_bytes = sample.usage.memory_peak_bytes.max(self.peak);
        (sample, measured)
    }
}

impl Sample {
    fn says_the_same(&self, other: &Self) -> bool {
        let near = |one: Option<u64>, other: Option<u64>, least: u64| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) < least,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let (one, two) = (&self.usage, &other.usage);
        self.processes == other.processes
            && near(self.memory_bytes, other.memory_bytes, SAME_MEMORY_BYTES)
            && near(one.cpu_us(), two.cpu_us(), SAME_CPU_US)
            && near(one.bytes_read, two.bytes_read, SAME_BYTES)
            && near(one.bytes_written, two.bytes_written, SAME_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use stockade_event::{Event, Usage};

    use super::{GroupUse, Samples, Used};

    fn used(cpu_us: u64, memory: u64) -> Used {
        Used {
            usage: Usage {
                cpu_user_us: Some(cpu_us),
                memory_peak_bytes: Some(memory),
                ..Usage::default()
            },
            memory_bytes: Some(memory),
        }
    }

    /// A day in which something changes all the time has some thousand samples, and an idle one has one.
    #[test]
    fn a_session_has_a_bounded_number_of_samples() {
        for (change, expected) in [(1_000_000, 4_000..4_500), (1, 1..2)] {
            let start = Instant::now();
            let mut samples = Samples::new(start);
            let mut count = 0;
            for second in 1..=86_400_u64 {
                let now = start + Duration::from_secs(second);
                assert!(samples.is_due(now));
                let running = used(second * change / 10, 1 << 20);
                count += usize::from(samples.take([running].iter(), now, false).is_some());
            }
            let idle = change == 1;
            assert!(expected.contains(&count) || idle && count < 10, "{count}");
        }
    }

    #[test]
    fn totals_have_what_has_ended_and_what_runs() {
        let start = Instant::now();
        let mut samples = Samples::new(start);
        let next = start + Duration::from_secs(1);
        samples.take([used(10, 300), used(20, 200)].iter(), next, false);
        samples.ended(&used(30, 400).usage);
        let last = samples.take([used(5, 50)].iter(), next, true);
        let Some(Event::ResourcesSampled {
            processes,
            memory_bytes,
            usage,
            ..
        }) = last
        else {
            panic!("{last:?}");
        };
        assert_eq!((processes, memory_bytes), (1, Some(50)));
        assert_eq!(usage.cpu_us(), Some(35));
        assert_eq!(usage.memory_peak_bytes, Some(500), "of two at a time");
        // A control group knows better.
        samples.group(GroupUse {
            memory_peak_bytes: Some(9_000),
            cpu_user_us: Some(70),
            cpu_system_us: Some(7),
            ..GroupUse::default()
        });
        let last = samples.take([].iter(), next, true);
        let Some(Event::ResourcesSampled { usage, .. }) = last else {
            panic!("{last:?}");
        };
        assert_eq!(usage.cpu_us(), Some(77));
        assert_eq!(usage.memory_peak_bytes, Some(9_000));
    }
}
