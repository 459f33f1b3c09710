//! Gathering what the planner must know of this machine.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use stockade_plan::{
    CacheFact, CgroupFact, CredentialFacts, EntryKind, HostFacts, LinkFact, ProgramFacts,
    ShareFact, SharedCounts, ShownFact, StateFact, SystemEntry,
};
use stockade_policy::{CredentialSource, FilesystemSettings, Origin, Policy, Sourced};
use stockade_sys::{probe, process};
use stockade_types::{AbsPath, RawText};

use crate::{
    RunError,
    agent_config::own_telemetry,
    authorities,
    caller::Caller,
    closed, filtered, mcp,
    names::{self, Mounts, SYSTEM},
    policies::Policies,
    program::{self, Ground},
    relocated::Relocated,
    twins,
};

/// Where programs keep keys and tokens of their user, below the home. None of it exists inside; a
/// workspace among them would bring it back.
const SECRETS: [&str; 13] = [
    ".ssh",
    ".aws",
    ".config/gcloud",
    ".config/gh",
    ".config/google-chrome",
    ".config/chromium",
    ".mozilla",
    ".kube",
    ".docker",
    ".gnupg",
    ".password-store",
    ".local/share/keyrings",
    ".azure",
];

/// What a launch is about.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) policies: Policies,
    pub(crate) caller: &'a Caller,
    pub(crate) state_dir: &'a AbsPath,
    pub(crate) workspace: &'a AbsPath,
    pub(crate) cwd: &'a AbsPath,
    pub(crate) argv: &'a [RawText],
    pub(crate) state: Vec<StateFact>,
    pub(crate) caches: Vec<CacheFact>,
    pub(crate) relocated: &'a Relocated,
    pub(crate) mounts: &'a Mounts,
    pub(crate) credentials: CredentialFacts,
}

/// Returns the file that the machine's list of name servers is, without links.
fn resolv_conf() -> Option<AbsPath> {
    let path = fs::canonicalize("/etc/resolv.conf").ok()?;
    AbsPath::new(path).ok()
}

/// Gathers the facts of one launch.
///
/// # Errors
/// When the command or the workspace cannot be used, or when something that must not be seen
/// inside has a name there that cannot be covered.
pub(crate) fn gather(launch: Launch<'_>) -> Result<HostFacts, RunError> {
    let Launch {
        policy,
        caller,
        workspace,
        mounts,
        ..
    } = launch;
    let (caller_uid, caller_gid) = stockade_sys::identity::own();
    let files = &policy.settings().filesystem;
    let writable = shares(caller, files.write.iter(), &Relocated::default());
    let readable = shares(caller, not_written(caller, files), launch.relocated);
    let (own, metadata, system) = (own_executable()?, metadata(workspace)?, system());
    let mut places = Places {
        homes: mounts.names(&caller.home),
        secrets: secrets(&caller.home, mounts),
        ours: state_names(launch.state_dir, mounts),
        own_names: mounts.names(&own),
        workspaces: mounts.names(workspace),
        hidden: hidden(caller, policy, launch.relocated, mounts),
    };
    places.ours.extend(launch.policies.ours.iter().cloned());
    let shares = readable.iter().chain(&writable).map(|share| &share.path);
    let visible = shares.chain(launch.caches.iter().map(|cache| &cache.path));
    let ground = places.ground(caller, &system, visible, &writable, mounts);
    let program = program(&launch, &ground)?;
    // Whoever the command runs as, the kernel keeps from it what is another's.
    let find = || closed::find(&named(&program, workspace, &readable, &writable));
    let closed = (caller.uid == 0).then(find);
    Ok(HostFacts {
        caller_uid,
        caller_gid,
        workspace_uid: metadata.uid(),
        workspace_gid: caller.gid,
        home: caller.home.clone(),
        homes: places.homes,
        secrets: places.secrets,
        ours: places.ours,
        policies: launch.policies.files,
        user: caller.user.clone(),
        landlock_abi: stockade_sys::landlock::abi(),
        redirect: true,
        hold: true,
        scopes: stockade_sys::mark::is_possible(),
        shared: shared(),
        cgroups: cgroups(),
        system,
        shown: shown(caller, files, launch.relocated),
        // The workspace and its repository are looked at once it is known to be one.
        protected: Vec::new(),
        stand_ins: Vec::new(),
        git_settings: Vec::new(),
        ssh: None,
        readable,
        writable,
        caches: launch.caches,
        // The caller says which variables pass, and finds out what is empty below.
        private: Vec::new(),
        hidden: places.hidden,
        closed: closed.unwrap_or_default(),
        program,
        own_telemetry: own_telemetry(policy, caller, &launch.state, workspace),
        servers: mcp::wrapping::find(policy, caller, &launch.state, workspace),
        state: launch.state,
        environment: caller.environment.clone(),
        credentials: launch.credentials,
        sources: Vec::new(),
        sockets: Vec::new(),
        notes: unmatched(caller, files),
        own_executable: own,
        own_names: places.own_names,
        resolv_conf: resolv_conf(),
        trust_files: authorities::trust_files(policy),
    })
}

