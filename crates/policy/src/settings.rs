//! The settings of a policy other than rules, each value with its layer and line.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use stockade_types::{ByteSize, HostName, Port, RawText, Span, WorkspaceMode};

use crate::{
    BreakGlass, Endpoint, Origin, ProxySetting, Publish, ReviewerSettings, Stage,
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

/// All settings other than the rules.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Settings {
    /// The view of the workspace.
    pub workspace: WorkspaceSettings,
    /// Other files that exist inside.
    pub filesystem: FilesystemSettings,
    /// Which variables exist inside.
    pub environment: EnvironmentSettings,
    /// How much a session may use.
    pub limits: Limits,
    /// The agent.
    pub agent: AgentSettings,
    /// `[record]`.
    pub record: RecordSettings,
    /// `[sessions]`.
    pub sessions: SessionsSettings,
    /// `[mcp]`.
    pub mcp: McpSettings,
    /// Fixed addresses.
    pub network: NetworkSettings,
    /// What processes may do to each other.
    pub process: ProcessSettings,
    /// Settings of the agent's preset about itself.
    pub preset: PresetSettings,
    /// People who can be asked, by the name of the stage.
    pub stages: BTreeMap<String, Sourced<Stage>>,
    /// Who may override stages.
    pub break_glass: Option<Sourced<BreakGlass>>,
    /// The model that the automatic reviewer asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewer: Option<Sourced<ReviewerSettings>>,
    /// Pins of the organisation: `tier`, `mode`, `ask`, …
    pub require: BTreeMap<String, Sourced<String>>,
}

impl Settings {
    /// Returns the model that may have a say about a rule of a layer: no lower layer chooses who answers the
    /// questions of a higher one.
    pub fn reviewer_for(&self, origin: Origin) -> Option<&Sourced<ReviewerSettings>> {
        self.reviewer
            .as_ref()
            .filter(|set| set.origin.authority() >= origin.authority())
    }
}

/// The view of the workspace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceSettings {
    /// Direct or with a review.
    pub mode: Sourced<WorkspaceMode>,
    /// Patterns of files that may not be changed: `name/x`, `dir/**`; they match at any depth.
    pub protect: Vec<Sourced<ProtectedPattern>>,
    /// The same, except below `packages`: names that only matter in a directory that a person opens
    /// or commits in.
    pub protect_outside_packages: Vec<Sourced<ProtectedPattern>>,
    /// Open paths in a directory that presets protect: the path and everything below it that is not
    /// protected by its own name.
    pub protect_except: Vec<Sourced<ProtectedPattern>>,
    /// Directories that tools fill with other people's packages, at any depth.
    pub packages: Vec<Sourced<ProtectedPattern>>,
    /// Paths that patterns of presets do not protect, at any depth; set by the user or the
    /// organisation.
    pub unprotect: Vec<Sourced<ProtectedPattern>>,
    /// Files that may be changed and that make something run outside later: listed at the end of
    /// the run.
    pub runs_later: Vec<Sourced<ProtectedPattern>>,
}

/// What exists inside besides the workspace; all paths are `~/…` or absolute.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesystemSettings {
    /// Readable.
    pub read: Vec<Sourced<String>>,
    /// Writable.
    pub write: Vec<Sourced<String>>,
    /// Absent, regardless of the other lists.
    pub hide: Vec<Sourced<String>>,
    /// Private writable state directories.
    pub state: Vec<Sourced<StateDir>>,
    /// Directories of the host that are visible with a private overlay on top.
    pub caches: Vec<Sourced<String>>,
    /// Whether these overlays are kept between runs, one for each workspace; `None` keeps them.
    pub caches_kept: Option<Sourced<bool>>,
    /// Bytes that all kept overlays may take together; the runner's own limit if none is set.
    pub caches_bytes_max: Option<Sourced<ByteSize>>,
    /// Variables that move a tool's directory, and its place without them.
    pub moved_by: BTreeMap<String, Sourced<String>>,
}

