//! On which terms a rule opens a host: what is not compared with the request, but kept where the
//! bytes are.
//!
//! Another term is a field here, with its key, its words and how several rules with it combine; what
//! keeps it reads it from the decision.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::{ByteSize, RuleId, Verdict};

use crate::{
    Origin, RuleName,
    fields::{Fields, File},
};

/// The terms of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleTerms {
    /// The hosts may have addresses of this machine's networks.
    pub(crate) private: bool,
    /// So many bytes may leave by the rule in a session, to all its hosts together.
    bytes_max: Option<ByteSize>,
    /// So many requests may leave by the rule in any minute of a session, to all its hosts together.
    requests_per_minute_max: Option<u32>,
    content: Option<Content>,
    tls: Option<Tls>,
}

/// What becomes of secrets that are found in requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// They pass, and are recorded.
    Record,
    /// The request is refused.
    Deny,
}

impl Content {
    const WORDS: [(&str, Self); 2] = [("record", Self::Record), ("deny", Self::Deny)];
}

/// Most requests in a minute that a rule can name. The time of each of the last minute is kept, which
/// is 16 bytes; a thousand in a second are more than any client sends to a host that needs a bound.
const REQUESTS_PER_MINUTE_MAX: u64 = 60_000;

/// What becomes of TLS to the hosts of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    /// It is opened, and each request in it is judged.
    Inspect,
    /// It passes as it is, once the name in it was checked.
    Splice,
}

impl Tls {
    const WORDS: [(&str, Self); 2] = [("inspect", Self::Inspect), ("splice", Self::Splice)];
}

/// The terms of a decision: those of all rules that had a part in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The host may resolve to private or loopback addresses (never to cloud metadata).
    pub private: bool,
    /// How many bytes may leave, each in the whole session and to all hosts of its rule: the one that
    /// has least left decides. By the names of the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes_max: Vec<BytesMax>,
    /// How many requests may leave in any minute, in the whole session and to all hosts of each rule:
    /// none of them may be passed. By the names of the rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests_max: Vec<RequestsMax>,
    /// The rules by which no request leaves in which a secret is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_denied: Vec<RuleName>,
    /// TLS is opened even where no rule has conditions on requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inspect: bool,
    /// A rule wants TLS to pass as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub splice: bool,
}

/// How many bytes may leave by a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BytesMax {
    /// The rule.
    pub rule: RuleName,
    /// In a session, to all its hosts together.
    pub bytes: ByteSize,
}

/// How many requests may leave by a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestsMax {
    /// The rule.
    pub rule: RuleName,
    /// In any minute of a session, to all its hosts together.
    pub per_minute: u32,
}

impl RuleTerms {
    /// Those of what policy itself says where it is.
    pub(crate) const PRIVATE: Self = Self {
        private: true,
        bytes_max: None,
        requests_per_minute_max: None,
        content: None,
        tls: None,
    };

    /// Reads the terms of a rule; a deny opens nothing, so it has none. With `conditions` on requests
    /// TLS cannot pass unread.
    pub(crate) fn read(
        file: &mut File<'_>,
        fields: &Fields<'_>,
        effect: Verdict,
        conditions: bool,
    ) -> Self {
        let private = fields.flag(file, "private").is_some_and(|at| at.value);
        let bytes_max = fields.parsed::<ByteSize>(file, "bytes_max");
        let requests = requests_max(file, fields);
        let content = fields.word(file, "content", &Content::WORDS);
        let tls = fields.word(file, "tls", &Tls::WORDS);
        let unseen = [
            (conditions, "`methods` and `paths`", "the conditions"),
            (requests.is_some(), "`requests_per_minute_max`", "the bound"),
            (content.is_some(), "`content`", "it"),
        ];
        let splice = tls.as_ref().filter(|at| at.value == Tls::Splice);
        for (_, what, leave) in unseen.into_iter().filter(|(is_set, ..)| *is_set) {
            if let Some(at) = splice {
                let message = format!(
                    "{what} cannot be kept in TLS that passes as it is; write \"inspect\", or leave \
                     {leave} out"
                );
                file.problem(&at.span, &at.field, message);
            }
        }
        let given = [
            ("private", private),
            ("bytes_max", bytes_max.is_some()),
            ("requests_per_minute_max", requests.is_some()),
            ("content", content.is_some()),
            ("tls", tls.is_some()),
        ];
        for (key, is_set) in given {
            if is_set && effect == Verdict::Deny {
                let message = "a deny has no use for it";
                file.problem(&fields.span(), &fields.field(key), message);
            }
        }
        if let Some(at) = bytes_max.as_ref().filter(|at| at.value.bytes() == 0) {
            let message =
                "at least one byte, for example \"1MiB\"; a `[[deny]]` lets nothing leave";
            file.problem(&at.span, &at.field, message);
        }
        Self {
            private,
            bytes_max: bytes_max.map(|at| at.value),
            requests_per_minute_max: requests,
            content: content.map(|at| at.value),
            tls: tls.map(|at| at.value),
        }
    }

