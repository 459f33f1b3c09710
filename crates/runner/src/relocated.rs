//! Directories of tools that variables of the caller move (`CARGO_HOME`, `npm_config_cache`, …):
//! the policy for the usual place also applies to the other one.

use std::{fs, path::Path};

use stockade_plan::HostFacts;
use stockade_policy::{Origin, Settings};
use stockade_types::{AbsPath, RawText};

use crate::{
    caller::Caller,
    names::{self, SYSTEM},
    registries,
};

/// Places that belong to the machine or to the session itself, so no variable can move a directory
/// there.
const NO_PLACE: [&str; 8] = [
    "/boot",
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/var/run",
    "/var/lock",
    "/lost+found",
];
/// Private directories of every session.
const PRIVATE: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// Settings of npm that move a directory, and the variables with the same effect.
const NPM: [(&str, [&str; 2]); 2] = [
    ("cache", ["npm_config_cache", "NPM_CONFIG_CACHE"]),
    ("prefix", ["npm_config_prefix", "NPM_CONFIG_PREFIX"]),
];

/// Places that no variable can bring into a session.
pub(crate) struct Closed<'a> {
    pub(crate) workspace: &'a AbsPath,
    pub(crate) state_dir: &'a AbsPath,
    pub(crate) secrets: &'a [AbsPath],
}

/// The new place of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    usual: AbsPath,
    place: AbsPath,
}

/// The effects of the caller's variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relocated {
    moves: Vec<Move>,
    /// From variables that do not pass: inside, the directory is at its usual place.
    brought: Vec<Move>,
    /// Those below system directories, which are visible anyway: each is covered by an overlay as a
    /// whole.
    whole: Vec<AbsPath>,
    /// Places without any visible surroundings: each is a private directory there.
    private: Vec<AbsPath>,
    /// Variables that name a place that no session sees, and why.
    refused: Vec<(String, String)>,
}

/// The possible uses of a place.
enum Use {
    /// It already exists inside, as the session's own.
    Present,
    Moved,
    Private,
    Whole,
}

impl Relocated {
    /// Examines every variable that moves something according to the policy.
    pub(crate) fn find(settings: &Settings, caller: &Caller, closed: &Closed<'_>) -> Self {
        let mut found = Self::default();
        let npm = npm_settings(caller);
        for (name, usual) in &settings.filesystem.moved_by {
            let Some(usual) = caller.expand(&usual.value) else {
                continue;
            };
            let of_npm = || npm.iter().find(|(names, _)| names.contains(&name.as_str()));
            let place = match caller.variable(name) {
                Some(value) => first(value),
                None => of_npm().and_then(|(_, place)| caller.expand(place)),
            };
            if let Some(place) = place.filter(|place| *place != usual) {
                let passes = settings.environment.passes(name);
                let judged = judge(&place, caller, closed);
                found.add((name, passes), Move { usual, place }, &judged);
            }
        }
        found
    }

    fn add(&mut self, (name, passes): (&str, bool), moved: Move, judged: &Result<Use, &str>) {
        let list = if passes {
            &mut self.moves
        } else {
            &mut self.brought
        };
        match judged {
            Err(why) => {
                let why = format!("`{}` {why}", moved.place);
                self.refused.push((name.to_owned(), why));
                return;
            }
            Ok(Use::Present) if passes => return,
            Ok(Use::Private) if passes => self.private.push(moved.place.clone()),
            Ok(Use::Whole) if passes => self.whole.push(moved.place.clone()),
            Ok(Use::Present | Use::Moved | Use::Private | Use::Whole) => {}
        }
        if !list.contains(&moved) {
            list.push(moved);
        }
    }

    /// Returns a path and its other places, outside and inside.
    pub(crate) fn places(&self, path: &AbsPath) -> Vec<AbsPath> {
        moved(path, &self.moves)
    }

    /// Returns where on the host the content of a path can be: there, or at the place of a variable
    /// that does not pass.
    pub(crate) fn sources(&self, path: &AbsPath) -> Vec<AbsPath> {
        moved(path, &self.brought)
    }

    /// Returns the places that an overlay covers as a whole.
    pub(crate) fn whole(&self) -> &[AbsPath] {
        &self.whole
    }

