//! What the agent's own configuration names and the session does not have, told at the start.

use std::{collections::BTreeSet, fs, io::Read as _, path::Path};

use stockade_plan::{LaunchPlan, StateFact};
use stockade_policy::Policy;
use stockade_types::RawText;

use crate::{agent_state, facts::Caller};

/// Largest file of configuration that is looked at.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most names that one line has.
const NAMES_MAX: usize = 8;
/// Kinds of files that hold configuration.
const ENDINGS: [&str; 6] = ["conf", "json", "jsonc", "toml", "yaml", "yml"];
/// Variables that decide how programs reach others, and whom they trust.
const NETWORK: [&str; 15] = [
    "ALL_PROXY",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// A file of the agent's configuration on the host.
struct File {
    /// As people write it.
    shown: String,
    text: String,
}

/// Returns lines for whoever starts the session.
pub(crate) fn notes(
    policy: &Policy,
    caller: &Caller,
    state: &[StateFact],
    plan: &LaunchPlan,
) -> Vec<String> {
    let files = files(policy, caller, state);
    withheld(caller, plan, &files).into_iter().collect()
}

/// Names the caller's variables that matter and do not exist inside.
fn withheld(caller: &Caller, plan: &LaunchPlan, files: &[File]) -> Option<String> {
    let inside: BTreeSet<&RawText> = plan.command.environment.iter().map(|(n, _)| n).collect();
    let absent: BTreeSet<&str> = caller
        .environment
        .iter()
        .filter(|(name, value)| !inside.contains(name) && !value.as_bytes().is_empty())
        .filter_map(|(name, _)| std::str::from_utf8(name.as_bytes()).ok())
        .collect();
    let mut named: Vec<String> = Vec::new();
    for name in absent {
        if NETWORK.contains(&name) {
            named.push(name.to_owned());
        } else if let Some(file) = files.iter().find(|file| names(&file.text, name)) {
            named.push(format!("{name} ({} names it)", file.shown));
        }
    }
    let first = named.first()?;
    let name = first.split(' ').next().unwrap_or_default();
    let switch = format!("--env {name}");
    let more = named.len().saturating_sub(NAMES_MAX);
    named.truncate(NAMES_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let named = named.join(", ");
    Some(format!("not passed: {named}{more}; pass one with {switch}"))
}

/// Tells whether a text has a name as a word.
fn names(text: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, found)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + found.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Reads the files of the host that copies are made of and that hold configuration.
fn files(policy: &Policy, caller: &Caller, state: &[StateFact]) -> Vec<File> {
    let dirs = policy.settings().filesystem.state.iter().zip(state);
    let paths = dirs.flat_map(|(dir, fact)| {
        let seeds = agent_state::seeds(&dir.value);
        seeds.map(|seed| agent_state::original(seed, fact, caller).0)
    });
    paths
        .filter(|path| is_configuration(path))
        .filter_map(|path| {
            let text = read(&path)?;
            let shown = agent_state::shown(&path, caller);
            Some(File { shown, text })
        })
        .collect()
}

fn is_configuration(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

fn read(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_name_is_a_whole_word() {
        for text in [
            "env_key = \"LAB_KEY\"",
            "{env:LAB_KEY}",
            "$LAB_KEY",
            "LAB_KEY",
        ] {
            assert!(names(text, "LAB_KEY"), "{text}");
        }
        for text in ["MY_LAB_KEY", "LAB_KEYS LAB_KEY2", ""] {
            assert!(!names(text, "LAB_KEY"), "{text}");
        }
    }
}
