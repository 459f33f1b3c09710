//! The hosts that the owner's clients are configured for, or use by default, for `hosts =
//! ["@npm"]`.
//!
//! Only files and variables of the owner and of the machine count, never a file that a session
//! could have written. A file that cannot be read or parsed adds no host.

mod address;
mod clients;
mod configured;
mod memory;
mod trust;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use stockade_policy::{HostSets, SetHost, Source, is_special_name};
use stockade_runner::remotes;
use stockade_types::Host;

use crate::{
    own_places::{directory, home},
    state::StateDir,
};
use configured::Configured;
use memory::{Entry, Memory};
use trust::Owner;

/// How long files of clients may be read at one start. Hosts of the remaining clients are asked
/// about, and their files are read at the next start.
const READING_TIME: Duration = Duration::from_millis(400);

/// The sets, and the facts about them that are to be cached.
pub(crate) struct Gathered {
    /// The sets.
    pub(crate) sets: HostSets,
    memory: Memory,
    workspace: PathBuf,
}

impl Gathered {
    /// Saves the cache, and records that sessions write to the workspace.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, state: &StateDir) -> io::Result<()> {
        memory::add_workspace(state.path(), &self.workspace)?;
        self.memory.save(state.path())
    }
}

/// Reads all sets, for a session in `workspace` under the policies of `sources`.
pub(crate) fn gather(workspace: &Path, sources: &[Source]) -> Gathered {
    let workspace = fs::canonicalize(workspace).unwrap_or_else(|_| workspace.to_owned());
    let home = home().unwrap_or_else(|| PathBuf::from("/nonexistent"));
    // If it is unsafe, the run itself reports that.
    let state = StateDir::open().ok();
    let state = state.as_ref().map(StateDir::path);
    let known = state.map_or(Some(Vec::new()), memory::workspaces);
    let mut open = known.unwrap_or_else(|| vec![home.clone()]);
    open.push(workspace.clone());
    let mut gathering = Gathering {
        owner: Owner::new(home, open, sources),
        memory: Memory::load(state),
        until: Instant::now() + READING_TIME,
        sets: BTreeMap::new(),
        remotes: remotes::of_owner(state, &workspace),
    };
    gathering.all();
    Gathered {
        sets: HostSets(gathering.sets),
        memory: gathering.memory,
        workspace,
    }
}

struct Gathering {
    owner: Owner,
    memory: Memory,
    until: Instant,
    sets: BTreeMap<String, Vec<SetHost>>,
    /// The addresses of the repository's remotes.
    remotes: Vec<String>,
}

impl Gathering {
    fn all(&mut self) {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let owner = &self.owner;
        let cargo_home = directory("CARGO_HOME").unwrap_or_else(|| owner.home.join(".cargo"));
        let configured = [
            ("npm", configured::npm(owner, &variable)),
            ("pip", configured::pip(owner, &variable)),
            ("cargo", configured::cargo(owner, &cargo_home)),
            ("go", configured::go(owner, &variable)),
            ("gem", configured::gem(owner)),
            ("maven", configured::maven(owner)),
        ];
        let defaults = self.defaults();
        for (
            set,
            Configured {
                mut addresses,
                replaces,
            },
        ) in configured
        {
            // Entries are kept even if they do not count today.
            let defaults = defaults
                .iter()
                .filter(|(name, _)| *name == set && !replaces);
            addresses.extend(defaults.flat_map(|(_, found)| found.clone()));
            if set == "cargo" {
                addresses.extend(self.files_of(&addresses, &cargo_home));
            }
            self.put(set, &addresses);
        }
        self.put("apt", &apt_urls(&apt_texts(&self.owner)));
        let model = [
            "OPENAI_BASE_URL",
            "OPENAI_API_BASE",
            "ANTHROPIC_BASE_URL",
            "GOOGLE_GEMINI_BASE_URL",
        ];
        self.put("model", &model.map(variable));
        self.put("remote", &self.remotes.clone());
    }

