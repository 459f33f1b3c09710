//! From TOML to a checked policy, and pure decisions on it.
//!
//! [`load`] reads files, checks them, names every mistake, and merges the layers;
//! [`Policy::decide`] answers one [`Request`]. This crate reads no file, no clock, no environment
//! variable and no randomness.
//!
//! # How rules combine
//! A rule allows, asks or denies. For one request, in whatever order rules and files come:
//!
//! 1. **A deny that matches wins**, from any layer; no approval and no allow lifts it. The controls
//!    `metadata`, `private-address` and `protected` are denies that no file can remove.
//! 2. **An ask that matches must be answered**: by an approval of this request, or by an allow
//!    rule that is an exception to it.
//! 3. Otherwise **an allow that matches** allows.
//! 4. **A request that no rule matches is denied**, except a file change within the writable view,
//!    which is allowed because the view is the boundary, and a tool call, which is allowed because its
//!    effects are judged where they happen.
//!
//! ## Exceptions to an ask
//! Layers have authority: organisation over user over session; builtin rules are defaults below
//! all of them. An allow is an exception to an ask if everything that the matching pattern of the
//! allow names lies within each matching pattern of the ask, and
//!
//! - the ask is a builtin one, the allow is not, and it names something (not `**`); or
//! - the allow has at least the authority of the ask, and names strictly less.
//!
//! So a user's `hosts = ["good.test"]` answers the builtin question about `**`, `git push origin
//! **` answers the one about `git push **`, and `git **` answers nothing. A user's rule never
//! answers a question of the organisation, and if it is not certain that one pattern lies within
//! another, the question stays.
//!
//! ## Conditions on requests
//! `methods` and `paths` are conditions on single HTTP requests. A *connection* that such a rule
//! matches is allowed with [`Decision::http_only`]: only HTTP that can be read may pass, and each
//! request is judged as [`Request::Http`]; TLS must be opened for that, and anything else refused.
//! A deny without `ports` has all of them, any other rule 80 and 443. The approval of a connection
//! also covers the requests on it for asks without such conditions.
//!
//! ## In Cedar
//! Matching is ours, and the index in front of it only narrows. Each rule is one or two Cedar
//! policies over the sets `matched`, `later`, `excepted` and `approvals`;
//! [`Policy::to_cedar`] prints them. An ask is a `permit` that needs its approval and a `forbid`
//! unless it is approved or excepted. If a policy errors, the answer is a deny.
#![forbid(unsafe_code)]

pub mod access;
mod address;
mod agent_command;
mod builtin;
mod candidate;
mod canonical;
mod controls;
mod credential;
mod decide;
mod decision;
mod defining;
pub mod diff;
mod endpoint;
mod engine;
mod explain;
mod fields;
mod grant;
mod kinds;
mod lasting;
mod listening;
mod load;
mod pattern;
mod pins;
mod places;
mod policy;
mod problem;
mod protect;
mod proxy;
mod published;
mod reaching;
mod read;
mod read_network;
mod read_record;
mod read_review;
mod read_reviewer;
mod read_settings;
mod read_workspace;
mod request;
mod request_path;
mod review;
mod reviewer;
mod rule;
mod scope;
mod settings;
mod sockets;
mod source;
mod suite;
mod telemetry;
mod tighten;
mod unrecorded;
mod view_path;
mod warning;

pub use address::{AddressClass, classify, is_special_name};
pub use builtin::{builtin, builtin_names, preset_for_command};
pub use controls::Control;
pub use credential::{
    AWS_VARIABLES, Credential, CredentialKind, CredentialSource, CredentialUse, ListedCredential,
    LoginField, NotFor, Outside, SshKey, SshKeySource, has_secret_part, secret_part,
    with_secret_part,
};
pub use decision::{AsRequest, AskStage, Decision, Permitted, Reviewer};
pub use endpoint::{Endpoint, Publish};
pub use grant::{Approvals, GrantError, Grants, ListedGrant};
pub use kinds::{
    ProbeError,
    definition::{DefinitionRequest, ToolSeen},
    exec::{Effect, EffectBound, ExecRequest, Involved, Variable},
    file::{Access, FileContent, FileRequest},
    net::{
        Age, Below, BytesMax, Ecosystem, Forge, ForgeOperation, Git, GitOperation, HostedTool,
        HttpRequest, HttpShown, Meaning, Model, NameRequest, NetRequest, Package, PackageOperation,
        PackagePart, Provider, RefChange, RefEffect, RequestsMax, Terms,
    },
    port::PortRequest,
    tool::{Argument, ToolArguments, ToolRequest, tool_effect},
};
pub use lasting::{LastingRule, Proposed, RuleForm, Width};
pub use listening::SERVER_PORTS;
pub use load::load;
pub use pattern::ProtectedPattern;
pub use places::Places;
pub use policy::{ListedRule, Policy};
pub use problem::{Problem, Problems, Warning};
pub use protect::{Beginnings, looks_secret};
pub use proxy::{ProxyAddress, ProxyExceptions, ProxySetting};
pub use published::Published;
pub use reaching::LooksFor;
pub use read_network::LOOPBACK;
pub use request::Request;
pub use review::{BreakGlass, Escalation, Review, ReviewError, Role, Stage, Strength};
pub use reviewer::{ModelEndpoint, ReviewerSettings};
pub use scope::{Scope, ScopeError};
pub use settings::Debuggers;
pub use settings::{
    AgentSettings, EnvironmentSettings, FilesystemSettings, Limits, Login, McpSettings,
    NetworkSettings, OnDefinition, OwnQuestionsOff, PresetHooks, PresetSettings, PresetTelemetry,
    ProcessSettings, RecordContent, RecordSettings, RecordSync, RecordTerminal, SessionsSettings,
    Settings, Sourced, StateDir, WorkspaceSettings,
};
pub use sockets::control_socket;
pub use source::{HOST_SETS, HostSets, Origin, RuleName, SetHost, Source};
pub use suite::Probe;
pub use telemetry::{TELEMETRY_ADDRESS, TELEMETRY_PORTS, is_telemetry};
pub use unrecorded::{Unrecorded, could_be_named};
