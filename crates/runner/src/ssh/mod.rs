//! The knowledge of ssh inside about hosts: their keys, as the caller knows them, and the meaning
//! of the host names in the workspace's own remotes. Keys of people, agents and everything else in
//! the caller's `~/.ssh` stay outside.

pub(crate) mod agent;
mod client;
mod known;

use std::{fs, path::Path};

use stockade_plan::{HostFacts, SshFact};
use stockade_policy::{Origin, Settings};
use stockade_types::AbsPath;

use self::{client::Aliases, known::hashed};
use crate::{caller::Caller, registries::read};
use stockade_supervise::{parse_settings, repository::GitShare};

/// The directory of ssh settings, on the machine and in a session.
const OF_MACHINE: &str = "/etc/ssh";
/// Files with host keys: the caller's below the home, and the machine's.
const KNOWN_HOSTS: [&str; 2] = [".ssh/known_hosts", ".ssh/known_hosts2"];
const KNOWN_HOSTS_OF_MACHINE: &str = "/etc/ssh/ssh_known_hosts";
/// Names of remotes that are looked up in the caller's settings.
const NAMES_MAX: usize = 64;
/// Settings for every host: an unknown key must not cause a question at the terminal, because the
/// agent may be the one to answer it.
const EVERY_HOST: &str = "\
Host *
  StrictHostKeyChecking yes
  UpdateHostKeys no
  CheckHostIP no
";

/// Adds the settings and keys for ssh inside.
pub(crate) fn tell(
    settings: &Settings,
    caller: &Caller,
    workspace: &AbsPath,
    git: &[GitShare],
    facts: &mut HostFacts,
) {
    let mut text = String::new();
    let mut names = String::new();
    if !is_hidden(settings, caller) {
        text = known_hosts(caller);
        let settings = read(&caller.home.as_path().join(".ssh/config")).unwrap_or_default();
        let aliases = Aliases::new(&settings);
        names = remotes(workspace, git)
            .iter()
            .filter_map(|name| aliases.shown(name))
            .collect();
    }
    facts.ssh = Some(SshFact {
        config: format!(
            "# Of this session alone; logins and keys of the machine are not inside.\n{names}{EVERY_HOST}"
        ),
        known_hosts: hashed(&text),
        replaces: AbsPath::new(OF_MACHINE)
            .ok()
            .filter(|path| fs::metadata(path).is_ok_and(|meta| meta.is_dir())),
    });
}

/// Returns what the caller knows of hosts' keys.
fn known_hosts(caller: &Caller) -> String {
    let own = KNOWN_HOSTS.map(|name| caller.home.as_path().join(name));
    let files = own.iter().map(std::path::PathBuf::as_path);
    let files = files.chain([Path::new(KNOWN_HOSTS_OF_MACHINE)]);
    files
        .map(|file| read(file).unwrap_or_default() + "\n")
        .collect()
}

/// Whether a person's policy hides the caller's `~/.ssh`.
fn is_hidden(settings: &Settings, caller: &Caller) -> bool {
    let Ok(place) = AbsPath::new(caller.home.as_path().join(KNOWN_HOSTS[0])) else {
        return true;
    };
    let mut hide = settings.filesystem.hide.iter();
    hide.any(|at| {
        let path = caller.expand(&at.value);
        at.origin != Origin::Builtin && path.is_some_and(|path| place.is_within(&path))
    })
}

/// Returns the hosts of the remotes that use ssh, as they are written.
fn remotes(workspace: &AbsPath, git: &[GitShare]) -> Vec<String> {
    let own = workspace.as_path().join(".git/config");
    let shared = git.iter().map(|git| git.path.as_path().join("config"));
    let mut names: Vec<String> = shared
        .chain([own])
        .filter_map(|file| parse_settings(read(&file)?.as_bytes()))
        .flatten()
        .filter(|setting| {
            let name = setting.name.as_slice();
            name.starts_with(b"remote.") && (name.ends_with(b".url") || name.ends_with(b".pushurl"))
        })
        .filter_map(|setting| host_over_ssh(std::str::from_utf8(&setting.value).ok()?))
        .collect();
    names.sort();
    names.dedup();
    names.truncate(NAMES_MAX);
    names
}

/// Reads the host of `ssh://git@host/path` and of `git@host:path` (git-clone(1), "GIT URLS").
fn host_over_ssh(url: &str) -> Option<String> {
    let authority = match url.split_once("://") {
        Some(("ssh" | "git+ssh" | "ssh+git", rest)) => rest.split('/').next()?,
        Some(_) => return None,
        // A colon after the first slash is part of a path.
        None => url.split('/').next()?.split_once(':')?.0,
    };
    let host = authority.rsplit('@').next()?;
    let host = host.split(':').next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::host_over_ssh;

    #[test]
    fn hosts_of_remotes_are_read_as_git_reads_them() {
        for (url, host) in [
            ("git@git.test:team/p.git", Some("git.test")),
            ("work:p.git", Some("work")),
            ("ssh://git@git.test:2222/p.git", Some("git.test")),
            ("git+ssh://git.test/p.git", Some("git.test")),
            ("https://git.test/p.git", None),
            ("./a:b", None),
            ("/srv/a:b", None),
            ("p.git", None),
        ] {
            assert_eq!(host_over_ssh(url).as_deref(), host, "{url}");
        }
    }
}