/// Finds the command, and the links that lead to it and to what the caller's search path has.
fn program(launch: &Launch<'_>, ground: &Ground) -> Result<ProgramFacts, RunError> {
    let search_path = launch.caller.variable("PATH").map(RawText::to_os);
    let name = launch.argv.first().cloned().unwrap_or_default();
    let mut program = program::find(&name, launch.cwd.as_path(), search_path.as_deref(), ground)?;
    program.links.extend(search_links(launch.caller, ground));
    Ok(program)
}

/// Directories of the search path that are looked at for links.
const SEARCHED_MAX: usize = 128;

/// Returns the links on the way to directories of the search path that lead into the view, where
/// nothing shows them: version managers make one for each terminal, in places that no session has.
fn search_links(caller: &Caller, ground: &Ground) -> Vec<LinkFact> {
    let path = caller.variable("PATH").map(RawText::to_os);
    let shown = |at: &Path| ground.shown.iter().any(|top| at.starts_with(top.as_path()));
    let mut found: Vec<LinkFact> = Vec::new();
    for directory in env::split_paths(path.as_deref().unwrap_or_default()).take(SEARCHED_MAX) {
        if !directory.is_absolute() || shown(&directory) {
            continue;
        }
        let Some(way) = names::way(&directory).ok().filter(|way| shown(&way.end)) else {
            continue;
        };
        for (at, target) in way.links {
            if let Ok(path) = AbsPath::new(at) {
                let target = RawText::from_os(target.as_os_str());
                found.push(LinkFact { path, target });
            }
        }
    }
    found
}

fn metadata(workspace: &AbsPath) -> Result<fs::Metadata, RunError> {
    fs::metadata(workspace).map_err(|source| RunError::Workspace {
        path: workspace.as_path().to_owned(),
        source,
    })
}

/// Returns where our own program lies.
pub(crate) fn own_executable() -> Result<AbsPath, RunError> {
    let own = fs::read_link("/proc/self/exe").map_err(RunError::Supervisor)?;
    AbsPath::new(&own).map_err(|_| RunError::Path(own))
}

/// Returns which of the paths that policy shares exist, and where their links lead. What a preset
/// names is shared where variables have it, too.
fn shares<'p>(
    caller: &Caller,
    paths: impl Iterator<Item = &'p Sourced<String>>,
    relocated: &Relocated,
) -> Vec<ShareFact> {
    let paths = paths.flat_map(|path| {
        let named = caller.expand(&path.value).into_iter();
        let is_default = path.origin == Origin::Builtin;
        named.flat_map(move |named| {
            if is_default {
                relocated.places(&named)
            } else {
                vec![named]
            }
        })
    });
    let share = |path: AbsPath| {
        let from = AbsPath::new(fs::canonicalize(&path).ok()?).ok()?;
        Some(ShareFact { path, from })
    };
    paths.filter_map(share).collect()
}

/// Returns what policy reads, but for what a preset reads of what others let write: that would be
/// read-only again.
fn not_written<'p>(
    caller: &'p Caller,
    files: &'p FilesystemSettings,
) -> impl Iterator<Item = &'p Sourced<String>> {
    let written = files.write.iter();
    let written: Vec<AbsPath> = written
        .filter(|path| path.origin != Origin::Builtin)
        .filter_map(|path| caller.expand(&path.value))
        .collect();
    files.read.iter().filter(move |path| {
        let expanded = caller.expand(&path.value);
        path.origin != Origin::Builtin
            || !expanded.is_some_and(|path| written.iter().any(|above| path.is_within(above)))
    })
}

