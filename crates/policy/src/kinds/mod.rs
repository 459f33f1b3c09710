//! The subjects of requests and rules: a closed set of kinds, each a folder of one shape.
//!
//! | file | holds |
//! |---|---|
//! | `request.rs` | what enforcement points report, what an answer binds, how records show it |
//! | `features.rs` | the request taken apart once, so that the check of each rule is cheap |
//! | `body.rs` | the conditions of a rule, also in words |
//! | `read.rs` | the rule's fields in TOML |
//! | `fit.rs` | whether a rule matches, and whether it lies within another one |
//! | `index.rs` | which rules could match at all |
//! | `words.rs` | the texts about it in decisions |
//! | `probe.rs` | the request in one line, for tests and `policy test` |
//!
//! The code that is the same for all kinds (layers, exceptions, controls, verdict, grants) is
//! beside this folder and uses the enums here; a new kind is a variant of each, and the compiler
//! names every place that must handle it. `docs/howto/add-a-kind.md` walks through them.

pub(crate) mod cedar;
pub(crate) mod definition;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod index;
pub(crate) mod net;
pub(crate) mod port;
pub(crate) mod tool;

use std::fmt;

use stockade_types::{RequestKind, Verdict};

use crate::{
    HostSets,
    fields::{Fields, File, shown},
    pattern::ProgramPattern,
};
use cedar::CedarBody;
use exec::{ExecBody, ExecFeatures};
use file::{FileBody, FileFeatures};
use net::{NetBody, NetFeatures, Topic};
use tool::{ToolBody, ToolFeatures};

/// The subject and conditions of a rule.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Net(NetBody),
    Exec(ExecBody),
    File(FileBody),
    Tool(ToolBody),
    /// Cedar text about any of these kinds.
    Cedar(Box<CedarBody>),
    /// A control that is not written in any file; the algorithm says when it applies.
    Control,
}

/// A request, taken apart once for the rules.
#[derive(Debug)]
pub(crate) enum Features<'r> {
    Net(NetFeatures<'r>),
    Exec(ExecFeatures<'r>),
    File(FileFeatures<'r>),
    Tool(Box<ToolFeatures<'r>>),
}

/// When a rule matches a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It matches already.
    Now,
    /// It has conditions on requests, and this is the connection that will carry them.
    Later,
}

/// The first condition that was not met; the order is that of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Miss {
    Kind,
    Host,
    Path,
    Command,
    Tool,
    Server,
    Port,
    Access,
    Effect,
    Directory,
    Environment,
    Program,
    Method,
    RequestPath,
    Meaning,
    Argument,
}

impl Miss {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Kind => "what",
            Self::Host => "host",
            Self::Path | Self::RequestPath => "path",
            Self::Command => "command",
            Self::Port => "port",
            Self::Access => "access",
            Self::Directory => "cwd",
            Self::Environment => "environment",
            Self::Program => "program",
            Self::Method => "method",
            Self::Meaning => "meaning",
            Self::Tool => "tool",
            Self::Server => "server",
            Self::Effect => "effect",
            Self::Argument => "arguments",
        }
    }
}

/// The subjects that a rule of a file can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Net,
    /// Requests to hosts, by what they mean.
    Service(Topic),
    Exec,
    File,
    Tool,
}

impl What {
    pub(crate) const ALL: [Self; 8] = [
        Self::Net,
        Self::Service(Topic::Git),
        Self::Service(Topic::Package(None)),
        Self::Service(Topic::Forge),
        Self::Service(Topic::Model),
        Self::Exec,
        Self::File,
        Self::Tool,
    ];

    /// Returns the word of the key `what`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Net => "net",
            Self::Service(topic) => topic.as_str(),
            Self::Exec => "exec",
            Self::File => "file",
            Self::Tool => "tool",
        }
    }

    /// Returns the fields of such a rule in addition to those of every rule.
    pub(crate) fn fields(self) -> impl Iterator<Item = &'static str> {
        let (shared, own): (&[&str], &[&str]) = match self {
            Self::Net => (&net::FIELDS, &[]),
            Self::Service(topic) => (&net::SERVICE_FIELDS, topic.fields()),
            Self::Exec => (&exec::FIELDS, &[]),
            Self::File => (&file::FIELDS, &[]),
            Self::Tool => (&tool::FIELDS, &[]),
        };
        shared.iter().chain(own).copied()
    }

    /// Reads those fields.
    pub(crate) fn read(
        self,
        file: &mut File<'_>,
        fields: &Fields<'_>,
        effect: Verdict,
        sets: &HostSets,
    ) -> Option<Body> {
        match self {
            Self::Net => net::body(file, fields, effect, (None, sets)).map(Body::Net),
            Self::Service(topic) => {
                net::body(file, fields, effect, (Some(topic), sets)).map(Body::Net)
            }
            Self::Exec => exec::body(file, fields, effect).map(Body::Exec),
            Self::File => file::body(file, fields).map(Body::File),
            Self::Tool => tool::body(file, fields).map(Body::Tool),
        }
    }
}