    /// Gives the session the places, and removes the variables that name refused ones.
    pub(crate) fn tell(self, settings: &Settings, facts: &mut HostFacts) {
        facts.private = self.private;
        for (name, why) in self.refused {
            let mut pass = settings.environment.pass.iter();
            // A policy that passes the variable by its name means it.
            if pass.any(|pass| pass.origin != Origin::Builtin && pass.value == name) {
                continue;
            }
            facts
                .environment
                .retain(|(other, _)| other.as_bytes() != name.as_bytes());
            facts.notes.push(format!("`{name}` does not pass: {why}"));
        }
    }
}

/// Returns a path, and its new path under each of the moves.
fn moved(path: &AbsPath, moves: &[Move]) -> Vec<AbsPath> {
    let mut places = vec![path.clone()];
    for Move { usual, place } in moves {
        let Ok(below) = path.as_path().strip_prefix(usual.as_path()) else {
            continue;
        };
        let moved = if below.as_os_str().is_empty() {
            Some(place.clone())
        } else {
            place.join(below).ok()
        };
        if let Some(moved) = moved.filter(|moved| !places.contains(moved)) {
            places.push(moved);
        }
    }
    places
}

/// Returns the first path of a variable, which can be a list (`GOPATH`).
fn first(value: &RawText) -> Option<AbsPath> {
    let first = value.as_bytes().split(|byte| *byte == b':').next()?;
    AbsPath::new(RawText::from_bytes(first).to_os()).ok()
}

/// Decides how a place can be used.
fn judge(place: &AbsPath, caller: &Caller, closed: &Closed<'_>) -> Result<Use, &'static str> {
    let real = names::resolved(place.as_path()).ok_or("leads nowhere")?;
    let both = [place, &real];
    let is_below = |top: &str| both.iter().any(|path| path.as_path().starts_with(top));
    if both.iter().any(|path| path.is_within(closed.workspace)) {
        return Ok(Use::Present);
    }
    if NO_PLACE.iter().any(|top| is_below(top)) {
        return Err("is a place of the machine's own");
    }
    let holds = |inner: &Path| both.iter().any(|path| inner.starts_with(path.as_path()));
    let own = [&caller.home, closed.workspace, closed.state_dir];
    if own.iter().any(|inner| holds(inner.as_path()))
        || SYSTEM.iter().any(|top| holds(Path::new(top)))
    {
        return Err("is or holds your home, the workspace or a system directory");
    }
    if both.iter().any(|path| path.is_within(closed.state_dir)) {
        return Err("lies in Stockade's own state");
    }
    let overlaps = |secret: &AbsPath| holds(secret.as_path()) || real.is_within(secret);
    if closed.secrets.iter().any(overlaps) {
        return Err("is, holds or lies in a store of secrets");
    }
    if PRIVATE.iter().any(|top| is_below(top)) {
        let is_private = PRIVATE.iter().any(|top| place.as_path() == Path::new(top));
        return Ok(if is_private { Use::Present } else { Use::Moved });
    }
    if SYSTEM.iter().any(|top| is_below(top)) {
        return Ok(if is_own(&real, caller) {
            Use::Whole
        } else {
            Use::Present
        });
    }
    let in_home = place.is_within(&caller.home);
    Ok(if in_home { Use::Moved } else { Use::Private })
}

/// Whether the caller could change the directory outside.
fn is_own(real: &AbsPath, caller: &Caller) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(real).is_ok_and(|there| {
        there.is_dir() && (there.uid() == caller.uid || there.mode() & 0o002 != 0)
    })
}

/// Returns what the user's npm settings move, with the variables that take precedence over each.
fn npm_settings(caller: &Caller) -> Vec<([&'static str; 2], String)> {
    let path = caller.home.as_path().join(".npmrc");
    let text = registries::read(&path).unwrap_or_default();
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let (_, value) = lines.rfind(|(name, _)| name.trim() == key)?;
        let value = value.trim().trim_matches(['"', '\'']);
        let value = value
            .strip_prefix("${HOME}")
            .map_or_else(|| value.to_owned(), |rest| format!("~{rest}"));
        (!value.is_empty()).then_some(value)
    };
    let is_set = |name: &&str| caller.variable(name).is_some();
    NPM.iter()
        .filter(|(_, names)| !names.iter().any(&is_set))
        .filter_map(|(key, names)| Some((*names, value(key)?)))
        .collect()
}
