//! The closed list of things a launch can do.

use serde::{Deserialize, Serialize};
use stockade_types::{AbsPath, RawText};

use crate::{CacheKind, CallSet, StepName, Streams};

/// A part of an overlay that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayPart {
    /// The host directory that the overlay lies over.
    pub over: AbsPath,
    /// What of it is shown.
    pub from: AbsPath,
    /// Where.
    pub path: AbsPath,
    /// What it is.
    pub kind: CacheKind,
}

/// A namespace that the session gets for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// User and group ids.
    User,
    /// Mounts.
    Mount,
    /// Processes.
    Pid,
    /// Network.
    Network,
    /// System V IPC and POSIX queues.
    Ipc,
    /// Host name.
    Uts,
    /// Cgroup view.
    Cgroup,
}

/// Who owns a new file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The identity that sets the view up.
    Setup,
    /// The identity that the command runs as.
    Command,
}

/// What Landlock allows below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rights {
    /// Read, list, execute.
    Read,
    /// Everything but names: those the supervisor makes, changes and removes.
    Write,
}

/// A limit that the command's process sets on itself (setrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceLimit {
    /// Descriptors of a process.
    OpenFiles,
    /// Processes and threads of the user.
    Processes,
    /// Queued signals and timers of the user.
    PendingSignals,
    /// Bytes of a core file.
    Core,
    /// Bytes in POSIX message queues of the user.
    MessageQueues,
}

/// One Landlock rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// Path inside.
    pub path: AbsPath,
    /// Rights.
    pub rights: Rights,
}

