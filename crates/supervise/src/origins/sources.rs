//! Which source said something first: traffic, a hook and telemetry can tell of the same prompt, tool
//! call or call of a model.

use std::collections::VecDeque;

use stockade_agents::Intent;
use stockade_event::{Listed, ModelUsage, Said};
use stockade_types::{ClaimSource, Digest, RawText};

/// Texts of prompts, and calls of models, that are known again when another source tells of them.
const KNOWN_MAX: usize = 256;

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// It is recorded.
    New,
    /// The same source has made it before: an agent sends its conversation again with each call.
    Before,
    /// Another source has made it, in the event `claim`.
    Again { claim: u64, agrees: bool },
}

impl Admitted {
    pub(super) const fn again(claim: u64) -> Self {
        Self::Again {
            claim,
            agrees: true,
        }
    }
}

/// What was said in one region, and by which source first.
#[derive(Default)]
pub(super) struct Sources {
    texts: VecDeque<Known<(u64, Option<Digest>)>>,
    models: VecDeque<Known<(Option<RawText>, ModelUsage)>>,
    /// Traffic to a model was seen.
    has_traffic: bool,
}

/// Something that was said.
struct Known<T> {
    what: T,
    claim: u64,
    source: ClaimSource,
    /// Other sources that have told of it too; what one of them tells next is something new.
    met: Vec<ClaimSource>,
}

impl Sources {
    /// Notes that a source tells of this region.
    pub(super) fn hears(&mut self, source: ClaimSource) {
        self.has_traffic |= source == ClaimSource::Traffic;
    }

    /// Tells whether traffic to a model was seen.
    pub(super) const fn has_traffic(&self) -> bool {
        self.has_traffic
    }

    /// Says whether a source decides what the agent works at.
    pub(super) fn leads(&self, source: ClaimSource) -> bool {
        source == ClaimSource::Traffic || !self.has_traffic
    }

    /// Looks for a prompt in what other sources said.
    pub(super) fn prompt(&mut self, parts: &Listed<Said>, source: ClaimSource) -> Admitted {
        let is_in =
            |what: &(u64, Option<Digest>)| parts.first.iter().any(|part| key(part) == *what);
        meet(&mut self.texts, source, is_in)
    }

    /// Notes a prompt that is in the record as event `claim`.
    pub(super) fn prompted(&mut self, claim: u64, parts: &Listed<Said>, source: ClaimSource) {
        self.hears(source);
        for part in &parts.first {
            note(&mut self.texts, key(part), claim, source);
        }
    }

    /// Looks for a call of a model in what other sources said: by its answer's id, or by its tokens.
    pub(super) fn model(
        &mut self,
        id: Option<&RawText>,
        usage: &ModelUsage,
        source: ClaimSource,
    ) -> Admitted {
        let is_it = |(known, tokens): &(Option<RawText>, ModelUsage)| match (known, id) {
            (Some(known), Some(id)) => known == id,
            (None, _) | (_, None) => {
                usage.output.is_some()
                    && (tokens.input, tokens.output) == (usage.input, usage.output)
            }
        };
        meet(&mut self.models, source, is_it)
    }

    /// Notes a call of a model that is in the record as event `claim`.
    pub(super) fn answered(
        &mut self,
        claim: u64,
        id: Option<&RawText>,
        usage: &ModelUsage,
        source: ClaimSource,
    ) {
        self.hears(source);
        note(&mut self.models, (id.cloned(), *usage), claim, source);
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.texts.len() + self.models.len()
    }
}

fn key(said: &Said) -> (u64, Option<Digest>) {
    (said.bytes, said.digest)
}

fn note<T>(known: &mut VecDeque<Known<T>>, what: T, claim: u64, source: ClaimSource) {
    if known.len() >= KNOWN_MAX {
        known.pop_front();
    }
    known.push_back(Known {
        what,
        claim,
        source,
        met: Vec::new(),
    });
}

/// Finds the oldest that another source told of, and this one has not told of since.
fn meet<T>(
    known: &mut VecDeque<Known<T>>,
    source: ClaimSource,
    is_it: impl Fn(&T) -> bool,
) -> Admitted {
    let mut others = known.iter_mut();
    let is_open = |one: &&mut Known<T>| one.source != source && !one.met.contains(&source);
    let other = others.find(|one| is_open(one) && is_it(&one.what));
    let Some(other) = other else {
        return Admitted::New;
    };
    other.met.push(source);
    Admitted::again(other.claim)
}

/// Bytes by whose first ones a long text is known again: exporters cut what is longer than 512 characters.
const BEGINNING_BYTES: usize = 256;

/// Tells whether two sources say the same of a call, as far as both say something.
pub(super) fn agree(one: &Intent, other: &Intent) -> bool {
    let is_same = |ours: &RawText, theirs: &RawText| {
        let begins = |text: &RawText| text.as_bytes().get(..BEGINNING_BYTES).map(<[u8]>::to_vec);
        ours == theirs || begins(ours).is_some_and(|own| Some(own) == begins(theirs))
    };
    let meets = |ours: &[RawText], theirs: &[RawText]| {
        let named = |own: &RawText| theirs.iter().any(|other| is_same(own, other));
        ours.is_empty() || theirs.is_empty() || ours.iter().any(named)
    };
    meets(&one.commands, &other.commands) && meets(&one.paths, &other.paths)
}

/// Tells whether two calls name the same things, and some.
pub(super) fn same(one: &Intent, other: &Intent) -> bool {
    let names_some = !one.commands.is_empty() || !one.paths.is_empty();
    names_some && one.commands == other.commands && one.paths == other.paths
}
