//! What requests mean: their bodies, read as far as rules need it before they are judged.
//!
//! A [`Reading`] takes the first bytes of a body as they come, whatever protocol carries them; it does
//! no IO and changes nothing. What policy reads in the head is made complete with what the body says;
//! what cannot be read stays unknown, so that an allow does not match and an ask or a deny does.

mod answer;
mod git;

use std::sync::atomic::{AtomicUsize, Ordering};

use stockade_policy::{GitOperation, Meaning};

pub(crate) use answer::reply;

use super::head::{Field, Head};
use crate::limits::{HELD_BYTES_MAX, PUSH_BYTES_MAX};

/// The body of a request while it is read.
#[derive(Debug)]
pub(crate) struct Reading {
    meaning: Vec<Meaning>,
    /// The body is as it is sent, without a coding.
    is_plain: bool,
    body: Vec<u8>,
}

impl Reading {
    /// Begins with what policy has read in the head.
    pub(crate) fn new(mut meaning: Vec<Meaning>, head: &Head) -> Self {
        git::look_at_fields(&mut meaning, head);
        let is_plain = head.fields.iter().all(|field| !is_coding(&field));
        Self {
            meaning,
            is_plain,
            body: Vec::new(),
        }
    }

    /// Tells whether more of the body would say more.
    pub(crate) fn wants_more(&self) -> bool {
        let of = |meaning: &Meaning| match meaning {
            Meaning::Git(git) => match git.operation {
                GitOperation::Push => git.is_certain && git::wants_more(&self.body),
                GitOperation::Fetch | GitOperation::Prepare | GitOperation::Upload => false,
            },
        };
        self.is_plain && self.body.len() < PUSH_BYTES_MAX && self.meaning.iter().any(of)
    }

    /// Takes the next bytes of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let room = PUSH_BYTES_MAX.saturating_sub(self.body.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.body.extend_from_slice(taken);
    }

    /// Says what was read; `is_whole` is whether the body has ended.
    pub(crate) fn finish(self, is_whole: bool) -> Vec<Meaning> {
        let Self {
            mut meaning,
            is_plain,
            body,
        } = self;
        for one in &mut meaning {
            match one {
                Meaning::Git(git) if is_plain => git::complete(git, &body, is_whole),
                Meaning::Git(_) => {}
            }
        }
        meaning
    }
}

/// Bytes that are held now, for all connections.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Bytes that one connection holds; they count until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(usize);

impl Held {
    /// Counts so many more; false if there is no room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        self.0 += bytes;
        HELD.fetch_add(bytes, Ordering::Relaxed) + bytes <= HELD_BYTES_MAX
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Tells whether a field says that the body is coded.
fn is_coding(field: &Field<'_>) -> bool {
    field.is("content-encoding") && !field.value.eq_ignore_ascii_case(b"identity")
}
