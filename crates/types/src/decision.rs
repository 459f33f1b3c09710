//! A decision, as the one object that denials, events, approvals and HTTP bodies share.

use serde::{Deserialize, Serialize};

use crate::{
    Access, Answerer, DecisionId, Digest, RawText, RuleId, SessionId, Subject, UnixMillis,
};

/// The three values of every decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The effect may happen.
    Allow,
    /// A person (or reviewer) must answer first; if there is no one to ask, it is a deny.
    Ask,
    /// The effect must not happen.
    Deny,
}

impl Verdict {
    /// Returns the lowercase word used in JSON, policy files and terminals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What sort of effect a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    /// A program is about to run.
    Exec,
    /// A connection to a host and port.
    Net,
    /// One HTTP request on a connection whose bytes can be read.
    Http,
    /// A name is looked up.
    Name,
    /// A file is about to be changed.
    File,
    /// A system call that the filter refuses.
    Call,
    /// A port on which a program of the session listens is about to be published on the machine's
    /// loopback.
    Port,
    /// A signature with a key that programs inside do not have.
    Credential,
    /// An agent is about to use a tool. A tool call has no effect by itself.
    Tool,
    /// A model is about to read tools of a server that are not known as they are.
    Definition,
}

impl RequestKind {
    /// Returns the lowercase word used in JSON and policy files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Net => "net",
            Self::Http => "http",
            Self::Name => "name",
            Self::File => "file",
            Self::Call => "call",
            Self::Port => "port",
            Self::Credential => "credential",
            Self::Tool => "tool",
            Self::Definition => "definition",
        }
    }
}

impl std::fmt::Display for RequestKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request is aimed at, with only the fields that its kind has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Canonical host name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// TCP or UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// HTTP method, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// For `http` the path of the request; for `file` and `exec` the canonical path inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RawText>,
    /// The path as the program wrote it, if it differs from `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_path: Option<RawText>,
    /// For `exec` the argument vector that is about to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<RawText>,
    /// For `exec` the directory it would run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<RawText>,
    /// For `file` the access asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// For `http` what the request means to the service that it is for, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meaning: Vec<RawText>,
    /// The same as typed attributes, where they are known in full.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meant: Vec<serde_json::Value>,
    /// For `call` the system call, with those of its arguments that decided; for `credential` what was
    /// asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// For `tool` the name by which the agent calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<RawText>,
    /// For `tool` the MCP server that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<RawText>,
}

impl Target {
    /// Returns a short text for one line of a terminal; hostile bytes are escaped.
    pub fn summary(&self) -> String {
        if !self.argv.is_empty() {
            let words: Vec<String> = self.argv.iter().map(RawText::display).collect();
            return words.join(" ");
        }
        if let Some(host) = &self.host {
            let mut text = String::new();
            if let Some(method) = &self.method {
                text.push_str(method);
                text.push(' ');
            }
            text.push_str(host);
            if let Some(port) = self.port {
                text.push(':');
                text.push_str(&port.to_string());
            }
            if let (Some(_), Some(path)) = (&self.method, &self.path) {
                text.push_str(&path.display());
            }
            for meaning in &self.meaning {
                text = format!("{} ({text})", meaning.display());
            }
            return text;
        }
        if let Some(tool) = &self.tool {
            let server = self.server.as_ref();
            let server = server.map_or_else(String::new, |server| format!("{}/", server.display()));
            return format!("{server}{}", tool.display());
        }
        let path = self.path.as_ref().map(RawText::display);
        path.or_else(|| self.call.clone()).unwrap_or_default()
    }
}

/// One decision as JSON: the same object in denials, events, approvals and HTTP 403 bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Session-local number, written `d-19`.
    pub decision: DecisionId,
    /// What was decided.
    pub verdict: Verdict,
    /// What sort of effect.
    pub kind: RequestKind,
    /// The program that wanted it.
    pub subject: Subject,
    /// Its target.
    pub target: Target,
    /// The rule that decided; `None` if no rule matched the request (default deny).
    pub rule: Option<RuleId>,
    /// Who said no, if the rule asks and the answer was no or could not be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answerer>,
    /// Why, in the words of the rule's author or of the built-in control.
    pub reason: String,
    /// The condition of the nearest rule that was not met (`host`, `method`, `command`, …).
    pub failed_condition: Option<String>,
    /// The nearest thing that is allowed, if there is one.
    pub nearest_allow: Option<String>,
    /// The one step that would change this answer.
    pub remedy: String,
    /// Digest of the policy that decided.
    pub policy_revision: Digest,
    /// The session it belongs to.
    pub session: SessionId,
    /// When it was decided, milliseconds since the Unix epoch.
    pub time: UnixMillis,
}

impl DecisionRecord {
    /// Returns the subject of the decision in one line: the kind of effect, for files also the
    /// access, and the target. Hostile bytes are escaped.
    pub fn effect(&self) -> String {
        let target = self.target.summary();
        match &self.target.access {
            Some(access) => format!("{} {access} {target}", self.kind),
            None => format!("{} {target}", self.kind),
        }
    }

    /// Says to a model why what it asked for does not happen.
    pub fn why_not(&self) -> String {
        let by = match &self.rule {
            Some(rule) => format!("the rule `{rule}`"),
            None => "this boundary".to_owned(),
        };
        let mut text = format!("denied by {by}: {}", self.reason);
        if !self.remedy.is_empty() {
            text.push_str("; ");
            text.push_str(&self.remedy);
        }
        text
    }
}
