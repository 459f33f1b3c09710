//! How much of exports is taken, and its way to the supervisor.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use stockade_agents::otlp::{Claim, Encoding, Signal, read};
use stockade_event::{Durability, Event};
use stockade_policy::RecordContent;
use stockade_types::{ClaimSource, Subject};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::{Refused, body::Held, claims::Claimed};
use crate::{
    gate::count,
    http::{Contents, said::Sayings},
    limits::{
        EXPORT_BURST_SECONDS, EXPORT_BYTES_PER_SECOND, EXPORT_CLAIMS_PER_SECOND, EXPORTERS_MAX,
        EXPORTS_HELD_BYTES_MAX, EXPORTS_HELD_MAX, EXPORTS_LOST_PERIOD,
    },
    wire::Client,
};

/// The component that loses what is not taken, in the record.
const SOURCE: &str = "otlp";

/// What all exporters of the session share.
pub(crate) struct Receiver {
    room: Arc<Semaphore>,
    exporters: Arc<Semaphore>,
    rates: Mutex<Rates>,
    lost: Arc<Lost>,
    queue: mpsc::Sender<Export>,
}

/// What was read of an export, with its share of what is held.
pub(super) struct Taken {
    claims: Vec<Claim>,
    share: Option<OwnedSemaphorePermit>,
}

impl Taken {
    pub(super) const fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

/// An export on its way.
struct Export {
    subject: Subject,
    taken: Taken,
}

impl Receiver {
    /// Makes the receiver, and the task that has what it takes recorded. The task ends with the
    /// receiver, when everything is recorded.
    pub(crate) fn new(
        supervisor: Arc<Client>,
        contents: Arc<Contents>,
        kept: RecordContent,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, exports) = mpsc::channel(EXPORTS_HELD_MAX);
        let lost = Arc::new(Lost::default());
        let recording = record(supervisor, (contents, kept), exports, Arc::clone(&lost));
        let receiver = Self {
            room: Arc::new(Semaphore::new(EXPORTS_HELD_BYTES_MAX)),
            exporters: Arc::new(Semaphore::new(EXPORTERS_MAX)),
            rates: Mutex::new(Rates::new(Instant::now())),
            lost,
            queue,
        };
        (receiver, recording)
    }

    /// Returns the place of a connection; none, if there are as many as there may be.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.exporters).try_acquire_owned().ok();
        if place.is_none() {
            self.lost
                .add("connections of exporters, of which there are too many", 1);
        }
        place
    }

    /// Returns what all exports together may take.
    pub(super) const fn room(&self) -> &Arc<Semaphore> {
        &self.room
    }

    /// Counts an export that is not taken.
    pub(super) fn refused(&self, why: Refused) {
        self.lost.add(
            match why {
                Refused::TooLong => "exports that are too long",
                Refused::TooMuch => "exports, because more is exported than is taken",
                Refused::Malformed(_) => "exports that cannot be read",
            },
            1,
        );
    }

    /// Reads an export.
    pub(super) fn read(
        &self,
        signal: Signal,
        encoding: Encoding,
        body: Held,
    ) -> Result<Taken, Refused> {
        let Held { bytes, share } = body;
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.refill(Instant::now());
        rates.bytes.take(count(bytes.len()))?;
        let export = read(signal, encoding, &bytes);
        let export = export.map_err(|_| Refused::Malformed("it is no export of OTLP"))?;
        rates.claims.take(count(export.claims.len()))?;
        drop(rates);
        if export.dropped > 0 {
            self.lost
                .add("claims, of which an export has too many", export.dropped);
        }
        Ok(Taken {
            claims: export.claims,
            share,
        })
    }

    /// Has what was read recorded.
    pub(super) fn queue(&self, subject: Subject, taken: Taken) -> Result<(), Refused> {
        let queued = self.queue.try_send(Export { subject, taken });
        queued.map_err(|_| Refused::TooMuch)
    }
}

/// What may be taken now.
struct Rates {
    bytes: Bucket,
    claims: Bucket,
    filled: Instant,
}

