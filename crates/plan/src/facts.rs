//! What the planner must know of the machine; the runner finds it out.

use serde::{Deserialize, Serialize};
use stockade_types::{AbsPath, RawText};

/// What a path of the host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A symbolic link with this text.
    Link(String),
}

/// A top-level system directory of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemEntry {
    /// Path.
    pub path: AbsPath,
    /// What it is.
    pub kind: EntryKind,
}

/// A protected path that exists in the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedEntry {
    /// Path.
    pub path: AbsPath,
    /// Whether its contents are protected; if not, only its place is (`.git` itself).
    pub read_only: bool,
}

/// A cgroup hierarchy that the caller may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupFact {
    /// Controller.
    pub controller: String,
    /// The caller's own group.
    pub parent: AbsPath,
}

/// A private state directory of the agent that the runner has made and seeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFact {
    /// Host directory that holds it.
    pub from: AbsPath,
    /// Where the agent looks for it.
    pub path: AbsPath,
}

/// A link on the way to a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFact {
    /// Where it is; its parent is no link.
    pub path: AbsPath,
    /// What it says.
    pub target: RawText,
}

/// Where the command and what it needs were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Absolute path to execute.
    pub program: AbsPath,
    /// Files and directories that must be readable for it, links resolved, as far as nothing else
    /// shows them. Nothing that a session can write has named one.
    pub roots: Vec<AbsPath>,
    /// Links that lead to them.
    pub links: Vec<LinkFact>,
}

impl ProgramFacts {
    /// Says what the command brings along, if it does.
    pub(crate) fn also_visible(&self) -> Option<String> {
        let roots: Vec<String> = self.roots.iter().map(AbsPath::to_string).collect();
        (!roots.is_empty()).then(|| format!("also visible, for the command: {}", roots.join(" ")))
    }
}

/// A file or directory of the host that policy shares with the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareFact {
    /// Where it is inside: the path that policy names.
    pub path: AbsPath,
    /// What it is on the host, links resolved.
    pub from: AbsPath,
}

/// Where what a session writes over a cache of the host goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upper {
    /// A directory of ours, with `upper` and `work` in it; it is this session's alone while it runs.
    Kept(AbsPath),
    /// Memory; nothing is left of it.
    Memory,
    /// Nowhere: the machine cannot lay one directory over another, so the cache is read-only.
    Nowhere,
}

/// What a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheKind {
    /// A directory of the host.
    Directory,
    /// A file that a tool writes in place, to know what it installed; made empty where there is none.
    List,
}

/// A directory of the host with a private overlay over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFact {
    /// Where it is inside: the path that policy names.
    pub path: AbsPath,
    /// What it is on the host, links resolved.
    pub from: AbsPath,
    /// The directory that the overlay lies over: this one, or one around it that several caches
    /// share, of which nothing but the caches is shown.
    pub over: AbsPath,
    /// What it is.
    pub kind: CacheKind,
    /// Where changes go; the same for all caches of one overlay.
    pub upper: Upper,
}

/// A file that is shown with other contents than it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownFact {
    /// Which, links resolved.
    pub path: AbsPath,
    /// What is shown.
    pub contents: String,
}

/// What ssh of the session is told of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshFact {
    /// Its settings.
    pub config: String,
    /// Keys of hosts.
    pub known_hosts: String,
    /// The directory of the machine's ssh that it stands in place of; `None` where there is none.
    pub replaces: Option<AbsPath>,
}

/// Counts that the session shares with the caller's other programs: what one user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedCounts {
    /// inotify(7) instances; `None` where the kernel has none.
    pub inotify_instances: Option<u64>,
    /// inotify(7) watches.
    pub inotify_watches: Option<u64>,
    /// Signals that are queued, and timers, which each keep one.
    pub pending_signals: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// What programs inside have of the credentials that they use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialFacts {
    /// Variables of the caller that hold values: they are not inside, unless they hold a placeholder.
    pub withheld: Vec<String>,
    /// Variables inside that hold a placeholder.
    pub placeholders: Vec<(String, String)>,
}

/// What an agent is told of the servers of tools that it starts: to start them through the shim.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// Arguments that are inserted like those of the preset.
    pub arguments: Vec<String>,
    /// What the file [`FILE`](Self::FILE) inside holds, which arguments can name.
    pub file: Option<String>,
}

