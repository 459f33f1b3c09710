//! The scope of an answer to a command: the place of a push, and the hosts of a code host's client.

use std::path::Path;

use stockade_policy::ExecRequest;
use stockade_types::Host;

use super::{Caller, Files, Push, command::Command};
use crate::covers::{Door, Pushed, Reach};

/// Ports of a host that count as one door.
const WEB: [u16; 2] = [443, 80];
/// Clients of code hosts, which name no host on their command line if they use the remote's.
const FORGE_CLIENTS: [&[u8]; 2] = [b"gh", b"glab"];
/// Names beside a code host's own that its clients connect to.
const FORGE_NAMES: [&str; 2] = ["api.", "uploads."];

/// Returns the scope of an answer to an execution; empty if the files leave a doubt.
pub(crate) fn reach(files: &dyn Files, request: &ExecRequest) -> Reach {
    if let Some((places, refs)) = places(files, request) {
        let doors = places.iter().filter_map(|place| door(place)).collect();
        let refs = refs.unwrap_or_default();
        let pushed = |place: &Vec<u8>| pushed(place, &refs);
        return Reach {
            doors,
            pushes: places.iter().filter_map(pushed).collect(),
            places,
            next: None,
        };
    }
    Reach {
        doors: forge(files, request).unwrap_or_default(),
        ..Reach::default()
    }
}

/// What a push changes at one of its places; `None` if that is not reached by HTTP, or if it is not known
/// which branches it changes.
fn pushed(place: &[u8], refs: &[Vec<u8>]) -> Option<Pushed> {
    let text = std::str::from_utf8(place).ok()?;
    let (scheme, rest) = text.split_once("://")?;
    let (authority, path) = rest.split_once('/')?;
    let door = door(place).filter(|_| !refs.is_empty() && !path.contains(['?', '#', '%']))?;
    // Here both ports of the web are two.
    let named = authority
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok());
    let port = named.unwrap_or(if scheme == "https" { 443 } else { 80 });
    let path = path.trim_end_matches('/');
    Some(Pushed {
        door: Door {
            ports: vec![port],
            ..door
        },
        repository: path.strip_suffix(".git").unwrap_or(path).to_owned(),
        refs: refs.to_vec(),
    })
}

/// Places of a push, and the full names of the branches that it changes, if they are known.
type Places = (Vec<Vec<u8>>, Option<Vec<Vec<u8>>>);

/// Returns the places and branches of a push.
fn places(files: &dyn Files, request: &ExecRequest) -> Option<Places> {
    let command = Command::of(request).filter(|command| command.unknown.is_none())?;
    let caller = Caller { files, request };
    let (repository, settings) = caller.look(&command)?;
    let mut push = Push {
        files,
        command,
        repository,
        settings,
    };
    let branch = push.repository.current(files);
    let short = branch
        .as_deref()
        .and_then(|name| name.strip_prefix(b"refs/heads/"));
    let remote = push.remote(short);
    push.look_for_other_ways(&remote);
    let places = push.places(&remote);
    let refs = push.targets(&remote, branch.as_deref());
    push.settings.doubt.is_none().then_some((places, refs))
}

/// Reads host and ports from the address of a remote that is reached over HTTP.
fn door(place: &[u8]) -> Option<Door> {
    let text = std::str::from_utf8(place).ok()?;
    let (scheme, rest) = text.split_once("://")?;
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (name, port.parse().ok()?)
        }
        _ => (host, default),
    };
    Some(Door {
        host: host.parse().ok()?,
        ports: ports(port),
    })
}

/// The two ports of the web count as one door.
fn ports(port: u16) -> Vec<u16> {
    if WEB.contains(&port) {
        WEB.to_vec()
    } else {
        vec![port]
    }
}

/// Returns the hosts that a client of a code host connects to: that of `--hostname`, of `-R`, of
/// its variable, or of the repository's remotes.
fn forge(files: &dyn Files, request: &ExecRequest) -> Option<Vec<Door>> {
    let called = base(request.argv.first()?.as_bytes());
    let own = base(request.program.as_bytes());
    let client = FORGE_CLIENTS
        .into_iter()
        .find(|name| [own, called].contains(name))?;
    let caller = Caller { files, request };
    let variable = if client == b"gh" {
        "GH_HOST"
    } else {
        "GITLAB_HOST"
    };
    let named = option(request, &[b"--hostname"]).or_else(|| caller.variable(variable));
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<Host>().ok();
    let hosts: Vec<Host> = match named {
        Some(host) => vec![text(host)?],
        None => match option(request, &[b"-R", b"--repo"]).and_then(host_of_repository) {
            Some(host) => vec![text(host)?],
            None => remotes(files, request),
        },
    };
    let mut doors = Vec::new();
    for host in hosts {
        let others = FORGE_NAMES.map(|prefix| format!("{prefix}{host}").parse::<Host>().ok());
        let names = matches!(host, Host::Name(_));
        let others = others.into_iter().flatten().filter(|_| names);
        for host in std::iter::once(host.clone()).chain(others) {
            let ports = WEB.to_vec();
            if !doors.iter().any(|door: &Door| door.host == host) {
                doors.push(Door { host, ports });
            }
        }
    }
    Some(doors)
}

/// Returns the value of an option, in the next word or after an `=`.
fn option<'r>(request: &'r ExecRequest, names: &[&[u8]]) -> Option<&'r [u8]> {
    let mut words = request
        .argv
        .iter()
        .skip(1)
        .map(stockade_types::RawText::as_bytes);
    while let Some(word) = words.next() {
        for name in names {
            if word == *name {
                return words.next();
            }
            if let Some(value) = word.strip_prefix(*name).and_then(|v| v.strip_prefix(b"=")) {
                return Some(value);
            }
        }
    }
    None
}

/// `HOST/OWNER/NAME`; without a host it means the default one, which is not known here.
fn host_of_repository(text: &[u8]) -> Option<&[u8]> {
    let mut parts = text.split(|byte| *byte == b'/');
    let first = parts.next()?;
    (parts.count() >= 2).then_some(first)
}

/// Returns the hosts of all remotes of the repository that the command runs in.
fn remotes(files: &dyn Files, request: &ExecRequest) -> Vec<Host> {
    let caller = Caller { files, request };
    let Some((_, settings)) = caller.look(&Command::default()) else {
        return Vec::new();
    };
    let urls = settings.between(b"remote.", b".url");
    let mut hosts: Vec<Host> = urls
        .filter_map(|(_, url)| {
            door(url)
                .map(|door| door.host)
                .or_else(|| host_over_ssh(url))
        })
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Reads the host of `ssh://git@host/path` and of `git@host:path`.
fn host_over_ssh(url: &[u8]) -> Option<Host> {
    let text = std::str::from_utf8(url).ok()?;
    let authority = match text.strip_prefix("ssh://") {
        Some(rest) => rest.split('/').next()?,
        None if text.contains("://") || Path::new(text).is_absolute() => return None,
        None => text.split_once(':')?.0,
    };
    let host = authority.rsplit('@').next()?;
    host.split(':').next()?.parse().ok()
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}