    fn put(&mut self, set: &str, addresses: &[String]) {
        let hosts = addresses
            .iter()
            .filter_map(|address| address::parse(address));
        // Inside, a name for this machine means something else, and no rule can name this machine.
        let mut hosts: Vec<SetHost> = hosts.filter(|at| is_elsewhere(&at.host)).collect();
        hosts.sort();
        hosts.dedup();
        if !hosts.is_empty() {
            self.sets.insert(set.to_owned(), hosts);
        }
    }

    /// Returns the default addresses of each client, with the name of its set.
    fn defaults(&mut self) -> Vec<(&'static str, Vec<String>)> {
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let mut found = Vec::new();
        for client in &clients::CLIENTS {
            if let Some(entry) = self.default(client, &search_path) {
                found.push((client.set, entry.addresses.clone()));
                self.memory.now.push(entry);
            }
        }
        found
    }

    fn default(&self, client: &clients::Client, search_path: &OsString) -> Option<Entry> {
        let mut first = None;
        for path in client.candidates(&self.owner.home, search_path) {
            let Some((file, metadata)) = self.owner.open(&path) else {
                continue;
            };
            let known = self.memory.of(client.name, &path, &metadata).cloned();
            let read = || {
                let addresses = client.read(file, self.until).ok().flatten()?;
                Some(Entry::new(client.name, &path, &metadata, addresses))
            };
            let Some(entry) = known.or_else(read) else {
                continue;
            };
            if !entry.addresses.is_empty() {
                return Some(entry);
            }
            first.get_or_insert(entry);
        }
        first
    }

    /// Returns the download addresses of Cargo's indexes, as each index stated when the owner used
    /// it.
    fn files_of(&self, indexes: &[String], cargo_home: &Path) -> Vec<String> {
        let entries = fs::read_dir(cargo_home.join("registry/index"));
        let mut found = Vec::new();
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Some((host, _)) = name.rsplit_once('-') else {
                continue;
            };
            let is_known = |index: &String| {
                address::parse(index).is_some_and(|known| known.host.to_string() == host)
            };
            if !indexes.iter().any(is_known) {
                continue;
            }
            let text = self.owner.text(&entry.path().join("config.json"));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let address = value.get("dl").and_then(serde_json::Value::as_str);
            found.extend(address.map(str::to_owned));
        }
        found
    }
}

/// Returns whether a host means the same inside a session.
fn is_elsewhere(host: &Host) -> bool {
    match host {
        Host::Name(name) => !is_special_name(name),
        Host::Address(address) => !address.is_loopback() && !address.is_unspecified(),
    }
}

/// Returns the texts of all lists of package sources.
fn apt_texts(owner: &Owner) -> Vec<String> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let listed = entries.flatten().map(|entry| entry.path());
        paths.extend(listed.filter(|path| {
            path.extension()
                .is_some_and(|end| end == "list" || end == "sources")
        }));
    }
    paths.sort();
    paths.iter().map(|path| owner.text(path)).collect()
}

/// Reads one-line (`deb URL …`) and deb822 (`URIs: URL …`) sources.
fn apt_urls(texts: &[String]) -> Vec<String> {
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    lines
        .filter_map(|line| {
            let rest = ["deb ", "deb-src ", "URIs:"]
                .iter()
                .find_map(|p| line.strip_prefix(p))?;
            Some(rest.split_whitespace().filter(|word| word.contains("://")))
        })
        .flatten()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::apt_urls;

    #[test]
    fn lists_of_apt_are_read_in_both_forms() {
        let apt = "deb [signed-by=/x] http://deb.test/debian stable main\n# deb http://no.test x\n\
                   Types: deb\nURIs: https://one.test/debian https://two.test/debian\n";
        let urls = apt_urls(&[apt.to_owned()]);
        assert_eq!(
            urls,
            [
                "http://deb.test/debian",
                "https://one.test/debian",
                "https://two.test/debian"
            ]
        );
    }
}