/// One step. Paths named `path` are inside the new root; `from` is a path of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Supervisor: make a version 1 cgroup below `parent`, set its files, put the launch into it.
    JoinGroup {
        /// Controller name.
        controller: String,
        /// Group below which the session's group is made.
        parent: AbsPath,
        /// File name and value.
        settings: Vec<(String, String)>,
    },
    /// Leave the host's namespaces.
    EnterNamespaces {
        /// Which.
        namespaces: Vec<Namespace>,
    },
    /// Map these host ids onto themselves; everything else of the host has no name inside.
    MapIdentity {
        /// User ids.
        uids: Vec<u32>,
        /// Group ids.
        gids: Vec<u32>,
    },
    /// Fork the first process of the pid namespace; the rest of the plan happens in it.
    StartFirstProcess,
    /// The kernel kills the session when the supervisor dies.
    DieWithSupervisor,
    /// Set the host name.
    HostName {
        /// Name.
        name: String,
    },
    /// Bound what the session's user namespace takes of a count that it shares with the caller's
    /// other programs (`/proc/sys/user`, namespaces(7)).
    SharedCount {
        /// File name.
        name: String,
        /// Most of it.
        most: u64,
    },
    /// Cut mount propagation.
    PrivateMounts,
    /// Mount the tmpfs that becomes the root.
    NewRoot {
        /// Host directory it is mounted at.
        at: AbsPath,
    },
    /// Make a symbolic link.
    Symlink {
        /// Where.
        path: AbsPath,
        /// What it says.
        target: RawText,
    },
    /// Write a file.
    File {
        /// Where.
        path: AbsPath,
        /// Contents.
        contents: String,
    },
    /// Bind a host file or tree.
    Bind {
        /// Host path.
        from: AbsPath,
        /// Where.
        path: AbsPath,
        /// Nothing below can be changed.
        read_only: bool,
        /// Device nodes work.
        devices: bool,
    },
    /// Lay a private writable directory over a host directory, which stays as it is. Nobody inside
    /// sees it but for the parts that are shown.
    Overlay {
        /// Host directory.
        over: AbsPath,
        /// Host directory of ours that holds what is written; `None` writes to memory.
        upper: Option<AbsPath>,
    },
    /// Show a part of an overlay.
    OverlayPart(OverlayPart),
    /// Mount a private directory in memory. All of a session are parts of one tmpfs, which holds half
    /// of the machine's memory at most.
    Tmpfs {
        /// Where.
        path: AbsPath,
        /// Permission bits of its root.
        mode: u32,
        /// Programs may be run from it.
        executable: bool,
        /// Owner of its root.
        owner: Owner,
    },
    /// Mount the process file system.
    Processes {
        /// Where.
        path: AbsPath,
    },
    /// Mount a new terminal instance.
    Terminals {
        /// Where.
        path: AbsPath,
    },
    /// Make an existing path inside read-only in place.
    ReadOnly {
        /// Where.
        path: AbsPath,
    },
    /// Protect an existing workspace path: bound onto itself so that it cannot be replaced, and
    /// read-only where `read_only` says so.
    Protect {
        /// Where.
        path: AbsPath,
        /// Contents are protected too.
        read_only: bool,
    },
    /// Cover a path with nothing, if it exists.
    Mask {
        /// Where.
        path: AbsPath,
    },
    /// Cover a path with nothing; it must exist.
    Cover {
        /// Where.
        path: AbsPath,
    },
    /// Seal the root tmpfs itself read-only.
    SealRoot,
    /// Enter the new root and detach the old one.
    EnterRoot,
    /// Bring loopback up.
    Loopback,
    /// Make every address local, so that every connection meets our listeners.
    RouteEverything,
    /// Open the listeners that the egress process gets: names, and these TCP ports.
    Listen {
        /// TCP ports; the first is the redirect's where there is one.
        ports: Vec<u16>,
        /// TCP ports of loopback that lead to services of the machine.
        local: Vec<u16>,
    },
    /// Redirect every TCP connection to one port.
    Redirect {
        /// The port.
        port: u16,
    },
    /// Hold the first packet of every redirected connection until the egress process knows whether
    /// there is anybody to talk to.
    Hold {
        /// TCP ports of loopback whose connections are held too.
        local: Vec<u16>,
    },
    /// Open the session's own terminal.
    Terminal {
        /// Rows and columns.
        size: (u16, u16),
        /// Which of the command's standard streams it is.
        streams: Streams,
    },
    /// Give the descriptors made so far to the supervisor and wait for its word to go on.
    HandOver,
    /// Become the identity of the command.
    BecomeUser {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Supplementary groups can be given up (the launch was by root).
        drop_groups: bool,
    },
    /// Fork the command's process; the first process stays to reap. The rest happens in it.
    StartCommand,
    /// New session, led by the first process, with the terminal as its controlling one if there is
    /// one.
    NewSession,
    /// Put the command into a process group of its own, in the foreground of the terminal: since
    /// its parent is in the same session, job control can stop and continue it.
    ForegroundGroup,
    /// Set a resource limit.
    ResourceLimit {
        /// Which.
        limit: ResourceLimit,
        /// Value.
        value: u64,
    },
    /// Empty every capability set.
    DropCapabilities,
    /// No privileges by execution.
    NoNewPrivileges,
    /// Restrict paths and scopes with Landlock.
    RestrictPaths {
        /// Interface version that is required.
        abi: i32,
        /// Rules.
        rules: Vec<PathRule>,
    },
    /// Load the system call filter; with the notifier its listener goes to the supervisor.
    FilterCalls {
        /// Which calls are open, and what the supervisor is asked about.
        set: CallSet,
    },
    /// Close every descriptor but the standard streams.
    CloseDescriptors,
    /// Execute the command.
    Execute,
}

