//! The spool: decisions that took effect, on their way to the journal.
//!
//! The egress process appends what it allows to a file of the session and lets it happen at once;
//! the supervisor takes it into the journal before its own next event. If the supervisor is killed in
//! between, whoever reads the journal finds the rest in the spool.
//!
//! Each entry is a length (four bytes, big-endian) and the JSON of that many bytes.

use serde::{Deserialize, Serialize};
use stockade_types::DecisionId;

use crate::event::Event;

/// Bytes before each entry.
const PREFIX_BYTES: usize = 4;

/// Most bytes of an entry; a request line of a hundred kilobytes fits.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Decision numbers that the egress process may give out, each for one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The first number.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

impl Lease {
    /// Takes the next number out of it.
    pub fn take(&mut self) -> Option<DecisionId> {
        self.count = self.count.checked_sub(1)?;
        let number = self.first;
        self.first = number.saturating_add(1);
        Some(DecisionId::new(number))
    }

    /// Tells whether a number is one of these.
    pub const fn has(&self, decision: DecisionId) -> bool {
        matches!(decision.get().checked_sub(self.first), Some(place) if place < self.count)
    }
}

/// Why an entry cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It is longer than any entry.
    #[error("an entry of {0} bytes is longer than {ENTRY_BYTES_MAX}")]
    TooLong(usize),
    /// It is not an event of this version.
    #[error("an entry is not an event of this version")]
    Json(#[source] serde_json::Error),
}

/// Makes the entry of an event, to be appended with one write.
///
/// # Errors
/// When the event is too long or has no JSON.
pub fn entry(event: &Event) -> Result<Vec<u8>, SpoolError> {
    let mut bytes = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut bytes, event).map_err(SpoolError::Json)?;
    let length = bytes.len() - PREFIX_BYTES;
    let prefix = u32::try_from(length)
        .ok()
        .filter(|_| length <= ENTRY_BYTES_MAX)
        .ok_or(SpoolError::TooLong(length))?;
    if let Some(start) = bytes.first_chunk_mut::<PREFIX_BYTES>() {
        *start = prefix.to_be_bytes();
    }
    Ok(bytes)
}

/// Reads the entries at the beginning of `bytes`, and returns them with how many bytes they have; an
/// entry without its end stays.
///
/// # Errors
/// When something else is there; nothing after it can be understood.
pub fn entries(bytes: &[u8]) -> Result<(Vec<Event>, usize), SpoolError> {
    let mut events = Vec::new();
    let mut rest = bytes;
    while let Some((prefix, after)) = rest.split_first_chunk::<PREFIX_BYTES>() {
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > ENTRY_BYTES_MAX {
            return Err(SpoolError::TooLong(length));
        }
        let Some((entry, after)) = after.split_at_checked(length) else {
            break;
        };
        events.push(serde_json::from_slice(entry).map_err(SpoolError::Json)?);
        rest = after;
    }
    Ok((events, bytes.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::{ENTRY_BYTES_MAX, SpoolError, entries, entry};
    use crate::Event;

    fn event(count: u64) -> Event {
        Event::EventsLost {
            source: "test".to_owned(),
            count,
            reason: String::new(),
        }
    }

    #[test]
    fn entries_are_read_up_to_the_first_without_its_end() {
        let events = [event(1), event(2)];
        let bytes: Vec<u8> = events.iter().flat_map(|e| entry(e).unwrap()).collect();
        let first = entry(&events[0]).unwrap().len();
        for end in 0..=bytes.len() {
            let (read, length) = entries(&bytes[..end]).unwrap();
            let whole = usize::from(end >= first) + usize::from(end == bytes.len());
            assert_eq!(read, events[..whole]);
            assert_eq!(length, [0, first, bytes.len()][whole]);
        }
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        let long = u32::try_from(ENTRY_BYTES_MAX + 1).unwrap().to_be_bytes();
        assert!(matches!(entries(&long), Err(SpoolError::TooLong(_))));
        let other = [&2_u32.to_be_bytes()[..], b"{}"].concat();
        assert!(matches!(entries(&other), Err(SpoolError::Json(_))));
    }
}
