//! The effects of a `git push`: its place, its branches, and whether it can lose commits there.
//!
//! The supervisor reads files for this, itself and within bounds, since git runs commands that a
//! repository configures. If the files leave a doubt, the question says so, and an answer binds the
//! files.

mod command;
mod config;
mod reach;
mod refs;

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;
use stockade_policy::{Effect, EffectBound, ExecRequest};
use stockade_types::{Digest, RawText};

pub use self::config::parse as parse_settings;
pub(super) use self::{config::Setting, reach::reach};

use self::{command::Command, config::Settings, refs::Repository};
use crate::resolve::{Resolver, reopen};

/// Largest file that is read: the list of all branches of a large repository fits.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Places and branches that are shown one by one.
const SHOWN_MAX: usize = 8;

/// How full names of branches begin.
const BRANCHES: &[u8] = b"refs/heads/";

/// The files that a program of the session would read.
pub(super) trait Files {
    /// Returns the content of a regular file; `None` where there is none.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Tells whether there is a directory.
    fn is_directory(&self, path: &Path) -> bool;
}

impl Files for Resolver {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let (fd, _) = match self.open(path) {
            Ok(found) => found,
            Err(error) if is_nothing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut text = Vec::new();
        reopen(&fd)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut text)?;
        let fits = u64::try_from(text.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX);
        if fits {
            Ok(Some(text))
        } else {
            Err(io::ErrorKind::FileTooLarge.into())
        }
    }

    fn is_directory(&self, path: &Path) -> bool {
        let kind = self
            .open(path)
            .and_then(|(fd, _)| Ok(rustix::fs::fstat(&fd)?));
        kind.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Returns what a request would push; empty for other requests.
pub(super) fn effects(files: &dyn Files, request: &ExecRequest) -> Vec<Effect> {
    let Some(command) = Command::of(request) else {
        return Vec::new();
    };
    let caller = Caller { files, request };
    let unknown = |why: &str| vec![always("to", format!("cannot be told: {why}").as_bytes())];
    if let Some(option) = &command.unknown {
        let option = RawText::from_bytes(option.as_slice()).display();
        return unknown(&format!("`{option}` is not known"));
    }
    let Some((repository, settings)) = caller.look(&command) else {
        return unknown("no repository was found");
    };
    let push = Push {
        files,
        command,
        repository,
        settings,
    };
    push.effects()
}

fn always(label: &str, text: &[u8]) -> Effect {
    Effect {
        label: label.to_owned(),
        text: RawText::from_bytes(text),
        bound: EffectBound::Always,
    }
}

/// The process that would push.
struct Caller<'a> {
    files: &'a dyn Files,
    request: &'a ExecRequest,
}

impl Caller<'_> {
    fn variable(&self, name: &str) -> Option<&[u8]> {
        let named = |own: &&(RawText, RawText)| own.0.as_bytes() == name.as_bytes();
        let found = self.request.environment.iter().find(named)?;
        Some(found.1.as_bytes())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variable(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(OsStr::from_bytes(value)))
    }

    /// Finds the repository and reads all settings in the order of git-config(1).
    fn look(&self, command: &Command) -> Option<(Repository, Settings)> {
        let mut directory = PathBuf::from(self.request.cwd.to_os());
        for part in &command.directories {
            directory.push(OsStr::from_bytes(part));
        }
        let named = command.git_dir.as_deref().or(self.variable("GIT_DIR"));
        let repository = match named {
            Some(path) => Repository::at(self.files, &directory.join(OsStr::from_bytes(path)))?,
            None => Repository::find(self.files, &directory)?,
        };
        let mut settings = Settings::default();
        for name in ["GIT_COMMON_DIR", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG"] {
            if self.variable(name).is_some() {
                settings.doubt(format!("{name} is set"));
            }
        }
        let home = self.path("HOME");
        for path in self.files_of_the_user(home.as_deref()) {
            settings.read(self.files, &path, home.as_deref());
        }
        let local = repository.common.join("config");
        settings.read(self.files, &local, home.as_deref());
        if settings.last(b"extensions.worktreeconfig").is_some() {
            let own = repository.own.join("config.worktree");
            settings.read(self.files, &own, home.as_deref());
        }
        self.counted(&mut settings);
        for (name, value) in &command.settings {
            settings.add(name, value);
        }
        Some((repository, settings))
    }

    fn files_of_the_user(&self, home: Option<&Path>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if self.variable("GIT_CONFIG_NOSYSTEM").is_none() {
            let system = self.path("GIT_CONFIG_SYSTEM");
            let local = self.request.program.as_bytes().starts_with(b"/usr/local/");
            let usual = if local { "/usr/local/etc" } else { "/etc" };
            paths.push(system.unwrap_or_else(|| Path::new(usual).join("gitconfig")));
        }
        if let Some(global) = self.variable("GIT_CONFIG_GLOBAL") {
            paths.push(PathBuf::from(OsStr::from_bytes(global)));
            return paths;
        }
        let below_home = |name: &str| home.map(|home| home.join(name));
        let base = self.path("XDG_CONFIG_HOME").or(below_home(".config"));
        paths.extend(base.map(|base| base.join("git/config")));
        paths.extend(below_home(".gitconfig"));
        paths
    }

    /// Reads `GIT_CONFIG_KEY_0` and its successors.
    fn counted(&self, settings: &mut Settings) {
        let Some(count) = self.variable("GIT_CONFIG_COUNT") else {
            return;
        };
        let count = std::str::from_utf8(count).ok().and_then(|n| n.parse().ok());
        for number in 0..count.unwrap_or(0_usize).min(self.request.environment.len()) {
            let name = self.variable(&format!("GIT_CONFIG_KEY_{number}"));
            let value = self.variable(&format!("GIT_CONFIG_VALUE_{number}"));
            if let (Some(name), Some(value)) = (name, value) {
                settings.add(name, value);
            }
        }
    }
}