/// Looks for hard links of what must not be seen or changed, once the workspace is known to be one:
/// a hidden one is hidden too, any other keeps the session from starting.
///
/// # Errors
/// [`RunError::Twin`] or [`RunError::TwinsUnknown`].
pub(crate) fn hide_twins(facts: &mut HostFacts, workspace: &AbsPath) -> Result<(), RunError> {
    let written = facts.writable.iter().map(|share| share.from.clone());
    let mut shares: Vec<AbsPath> = [workspace.clone()].into_iter().chain(written).collect();
    let kept = [facts.policies.as_slice(), &facts.own_names].concat();
    if let Some((place, name)) = twins::find(&kept, &shares)?.into_iter().next() {
        return Err(RunError::Twin { place, name });
    }
    shares.extend(facts.readable.iter().map(|share| share.from.clone()));
    shares.extend(facts.caches.iter().map(|cache| cache.from.clone()));
    let hidden = twins::find(&facts.hidden, &shares)?;
    facts
        .hidden
        .extend(hidden.into_iter().map(|(_, name)| name));
    Ok(())
}

/// Places of the host that decide what may be seen, each under every name.
struct Places {
    homes: Vec<AbsPath>,
    secrets: Vec<AbsPath>,
    ours: Vec<AbsPath>,
    own_names: Vec<AbsPath>,
    workspaces: Vec<AbsPath>,
    hidden: Vec<AbsPath>,
}

impl Places {
    /// Says what counts for the files that the command brings along.
    fn ground<'a>(
        &self,
        caller: &Caller,
        system: &[SystemEntry],
        shared: impl Iterator<Item = &'a AbsPath>,
        writable: &[ShareFact],
        mounts: &Mounts,
    ) -> Ground {
        let (own_uid, own_gid) = stockade_sys::identity::own();
        let written = writable.iter().flat_map(|share| mounts.names(&share.from));
        let system = system.iter().map(|entry| &entry.path);
        let closed = self.ours.iter().chain(&self.secrets).chain(&self.hidden);
        Ground {
            writable: self.workspaces.iter().cloned().chain(written).collect(),
            shown: system
                .cloned()
                .chain(shared.cloned())
                .chain(self.workspaces.first().cloned())
                .collect(),
            homes: self.homes.clone(),
            closed: closed.cloned().collect(),
            owners: vec![0, own_uid, caller.uid],
            group: if own_uid == 0 { caller.gid } else { own_gid },
        }
    }
}

/// Returns the names of what policy hides, as far as it exists, and of what links there lead to.
fn hidden(
    caller: &Caller,
    policy: &Policy,
    relocated: &Relocated,
    mounts: &Mounts,
) -> Vec<AbsPath> {
    let mut hidden: Vec<AbsPath> = Vec::new();
    let files = policy.settings().filesystem.hide.iter();
    let held = policy
        .credentials()
        .iter()
        .filter_map(|own| match &own.source {
            CredentialSource::File(path) => Some(path),
            // The agent's private directory is in the place of the one with a login.
            CredentialSource::Variable(_)
            | CredentialSource::Command(_)
            | CredentialSource::Login(_) => None,
        });
    let paths = files
        .map(|path| &path.value)
        .chain(held)
        .filter_map(|path| caller.expand(path))
        .flat_map(|path| [relocated.places(&path), relocated.sources(&path)].concat());
    for path in paths {
        let Some(real) = fs::canonicalize(&path)
            .ok()
            .and_then(|p| AbsPath::new(p).ok())
        else {
            continue;
        };
        for name in mounts.names(&real) {
            if !hidden.contains(&name) {
                hidden.push(name);
            }
        }
    }
    hidden
}

/// Says what of a policy's files means nothing on this machine for the user with this home, one line
/// each; nothing where the home is no absolute path.
pub fn unmatched_paths(policy: &Policy, home: &Path) -> Vec<String> {
    let Ok(home) = AbsPath::new(home) else {
        return Vec::new();
    };
    let (uid, gid) = stockade_sys::identity::own();
    let caller = Caller {
        uid,
        gid,
        home,
        user: String::new(),
        environment: Vec::new(),
    };
    unmatched(&caller, &policy.settings().filesystem)
}

