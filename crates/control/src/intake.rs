//! How many pieces of journals are taken at once, from whom, and when the others come again.
//!
//! A piece has its place before a byte of it is read, so that memory is bounded. Few places are for pieces
//! that are not small, so that a backlog keeps neither running sessions waiting for a place nor questions for
//! the disk; one machine has few of them; and a
//! machine whose body does not come loses its place. Each answer says how long machines collect lines before
//! the next piece, so that a large fleet sends fewer and larger ones.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use stockade_api::{
    NodeId, Problem,
    limits::{PACE_MS_MAX, PACE_MS_MIN},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pieces that are in memory at once, of at most 4 MiB each and as much again unpacked.
const PLACES: usize = 32;
/// How many of them are for pieces that are not small: what they write at once, everyone else waits for who
/// needs the disk.
const PLACES_LARGE: usize = 4;
/// Bytes of a small piece, as it is sent.
const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// Places of one machine. An agent uses two.
const PLACES_OF_NODE: u32 = 4;
/// How long the body of a piece may take.
pub(crate) const BODY_PATIENCE: Duration = Duration::from_secs(10);
/// When a machine tries again whose piece there was no room for, at least and at most.
const RETRY_MS_MIN: u64 = 250;
const RETRY_MS_MAX: u64 = 10_000;
/// How much later for each piece that was refused in the last second: they come again one after the other.
const RETRY_MS_EACH: u64 = 4;
/// Pieces in a second and for each core that machines are to send together.
const PIECES_OF_CORE: u64 = 250;
/// Over which time pieces are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// The places.
#[derive(Debug)]
pub(crate) struct Intake {
    all: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Pieces in a second that machines are to send together.
    wanted: u64,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    by_node: HashMap<NodeId, u32>,
    since: Instant,
    taken: u64,
    refused: u64,
    /// Of the window before.
    refused_before: u64,
    pace_ms: u64,
    /// Counts up, to spread those who come again.
    turn: u64,
}

/// A place, as long as it is there.
pub(crate) struct Place {
    intake: Arc<Intake>,
    node: NodeId,
    _all: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.intake.lock();
        if let Some(count) = counts.by_node.get_mut(&self.node) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_node.remove(&self.node);
            }
        }
    }
}