    /// Tells whether all hosts of the rule share a bound.
    pub(crate) const fn is_shared(&self) -> bool {
        self.bytes_max.is_some() || self.requests_per_minute_max.is_some()
    }

    /// Tells whether it says anything of TLS, which depends on the layer of the rule.
    pub(crate) const fn is_about_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the keys in which other terms differ, each with both values in words, and whether the other one
    /// lets more happen: `None` where that depends.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(&'static str, String, Option<bool>)> {
        let mut found = Vec::new();
        let mut say = |key, old: String, new: String, looser| {
            if old != new {
                found.push((key, format!("{old} instead of {new}"), looser));
            }
        };
        let flag = |private: bool| private.to_string();
        let bytes = |own: Option<ByteSize>| own.map_or_else(none, |bytes| bytes.to_string());
        let requests = |own: Option<u32>| own.map_or_else(none, |own| own.to_string());
        let word =
            |own: Option<Content>| own.map_or_else(none, |own| format!("{own:?}").to_lowercase());
        let tls = |own: Option<Tls>| own.map_or_else(none, |own| format!("{own:?}").to_lowercase());
        say(
            "private",
            flag(other.private),
            flag(self.private),
            Some(other.private),
        );
        let more = is_more(self.bytes_max, other.bytes_max);
        say(
            "bytes_max",
            bytes(other.bytes_max),
            bytes(self.bytes_max),
            Some(more),
        );
        let (own, new) = (self.requests_per_minute_max, other.requests_per_minute_max);
        say(
            "requests_per_minute_max",
            requests(new),
            requests(own),
            Some(is_more(own, new)),
        );
        let denies = self.content == Some(Content::Deny);
        let denies_now = other.content == Some(Content::Deny);
        let looser = (denies != denies_now).then_some(denies);
        say("content", word(other.content), word(self.content), looser);
        say("tls", tls(other.tls), tls(self.tls), None);
        found
    }

    /// Tells whether TLS is opened whatever is said in it: requests that are counted or searched must be
    /// seen.
    pub(crate) fn inspects(&self) -> bool {
        let seen = self.requests_per_minute_max.is_some() || self.content.is_some();
        self.tls == Some(Tls::Inspect) || seen
    }
}

fn none() -> String {
    "none".to_owned()
}

/// Tells whether a bound lets more out than another one; none lets out the most.
fn is_more<T: PartialOrd>(old: Option<T>, new: Option<T>) -> bool {
    match (old, new) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => new > old,
    }
}

/// Reads how many requests may leave in a minute.
fn requests_max(file: &mut File<'_>, fields: &Fields<'_>) -> Option<u32> {
    let at = fields.count(file, "requests_per_minute_max")?;
    if at.value > REQUESTS_PER_MINUTE_MAX {
        let message = format!("at most {REQUESTS_PER_MINUTE_MAX}; leave it out for no bound");
        file.problem(&at.span, &at.field, message);
    }
    u32::try_from(at.value.min(REQUESTS_PER_MINUTE_MAX)).ok()
}