impl Step {
    /// Returns the step's name.
    pub const fn name(&self) -> StepName {
        match self {
            Self::JoinGroup { .. } => StepName::JoinGroup,
            Self::EnterNamespaces { .. } => StepName::EnterNamespaces,
            Self::MapIdentity { .. } => StepName::MapIdentity,
            Self::StartFirstProcess => StepName::StartFirstProcess,
            Self::DieWithSupervisor => StepName::DieWithSupervisor,
            Self::HostName { .. } => StepName::HostName,
            Self::SharedCount { .. } => StepName::SharedCount,
            Self::PrivateMounts => StepName::PrivateMounts,
            Self::NewRoot { .. } => StepName::NewRoot,
            Self::Symlink { .. } => StepName::Symlink,
            Self::File { .. } => StepName::File,
            Self::Bind { .. } => StepName::Bind,
            Self::Overlay { .. } => StepName::Overlay,
            Self::OverlayPart(_) => StepName::OverlayPart,
            Self::Tmpfs { .. } => StepName::Tmpfs,
            Self::Processes { .. } => StepName::Processes,
            Self::Terminals { .. } => StepName::Terminals,
            Self::ReadOnly { .. } => StepName::ReadOnly,
            Self::Protect { .. } => StepName::Protect,
            Self::Mask { .. } => StepName::Mask,
            Self::Cover { .. } => StepName::Cover,
            Self::SealRoot => StepName::SealRoot,
            Self::EnterRoot => StepName::EnterRoot,
            Self::Loopback => StepName::Loopback,
            Self::RouteEverything => StepName::RouteEverything,
            Self::Listen { .. } => StepName::Listen,
            Self::Redirect { .. } => StepName::Redirect,
            Self::Hold { .. } => StepName::Hold,
            Self::Terminal { .. } => StepName::Terminal,
            Self::HandOver => StepName::HandOver,
            Self::BecomeUser { .. } => StepName::BecomeUser,
            Self::StartCommand => StepName::StartCommand,
            Self::NewSession => StepName::NewSession,
            Self::ForegroundGroup => StepName::ForegroundGroup,
            Self::ResourceLimit { .. } => StepName::ResourceLimit,
            Self::DropCapabilities => StepName::DropCapabilities,
            Self::NoNewPrivileges => StepName::NoNewPrivileges,
            Self::RestrictPaths { .. } => StepName::RestrictPaths,
            Self::FilterCalls { .. } => StepName::FilterCalls,
            Self::CloseDescriptors => StepName::CloseDescriptors,
            Self::Execute => StepName::Execute,
        }
    }

    /// Returns what a person can do when this step fails.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::JoinGroup { .. } => {
                "run without root, or remove the limit from the policy; `stockade doctor` shows which cgroups can be used"
            }
            Self::EnterNamespaces { .. } | Self::MapIdentity { .. } | Self::StartFirstProcess => {
                "allow unprivileged user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu an AppArmor profile); `stockade doctor` tells which"
            }
            Self::Processes { .. } | Self::SharedCount { .. } => {
                "a container that masks its own /proc forbids a new one; start the container with an unmasked /proc"
            }
            Self::Overlay { .. } | Self::OverlayPart(_) => {
                "check that the cache exists and that you may read it, or take it out of `filesystem.caches`"
            }
            Self::Bind { .. } | Self::Mask { .. } => {
                "check that the path exists and that you may read it, or take it out of the policy"
            }
            Self::Cover { .. } | Self::Protect { .. } | Self::ReadOnly { .. } => {
                "check that the path still exists; it may have changed while the session started"
            }
            Self::Redirect { .. } => {
                "load the kernel modules nf_tables and nft_redir; without them only ports that rules name are served"
            }
            Self::Hold { .. } => {
                "load the kernel modules nfnetlink_queue and nft_reject_inet; without them programs learn only after they are connected that the host cannot be reached"
            }
            Self::RestrictPaths { .. } => {
                "enable Landlock (`lsm=landlock,…` on the kernel command line)"
            }
            Self::FilterCalls { .. } => {
                "use a kernel with seccomp filters and user notification (5.19 or newer)"
            }
            Self::Execute => "check the command's name, its permissions and its interpreter",
            Self::RouteEverything | Self::Loopback | Self::Listen { .. } => {
                "use `--offline` to run without a network; `stockade doctor` shows what the network needs"
            }
            Self::DieWithSupervisor
            | Self::HostName { .. }
            | Self::PrivateMounts
            | Self::NewRoot { .. }
            | Self::Symlink { .. }
            | Self::File { .. }
            | Self::Tmpfs { .. }
            | Self::Terminals { .. }
            | Self::SealRoot
            | Self::EnterRoot
            | Self::Terminal { .. }
            | Self::HandOver
            | Self::BecomeUser { .. }
            | Self::StartCommand
            | Self::NewSession
            | Self::ForegroundGroup
            | Self::ResourceLimit { .. }
            | Self::DropCapabilities
            | Self::NoNewPrivileges
            | Self::CloseDescriptors => {
                "run `stockade doctor`; if it finds nothing, this is a fault of Stockade: report the step and the error"
            }
        }
    }
}
