//! Private state directories: what an agent writes about itself stays in Stockade's state,
//! separately for each workspace, and starts from copies of the user's configuration.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use stockade_plan::StateFact;
use stockade_policy::{Login, Policy, StateDir};
use stockade_types::{AbsPath, Digest};

use crate::{
    RunError,
    caller::Caller,
    credentials::{HeldLogins, are_outside},
    in_use::InUse,
    instructions,
    logins::LoginPlace,
    seed_list::Seeded,
    seeds::{Contest, Directory, Seeding},
    whole_files::random,
};

/// Returns the places of the directories that the policy names, outside and inside.
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
        .filter_map(|state| Some((state, caller.place(&state.value)?)))
        .map(|(state, path)| {
            let from = base.join(name(&state.value));
            let from = AbsPath::new(&from).map_err(|_| RunError::Path(from))?;
            Ok(StateFact { from, path })
        })
        .collect()
}

/// Returns the name of a directory among the others of its agent and workspace.
pub(crate) fn name(state: &StateDir) -> String {
    state.path.replace(['/', '~'], "_")
}

/// Suffix of the list of copied files, which is beside the directory and out of the agent's reach.
pub(crate) const LIST: &str = ".seeds.json";

/// Facts about a session's directories after they are made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// Lines for the person who starts the session.
    pub(crate) notes: Vec<String>,
    pub(crate) in_use: Option<InUse>,
}

/// Makes and seeds the directories of [`places`].
///
/// # Errors
/// When one cannot be made. Content that a session leaves in one does not prevent the next session
/// from starting.
pub(crate) fn make(
    policy: &Policy,
    caller: &Caller,
    (state_dir, workspace): (&AbsPath, &AbsPath),
    facts: &[StateFact],
    outside: &HeldLogins,
) -> Result<Made, RunError> {
    let state_dir = state_dir.as_path();
    let preset = &policy.settings().preset.name;
    let (mut notes, mut places) = (Vec::new(), Vec::new());
    for (state, fact) in policy.settings().filesystem.state.iter().zip(facts) {
        let from = fact.from.as_path();
        let wrong = |source| RunError::AgentState {
            path: from.to_owned(),
            source,
        };
        private_directories(state_dir, from).map_err(wrong)?;
        let list = beside(from, LIST);
        let contests = if let Ok(contests) = seed(&state.value, fact, caller, (&list, outside)) {
            contests
        } else {
            // Whatever is in the way is kept, and the agent starts with an empty directory.
            let number = random().map_err(wrong)?;
            fs::rename(from, beside(from, &format!(".kept-{number:016x}"))).map_err(wrong)?;
            private_directories(state_dir, from).map_err(wrong)?;
            seed(&state.value, fact, caller, (&list, outside)).map_err(wrong)?
        };
        let shown = |contest: &Contest| told(&state.value, contest, preset);
        notes.extend(contests.iter().map(shown));
        let own = fact.path.as_path();
        places.extend(logins(policy, &state.value, (from, own), caller));
    }
    let base = facts.first().and_then(|fact| fact.from.as_path().parent());
    let in_use = base.map(|base| {
        let begun = InUse::begin(base, workspace, caller, places);
        begun.map_err(|source| RunError::AgentState {
            path: base.to_owned(),
            source,
        })
    });
    let in_use = in_use.transpose()?;
    Ok(Made { notes, in_use })
}

/// Returns the login files of a directory, in both places.
pub(crate) fn logins(
    policy: &Policy,
    state: &StateDir,
    (directory, own): (&Path, &Path),
    caller: &Caller,
) -> Vec<LoginPlace> {
    let place = |login: &Login| {
        let own = own.join(&login.file);
        LoginPlace {
            login: login.clone(),
            directory: directory.to_owned(),
            list: beside(directory, LIST),
            shown: caller.shown(&own),
            is_outside: are_outside(policy, caller, &own),
            own,
        }
    };
    state.logins.iter().map(place).collect()
}

/// Returns the line that says that both sides changed a file.
fn told(state: &StateDir, contest: &Contest, preset: &str) -> String {
    let path = format!("{}/{}", state.path, contest.path);
    let what = if contest.keys.is_empty() {
        path
    } else {
        format!("{} in {path}", contest.keys.join(", "))
    };
    format!(
        "you changed {what}, and so did the agent: its own stays; \
         `stockade state reset {preset}` takes yours"
    )
}

pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Returns the file or directory of the host from which a seed is copied, and its name inside.
pub(crate) fn original<'a>(seed: &'a str, fact: &StateFact, caller: &Caller) -> (PathBuf, &'a str) {
    original_in(seed, &fact.path, caller)
}

/// The same for a directory of the host.
pub(crate) fn original_in<'a>(
    seed: &'a str,
    directory: &AbsPath,
    caller: &Caller,
) -> (PathBuf, &'a str) {
    let seed = seed.strip_suffix("/**").unwrap_or(seed);
    let (from, name) = match seed.strip_prefix("~/") {
        Some(name) => (&caller.home, name),
        None => (directory, seed),
    };
    (from.as_path().join(name), name)
}

/// Updates the copies in one directory.
fn seed(
    state: &StateDir,
    fact: &StateFact,
    caller: &Caller,
    (list, outside): (&Path, &HeldLogins),
) -> io::Result<Vec<Contest>> {
    let directory = Directory::open(fact.from.as_path(), caller)?;
    let mut seeding = Seeding::new(state, Seeded::read(list), instructions::TEXT);
    seeding.outside = Some(outside);
    for seed in seeds(state) {
        let (original, name) = original(seed, fact, caller);
        // Only names directly in the directory: a deeper one needs its parents first.
        if !name.contains('/') {
            directory.seed(OsStr::new(name), &original, &mut seeding, 0)?;
        }
    }
    directory.follow_removals(&mut seeding)?;
    seeding.list.write(list)?;
    Ok(seeding.contests)
}

/// Returns everything that is copied: the named entries, and the files with a special meaning.
pub(crate) fn seeds(state: &StateDir) -> impl Iterator<Item = &str> {
    let named = state.seed.iter().map(String::as_str);
    let logins = state.logins.iter().map(|login| login.file.as_str());
    let more = state.instructions.as_deref().into_iter().chain(logins);
    named.chain(more.filter(|file| !state.seed.iter().any(|seed| seed == file)))
}

/// Makes one of our directories with its parents; the agent never sees anything above it.
fn private_directories(state_dir: &Path, path: &Path) -> io::Result<()> {
    // A preset cannot name a place outside, because its path became one component.
    if !path.starts_with(state_dir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}
