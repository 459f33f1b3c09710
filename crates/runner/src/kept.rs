//! The state that agents keep between their sessions, one directory for each agent and workspace:
//! how it is listed and reset, and how a login is copied back.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rustix::fs::{FlockOperation, Mode, OFlags};
use stockade_policy::{Policy, StateDir};
use stockade_types::{AbsPath, RawText};

pub use crate::logins::LoginState;
use crate::{
    RunError, agent_state,
    caller::Caller,
    credentials::are_outside,
    in_use,
    logins::LoginPlace,
    seed_list::{Deed, Inside, Seeded, decide},
    seeds::{Directory, Seeding},
    whole_files::random,
};

/// Most entries of a directory that are counted.
const ENTRIES_MAX: u64 = 200_000;

/// One agent's kept state for one workspace.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Name of the preset.
    pub agent: String,
    /// Name of the directory.
    pub key: String,
    /// The workspace; older directories do not record it.
    pub workspace: Option<RawText>,
    /// When a session last began with it, seconds since the epoch.
    pub used_unix_s: u64,
    /// Files in it, and bytes of them.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    directory: PathBuf,
}

/// How a copy compares to the user's own file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The user's file has changed, and is copied at the next start.
    YoursArrives,
    /// The agent's file has changed, and stays.
    AgentsStays,
    /// Both have changed; the agent's file stays, or the keys of both are merged.
    Both,
}

/// A copy that differs from the user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The user's own file, as people write its path.
    pub file: String,
    /// How they compare.
    pub standing: Standing,
}

/// Lists the kept state below a state directory, the longest unused first.
///
/// # Errors
/// When the directories cannot be listed; it is not an error if there are none yet.
pub fn list(state_dir: &Path) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for agent in entries(&state_dir.join("agents"))? {
        for directory in entries(&agent)? {
            if !directory.is_dir() {
                continue;
            }
            let name = |path: &Path| {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            };
            let mark = directory.join(in_use::WORKSPACE);
            let (mut files, mut bytes) = (0, 0);
            count(&directory, &mut files, &mut bytes);
            let used = fs::metadata(&mark).or_else(|_| fs::metadata(&directory))?;
            let used = used.modified()?.duration_since(UNIX_EPOCH);
            kept.push(Kept {
                agent: name(&agent),
                key: name(&directory),
                workspace: fs::read(&mark).ok().map(RawText::from_bytes),
                used_unix_s: used.map_or(0, |time| time.as_secs()),
                files,
                bytes,
                directory,
            });
        }
    }
    kept.sort_by_key(|kept| kept.used_unix_s);
    Ok(kept)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths: io::Result<Vec<PathBuf>> = listed.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.sort();
    Ok(paths)
}

/// Counts files without following links; what cannot be read is not counted.
fn count(directory: &Path, files: &mut u64, bytes: &mut u64) {
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                left.push(entry.path());
            } else {
                *files += 1;
                *bytes += metadata.len();
            }
            if *files > ENTRIES_MAX {
                return;
            }
        }
    }
}

impl Kept {
    /// Returns whether a session uses it.
    pub fn is_in_use(&self) -> bool {
        let file = fs::File::open(self.directory.join(in_use::WORKSPACE));
        file.is_ok_and(|file| {
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
        })
    }

    /// Says how the copies compare to the user's own files, under the policy of the agent.
    ///
    /// # Errors
    /// When the sessions' user or workspace is not known.
    pub fn differences(
        &self,
        policy: &Policy,
        environment: &[(RawText, RawText)],
    ) -> Result<Vec<Difference>, RunError> {
        let caller = self.caller(environment)?;
        let mut found = Vec::new();
        for (state, directory, own) in self.directories(policy, &caller) {
            let Ok(inside) = Directory::open(&directory, &caller) else {
                continue;
            };
            let list = Seeded::read(&agent_state::beside(&directory, agent_state::LIST));
            let seeding = Seeding::new(state, list, "");
            for seed in agent_state::seeds(state) {
                let (path, name) = agent_state::original_in(seed, &own, &caller);
                // Placeholders are not what its owner has.
                if are_outside(policy, &caller, &path) {
                    continue;
                }
                let Some(standing) = standing(&inside, &seeding, &path, name) else {
                    continue;
                };
                let file = caller.shown(&path);
                found.push(Difference { file, standing });
            }
        }
        Ok(found)
    }

    /// Says what happened to the logins inside.
    ///
    /// # Errors
    /// When the sessions' user or workspace is not known.
    pub fn logins(
        &self,
        policy: &Policy,
        environment: &[(RawText, RawText)],
    ) -> Result<Vec<LoginState>, RunError> {
        let caller = self.caller(environment)?;
        let places = self.login_places(policy, &caller);
        Ok(places.iter().map(|place| place.state(&caller)).collect())
    }

