//! The hosts of a rule about connections: patterns, and host sets with the ports of their members.

use stockade_types::{Host, Verdict};

use super::{HostAt, Ports};
use crate::{
    HOST_SETS, HostSets, SetHost,
    fields::{At, File, did_you_mean, shown},
    pattern::HostPattern,
};

/// What a rule says about ports, for the members of host sets that have one of their own.
pub(crate) struct Bound<'r> {
    pub(crate) effect: Verdict,
    pub(crate) ports: &'r Ports,
    /// The rule has `ports`.
    pub(crate) are_named: bool,
}

impl Bound<'_> {
    /// Returns a member of a set as the rule means it; `None` where its port is none of the rule's. A
    /// deny means the host, whatever port a client uses.
    fn member(&self, member: &SetHost) -> Option<HostAt> {
        let pattern = match &member.host {
            Host::Name(name) => HostPattern::Name(name.clone()),
            Host::Address(address) => HostPattern::Address(*address),
        };
        let port = member.port.filter(|_| self.effect != Verdict::Deny);
        let is_meant =
            port.is_none_or(|port| !self.are_named || self.ports.named().contains(&port.get()));
        is_meant.then_some(HostAt { pattern, port })
    }
}

/// Reads the hosts of a rule, each once.
pub(crate) fn hosts(
    file: &mut File<'_>,
    texts: &[At<String>],
    bound: &Bound<'_>,
    sets: &HostSets,
) -> Vec<HostAt> {
    let mut hosts = Vec::new();
    for text in texts {
        hosts.extend(patterns(file, text, bound, sets));
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

fn patterns(
    file: &mut File<'_>,
    text: &At<String>,
    bound: &Bound<'_>,
    sets: &HostSets,
) -> Vec<HostAt> {
    if let Some(set) = text.value.strip_prefix('@') {
        if !HOST_SETS.contains(&set) {
            let message = format!(
                "`{}` is not a host set; one of @{}{}",
                shown(&text.value),
                HOST_SETS.join(", @"),
                did_you_mean(set, &HOST_SETS)
            );
            file.problem(&text.span, &text.field, message);
        } else if sets.0.get(set).is_none_or(Vec::is_empty) {
            let message = format!("`@{set}` stands for no host here: {}", nothing_in(set));
            file.warning(&text.span, &text.field, &message);
        }
        let members = sets.0.get(set).into_iter().flatten();
        return members.filter_map(|member| bound.member(member)).collect();
    }
    let pattern = match HostPattern::parse(&text.value) {
        Ok(pattern) => pattern,
        Err(error) => {
            file.problem(&text.span, &text.field, error.to_string());
            return Vec::new();
        }
    };
    if bound.effect == Verdict::Allow
        && let Some(why) = pattern.too_wide_to_allow()
    {
        file.problem(&text.span, &text.field, why);
        return Vec::new();
    }
    vec![HostAt {
        pattern,
        port: None,
    }]
}

/// Why a set has no member.
fn nothing_in(set: &str) -> &'static str {
    if set == "remote" {
        "the repository has no remote over http or https that its owner has set"
    } else {
        "no client is configured for one, and none is known that has a default"
    }
}