/// A push whose repository and settings are known.
struct Push<'a> {
    files: &'a dyn Files,
    command: Command,
    repository: Repository,
    settings: Settings,
}

impl Push<'_> {
    fn effects(mut self) -> Vec<Effect> {
        let branch = self.repository.current(self.files);
        let short = branch
            .as_deref()
            .and_then(|name| name.strip_prefix(b"refs/heads/"));
        let remote = self.remote(short);
        let mut effects: Vec<Effect> = Vec::new();
        self.look_for_other_ways(&remote);
        let places = self.places(&remote);
        for (index, place) in places.iter().enumerate() {
            // An answer binds all of them; if there are many, a person sees at least how many.
            let label = if index == 0 { "to" } else { "" };
            effects.push(always(label, place));
        }
        self.branches(&remote, branch.as_deref(), &mut effects);
        let mirrors = self
            .setting(&remote, b"mirror")
            .is_some_and(|on| on != b"false");
        let forced = self
            .refspecs(&remote)
            .iter()
            .any(|one| one.starts_with(b"+"));
        let mut force = Vec::new();
        if self.command.forces || mirrors || forced {
            force.push("commits that are only there can be lost (force)");
        }
        if self.command.deletes || mirrors {
            force.push("branches there are removed");
        }
        if !force.is_empty() {
            effects.push(always("! force", force.join("; ").as_bytes()));
        }
        if let Some(doubt) = &self.settings.doubt {
            let digest = Digest::of(&self.settings.read);
            let text = format!("perhaps other places or branches: {doubt} (settings {digest})");
            effects.push(always("! or", text.as_bytes()));
        }
        effects
    }

    /// Records a doubt if a remote is described in another way than by settings.
    fn look_for_other_ways(&mut self, remote: &[u8]) {
        if self.setting(remote, b"vcs").is_some() {
            self.settings
                .doubt("a program of its own reaches the remote".to_owned());
        }
        for directory in ["remotes", "branches"] {
            let path = self.repository.common.join(directory);
            let path = path.join(OsStr::from_bytes(remote));
            if !remote.starts_with(b"/") && !matches!(self.files.read(&path), Ok(None)) {
                self.settings
                    .doubt(format!("there is a file {}", path.display()));
            }
        }
    }

    fn setting(&self, remote: &[u8], key: &[u8]) -> Option<&[u8]> {
        let name = [b"remote.", remote, b".", key].concat();
        self.settings.last(&name)
    }

    /// Returns the remote that git would choose (git-push(1), "repository").
    fn remote(&self, branch: Option<&[u8]>) -> Vec<u8> {
        let of_branch = |key: &[u8]| {
            let name = [b"branch.", branch?, b".", key].concat();
            self.settings.last(&name).map(<[u8]>::to_vec)
        };
        let named = self.command.remote.clone();
        named
            .or_else(|| of_branch(b"pushremote"))
            .or_else(|| {
                let default = self.settings.last(b"remote.pushdefault");
                default.map(<[u8]>::to_vec)
            })
            .or_else(|| of_branch(b"remote"))
            .unwrap_or_else(|| b"origin".to_vec())
    }

    /// Returns the URLs, rewritten as git does: `pushInsteadOf` does not apply to a `pushurl`.
    fn places(&self, remote: &[u8]) -> Vec<Vec<u8>> {
        let urls = |key: &[u8]| {
            let name = [b"remote.", remote, b".", key].concat();
            let mut urls: Vec<Vec<u8>> = Vec::new();
            for url in self.settings.all(&name) {
                // An empty one clears the list.
                if url.is_empty() {
                    urls.clear();
                } else {
                    urls.push(url.to_vec());
                }
            }
            urls
        };
        let explicit = urls(b"pushurl");
        if !explicit.is_empty() {
            let rewritten = explicit
                .iter()
                .map(|url| self.rewritten(url, b".insteadof"));
            return rewritten
                .zip(&explicit)
                .map(|(new, old)| new.unwrap_or_else(|| old.clone()))
                .collect();
        }
        let mut plain = urls(b"url");
        if plain.is_empty() {
            plain.push(remote.to_vec());
        }
        plain
            .into_iter()
            .map(|url| {
                self.rewritten(&url, b".pushinsteadof")
                    .or_else(|| self.rewritten(&url, b".insteadof"))
                    .unwrap_or(url)
            })
            .collect()
    }

    /// Replaces the longest beginning that a setting names.
    fn rewritten(&self, url: &[u8], key: &[u8]) -> Option<Vec<u8>> {
        let fits = self.settings.between(b"url.", key);
        let (base, beginning) = fits
            .filter(|(_, beginning)| url.starts_with(beginning))
            // Of two equally long ones the first one counts.
            .fold(None, |best: Option<(&[u8], &[u8])>, one| match best {
                Some(best) if best.1.len() >= one.1.len() => Some(best),
                _ => Some(one),
            })?;
        let rest = url.get(beginning.len()..)?;
        Some([base, rest].concat())
    }

    /// Returns the refspecs if the command line gives none.
    fn refspecs(&self, remote: &[u8]) -> Vec<Vec<u8>> {
        if !self.command.refspecs.is_empty() {
            return self.command.refspecs.clone();
        }
        let name = [b"remote.", remote, b".push"].concat();
        let named = self.settings.all(&name).into_iter();
        named.map(<[u8]>::to_vec).collect()
    }

    fn branches(&self, remote: &[u8], branch: Option<&[u8]>, effects: &mut Vec<Effect>) {
        for set in &self.command.sets {
            effects.push(always("refs", set.as_bytes()));
        }
        let refspecs = self.refspecs(remote);
        if refspecs.is_empty() && self.command.sets.is_empty() {
            let mode = self.settings.last(b"push.default").unwrap_or(b"simple");
            let mode = RawText::from_bytes(mode).display();
            let own = branch.unwrap_or(b"HEAD");
            let text = [own, format!(" (push.default {mode})").as_bytes()].concat();
            effects.push(always("refs", &text));
            self.commits(remote, own, own, effects);
        }
        for refspec in &refspecs {
            let plain = refspec.strip_prefix(b"+").unwrap_or(refspec);
            let mut parts = plain.splitn(2, |byte| *byte == b':');
            let source = parts.next().unwrap_or_default();
            let target = parts.next();
            let found = self.repository.resolve(self.files, source);
            let full = found.as_ref().map_or(source, |(name, _)| name.as_slice());
            let target = target.unwrap_or(full);
            let text = match (source, target) {
                ([], []) => b"every branch that is there under the same name".to_vec(),
                ([], target) => [b"remove ".as_slice(), target].concat(),
                _ => [full, " → ".as_bytes(), target].concat(),
            };
            effects.push(always("refs", &text));
            if effects.len() < SHOWN_MAX && !source.is_empty() {
                self.commits(remote, source, target, effects);
            }
        }
    }

    /// Returns the full names of the branches that the push creates or moves; `None` if the remote has a
    /// word in it, or if it does anything else.
    fn targets(&self, remote: &[u8], branch: Option<&[u8]>) -> Option<Vec<Vec<u8>>> {
        let mirrors = self.setting(remote, b"mirror").is_some();
        if !self.command.sets.is_empty() || self.command.deletes || mirrors {
            return None;
        }
        let refspecs = self.refspecs(remote);
        if refspecs.is_empty() {
            let mode = self.settings.last(b"push.default").unwrap_or(b"simple");
            let own = branch.filter(|_| [&b"simple"[..], b"current"].contains(&mode))?;
            return Some(vec![own.to_vec()]);
        }
        let target = |refspec: &Vec<u8>| {
            let plain = refspec.strip_prefix(b"+").unwrap_or(refspec);
            let mut parts = plain.splitn(2, |byte| *byte == b':');
            let (full, _) = self.repository.resolve(self.files, parts.next()?)?;
            let target = match parts.next() {
                // A tag of this name at the other side would be taken, which is then no branch.
                Some(short) if !short.starts_with(b"refs/") => [BRANCHES, short].concat(),
                Some(target) => target.to_vec(),
                None => full.clone(),
            };
            (full.starts_with(BRANCHES) && target.starts_with(BRANCHES) && !target.contains(&b'*'))
                .then_some(target)
        };
        refspecs.iter().map(target).collect()
    }

    /// Describes the old and new commits, as far as this repository knows the remote.
    fn commits(&self, remote: &[u8], source: &[u8], target: &[u8], effects: &mut Vec<Effect>) {
        let Some((_, new)) = self.repository.resolve(self.files, source) else {
            return;
        };
        let branch = target.strip_prefix(b"refs/heads/").unwrap_or(target);
        let tracked = [b"refs/remotes/", remote, b"/", branch].concat();
        let text = match self.repository.object(self.files, &tracked) {
            Some(old) if old == new => format!("{new}, as it was seen there last"),
            Some(old) => format!("{old} (seen there last) .. {new}"),
            None => format!("{new}; nothing was seen there yet"),
        };
        effects.push(Effect {
            label: "commits".to_owned(),
            text: RawText::from(text.as_str()),
            bound: EffectBound::Exact,
        });
    }
}

#[cfg(test)]
mod tests;