/// The directory in which a one-line `exec` runs and to which relative paths refer.
pub(crate) const WORKSPACE: &str = "/workspace";

/// Why a line is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The first word is not a kind.
    #[error(
        "`{0}` is not a request; begin with exec, net, name, file or tool, for example `exec git status`"
    )]
    Kind(String),
    /// A quote is not closed.
    #[error("`{0}` has a quote that is not closed")]
    Quote(String),
    /// Too few or too many words after the kind.
    #[error("`{line}` is not complete; write for example `{example}`")]
    Shape {
        /// What was given.
        line: String,
        /// A correct one.
        example: &'static str,
    },
    /// The host or the port is wrong.
    #[error("`{text}` is not a host, host:port or URL: {reason}")]
    Host {
        /// What was given.
        text: String,
        /// Why.
        reason: String,
    },
    /// There is no such access to a file.
    #[error("`{0}` is not one of write, create, remove, rename, mode")]
    Access(String),
}

impl Features<'_> {
    /// Returns the condition that represents the whole kind.
    pub(crate) const fn subject_matter(&self) -> Miss {
        match self {
            Self::Net(_) => Miss::Host,
            Self::Exec(_) => Miss::Command,
            Self::File(_) => Miss::Path,
            Self::Tool(_) => Miss::Tool,
        }
    }

    /// Returns the smallest rule that would allow this.
    pub(crate) fn suggestion(&self) -> String {
        match self {
            Self::Net(net) => net.suggestion(),
            Self::Exec(exec) => exec.suggestion(),
            Self::File(file) => file.suggestion(),
            Self::Tool(tool) => tool.suggestion(),
        }
    }

    /// Says which condition `target` fails.
    pub(crate) fn unmatched(&self, target: &str, miss: Miss) -> String {
        match self {
            Self::Net(net) => net.unmatched(target, miss),
            Self::Exec(_) | Self::File(_) | Self::Tool(_) => {
                format!("{target} fails the condition on {}", miss.as_str())
            }
        }
    }
}