/// A directory that the agent sees at its usual place and that is private, seeded with copies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    /// The place in which the agent looks for it, `~/…` or absolute.
    pub path: String,
    /// The variable that names a different place; inside it always names the directory.
    pub path_from: Option<String>,
    /// Entries that are copied from the real one, or with `~/` from the home.
    pub seed: Vec<String>,
    /// Those of them that the agent writes at every start: a change on both sides stays as it is
    /// inside, without a message.
    pub merged: Vec<String>,
    /// The file that the agent reads as its user's instructions; a text about the boundary is added
    /// to it.
    pub instructions: Option<String>,
    /// Files that hold a login.
    pub logins: Vec<Login>,
}

/// A file with the login of an agent: JSON, in the directory.
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

/// How much a session may use; `None` means that policy sets no limit.
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

/// When the record of an event that lets data out is on the disk.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RecordSync {
    /// Within a second, as for all other events; people's answers and their effects still at once.
    Second,
    /// Before the event takes effect.
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

/// What the record keeps of what people, agents and models say to each other. Later values keep less.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum RecordContent {
    /// The texts.
    Full,
    /// The texts, with what looks like a secret replaced.
    Redacted,
    /// Length and SHA-256.
    Digest,
    /// The length alone.
    None,
}

impl RecordContent {
    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Redacted => "redacted",
            Self::Digest => "digest",
            Self::None => "none",
        }
    }
}

impl std::fmt::Display for RecordContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What Stockade does with the agent itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Whether the agent is told of this boundary's hook.
    pub hooks: Sourced<bool>,
}

/// Whether the output of a session's terminal is recorded beside its journal.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RecordTerminal {
    /// It is not.
    Off,
    /// It is, with what looks like a secret replaced.
    On,
}

impl RecordTerminal {
    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
        }
    }
}

impl std::fmt::Display for RecordTerminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens where a tool of a server is not known as it is. Later values are tighter.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum OnDefinition {
    /// It is recorded.
    Record,
    /// A person is asked.
    Ask,
    /// No model reads it.
    Deny,
}

impl OnDefinition {
    /// Returns the word used in policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// Tools of servers that speak the Model Context Protocol.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct McpSettings {
    /// A tool has another definition than the one that was seen first or accepted since, or definitions
    /// could not be compared.
    pub changed: Sourced<OnDefinition>,
    /// A server that is known has a tool that it did not have.
    pub added: Sourced<OnDefinition>,
}

/// How large the record of a session may become, and how soon it is on the disk; the runner's own
/// limits apply if none is set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// Bytes of the journal; the session ends when it reaches them.
    pub journal_bytes_max: Option<Sourced<ByteSize>>,
    /// Bytes of the list of refusals that the session can read; older refusals are dropped.
    pub denials_bytes_max: Option<Sourced<ByteSize>>,
    /// When an allowed connection or request is on the disk.
    pub sync: Sourced<RecordSync>,
    /// What it keeps of what is said; without it, redacted texts, or digests if the organisation has a
    /// policy.
    pub content: Option<Sourced<RecordContent>>,
    /// Whether agents are made to export what they do to the record.
    pub otlp: Sourced<bool>,
    /// Whether it has what the terminal showed.
    pub terminal: Sourced<RecordTerminal>,
}

/// How long the records of ended sessions stay; the program's own limits apply if none is set. The
/// highest layer that sets a value decides.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionsSettings {
    /// Time since the end of a session.
    pub keep_for: Option<Sourced<Span>>,
    /// Bytes of all records together; the oldest are removed first.
    pub keep_bytes: Option<Sourced<ByteSize>>,
    /// Number of sessions; the oldest are removed first.
    pub keep_count: Option<Sourced<u64>>,
}

