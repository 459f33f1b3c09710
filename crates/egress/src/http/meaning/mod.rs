//! What requests mean: their bodies, read as far as rules need it before they are judged.
//!
//! A [`Reading`] takes the first bytes of a body as they come, whatever protocol carries them; it does
//! no IO and changes nothing. What policy reads in the head is made complete with what the body says;
//! what cannot be read stays unknown, so that an allow does not match and an ask or a deny does.

mod answer;
#[cfg(test)]
mod fuzz;
mod git;
mod graphql;
mod json;
mod model;

use std::sync::atomic::{AtomicUsize, Ordering};

use stockade_policy::{GitOperation, Meaning};

pub(crate) use answer::reply;

pub(crate) use stockade_policy::LooksFor;

use super::head::{Field, Head};
use crate::limits::{HELD_BYTES_MAX, MODEL_BYTES_MAX, OTHER_JSON_BYTES_MAX, PUSH_BYTES_MAX};

/// The body of a request while it is read.
#[derive(Debug)]
pub(crate) struct Reading {
    meaning: Vec<Meaning>,
    /// The body is as it is sent, without a coding.
    is_plain: bool,
    body: Vec<u8>,
}

impl Reading {
    /// Begins with what policy has read in the head. `looks_for` is what rules about
    /// its host tell requests apart by.
    pub(crate) fn new(mut meaning: Vec<Meaning>, head: &Head, looks_for: LooksFor) -> Self {
        if looks_for.git {
            git::look_at_fields(&mut meaning, head);
        }
        model::look_at_fields(&mut meaning, head, looks_for.models);
        let is_plain = head.fields.iter().all(|field| !is_coding(&field));
        Self {
            meaning,
            is_plain,
            body: Vec::new(),
        }
    }

    /// Tells whether more of the body would say more.
    pub(crate) fn wants_more(&self) -> bool {
        self.is_plain && self.meaning.iter().any(|one| self.says_more(one))
    }

    fn says_more(&self, meaning: &Meaning) -> bool {
        match meaning {
            Meaning::Git(git) => match git.operation {
                GitOperation::Push => {
                    let bounded = self.body.len() < PUSH_BYTES_MAX;
                    bounded && git.is_certain && git::wants_more(&self.body)
                }
                GitOperation::Fetch | GitOperation::Prepare | GitOperation::Upload => false,
            },
            Meaning::Forge(forge) => forge.is_graphql && self.body.len() <= OTHER_JSON_BYTES_MAX,
            Meaning::Model(_) => self.body.len() <= MODEL_BYTES_MAX,
            Meaning::Package(_) => false,
        }
    }

    /// Takes the next bytes of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    /// Says what was read; `is_whole` is whether the body has ended.
    pub(crate) fn finish(self, is_whole: bool) -> Vec<Meaning> {
        let Self {
            mut meaning,
            is_plain,
            body,
        } = self;
        for one in meaning.iter_mut().filter(|_| is_plain) {
            match one {
                Meaning::Git(git) => git::complete(git, &body, is_whole),
                Meaning::Forge(forge) if forge.is_graphql && is_whole => {
                    graphql::complete(forge, &body);
                }
                Meaning::Model(model) if is_whole => model::complete(model, &body),
                Meaning::Forge(_) | Meaning::Model(_) | Meaning::Package(_) => {}
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
