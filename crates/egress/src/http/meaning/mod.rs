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
use stockade_types::Digest;

pub(crate) use answer::reply;

pub(crate) use stockade_policy::LooksFor;

use super::{
    head::{Field, Head},
    unpack::{Take, Unpack},
};
use crate::limits::{
    HELD_BYTES_MAX, MODEL_BYTES_MAX, OTHER_JSON_BYTES_MAX, PUSH_BYTES_MAX, SIGNED_BODY_BYTES_MAX,
};

/// The body of a request while it is read.
pub(crate) struct Reading {
    meaning: Vec<Meaning>,
    body: Body,
    /// All of it as it is sent, if its digest is wanted.
    signed: Option<Vec<u8>>,
}

/// What was read of a request before it is judged.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    /// What it means.
    pub(crate) meaning: Vec<Meaning>,
    /// The digest of its whole body, where that was wanted and could be read.
    pub(crate) body: Option<Digest>,
}

/// What there is of a body.
enum Body {
    /// As it is sent.
    Plain(Vec<u8>),
    /// In a coding that is taken off.
    Packed(Box<Unpack<Kept>>),
    /// In one that is not, or no longer.
    Unread,
}

/// What came of a coding, as long as there is room for it.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    held: Held,
    is_too_much: bool,
}

impl Take for Kept {
    fn take(&mut self, bytes: &[u8]) {
        let fits = self.bytes.len() + bytes.len() <= MODEL_BYTES_MAX;
        if !fits || !self.held.grow(bytes.len()) {
            self.is_too_much = true;
            self.bytes = Vec::new();
        }
        if !self.is_too_much {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl From<Vec<Meaning>> for Opening {
    fn from(meaning: Vec<Meaning>) -> Self {
        Self {
            meaning,
            body: None,
        }
    }
}

impl Reading {
    /// Begins with what policy has read in the head. `looks_for` is what rules about
    /// its host tell requests apart by.
    pub(crate) fn new(mut meaning: Vec<Meaning>, head: &Head, looks_for: LooksFor) -> Self {
        if looks_for.git {
            git::look_at_fields(&mut meaning, head);
        }
        model::look_at_fields(&mut meaning, head, looks_for.models);
        let mut codings = head.fields.iter().filter(is_coding).peekable();
        let body = if codings.peek().is_none() {
            Body::Plain(Vec::new())
        } else if meaning.iter().any(is_read_as_json) {
            match Unpack::new(codings.map(|field| field.value), Kept::default()) {
                // Some servers read deflate without its frame: then the same bytes are another text.
                Err(_) | Ok(Unpack::Deflate(_)) => Body::Unread,
                Ok(unpack) => Body::Packed(Box::new(unpack)),
            }
        } else {
            Body::Unread
        };
        Self {
            meaning,
            body,
            signed: None,
        }
    }

    /// Has the digest of the whole body told.
    pub(crate) fn signed(self, is_signed: bool) -> Self {
        let signed = is_signed.then(Vec::new);
        Self { signed, ..self }
    }

    /// Tells whether more of the body would say more.
    pub(crate) fn wants_more(&self) -> bool {
        let is_short = |body: &Vec<u8>| body.len() <= SIGNED_BODY_BYTES_MAX;
        self.signed.as_ref().is_some_and(is_short) || self.means_more()
    }

    fn means_more(&self) -> bool {
        match &self.body {
            Body::Plain(body) => self.meaning.iter().any(|one| says_more(one, body)),
            Body::Packed(unpack) => {
                let kept = unpack.get_ref().filter(|kept| !kept.is_too_much);
                kept.is_some_and(|kept| {
                    let mut json = self.meaning.iter().filter(|one| is_read_as_json(one));
                    json.any(|one| says_more(one, &kept.bytes))
                })
            }
            Body::Unread => false,
        }
    }

    /// Takes the next bytes of the body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if let Some(signed) = &mut self.signed {
            signed.extend_from_slice(bytes);
        }
        let failed = match &mut self.body {
            Body::Plain(body) => {
                body.extend_from_slice(bytes);
                false
            }
            Body::Packed(unpack) => unpack.feed(bytes).is_err(),
            Body::Unread => false,
        };
        if failed {
            self.body = Body::Unread;
        }
    }

    /// Says what was read; `is_whole` is whether the body has ended.
    pub(crate) fn finish(self, is_whole: bool) -> Opening {
        let signed = self.signed.as_ref().filter(|_| is_whole);
        let body = signed.map(|body| Digest::of(body));
        let meaning = self.meant(is_whole);
        Opening { meaning, body }
    }

    fn meant(self, is_whole: bool) -> Vec<Meaning> {
        let Self {
            mut meaning, body, ..
        } = self;
        let (body, is_plain, _held) = match body {
            Body::Plain(body) => (body, true, None),
            Body::Packed(unpack) => match unpack.into_inner().filter(|kept| !kept.is_too_much) {
                Some(kept) => (kept.bytes, false, Some(kept.held)),
                None => return meaning,
            },
            Body::Unread => return meaning,
        };
        for one in &mut meaning {
            match one {
                Meaning::Git(git) if is_plain => git::complete(git, &body, is_whole),
                Meaning::Forge(forge) if forge.is_graphql && is_whole => {
                    graphql::complete(forge, &body);
                }
                Meaning::Model(model) if is_whole => model::complete(model, &body),
                Meaning::Git(_) | Meaning::Forge(_) | Meaning::Model(_) | Meaning::Package(_) => {}
            }
        }
        meaning
    }
}

/// Tells whether the body of a request is JSON that says more of it.
fn is_read_as_json(meaning: &Meaning) -> bool {
    match meaning {
        Meaning::Model(_) => true,
        Meaning::Forge(forge) => forge.is_graphql,
        Meaning::Git(_) | Meaning::Package(_) => false,
    }
}

/// Tells whether more of a body would say more of a meaning.
fn says_more(meaning: &Meaning, body: &[u8]) -> bool {
    match meaning {
        Meaning::Git(git) => match git.operation {
            GitOperation::Push => {
                let bounded = body.len() < PUSH_BYTES_MAX;
                bounded && git.is_certain && git::wants_more(body)
            }
            GitOperation::Fetch | GitOperation::Prepare | GitOperation::Upload => false,
        },
        Meaning::Forge(forge) => forge.is_graphql && body.len() <= OTHER_JSON_BYTES_MAX,
        Meaning::Model(_) => body.len() <= MODEL_BYTES_MAX,
        Meaning::Package(_) => false,
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
