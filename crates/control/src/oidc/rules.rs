//! Which jobs of a platform may enrol a machine, and how their tokens are checked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use stockade_trust::{
    TeamId,
    oidc::{ClaimPattern, Claims, Purpose},
};
use stockade_types::{Digest, UnixMillis};

use super::{OidcError, Provider};
use crate::{ControlError, outbound};

/// Rules of a server; each can bring a provider that is remembered.
pub(crate) const RULES_MAX: usize = 64;
/// Patterns of one rule.
const PATTERNS_MAX: usize = 32;
/// Bytes of an audience, and of the name of a claim.
const WORD_BYTES_MAX: usize = 512;

/// A rule of enrolment: who has a token of this issuer, for this audience, with these claims, is a job whose
/// machine belongs to the organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRule {
    /// The issuer, exactly as it names itself.
    pub issuer: String,
    /// For whom its tokens have to be.
    pub audience: String,
    /// The claims that a token has to have.
    pub claims: Vec<ClaimPattern>,
    /// The claim that names the person who has caused the job, by the name that the person has here. The
    /// person has no vote on questions of the machine.
    pub person: Option<String>,
    /// The claim after which machines are named.
    pub name: String,
    /// Whether the issuer may be in a private network.
    pub private: bool,
    /// Certificates of the authorities by which the issuer is known, PEM; without them those of the system.
    pub authorities: Option<String>,
    /// The team that machines of such jobs belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamId>,
}

impl EnrolRule {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first thing that is not accepted.
    pub fn check(&self) -> Result<(), ControlError> {
        let wrong = |what, value: &str, expected| ControlError::Value {
            what,
            value: value.chars().take(80).collect(),
            expected,
        };
        if outbound::checked(&self.issuer).is_err() || self.issuer.contains(['?', '#']) {
            let expected = "`https://HOST/…` as the issuer names itself, without a query";
            return Err(wrong("the issuer", &self.issuer, expected));
        }
        let words = [Some(&self.audience), self.person.as_ref(), Some(&self.name)];
        for word in words.into_iter().flatten() {
            if word.is_empty() || word.len() > WORD_BYTES_MAX || word.chars().any(char::is_control)
            {
                let expected = "1 to 512 bytes without control characters";
                return Err(wrong("the audience or a claim", word, expected));
            }
        }
        // An audience is a word that everybody can ask for: without a claim that excludes somebody, every job
        // of the platform in the world would be let in.
        if !self.claims.iter().any(ClaimPattern::excludes) || self.claims.len() > PATTERNS_MAX {
            let expected = "1 to 32 patterns, of which one has more than wildcards: \
                            `--claim repository=acme/shop`";
            return Err(wrong(
                "the claims",
                &self.claims.len().to_string(),
                expected,
            ));
        }
        Ok(())
    }

    /// Tells whether a token has the claims; a claim that is missing, or is a list, does not match.
    pub fn fits(&self, claims: &Claims) -> bool {
        let has = |pattern: &ClaimPattern| {
            let value = claims.value(pattern.name());
            value.is_some_and(|value| pattern.matches(&value))
        };
        self.claims.iter().all(has)
    }
}

/// The issuers of rules, remembered with what they publish.
#[derive(Default)]
pub(crate) struct Issuers(Mutex<HashMap<Digest, Arc<Provider>>>);

impl Issuers {
    async fn of(&self, rule: &EnrolRule) -> Result<Arc<Provider>, OidcError> {
        let how = (&rule.issuer, rule.private, &rule.authorities);
        let key = serde_json::to_vec(&how);
        let key = key.map_err(|error| OidcError::Outbound(error.to_string()))?;
        let key = Digest::of(&key);
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(provider) = known.get(&key) {
                return Ok(Arc::clone(provider));
            }
        }
        let authorities = rule.authorities.clone();
        let provider = Provider::new(&rule.issuer, authorities, rule.private).await?;
        let provider = Arc::new(provider);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= RULES_MAX {
            // Rules have changed; what is still needed is asked again.
            known.clear();
        }
        known.insert(key, Arc::clone(&provider));
        Ok(provider)
    }

    /// Checks the token of a job against a rule, without its claims.
    ///
    /// # Errors
    /// When the token is not used, or the issuer cannot be asked.
    pub(crate) async fn check(
        &self,
        rule: &EnrolRule,
        token: &str,
        now: UnixMillis,
    ) -> Result<Claims, OidcError> {
        let provider = self.of(rule).await?;
        provider
            .check(token, &rule.audience, Purpose::Workload, now)
            .await
    }
}
