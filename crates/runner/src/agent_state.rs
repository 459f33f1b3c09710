//! Private state directories: what an agent writes about itself stays with us, apart for each
//! workspace, and begins with copies of what the user configured.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use stockade_plan::StateFact;
use stockade_policy::{Policy, StateDir};
use stockade_types::{AbsPath, Digest};

use crate::{
    RunError,
    facts::Caller,
    seeds::{Directory, Seeded, random},
};

/// Says where the directories that the policy names are, outside and inside.
pub(crate) fn places(
    policy: &Policy,
    caller: &Caller,
    state_dir: &Path,
    workspace: &AbsPath,
) -> Result<Vec<StateFact>, RunError> {
    let settings = policy.settings();
    let key = Digest::of(workspace.as_path().as_os_str().as_encoded_bytes()).short();
    let preset = if settings.preset.name.is_empty() {
        "generic"
    } else {
        &settings.preset.name
    };
    let base = state_dir.join("agents").join(preset).join(key);
    settings
        .filesystem
        .state
        .iter()
        .filter_map(|state| Some((state, place(&state.value, caller)?)))
        .map(|(state, path)| {
            let from = base.join(state.value.path.replace(['/', '~'], "_"));
            let from = AbsPath::new(&from).map_err(|_| RunError::Path(from))?;
            Ok(StateFact { from, path })
        })
        .collect()
}

/// Where the agent looks for a directory: what its variable says, or the usual place.
fn place(state: &StateDir, caller: &Caller) -> Option<AbsPath> {
    let named = state
        .path_from
        .as_deref()
        .and_then(|name| caller.variable(name));
    named
        .and_then(|path| AbsPath::new(path.to_os()).ok())
        .or_else(|| caller.expand(&state.path))
}

/// Ends the name of the list of what was copied, beside the directory and out of the agent's reach.
const LIST: &str = ".seeds.json";

/// Makes and seeds the directories of [`places`].
///
/// # Errors
/// Where one cannot be made: nothing that a session leaves in one keeps the next from starting.
pub(crate) fn make(
    policy: &Policy,
    caller: &Caller,
    state_dir: &Path,
    facts: &[StateFact],
) -> Result<(), RunError> {
    for (state, fact) in policy.settings().filesystem.state.iter().zip(facts) {
        let from = fact.from.as_path();
        let wrong = |source| RunError::AgentState {
            path: from.to_owned(),
            source,
        };
        private_directories(state_dir, from).map_err(wrong)?;
        let list = beside(from, LIST);
        if seed(&state.value, fact, caller, &list).is_ok() {
            continue;
        }
        // Whatever it is that is in the way: it is kept, and the agent begins anew.
        let number = random().map_err(wrong)?;
        fs::rename(from, beside(from, &format!(".kept-{number:016x}"))).map_err(wrong)?;
        private_directories(state_dir, from).map_err(wrong)?;
        seed(&state.value, fact, caller, &list).map_err(wrong)?;
    }
    Ok(())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Returns the file or directory of the host that a seed is a copy of, and its name inside.
pub(crate) fn original<'a>(seed: &'a str, fact: &StateFact, caller: &Caller) -> (PathBuf, &'a str) {
    let seed = seed.strip_suffix("/**").unwrap_or(seed);
    let (from, name) = match seed.strip_prefix("~/") {
        Some(name) => (&caller.home, name),
        None => (&fact.path, seed),
    };
    (from.as_path().join(name), name)
}

/// Brings the copies in one directory up to date.
fn seed(state: &StateDir, fact: &StateFact, caller: &Caller, list: &Path) -> io::Result<()> {
    let directory = Directory::open(fact.from.as_path(), caller)?;
    let mut seeded = Seeded::read(list);
    for seed in &state.seed {
        let (original, name) = original(seed, fact, caller);
        // Only names directly in the directory: a deeper one would need its parents first.
        if !name.contains('/') {
            directory.seed(OsStr::new(name), &original, &mut seeded, 0)?;
        }
    }
    seeded.write(list)
}

/// Makes a directory of ours with its parents; the agent never sees anything above it.
fn private_directories(state_dir: &Path, path: &Path) -> io::Result<()> {
    // A preset cannot name a place outside: its path became one component.
    if !path.starts_with(state_dir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