impl Body {
    /// Returns the kinds of requests that such a rule is about; an empty list means every kind.
    pub(crate) const fn kinds(&self) -> &'static [RequestKind] {
        match self {
            Self::Net(_) => &[RequestKind::Net, RequestKind::Http],
            Self::Exec(_) => &[RequestKind::Exec],
            Self::File(_) => &[RequestKind::File],
            Self::Tool(_) => &[RequestKind::Tool],
            // The text of a rule in Cedar contains its kinds.
            Self::Cedar(_) | Self::Control => &[],
        }
    }

    /// Returns the number of patterns to which the index may point.
    pub(crate) fn patterns(&self) -> usize {
        match self {
            Self::Net(body) => body.hosts.len(),
            Self::Exec(body) => body.commands.len(),
            Self::File(body) => body.paths.len(),
            Self::Tool(body) => body.tools.len(),
            Self::Cedar(_) | Self::Control => 0,
        }
    }

    /// Judges the request by one of the rule's patterns.
    pub(crate) fn fit(
        &self,
        effect: Verdict,
        pattern: usize,
        features: &Features<'_>,
    ) -> Result<Fit, Miss> {
        match (self, features) {
            (Self::Net(body), Features::Net(net)) => body.fit(effect, pattern, net),
            (Self::Exec(body), Features::Exec(exec)) => body.fit(effect, pattern, exec),
            (Self::File(body), Features::File(file)) => body.fit(pattern, file),
            (Self::Tool(body), Features::Tool(tool)) => body.fit(effect, pattern, tool),
            (
                Self::Net(_)
                | Self::Exec(_)
                | Self::File(_)
                | Self::Tool(_)
                | Self::Cedar(_)
                | Self::Control,
                _,
            ) => Err(Miss::Kind),
        }
    }

    /// Returns whether the pattern is more specific than everything.
    pub(crate) fn is_explicit(&self, pattern: usize) -> bool {
        match self {
            Self::Net(body) => body.is_explicit(pattern),
            Self::Exec(body) => body.is_explicit(pattern),
            Self::File(body) => body.is_explicit(pattern),
            Self::Tool(body) => body.is_explicit(pattern),
            Self::Cedar(_) | Self::Control => false,
        }
    }

    /// Returns whether a pattern of `outer` certainly matches everything that one pattern of this
    /// rule matches.
    pub(crate) fn lies_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        match (self, outer) {
            (Self::Net(a), Self::Net(b)) => a.lies_within(pattern, b, outer_pattern),
            (Self::Exec(a), Self::Exec(b)) => a.lies_within(pattern, b, outer_pattern),
            (Self::File(a), Self::File(b)) => a.lies_within(pattern, b, outer_pattern),
            (Self::Tool(a), Self::Tool(b)) => a.lies_within(pattern, b, outer_pattern),
            (
                Self::Net(_)
                | Self::Exec(_)
                | Self::File(_)
                | Self::Tool(_)
                | Self::Cedar(_)
                | Self::Control,
                _,
            ) => false,
        }
    }

    /// Returns whether `outer` certainly matches everything that this rule matches, for any
    /// request.
    pub(crate) fn is_covered_by(&self, outer: &Self) -> bool {
        let mut own = 0..self.patterns();
        own.all(|x| (0..outer.patterns()).any(|y| self.is_pattern_covered_by(x, outer, y)))
    }

    /// The same of one pattern of each.
    pub(crate) fn is_pattern_covered_by(
        &self,
        pattern: usize,
        outer: &Self,
        outer_pattern: usize,
    ) -> bool {
        let points = match (self, outer) {
            (Self::Net(a), Self::Net(b)) => a.points_within(pattern, b, outer_pattern),
            (Self::Exec(_), Self::Exec(b)) => b.unless.is_empty(),
            (Self::File(a), Self::File(b)) => a.points_within(b),
            (Self::Tool(_), Self::Tool(_)) => true,
            (
                Self::Net(_)
                | Self::Exec(_)
                | Self::File(_)
                | Self::Tool(_)
                | Self::Cedar(_)
                | Self::Control,
                _,
            ) => false,
        };
        points && self.lies_within(pattern, outer, outer_pattern)
    }

    /// Returns a request that a pattern allows.
    pub(crate) fn example(&self, pattern: usize) -> Option<String> {
        match self {
            Self::Net(body) => body.example(pattern),
            Self::Exec(body) => body.example(pattern),
            Self::File(body) => body.example(pattern),
            Self::Tool(body) => body.example(pattern),
            Self::Cedar(_) | Self::Control => None,
        }
    }
}

impl fmt::Display for Body {
    /// Writes the conditions for people, for example `net good.test on 443, 80; methods GET`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(body) => body.fmt(f),
            Self::Exec(body) => body.fmt(f),
            Self::File(body) => body.fmt(f),
            Self::Tool(body) => body.fmt(f),
            Self::Cedar(body) => body.fmt(f),
            Self::Control => f.write_str("built-in control"),
        }
    }
}

/// Returns whether a rule allows, so that it matches only certain cases.
pub(crate) fn is_allow(effect: Verdict) -> bool {
    effect == Verdict::Allow
}

/// Returns whether each of `inner` lies within one of `outer`; no list means no condition.
pub(crate) fn list_within<T>(
    inner: Option<&[T]>,
    outer: Option<&[T]>,
    contains: impl Fn(&T, &T) -> bool,
) -> bool {
    match (inner, outer) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(inner), Some(outer)) => inner.iter().all(|i| outer.iter().any(|o| contains(o, i))),
    }
}

pub(crate) fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}

/// Refuses a slash at the end of a path that names one thing.
pub(crate) fn without_slash(text: &str) -> Result<(), String> {
    let plain = text.trim_end_matches('/');
    if plain.is_empty() || plain == text {
        return Ok(());
    }
    let (text, plain) = (shown(text), shown(plain));
    Err(format!(
        "`{text}`: write `{plain}` for that path itself, `{plain}/**` for what lies below it"
    ))
}

pub(crate) fn program(text: &str) -> Result<ProgramPattern, String> {
    without_slash(text)?;
    ProgramPattern::parse(text).map_err(|error| error.to_string())
}

/// Refuses a home path, because a rule would read it as a plain name.
pub(crate) fn without_home(text: &str) -> Result<(), String> {
    if !text.starts_with('~') {
        return Ok(());
    }
    Err(format!(
        "`{}`: a rule cannot know the home; write a path from the workspace, or from `/`",
        shown(text)
    ))
}