impl ServerFacts {
    /// The file inside.
    pub const FILE: &str = "/run/stockade/servers.json";
}

/// Facts about the host, gathered once per launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Effective user of the caller.
    pub caller_uid: u32,
    /// Effective group of the caller.
    pub caller_gid: u32,
    /// Owner of the workspace, whom the command runs as when root calls.
    pub workspace_uid: u32,
    /// Group that the command runs as when root calls: that of the workspace, or, where that is
    /// root's, the owner's own.
    pub workspace_gid: u32,
    /// Home of the identity that the command runs as.
    pub home: AbsPath,
    /// Every name that this home has on the host: its own, and those of bind mounts of it.
    pub homes: Vec<AbsPath>,
    /// Stores of secrets in that home, as far as they exist, under every name.
    pub secrets: Vec<AbsPath>,
    /// What of us nobody inside may see, under every name: the state directory, and the policies of
    /// the run with the directories where they are looked for.
    pub ours: Vec<AbsPath>,
    /// Files that policies of this run come from, and where they are looked for, existing or not.
    pub policies: Vec<AbsPath>,
    /// Name of that identity.
    pub user: String,
    /// Landlock interface version, 0 for none.
    pub landlock_abi: i32,
    /// Whether the nf_tables redirect is expected to work.
    pub redirect: bool,
    /// Whether connections are expected to be held until it is known whether they can be made.
    pub hold: bool,
    /// Whether the kernel can keep the scope of a process with it.
    pub scopes: bool,
    /// Counts that the session shares with the host.
    pub shared: SharedCounts,
    /// Cgroup hierarchies that can be used.
    pub cgroups: Vec<CgroupFact>,
    /// System directories that exist.
    pub system: Vec<SystemEntry>,
    /// Which of the paths that a policy reads exist.
    pub readable: Vec<ShareFact>,
    /// Writable extra paths that exist.
    pub writable: Vec<ShareFact>,
    /// Sockets of the machine that policy offers and that exist.
    pub sockets: Vec<ShareFact>,
    /// Directories with a private overlay that exist.
    pub caches: Vec<CacheFact>,
    /// Private directories at places that variables of the caller name.
    pub private: Vec<AbsPath>,
    /// Paths to hide that exist, under every name.
    pub hidden: Vec<AbsPath>,
    /// What others than its owner cannot read in the visible system directories, where the command
    /// runs as that owner: root.
    pub closed: Vec<AbsPath>,
    /// Files that hold credentials among other things, and what is shown instead.
    pub shown: Vec<ShownFact>,
    /// Files that only have to be there, where nothing shows the host's own.
    pub stand_ins: Vec<ShownFact>,
    /// Settings of git for the whole session, by name, over those of all files.
    pub git_settings: Vec<(String, String)>,
    /// Files of the session's home that say where packages come from.
    pub sources: Vec<ShownFact>,
    /// What ssh inside knows; `None` where nothing is told.
    pub ssh: Option<SshFact>,
    /// Protected paths that exist in the workspace.
    pub protected: Vec<ProtectedEntry>,
    /// The command.
    pub program: ProgramFacts,
    /// Private state directories.
    pub state: Vec<StateFact>,
    /// The file in which the owner has set up the agent's telemetry himself, if there is one.
    pub own_telemetry: Option<String>,
    /// What the agent is told of the servers of tools that it starts.
    pub servers: ServerFacts,
    /// Environment of the caller.
    pub environment: Vec<(RawText, RawText)>,
    /// What programs inside have of credentials.
    pub credentials: CredentialFacts,
    /// What of policy means nothing on this machine, one line each.
    pub notes: Vec<String>,
    /// Our own executable, which answers `/run/stockade/why` inside; links resolved.
    pub own_executable: AbsPath,
    /// Every name of it on the host.
    pub own_names: Vec<AbsPath>,
    /// Where `/etc/resolv.conf` ends after every link; `None` where there is none.
    pub resolv_conf: Option<AbsPath>,
    /// The files in which programs look for authorities where nothing names others, if TLS is opened;
    /// links resolved. Inside each is the bundle with the session's own authority.
    pub trust_files: Vec<AbsPath>,
}