/// Says what of the files' settings means nothing here. Presets name what some machines have.
fn unmatched(caller: &Caller, files: &FilesystemSettings) -> Vec<String> {
    let lists = [
        ("read", &files.read),
        ("write", &files.write),
        ("caches", &files.caches),
        ("hide", &files.hide),
    ];
    let mut notes = Vec::new();
    for (key, paths) in lists {
        for path in paths.iter().filter(|path| path.origin != Origin::Builtin) {
            let Some(expanded) = caller.expand(&path.value) else {
                continue;
            };
            let (value, source) = (&path.value, &path.source);
            if fs::metadata(&expanded).is_err() {
                notes.push(format!(
                    "{source}: `{value}` in `filesystem.{key}` matches nothing on this machine"
                ));
                continue;
            }
            let hides = files.hide.iter().filter(|_| key != "hide");
            let is_hidden = |hide: &&Sourced<String>| {
                let hide = caller.expand(&hide.value);
                hide.is_some_and(|hide| expanded.is_within(&hide))
            };
            if let Some(hide) = hides.clone().find(is_hidden) {
                notes.push(format!(
                    "{source}: `{value}` in `filesystem.{key}` is hidden by `{}` ({})",
                    hide.value, hide.source
                ));
            }
        }
    }
    notes
}

/// Returns the names of the state directory: as given, and where its links lead.
fn state_names(state_dir: &AbsPath, mounts: &Mounts) -> Vec<AbsPath> {
    let real = names::resolved(state_dir.as_path()).unwrap_or_else(|| state_dir.clone());
    mounts.names(&real)
}

/// Returns what policy or the command means by name.
fn named(
    program: &ProgramFacts,
    workspace: &AbsPath,
    readable: &[ShareFact],
    writable: &[ShareFact],
) -> Vec<PathBuf> {
    let shares = readable.iter().chain(writable).map(|share| &share.from);
    let mut named: Vec<PathBuf> = shares.map(|from| from.as_path().to_owned()).collect();
    named.push(workspace.as_path().to_owned());
    named.extend(fs::canonicalize(&program.program));
    named
}

/// Returns what is shown instead of files with credentials, but for those that somebody else than a
/// preset names.
fn shown(caller: &Caller, files: &FilesystemSettings, relocated: &Relocated) -> Vec<ShownFact> {
    let mut shown = filtered::find(&caller.home, relocated);
    let meant: Vec<AbsPath> = files
        .read
        .iter()
        .chain(&files.write)
        .filter(|path| path.origin != Origin::Builtin)
        .filter_map(|path| caller.expand(&path.value))
        .collect();
    shown.retain(|file| !meant.contains(&file.path));
    shown
}

pub(crate) fn secrets(home: &AbsPath, mounts: &Mounts) -> Vec<AbsPath> {
    SECRETS
        .iter()
        .filter_map(|place| fs::canonicalize(home.as_path().join(place)).ok())
        .filter_map(|place| AbsPath::new(place).ok())
        .flat_map(|place| mounts.names(&place))
        .collect()
}

fn shared() -> SharedCounts {
    let count = |name: &str| probe::sysctl(name).and_then(|text| text.parse().ok());
    SharedCounts {
        inotify_instances: count("fs.inotify.max_user_instances"),
        inotify_watches: count("fs.inotify.max_user_watches"),
        pending_signals: process::present_limit(process::Limit::PendingSignals),
        processes: process::present_limit(process::Limit::Processes),
    }
}

fn cgroups() -> Vec<CgroupFact> {
    stockade_sys::cgroup::writable_hierarchies()
        .into_iter()
        .filter_map(|hierarchy| {
            let parent = AbsPath::new(&hierarchy.directory).ok()?;
            Some(CgroupFact {
                controller: hierarchy.controller.to_owned(),
                parent,
            })
        })
        .collect()
}

fn system() -> Vec<SystemEntry> {
    SYSTEM
        .iter()
        .filter_map(|path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            let kind = if metadata.is_symlink() {
                let target = fs::read_link(path).ok()?;
                EntryKind::Link(
                    OsStr::from_bytes(target.as_os_str().as_bytes())
                        .to_str()?
                        .to_owned(),
                )
            } else if metadata.is_dir() {
                EntryKind::Directory
            } else {
                EntryKind::File
            };
            Some(SystemEntry {
                path: AbsPath::new(path).ok()?,
                kind,
            })
        })
        .collect()
}
