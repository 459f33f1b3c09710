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

/// Where the command and what it needs were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Absolute path to execute.
    pub program: AbsPath,
    /// Files and directories outside the system directories that must be readable for it.
    pub roots: Vec<AbsPath>,
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

/// Facts about the host, gathered once per launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Effective user of the caller.
    pub caller_uid: u32,
    /// Effective group of the caller.
    pub caller_gid: u32,
    /// Owner of the workspace, whom the command runs as when root calls.
    pub workspace_uid: u32,
    /// Group of the workspace.
    pub workspace_gid: u32,
    /// Home of the identity that the command runs as.
    pub home: AbsPath,
    /// Stores of secrets in that home, as far as they exist.
    pub secrets: Vec<AbsPath>,
    /// Name of that identity.
    pub user: String,
    /// Landlock interface version, 0 for none.
    pub landlock_abi: i32,
    /// Whether the nf_tables redirect is expected to work.
    pub redirect: bool,
    /// Counts that the session shares with the host.
    pub shared: SharedCounts,
    /// Cgroup hierarchies that can be used.
    pub cgroups: Vec<CgroupFact>,
    /// System directories that exist.
    pub system: Vec<SystemEntry>,
    /// Which of the paths a policy names exist, with links resolved: name inside and host path.
    pub readable: Vec<(AbsPath, EntryKind)>,
    /// Writable extra paths that exist.
    pub writable: Vec<AbsPath>,
    /// Paths to hide that exist.
    pub hidden: Vec<AbsPath>,
    /// Protected paths that exist in the workspace.
    pub protected: Vec<ProtectedEntry>,
    /// The command.
    pub program: ProgramFacts,
    /// Private state directories.
    pub state: Vec<StateFact>,
    /// Environment of the caller.
    pub environment: Vec<(RawText, RawText)>,
    /// Our own executable, which answers `/run/stockade/why` inside.
    pub own_executable: AbsPath,
    /// Where `/etc/resolv.conf` ends after every link; `None` where there is none.
    pub resolv_conf: Option<AbsPath>,
}