impl Rates {
    const fn new(now: Instant) -> Self {
        Self {
            bytes: Bucket::new(EXPORT_BYTES_PER_SECOND),
            claims: Bucket::new(EXPORT_CLAIMS_PER_SECOND),
            filled: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        // What is less than a millisecond is counted the next time.
        let passed = Duration::from_millis(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        self.filled += passed;
        self.bytes.refill(passed);
        self.claims.refill(passed);
    }
}

/// What may be taken of one kind.
struct Bucket {
    per_second: u64,
    left: u64,
}

impl Bucket {
    const fn new(per_second: u64) -> Self {
        Self {
            per_second,
            left: per_second * EXPORT_BURST_SECONDS,
        }
    }

    fn refill(&mut self, passed: Duration) {
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let more = self.per_second.saturating_mul(passed) / 1000;
        let most = self.per_second * EXPORT_BURST_SECONDS;
        self.left = self.left.saturating_add(more).min(most);
    }

    fn take(&mut self, count: u64) -> Result<(), Refused> {
        self.left = self.left.checked_sub(count).ok_or(Refused::TooMuch)?;
        Ok(())
    }
}

/// What was not taken and is not in the record yet, by reason.
#[derive(Default)]
struct Lost(Mutex<BTreeMap<&'static str, u64>>);

impl Lost {
    fn add(&self, what: &'static str, more: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(what).or_default();
        *count = count.saturating_add(more);
    }

    fn take(&self) -> Vec<Event> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let events = std::mem::take(&mut *all).into_iter();
        let event = |(what, count): (&str, u64)| Event::EventsLost {
            source: SOURCE.to_owned(),
            count,
            reason: what.to_owned(),
        };
        events.map(event).collect()
    }
}

/// Has claims recorded, one after the other: a result comes after its call.
async fn record(
    supervisor: Arc<Client>,
    (contents, kept): (Arc<Contents>, RecordContent),
    mut exports: mpsc::Receiver<Export>,
    lost: Arc<Lost>,
) {
    let mut tick = interval(EXPORTS_LOST_PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let export = tokio::select! {
            biased;
            _ = tick.tick() => {
                told(&supervisor, &lost).await;
                continue;
            }
            export = exports.recv() => export,
        };
        let Some(Export { subject, taken }) = export else {
            return told(&supervisor, &lost).await;
        };
        let sayings = Sayings {
            contents: Arc::clone(&contents),
            kept,
            subject,
            learned_from: ClaimSource::Otlp,
            decision: None,
        };
        for claim in &taken.claims {
            let Claimed { event, intent } = Claimed::of(claim, &sayings);
            // A journal that failed denies what comes next; nothing rests on this.
            drop(supervisor.claim(event, intent).await);
        }
        drop(taken.share);
    }
}

/// Has recorded what was lost.
async fn told(supervisor: &Client, lost: &Lost) {
    for event in lost.take() {
        drop(supervisor.record(event, Durability::Written).await);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Lost, Rates};
    use crate::limits::{EXPORT_BURST_SECONDS, EXPORT_BYTES_PER_SECOND, EXPORT_CLAIMS_PER_SECOND};

    #[test]
    fn as_much_is_taken_as_a_second_has_after_the_first_ones() {
        let start = Instant::now();
        let mut rates = Rates::new(start);
        let burst = EXPORT_CLAIMS_PER_SECOND * EXPORT_BURST_SECONDS;
        assert!(rates.claims.take(burst).is_ok());
        assert!(rates.claims.take(1).is_err());
        assert!(rates.bytes.take(EXPORT_BYTES_PER_SECOND).is_ok());
        // Nothing is lost of times that are looked at too often.
        for step in 1..=10_000_u32 {
            rates.refill(start + Duration::from_micros(100) * step);
        }
        assert!(rates.claims.take(EXPORT_CLAIMS_PER_SECOND + 10).is_err());
        assert!(rates.claims.take(EXPORT_CLAIMS_PER_SECOND - 10).is_ok());
        rates.refill(start + Duration::from_hours(1));
        assert!(rates.claims.take(burst).is_ok());
        assert!(rates.claims.take(1).is_err());
    }

    #[test]
    fn what_is_lost_is_counted_by_reason_and_told_once() {
        let lost = Lost::default();
        (0..3).for_each(|_| lost.add("exports", 1));
        lost.add("claims", 7);
        assert_eq!(lost.take().len(), 2);
        assert_eq!(lost.take().len(), 0);
    }
}
