//! Names in the agent's own configuration that do not exist in the session, reported at the start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::Path,
};

use stockade_plan::{LaunchPlan, Network, RunSpec, StateFact};
use stockade_policy::Policy;
use stockade_types::{AbsPath, Port, RawText};

use crate::{agent_state, caller::Caller};

/// Largest configuration file that is examined.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most names in one line.
const NAMES_MAX: usize = 8;
/// Endings of configuration files.
const ENDINGS: [&str; 6] = ["conf", "json", "jsonc", "toml", "yaml", "yml"];
/// Variables that name a proxy. The egress process uses the proxy, and programs inside need not
/// know.
const PROXIES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Names of the machine itself in web addresses.
const LOOPBACK: [&str; 4] = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"];

/// A file of the agent's configuration on the host.
struct File {
    /// Its path as people write it.
    shown: String,
    text: String,
}

/// Returns lines for the person who starts the session.
pub(crate) fn notes(
    policy: &Policy,
    caller: &Caller,
    state: &[StateFact],
    spec: &RunSpec,
    plan: &LaunchPlan,
) -> Vec<String> {
    let files = files(policy, caller, state);
    let mut notes: Vec<String> = withheld(caller, plan, &files).into_iter().collect();
    notes.extend(way_out(policy, caller, plan).filter(|_| spec.network == Network::Proxied));
    notes.extend(unreached(policy, plan, &files));
    notes
}

/// Finds the file in which the owner has set up the agent's telemetry himself: one that is copied for the
/// agent, or one that it reads where it is.
pub(crate) fn own_telemetry(
    policy: &Policy,
    caller: &Caller,
    state: &[StateFact],
    workspace: &AbsPath,
) -> Option<String> {
    let telemetry = &policy.settings().preset.telemetry;
    if telemetry.configured_by.is_empty() {
        return None;
    }
    let elsewhere = telemetry.configured_in.iter().filter_map(|path| {
        // A path that is absolute is not below the workspace.
        let path = workspace.as_path().join(path);
        let shown = caller.shown(&path);
        read(&path).map(|text| File { shown, text })
    });
    let says = |file: &File| {
        let mut words = telemetry.configured_by.iter();
        words.any(|word| file.text.contains(word.as_str()))
    };
    let mut all = files(policy, caller, state).into_iter().chain(elsewhere);
    all.find(says).map(|file| file.shown)
}

/// Says that connections go through the caller's proxy, which programs inside do not see.
fn way_out(policy: &Policy, caller: &Caller, plan: &LaunchPlan) -> Option<String> {
    let is_inside = |name: &str| {
        let mut inside = plan.command.environment.iter();
        let value = caller.variable(name);
        inside.any(|(own, other)| own.as_bytes() == name.as_bytes() && Some(other) == value)
    };
    let mut set = PROXIES.iter().filter(|name| {
        let value = caller.variable(name);
        value.is_some_and(|value| !value.as_bytes().is_empty())
    });
    let name = set.find(|name| !is_inside(name))?;
    // If the policy names a proxy, or says that there is none, that applies instead.
    let is_used = policy.settings().network.proxy.is_none();
    is_used.then(|| {
        format!("allowed connections go out through {name}; programs inside do not see it")
    })
}

/// Names the servers that the configuration, or a variable inside, places at localhost: inside,
/// localhost is not this machine.
fn unreached(policy: &Policy, plan: &LaunchPlan, files: &[File]) -> Vec<String> {
    let rules = policy.rules();
    let is_offered = |port: u16| {
        let ids = LOOPBACK.map(|name| format!("service:{name}:{port}"));
        rules
            .iter()
            .any(|rule| ids.iter().any(|id| rule.id.as_str() == id))
    };
    let files = files
        .iter()
        .map(|file| (file.shown.clone(), file.text.clone()));
    let variables = plan.command.environment.iter();
    let variables = variables.map(|(name, value)| (name.display(), value.display()));
    let mut named: BTreeMap<u16, String> = BTreeMap::new();
    for (place, text) in files.chain(variables) {
        for port in loopback_ports(&text) {
            named.entry(port).or_insert_with(|| place.clone());
        }
    }
    let network = &policy.settings().network;
    let is_own = |port: u16| Port::new(port).is_some_and(|port| network.is_inside_proxy(port));
    let named = named
        .into_iter()
        .filter(|(port, _)| !is_offered(*port) && !is_own(*port));
    named
        .take(NAMES_MAX)
        .map(|(port, place)| {
            format!(
                "{place} names a server of this machine at localhost:{port}, which is not there inside; \
                 --service localhost:{port} offers it"
            )
        })
        .collect()
}

/// Returns the ports of all loopback web addresses in a text.
fn loopback_ports(text: &str) -> Vec<u16> {
    let hosts = LOOPBACK.iter().flat_map(|host| {
        let begin = format!("://{host}:");
        let found: Vec<usize> = text
            .match_indices(&begin)
            .map(|(at, found)| at + found.len())
            .collect();
        found
    });
    hosts
        .filter_map(|at| {
            let rest = text.get(at..)?;
            let end = rest.find(|c: char| !c.is_ascii_digit());
            rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
        })
        .filter(|port| *port != 0)
        .collect()
}

/// Names the caller's variables that matter but do not exist inside.
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
        if let Some(file) = files.iter().find(|file| names(&file.text, name)) {
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

/// Returns whether a text contains a name as a word.
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

/// Reads the configuration files of the host that are copied into the session.
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
            let shown = caller.shown(&path);
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
    use super::{loopback_ports, names};

    #[test]
    fn servers_of_the_machine_are_found() {
        let text = "base_url = \"http://127.0.0.1:11434/v1\"\nurl: http://localhost:1234\n\
                    http://[::1]:80, http://localhost/x, http://localhost.test:5, 127.0.0.1:6";
        let mut ports = loopback_ports(text);
        ports.sort_unstable();
        assert_eq!(ports, [80, 1234, 11434]);
    }

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
