//! The values of credentials, some of which are renewed while the session runs.

use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::BuildError;
use stockade_policy::secret_part;
use stockade_types::Secret;

use super::Live;
use crate::{limits::OLD_TOKENS_MAX, scrub::Scrubber};

/// All values, in the order of their credentials, and what takes them out of answers.
#[derive(Debug, Default)]
pub(super) struct Values(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    now: Vec<Secret<String>>,
    /// Those before, with the number of the credential: a server may still say them.
    before: Vec<(usize, Secret<String>)>,
    scrubber: Option<Arc<Scrubber>>,
}

impl Values {
    /// Begins with the values of `live`.
    pub(super) fn new(live: &[Live], now: Vec<Secret<String>>) -> Result<Self, BuildError> {
        let mut known = Known {
            now,
            ..Known::default()
        };
        known.scrubber = Some(Arc::new(known.scrubber(live)?));
        Ok(Self(RwLock::new(known)))
    }

    /// Returns one.
    pub(super) fn get(&self, at: usize) -> Option<Secret<String>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.now.get(at).cloned()
    }

    /// Returns what takes all of them out of answers.
    pub(super) fn scrubber(&self) -> Option<Arc<Scrubber>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.scrubber.clone()
    }

    /// Puts other values in the place of some.
    pub(super) fn renew(
        &self,
        live: &[Live],
        new: impl IntoIterator<Item = (usize, Secret<String>)>,
    ) -> Result<(), BuildError> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (at, value) in new {
            if let Some(old) = known.now.get_mut(at) {
                let old = std::mem::replace(old, value);
                known.before.push((at, old));
            }
        }
        let too_many = known.before.len().saturating_sub(OLD_TOKENS_MAX);
        known.before.drain(..too_many);
        known.scrubber = Some(Arc::new(known.scrubber(live)?));
        Ok(())
    }
}

impl Known {
    fn scrubber(&self, live: &[Live]) -> Result<Scrubber, BuildError> {
        let now = self.now.iter().enumerate();
        let before = self.before.iter().map(|(at, value)| (*at, value));
        let pairs = now.chain(before).filter_map(|(at, value)| {
            let live = live.get(at).filter(|one| one.policy.kind.is_sent())?;
            let value = match live.policy.login() {
                Some(_) => secret_part(value.expose()),
                None => value.expose().as_str(),
            };
            Some((live.placeholder.as_str(), value))
        });
        Scrubber::new(&pairs.collect::<Vec<_>>())
    }
}
