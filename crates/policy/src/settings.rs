//! What a policy says besides rules, each value with the layer and line it comes from.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use stockade_types::{ByteSize, HostName, Port, RawText, Span, WorkspaceMode};

use crate::{
    Endpoint, Origin, ProxySetting, Publish,
    agent_command::{self, Names},
    pattern::ProtectedPattern,
};

/// A value and where it was set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// The layer that set it.
    pub origin: Origin,
    /// The place, as `file:line`.
    pub source: String,
}

/// Everything but the rules.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Settings {
    /// How the workspace is seen.
    pub workspace: WorkspaceSettings,
    /// What else exists inside.
    pub filesystem: FilesystemSettings,
    /// Which variables exist inside.
    pub environment: EnvironmentSettings,
    /// How much may be used.
    pub limits: Limits,
    /// `[record]`.
    pub record: RecordSettings,
    /// `[sessions]`.
    pub sessions: SessionsSettings,
    /// Fixed addresses.
    pub network: NetworkSettings,
    /// What processes may do to each other.
    pub process: ProcessSettings,
    /// What the agent's preset says of itself.
    pub preset: PresetSettings,
    /// Pins of the organisation: `tier`, `mode`, `ask`, …
    pub require: BTreeMap<String, Sourced<String>>,
}

/// How the workspace is seen.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceSettings {
    /// Direct or with a review.
    pub mode: Sourced<WorkspaceMode>,
    /// Patterns of files that may not be changed: `name/x`, `dir/**`; they match at any depth.
    pub protect: Vec<Sourced<ProtectedPattern>>,
    /// The same, but for what lies below `packages`: names that only count in a directory that
    /// somebody opens or commits in.
    pub protect_outside_packages: Vec<Sourced<ProtectedPattern>>,
    /// What is open in a directory that presets protect: it, and all below it that is not protected by
    /// a name of its own.
    pub protect_except: Vec<Sourced<ProtectedPattern>>,
    /// Directories that tools fill with packages of others, at any depth.
    pub packages: Vec<Sourced<ProtectedPattern>>,
    /// What patterns of presets do not protect, at any depth; the user's or the organisation's.
    pub unprotect: Vec<Sourced<ProtectedPattern>>,
    /// Files that may be changed and that make something run outside later: named at the end.
    pub runs_later: Vec<Sourced<ProtectedPattern>>,
}

/// What exists inside besides the workspace; all paths are `~/…` or absolute.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesystemSettings {
    /// Readable.
    pub read: Vec<Sourced<String>>,
    /// Writable.
    pub write: Vec<Sourced<String>>,
    /// Absent, whatever else is said.
    pub hide: Vec<Sourced<String>>,
    /// Private writable state directories.
    pub state: Vec<Sourced<StateDir>>,
    /// Directories of the host that are seen with a private overlay over them.
    pub caches: Vec<Sourced<String>>,
    /// Whether these layers are kept from run to run, one for each workspace; `None` keeps them.
    pub caches_kept: Option<Sourced<bool>>,
    /// Bytes that all kept layers may take together; the runner's own bound where nothing is set.
    pub caches_bytes_max: Option<Sourced<ByteSize>>,
    /// Variables with which tools have a directory elsewhere, and where it is without them.
    pub moved_by: BTreeMap<String, Sourced<String>>,
}

/// A directory that the agent sees at its usual place and that is its own, seeded by copies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    /// Where the agent looks for it, `~/…` or absolute.
    pub path: String,
    /// The variable that names another place; inside it always names the directory.
    pub path_from: Option<String>,
    /// Entries that are copied from the real one, or with `~/` from the home.
    pub seed: Vec<String>,
    /// Those of them that the agent writes at every start: what both sides changed stays as it is
    /// inside, and nothing is said.
    pub merged: Vec<String>,
    /// The file that the agent reads as its user's instructions, which is told of the boundary.
    pub instructions: Option<String>,
    /// Files that hold a login.
    pub logins: Vec<Login>,
}

/// A file with which an agent is logged in: JSON, in the directory.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub file: String,
    /// Fields that change when the login is refreshed, as `a.b`; `*` is any key.
    pub tokens: Vec<String>,
}

/// Which variables exist inside; nothing else passes.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentSettings {
    /// Names or globs of names; a name that looks like a secret must be given exactly.
    pub pass: Vec<Sourced<String>>,
    /// Variables with a fixed value.
    pub set: BTreeMap<String, Sourced<String>>,
}