impl Intake {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(PLACES)),
            large: Arc::new(Semaphore::new(PLACES_LARGE)),
            wanted: PIECES_OF_CORE.saturating_mul(u64::try_from(cores).unwrap_or(1)),
            counts: Mutex::new(Counts {
                by_node: HashMap::new(),
                since: Instant::now(),
                taken: 0,
                refused: 0,
                refused_before: 0,
                pace_ms: PACE_MS_MIN,
                turn: 0,
            }),
        }
    }

    /// Gives a piece of `bytes` bytes, if that is known, its place.
    ///
    /// # Errors
    /// When there is none: says when to come again.
    pub(crate) fn admit(
        self: &Arc<Self>,
        node: &NodeId,
        bytes: Option<u64>,
    ) -> Result<Place, Problem> {
        let is_small = bytes.is_some_and(|bytes| bytes <= SMALL_BYTES_MAX);
        let mut counts = self.lock();
        counts.turn_over(Instant::now(), self.wanted);
        let own = counts.by_node.get(node).copied().unwrap_or_default();
        let large = || Arc::clone(&self.large).try_acquire_owned();
        let places = (|| {
            if own >= PLACES_OF_NODE {
                return None;
            }
            let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
            let large = if is_small { None } else { Some(large().ok()?) };
            Some((all, large))
        })();
        let Some((all, large)) = places else {
            counts.refused += 1;
            counts.turn = counts.turn.wrapping_add(1);
            let mut problem = Problem::new(429, "busy", "the server has no room for journals now");
            problem.retry_ms = Some(counts.retry_ms());
            return Err(problem);
        };
        counts.taken += 1;
        counts.by_node.insert(node.clone(), own + 1);
        Ok(Place {
            intake: Arc::clone(self),
            node: node.clone(),
            _all: all,
            _large: large,
        })
    }

    /// Returns how long machines collect lines before the next piece, in milliseconds.
    pub(crate) fn pace_ms(&self) -> u64 {
        self.lock().pace_ms
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Begins a new window if the last one is over. Machines send as many pieces as they do at the present
    /// pace, so the next pace is that at which they send as many as are wanted.
    fn turn_over(&mut self, now: Instant, wanted: u64) {
        let lasted = now.saturating_duration_since(self.since);
        if lasted < WINDOW {
            return;
        }
        let ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX).max(1);
        let tried = self.taken.saturating_add(self.refused);
        let per_second = tried.saturating_mul(1_000) / ms;
        let next = self.pace_ms.saturating_mul(per_second) / wanted.max(1);
        self.pace_ms = next.clamp(PACE_MS_MIN, PACE_MS_MAX);
        self.refused_before = self.refused.saturating_mul(1_000) / ms;
        (self.taken, self.refused, self.since) = (0, 0, now);
    }

    /// Returns when to come again: the later, the more have to. They spread over as long again.
    fn retry_ms(&self) -> u64 {
        let many = self.refused_before.max(self.refused);
        let least = many
            .saturating_mul(RETRY_MS_EACH)
            .clamp(RETRY_MS_MIN, RETRY_MS_MAX / 2);
        // By the golden ratio, so that those who follow each other are far apart.
        least + self.turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % least
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use stockade_api::{
        NodeId,
        limits::{PACE_MS_MAX, PACE_MS_MIN},
    };

    use super::{Intake, PLACES, PLACES_LARGE, PLACES_OF_NODE, RETRY_MS_MAX, RETRY_MS_MIN};

    fn node(number: usize) -> NodeId {
        NodeId::from_random(u64::try_from(number).unwrap())
    }

    #[test]
    fn one_machine_has_few_places_and_gives_them_back() {
        let intake = Arc::new(Intake::new(2));
        let mut held = Vec::new();
        for _ in 0..PLACES_OF_NODE {
            held.push(intake.admit(&node(1), Some(10)).ok().unwrap());
        }
        let refused = intake.admit(&node(1), Some(10)).err().unwrap();
        assert_eq!(refused.status, 429);
        // Another one has its own.
        assert!(intake.admit(&node(2), Some(10)).is_ok());
        held.pop();
        assert!(intake.admit(&node(1), Some(10)).is_ok());
    }

    #[test]
    fn a_backlog_leaves_most_of_the_places() {
        let intake = Arc::new(Intake::new(2));
        let large = |number: usize| intake.admit(&node(number), Some(1 << 20));
        let mut held: Vec<_> = (0..PLACES_LARGE).filter_map(|n| large(n).ok()).collect();
        assert_eq!(held.len(), PLACES_LARGE);
        assert!(large(99).is_err());
        // Who does not say how long a piece is, sends a long one.
        assert!(intake.admit(&node(98), None).is_err());
        for number in 0..PLACES - PLACES_LARGE {
            held.push(intake.admit(&node(100 + number), Some(10)).ok().unwrap());
        }
        assert!(intake.admit(&node(200), Some(10)).is_err());
        drop(held);
        assert!(large(99).is_ok() && intake.lock().by_node.is_empty());
    }

    #[test]
    fn whoever_is_refused_comes_later_the_more_there_are() {
        let intake = Arc::new(Intake::new(2));
        let _held: Vec<_> = (0..PLACES)
            .filter_map(|n| intake.admit(&node(n), Some(1)).ok())
            .collect();
        let retry = |number: usize| {
            let refused = intake.admit(&node(number), Some(1)).err();
            refused.and_then(|problem| problem.retry_ms).unwrap()
        };
        let first = retry(100);
        assert!((RETRY_MS_MIN..2 * RETRY_MS_MIN).contains(&first), "{first}");
        let waits: Vec<u64> = (0..2_000).map(|number| retry(200 + number)).collect();
        let last = &waits[1_900..];
        assert!(
            last.iter()
                .all(|wait| (4_000..=RETRY_MS_MAX).contains(wait))
        );
        // They do not come together.
        let mut spread: Vec<u64> = last.iter().map(|wait| wait / 400).collect();
        spread.sort_unstable();
        spread.dedup();
        assert!(spread.len() >= 8, "{spread:?}");
    }

    #[test]
    fn many_machines_send_fewer_pieces_and_few_send_soon() {
        let intake = Intake::new(2);
        let mut counts = intake.lock();
        let mut now = counts.since;
        // So many machines send one piece for each pace.
        let mut rounds = |machines: u64, count: usize| {
            for _ in 0..count {
                now += Duration::from_secs(1);
                counts.taken = machines * 1_000 / counts.pace_ms;
                counts.turn_over(now, 500);
            }
            counts.pace_ms
        };
        assert_eq!(rounds(10, 3), PACE_MS_MIN);
        assert!((380..=420).contains(&rounds(200, 5)));
        assert_eq!(rounds(100_000, 5), PACE_MS_MAX);
        assert_eq!(rounds(10, 5), PACE_MS_MIN);
        assert_eq!(rounds(0, 2), PACE_MS_MIN);
    }
}