/// Names, services and ports on either side of the boundary, apart from the hosts of rules.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Name to address, as in `/etc/hosts`.
    pub hosts: BTreeMap<HostName, Sourced<IpAddr>>,
    /// Services of the machine, by the name and port that programs inside use.
    pub services: BTreeMap<Endpoint, Sourced<SocketAddr>>,
    /// Unix sockets of the machine, by their path inside.
    pub sockets: BTreeMap<String, Sourced<String>>,
    /// Ports of the session that exist on the machine's loopback.
    pub publish: Vec<Sourced<Publish>>,
    /// Ports that are published there as soon as a program of the session listens on them.
    pub publish_listening: Vec<Sourced<Port>>,
    /// Whether any port may be published.
    pub may_publish: Sourced<bool>,
    /// The proxy; if it is not set, that of the caller's variables.
    pub proxy: Option<Sourced<ProxySetting>>,
    /// The file on the host that contains `user:password` for the proxy.
    pub proxy_auth_file: Option<Sourced<String>>,
    /// The port of loopback inside on which the session has a proxy of its own.
    pub inside_proxy: Option<Sourced<Port>>,
    /// Whether variables inside name that proxy.
    pub inside_proxy_variables: Sourced<bool>,
    /// Files of the host with certificates of authorities that may vouch for servers whose TLS is
    /// opened, beside those of the system.
    pub upstream_ca: Vec<Sourced<String>>,
}

/// The processes that a debugger, a tracer or a leak checker may trace (`ptrace`).
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Debuggers {
    /// None.
    None,
    /// Processes of the session on which no trust depends: no person's answer, and no rule that
    /// names their program.
    Own,
    /// Every process of the session, without a decision.
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
    /// The processes that debuggers may trace.
    pub debuggers: Sourced<Debuggers>,
    /// Whether new namespaces may be made; mounts stay forbidden in them.
    pub namespaces: Sourced<bool>,
}

/// Settings of an agent's preset about itself.
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
    /// Arguments and variables that switch off the agent's own questions.
    pub own_questions_off: OwnQuestionsOff,
    /// Tells the agent of this boundary's hooks.
    pub hooks: Option<PresetHooks>,
    /// How the agent is made to export what it does to the session's record.
    pub telemetry: PresetTelemetry,
}

/// What tells an agent to start this boundary's hook before and after each tool call.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PresetHooks {
    /// Arguments that are inserted like those of the preset.
    pub arguments: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// What the file [`HOOKS_FILE`](Self::HOOKS_FILE) inside holds, which arguments and variables can
    /// name.
    pub file: Option<String>,
}

impl PresetHooks {
    /// The file inside.
    pub const HOOKS_FILE: &str = "/run/stockade/hooks.json";
}

/// Arguments and variables that make an agent export its telemetry to the receiver of the session, and
/// what shows that its owner has it sent elsewhere.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct PresetTelemetry {
    /// Arguments that are inserted like those of the preset.
    pub arguments: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Words that stand in the agent's configuration if its owner has set telemetry up himself.
    pub configured_by: Vec<String>,
    /// Files in which it is looked for beside those that are copied for the agent: absolute, or below
    /// the workspace.
    pub configured_in: Vec<String>,
}

/// Arguments and variables that make an agent ask no questions of its own, because the boundary's
/// questions are enough.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnQuestionsOff {
    /// Arguments that are inserted like those of the preset.
    pub arguments: Vec<String>,
    /// Variables.
    pub environment: BTreeMap<String, String>,
}

impl PresetSettings {
    /// Inserts the preset's arguments, and `more` behind them, after the agent's program, at any place in
    /// the command line; does not change any other command.
    pub fn complete(&self, argv: &mut Vec<RawText>, more: &[String]) {
        let commands: Vec<&str> = self.commands.iter().map(String::as_str).collect();
        let packages: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        let names = Names {
            commands: &commands,
            packages: &packages,
        };
        let hooks = self.hooks.as_ref().map(|hooks| &hooks.arguments[..]);
        let own = &self.own_questions_off.arguments[..];
        let arguments = [&self.arguments[..], hooks.unwrap_or_default(), own, more].concat();
        if let Some(place) = agent_command::find(argv, names)
            && !arguments.is_empty()
        {
            agent_command::insert(argv, place, &arguments);
        }
    }
}