/// How much a session may use; `None` is not limited by policy.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory of all processes.
    pub memory: Option<Sourced<ByteSize>>,
    /// Number of processes and threads.
    pub processes: Option<Sourced<u64>>,
    /// Processor cores.
    pub cpus: Option<Sourced<f64>>,
    /// Bytes written to disk.
    pub disk: Option<Sourced<ByteSize>>,
    /// Open files of one process.
    pub open_files: Option<Sourced<u64>>,
    /// Files and directories that are watched for changes (inotify(7)).
    pub watches: Option<Sourced<u64>>,
    /// Time from start to end.
    pub wall_time: Option<Sourced<Span>>,
}

/// When what lets data out is on the disk.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RecordSync {
    /// Within a second, as everything else; answers of people and what rests on them still at once.
    Second,
    /// Before it happens.
    Each,
}

impl RecordSync {
    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Each => "each",
        }
    }
}

/// How large the record of a session may become, and how soon it is on the disk; where nothing is
/// set the runner's own bounds hold.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// Bytes of the journal; the session ends when it reaches them.
    pub journal_bytes_max: Option<Sourced<ByteSize>>,
    /// Bytes of the list of refusals that the session can read; older ones make room.
    pub denials_bytes_max: Option<Sourced<ByteSize>>,
    /// When an allowed connection or request is on the disk.
    pub sync: Sourced<RecordSync>,
}

/// How long the records of ended sessions stay; where nothing is set the program's own bounds hold.
/// The highest layer that sets one decides.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionsSettings {
    /// Time since the end of a session.
    pub keep_for: Option<Sourced<Span>>,
    /// Bytes of all records together; the oldest go first.
    pub keep_bytes: Option<Sourced<ByteSize>>,
    /// Number of sessions; the oldest go first.
    pub keep_count: Option<Sourced<u64>>,
}

/// What exists on either side of the boundary beside the hosts of rules.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Name to address, as in `/etc/hosts`.
    pub hosts: BTreeMap<HostName, Sourced<IpAddr>>,
    /// Services of the machine, by the name and port that programs inside use.
    pub services: BTreeMap<Endpoint, Sourced<SocketAddr>>,
    /// Sockets with a path of the machine, by the path that they have inside.
    pub sockets: BTreeMap<String, Sourced<String>>,
    /// Ports of the session that exist on the machine's loopback.
    pub publish: Vec<Sourced<Publish>>,
    /// Ports that are opened there as soon as a program of the session listens on them.
    pub publish_listening: Vec<Sourced<Port>>,
    /// Whether any port may be published.
    pub may_publish: Sourced<bool>,
    /// The way out; without it, what the caller's variables say.
    pub proxy: Option<Sourced<ProxySetting>>,
    /// The file of the host that holds `user:password` for it.
    pub proxy_auth_file: Option<Sourced<String>>,
}

/// Whom a debugger, a tracer or a leak checker may trace (`ptrace`).
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Debuggers {
    /// Nobody.
    None,
    /// Processes of the session on which nothing rests: no answer of a person, no rule that names
    /// their program.
    Own,
    /// Every process of the session, without being judged.
    All,
}

impl Debuggers {
    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

/// What processes of the session may do to each other.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Whom debuggers may trace.
    pub debuggers: Sourced<Debuggers>,
    /// New namespaces may be made; mounts stay closed in them.
    pub namespaces: Sourced<bool>,
}

/// What an agent's preset says of itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PresetSettings {
    /// Name of the preset, for example `codex`.
    pub name: String,
    /// File names of the commands it is for.
    pub commands: Vec<String>,
    /// Names of the packages that hold them.
    pub packages: Vec<String>,
    /// Arguments that are inserted right after the agent's program, and after no other.
    pub arguments: Vec<String>,
    /// What switches off the agent's own questions.
    pub own_questions_off: OwnQuestionsOff,
}

/// Arguments and variables with which an agent does not ask by itself: the boundary's questions
/// are enough.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnQuestionsOff {
    /// Arguments that are inserted like those of the preset.
    pub arguments: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
}

impl PresetSettings {
    /// Puts the preset's arguments behind the agent's program, wherever it stands in the command
    /// line; any other command is left as it is.
    pub fn complete(&self, argv: &mut Vec<RawText>) {
        let commands: Vec<&str> = self.commands.iter().map(String::as_str).collect();
        let packages: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        let names = Names {
            commands: &commands,
            packages: &packages,
        };
        let arguments = [&self.arguments[..], &self.own_questions_off.arguments].concat();
        if let Some(place) = agent_command::find(argv, names)
            && !arguments.is_empty()
        {
            agent_command::insert(argv, place, &arguments);
        }
    }
}
