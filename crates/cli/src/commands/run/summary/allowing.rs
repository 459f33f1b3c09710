//! The rules that would allow what was refused in a session without anybody to ask.

use serde_json::{Value, json};
use stockade_event::Summary;
use stockade_policy::{HostSets, LastingRule, Source, Width};

use crate::{human::safe, own_places::user_file};

/// What the rules give as their reason.
const REASON: &str = "refused before, when nobody could be asked";

/// Finds the narrowest rules that would allow what was refused; none for what no rule of the user can
/// allow.
pub(crate) fn allowing(summary: &Summary, sources: &[Source], sets: &HostSets) -> Vec<LastingRule> {
    if summary.refused.is_empty() {
        return Vec::new();
    }
    // It was loaded when the session began.
    let Ok(policy) = stockade_policy::load(sources, sets) else {
        return Vec::new();
    };
    let refused = summary.refused.iter();
    let targets: Vec<_> = refused.map(|one| (one.kind, &one.at)).collect();
    let proposed = policy.propose(&targets, Width::Path).into_iter();
    proposed.map(|one| one.rule).collect()
}

/// Writes them as TOML that can be put into a policy; what opens much is commented out. Empty if there
/// are none.
pub(super) fn text(rules: &[LastingRule], session: &str) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let place = user_file().map_or_else(
        |_| "your policy".to_owned(),
        |(path, _)| safe(&path.display().to_string()),
    );
    let mut text =
        format!("# These rules would allow what was refused; put those you want into {place}.\n");
    for (index, rule) in rules.iter().enumerate() {
        let id = format!("from-{session}-{}", index + 1);
        let rule = match &rule.risk {
            Some(_) => rule.to_comment(&id, REASON),
            None => rule.to_toml(&id, REASON),
        };
        text.push('\n');
        for line in rule.lines() {
            text.extend([safe(line).as_str(), "\n"]);
        }
    }
    text
}

/// Returns one as a JSON value.
pub(super) fn to_json(rule: &LastingRule) -> Value {
    json!({
        "toml": rule.to_toml("from-summary", REASON),
        "words": rule.words,
        "risk": rule.risk,
    })
}