impl fmt::Display for RuleTerms {
    /// Writes the terms behind the conditions of a rule, for example `; private addresses`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.private {
            f.write_str("; private addresses")?;
        }
        if let Some(bytes) = self.bytes_max {
            write!(f, "; at most {bytes} out in a session")?;
        }
        if let Some(requests) = self.requests_per_minute_max {
            write!(f, "; at most {requests} requests a minute")?;
        }
        match self.content {
            Some(Content::Deny) => f.write_str("; no secrets")?,
            Some(Content::Record) => f.write_str("; secrets recorded")?,
            None => {}
        }
        match self.tls {
            Some(Tls::Inspect) => f.write_str("; TLS inspected"),
            Some(Tls::Splice) => f.write_str("; TLS as it is"),
            None => Ok(()),
        }
    }
}

impl Terms {
    /// Puts the terms of several rules together, each with its id and the layer it is of, in any
    /// order. What a preset has opened is a default: a rule of the owner that splices goes before it.
    pub(crate) fn of<'r>(rules: impl Iterator<Item = (&'r RuleId, RuleTerms, Origin)>) -> Self {
        let mut terms = Self::default();
        let (mut by_preset, mut spliced) = (false, false);
        for (id, own, origin) in rules {
            let name = || RuleName {
                id: id.clone(),
                origin,
            };
            terms.private |= own.private;
            let is_kept = own.requests_per_minute_max.is_some() || own.content.is_some();
            let is_default = origin == Origin::Builtin && !is_kept;
            by_preset |= is_default && own.inspects();
            terms.inspect |= !is_default && own.inspects();
            spliced |= origin != Origin::Builtin && own.tls == Some(Tls::Splice);
            terms.splice |= own.tls == Some(Tls::Splice);
            terms.bytes_max.extend(own.bytes_max.map(|bytes| BytesMax {
                rule: name(),
                bytes,
            }));
            if own.content == Some(Content::Deny) {
                terms.content_denied.push(name());
            }
            let requests = own.requests_per_minute_max;
            terms
                .requests_max
                .extend(requests.map(|per_minute| RequestsMax {
                    rule: name(),
                    per_minute,
                }));
        }
        terms.inspect |= by_preset && !spliced;
        terms.content_denied.sort_unstable();
        terms.bytes_max.sort_unstable();
        terms.requests_max.sort_unstable();
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::{RuleTerms, Terms, Tls};
    use crate::Origin;

    /// What opens TLS, in any order: a preset gives way to the owner, and nobody else does.
    #[test]
    fn the_owner_splices_what_a_preset_opens() {
        let rule = "rule".parse().unwrap();
        let (inspect, splice) = (Some(Tls::Inspect), Some(Tls::Splice));
        let counted = RuleTerms {
            requests_per_minute_max: Some(1),
            ..RuleTerms::default()
        };
        let tls = |tls| RuleTerms {
            tls,
            ..RuleTerms::default()
        };
        for (terms, opened) in [
            (vec![(tls(inspect), Origin::Builtin)], true),
            (
                vec![(tls(inspect), Origin::Builtin), (tls(None), Origin::User)],
                true,
            ),
            (
                vec![(tls(inspect), Origin::Builtin), (tls(splice), Origin::User)],
                false,
            ),
            (
                vec![
                    (tls(inspect), Origin::Builtin),
                    (tls(splice), Origin::Builtin),
                ],
                true,
            ),
            (
                vec![
                    (tls(inspect), Origin::Organisation),
                    (tls(splice), Origin::User),
                ],
                true,
            ),
            (
                vec![(counted, Origin::Builtin), (tls(splice), Origin::User)],
                true,
            ),
        ] {
            let both = [terms.clone(), terms.iter().rev().copied().collect()];
            for terms in both {
                let all = terms.iter().map(|(own, origin)| (&rule, *own, *origin));
                assert_eq!(Terms::of(all).inspect, opened, "{terms:?}");
            }
        }
    }
}