    /// Copies the tokens of refreshed logins to the user's own files; returns the files.
    ///
    /// # Errors
    /// The first file that could not be written, and why.
    pub fn copy_logins(
        &self,
        policy: &Policy,
        environment: &[(RawText, RawText)],
    ) -> Result<Vec<String>, RunError> {
        let caller = self.caller(environment)?;
        let mut copied = Vec::new();
        for place in self.login_places(policy, &caller) {
            if !matches!(place.state(&caller), LoginState::Refreshed { .. }) {
                continue;
            }
            place.copy(&caller).map_err(|reason| RunError::Login {
                file: place.shown.clone(),
                reason,
            })?;
            copied.push(place.shown.clone());
        }
        Ok(copied)
    }

    /// Removes the copies of the user's files, so that the next session begins with the user's
    /// files of that time; the agent's own files, such as its conversations, stay. Returns how many
    /// were removed.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn reset(
        &self,
        policy: &Policy,
        environment: &[(RawText, RawText)],
    ) -> Result<usize, RunError> {
        let caller = self.caller(environment)?;
        let mut removed = 0;
        for (state, directory, _) in self.directories(policy, &caller) {
            let wrong = |source| RunError::AgentState {
                path: directory.clone(),
                source,
            };
            let list = agent_state::beside(&directory, agent_state::LIST);
            let inside = Directory::open(&directory, &caller).map_err(wrong)?;
            let mut paths = Seeded::read(&list).paths();
            let names = agent_state::seeds(state).map(|seed| seed.rsplit('/').next());
            paths.extend(names.flatten().map(str::to_owned));
            for path in paths {
                if let Some((directory, name)) = inside.find(&path).map_err(wrong)? {
                    removed += usize::from(directory.remove_file(&name).map_err(wrong)?);
                }
            }
            if list.exists() {
                fs::remove_file(&list).map_err(wrong)?;
            }
        }
        Ok(removed)
    }

    /// Removes all kept state, conversations too.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<(), RunError> {
        let wrong = |source| RunError::AgentState {
            path: self.directory.clone(),
            source,
        };
        let number = random().map_err(wrong)?;
        // Rename it first: a session that starts meanwhile begins with nothing.
        let gone = self
            .directory
            .with_extension(format!("removed-{number:016x}"));
        fs::rename(&self.directory, &gone).map_err(wrong)?;
        unlock(rustix::fs::CWD, gone.as_os_str());
        fs::remove_dir_all(&gone).map_err(wrong)
    }

    fn caller(&self, environment: &[(RawText, RawText)]) -> Result<Caller, RunError> {
        let workspace = self.workspace.as_ref().map(RawText::to_os);
        let workspace = PathBuf::from(workspace.unwrap_or_else(|| ".".into()));
        Caller::of(&workspace, environment.to_vec())
    }

    /// Returns each existing directory that policy names: its settings, its place, and the place of
    /// the user's own.
    fn directories<'p>(
        &self,
        policy: &'p Policy,
        caller: &Caller,
    ) -> Vec<(&'p StateDir, PathBuf, AbsPath)> {
        let states = policy.settings().filesystem.state.iter();
        let found = states.filter_map(|state| {
            let own = caller.place(&state.value)?;
            let directory = self.directory.join(agent_state::name(&state.value));
            directory.is_dir().then_some((&state.value, directory, own))
        });
        found.collect()
    }

    fn login_places(&self, policy: &Policy, caller: &Caller) -> Vec<LoginPlace> {
        let directories = self.directories(policy, caller);
        let places = directories.iter().map(|(state, directory, own)| {
            agent_state::logins(policy, state, (directory, own.as_path()), caller)
        });
        places.flatten().collect()
    }
}

/// Opens up directories that the agent locked, so that we can enter them; reaches each one through
/// its parent.
fn unlock(above: BorrowedFd<'_>, name: &OsStr) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(place) = rustix::fs::openat(above, name, flags, Mode::empty()) else {
        return;
    };
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    // A directory that cannot be opened up makes the removal fail, which reports it.
    rustix::fs::chmod(&path, Mode::RWXU).unwrap_or_default();
    let Ok(entries) = fs::read_dir(&path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(place.as_fd(), &entry.file_name());
        }
    }
}

/// Compares one copy; `None` if there is nothing to say.
fn standing(inside: &Directory, seeding: &Seeding<'_>, own: &Path, name: &str) -> Option<Standing> {
    if !own.is_file() || name.contains('/') {
        return None;
    }
    let contents = inside.contents(OsStr::new(name))?;
    let contents = seeding.part(name, contents);
    let own = seeding.part(name, fs::read(own).ok()?);
    if contents == own {
        return None;
    }
    let known = seeding.list.get(name);
    let there = Inside::File(&contents);
    match decide(name, known, &own, there, seeding.kind(name)) {
        Deed::Leave => Some(Standing::AgentsStays),
        Deed::Put(text, _) if text == own => Some(Standing::YoursArrives),
        Deed::Put(..) | Deed::Keep { .. } => Some(Standing::Both),
        Deed::PutAside(_) => Some(Standing::YoursArrives),
    }
}
