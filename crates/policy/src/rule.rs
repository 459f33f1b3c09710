//! One checked rule and what it matches.

use std::fmt;

use stockade_types::{Port, RuleId, Verdict};

use crate::{
    Access, AskStage, Origin,
    pattern::{
        CommandPattern, HostPattern, PathPattern, ProgramPattern, VariablePattern, glob::Case,
    },
    view::{ExecView, FileView, HttpView, NetView, Programs, View},
};

/// A checked rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) id: RuleId,
    pub(crate) effect: Verdict,
    pub(crate) origin: Origin,
    /// The place, as `file:line`.
    pub(crate) place: String,
    pub(crate) reason: String,
    pub(crate) stage: Option<AskStage>,
    /// Its refusals are counted in one line, and not told one by one.
    pub(crate) quiet: bool,
    pub(crate) body: Body,
}

/// What a rule is about.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Net(NetBody),
    Exec(ExecBody),
    File(FileBody),
    /// A control that is not written in any file; the engine says when it applies.
    Control,
}

#[derive(Clone, Debug)]
pub(crate) struct NetBody {
    pub(crate) hosts: Vec<HostAt>,
    pub(crate) ports: Ports,
    pub(crate) methods: Option<Vec<String>>,
    pub(crate) paths: Option<Vec<PathPattern>>,
    pub(crate) programs: Option<Vec<ProgramPattern>>,
    pub(crate) private: bool,
}

/// A host of a rule, with the one port of a member of a host set that has its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostAt {
    pub(crate) pattern: HostPattern,
    /// Takes the place of the rule's ports.
    pub(crate) port: Option<Port>,
}

impl fmt::Display for HostAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.pattern),
            None => self.pattern.fmt(f),
        }
    }
}

/// The ports of a rule about connections.
#[derive(Clone, Debug)]
pub(crate) enum Ports {
    /// Every port: what a deny means that names none.
    Every,
    These(Vec<u16>),
}

impl Ports {
    fn contain(&self, port: u16) -> bool {
        match self {
            Self::Every => true,
            Self::These(ports) => ports.contains(&port),
        }
    }

    /// Returns the ports that are written one by one.
    pub(crate) fn named(&self) -> &[u16] {
        match self {
            Self::Every => &[],
            Self::These(ports) => ports,
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("every port"),
            Self::These(ports) => f.write_str(&join(ports)),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ExecBody {
    pub(crate) commands: Vec<CommandPattern>,
    /// What an ask or a deny leaves out.
    pub(crate) unless: Vec<CommandPattern>,
    pub(crate) programs: Option<Vec<ProgramPattern>>,
    pub(crate) cwd: Option<Vec<PathPattern>>,
    pub(crate) environment: Option<Vec<VariablePattern>>,
}

#[derive(Clone, Debug)]
pub(crate) struct FileBody {
    pub(crate) paths: Vec<PathPattern>,
    pub(crate) access: Option<Vec<Access>>,
}

/// Whether a rule holds for a request already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It does.
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
    Port,
    Access,
    Directory,
    Environment,
    Program,
    Method,
    RequestPath,
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
        }
    }
}

impl NetBody {
    pub(crate) const fn has_request_conditions(&self) -> bool {
        self.methods.is_some() || self.paths.is_some()
    }

    /// Returns the ports that are written one by one, for the rule or for one of its hosts.
    pub(crate) fn named_ports(&self) -> impl Iterator<Item = u16> {
        let own = self.hosts.iter().filter_map(|at| at.port.map(Port::get));
        self.ports.named().iter().copied().chain(own)
    }

    /// Tells whether every port of one of the hosts is one of a host of `outer`.
    fn ports_within(&self, host: usize, outer: &Self, outer_host: usize) -> bool {
        let port = |body: &Self, host: usize| body.hosts.get(host).and_then(|at| at.port);
        let reached = |wanted: u16| match port(outer, outer_host) {
            Some(own) => own.get() == wanted,
            None => outer.ports.contain(wanted),
        };
        match (port(self, host), &self.ports) {
            (Some(own), _) => reached(own.get()),
            (None, Ports::These(ports)) => ports.iter().all(|port| reached(*port)),
            (None, Ports::Every) => {
                port(outer, outer_host).is_none() && matches!(outer.ports, Ports::Every)
            }
        }
    }
}

impl Rule {
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.origin, self.id)
    }

    pub(crate) const fn net(&self) -> Option<&NetBody> {
        match &self.body {
            Body::Net(body) => Some(body),
            Body::Exec(_) | Body::File(_) | Body::Control => None,
        }
    }

    pub(crate) fn is_private(&self) -> bool {
        self.net().is_some_and(|body| body.private)
    }

    /// Tells whether the approval of a connection answers this rule for the requests on it.
    pub(crate) fn is_about_connections(&self) -> bool {
        self.net()
            .is_some_and(|body| !body.has_request_conditions())
    }

    /// Number of patterns that the index may point at.
    pub(crate) fn patterns(&self) -> usize {
        match &self.body {
            Body::Net(body) => body.hosts.len(),
            Body::Exec(body) => body.commands.len(),
            Body::File(body) => body.paths.len(),
            Body::Control => 0,
        }
    }

    /// Judges the request by one of the rule's patterns.
    pub(crate) fn fit(&self, pattern: usize, view: &View<'_>) -> Result<Fit, Miss> {
        match (&self.body, view) {
            (Body::Net(body), View::Net(view)) => self.fit_net(body, pattern, view),
            (Body::Exec(body), View::Exec(view)) => self.fit_exec(body, pattern, view),
            (Body::File(body), View::File(view)) => Self::fit_file(body, pattern, view),
            _ => Err(Miss::Kind),
        }
    }

    fn is_allow(&self) -> bool {
        self.effect == Verdict::Allow
    }

    fn fit_net(&self, body: &NetBody, pattern: usize, view: &NetView<'_>) -> Result<Fit, Miss> {
        let at = body.hosts.get(pattern).ok_or(Miss::Host)?;
        if !at.pattern.matches(view.host) {
            return Err(Miss::Host);
        }
        let reached = match at.port {
            Some(own) => own.get() == view.port,
            None => body.ports.contain(view.port),
        };
        if !reached {
            return Err(Miss::Port);
        }
        if let Some(programs) = &body.programs {
            let fits = match view.program {
                Programs::Known(exe) => programs.iter().any(|own| own.matches(exe, None)),
                // Who cannot be named is nobody's friend and everybody's suspect.
                Programs::Unknown => !self.is_allow(),
                // A name is looked up before it is known who will connect.
                Programs::Any => self.effect != Verdict::Deny,
            };
            if !fits {
                return Err(Miss::Program);
            }
        }
        match &view.http {
            Some(http) => self.fit_http(body, http).map(|()| Fit::Now),
            None if body.has_request_conditions() => Ok(Fit::Later),
            None => Ok(Fit::Now),
        }
    }

    fn fit_http(&self, body: &NetBody, http: &HttpView<'_>) -> Result<(), Miss> {
        if let Some(methods) = &body.methods {
            // Methods are case-sensitive (RFC 9110 section 9.1), but some servers are not.
            let fits = methods.iter().any(|own| {
                if self.is_allow() {
                    own == http.method
                } else {
                    own.eq_ignore_ascii_case(http.method)
                }
            });
            if !fits {
                return Err(Miss::Method);
            }
        }
        if let Some(paths) = &body.paths {
            let fits = |own: &PathPattern| {
                if self.is_allow() {
                    http.path.allows(own)
                } else {
                    http.path.could_mean(own)
                }
            };
            if !paths.iter().any(fits) {
                return Err(Miss::RequestPath);
            }
        }
        Ok(())
    }

    fn fit_exec(&self, body: &ExecBody, pattern: usize, view: &ExecView<'_>) -> Result<Fit, Miss> {
        let command = body.commands.get(pattern).ok_or(Miss::Command)?;
        let fits = if self.is_allow() {
            view.is_surely(command)
        } else {
            view.could_be(command, &body.unless)
        };
        if !fits {
            return Err(Miss::Command);
        }
        if let Some(cwd) = &body.cwd
            && !cwd
                .iter()
                .any(|own| own.matches(view.request.cwd.as_bytes(), Case::Exact))
        {
            return Err(Miss::Directory);
        }
        if let Some(wanted) = &body.environment {
            let present = |own: &VariablePattern| {
                view.request
                    .environment
                    .iter()
                    .any(|(name, value)| own.matches(name, value))
            };
            let fits = if self.is_allow() {
                wanted.iter().all(present)
            } else {
                wanted.iter().any(present)
            };
            if !fits {
                return Err(Miss::Environment);
            }
        }
        if let Some(programs) = &body.programs {
            let digest = view.request.digest.as_ref();
            if !programs
                .iter()
                .any(|own| own.matches(&view.request.program, digest))
            {
                return Err(Miss::Program);
            }
        }
        Ok(Fit::Now)
    }

    fn fit_file(body: &FileBody, pattern: usize, view: &FileView<'_>) -> Result<Fit, Miss> {
        let own = body.paths.get(pattern).ok_or(Miss::Path)?;
        if !view.matches(own) {
            return Err(Miss::Path);
        }
        if body
            .access
            .as_ref()
            .is_some_and(|own| !own.contains(&view.request.access))
        {
            return Err(Miss::Access);
        }
        Ok(Fit::Now)
    }

    /// Tells whether this allow rule, matched by `pattern`, is an exception to an ask that was
    /// matched by `asked`. See the documentation of the crate for the rule.
    pub(crate) fn answers(&self, pattern: usize, ask: &Self, asked: &[usize]) -> bool {
        let default = ask.origin == Origin::Builtin && self.origin != Origin::Builtin;
        if self.origin.authority() < ask.origin.authority() {
            return false;
        }
        let within = asked.iter().all(|q| self.lies_within(pattern, ask, *q));
        if default {
            return within && self.is_explicit(pattern);
        }
        within && !asked.iter().any(|q| ask.lies_within(*q, self, pattern))
    }

    /// Tells whether part of this rule lies within the other one and not the other way round.
    pub(crate) fn is_narrower_than(&self, other: &Self) -> bool {
        let within = |a: &Self, b: &Self| {
            (0..a.patterns()).any(|x| (0..b.patterns()).any(|y| a.lies_within(x, b, y)))
        };
        within(self, other) && !within(other, self)
    }

    /// Tells whether `outer` certainly matches all that this rule matches.
    pub(crate) fn is_covered_by(&self, outer: &Self) -> bool {
        let lists = match (&self.body, &outer.body) {
            (Body::Net(a), Body::Net(b)) => {
                list_within(a.methods.as_deref(), b.methods.as_deref(), PartialEq::eq)
            }
            (Body::Exec(_), Body::Exec(b)) => b.unless.is_empty(),
            (Body::File(a), Body::File(b)) => {
                list_within(a.access.as_deref(), b.access.as_deref(), PartialEq::eq)
            }
            _ => false,
        };
        let ports = |x: usize, y: usize| match (&self.body, &outer.body) {
            (Body::Net(a), Body::Net(b)) => a.ports_within(x, b, y),
            _ => true,
        };
        let within = |x, y| ports(x, y) && self.lies_within(x, outer, y);
        let mut own = 0..self.patterns();
        lists && own.all(|x| (0..outer.patterns()).any(|y| within(x, y)))
    }

    /// Tells whether the pattern names something, rather than everything.
    fn is_explicit(&self, pattern: usize) -> bool {
        match &self.body {
            Body::Net(body) => body
                .hosts
                .get(pattern)
                .is_some_and(|at| at.pattern != HostPattern::AnyName),
            Body::Exec(body) => body
                .commands
                .get(pattern)
                .is_some_and(CommandPattern::is_explicit),
            Body::File(body) => body.paths.get(pattern).is_some_and(|path| !path.is_any()),
            Body::Control => false,
        }
    }

    /// Tells whether all that one pattern of this rule matches is certainly matched by a pattern
    /// of `outer`. Ports, methods and accesses are lists of points: both rules matched the one at
    /// hand, so they count only where one of the rules has no list.
    fn lies_within(&self, pattern: usize, outer: &Self, outer_pattern: usize) -> bool {
        match (&self.body, &outer.body) {
            (Body::Net(a), Body::Net(b)) => {
                let (Some(x), Some(y)) = (a.hosts.get(pattern), b.hosts.get(outer_pattern)) else {
                    return false;
                };
                y.pattern.contains(&x.pattern)
                    && (b.methods.is_none() || a.methods.is_some())
                    && list_within(
                        a.paths.as_deref(),
                        b.paths.as_deref(),
                        PathPattern::contains,
                    )
                    && list_within(
                        a.programs.as_deref(),
                        b.programs.as_deref(),
                        ProgramPattern::contains,
                    )
            }
            (Body::Exec(a), Body::Exec(b)) => {
                let (Some(x), Some(y)) = (a.commands.get(pattern), b.commands.get(outer_pattern))
                else {
                    return false;
                };
                y.contains(x)
                    && list_within(a.cwd.as_deref(), b.cwd.as_deref(), PathPattern::contains)
                    && list_within(
                        a.programs.as_deref(),
                        b.programs.as_deref(),
                        ProgramPattern::contains,
                    )
                    && (b.environment.is_none() || a.environment == b.environment)
            }
            (Body::File(a), Body::File(b)) => {
                let (Some(x), Some(y)) = (a.paths.get(pattern), b.paths.get(outer_pattern)) else {
                    return false;
                };
                y.contains(x) && (b.access.is_none() || a.access.is_some())
            }
            _ => false,
        }
    }
}

/// Tells whether each of `inner` lies in one of `outer`; no list is no condition.
fn list_within<T>(
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

impl fmt::Display for Rule {
    /// Writes the conditions for people, for example `good.test on 443, 80; methods GET`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Net(body) => {
                write!(f, "net {} on {}", join(&body.hosts), body.ports)?;
                if let Some(methods) = &body.methods {
                    write!(f, "; methods {}", join(methods))?;
                }
                if let Some(paths) = &body.paths {
                    write!(f, "; paths {}", join(paths.iter().map(PathPattern::text)))?;
                }
                if body.programs.is_some() {
                    f.write_str("; certain programs")?;
                }
                if body.private {
                    f.write_str("; private addresses")
                } else {
                    Ok(())
                }
            }
            Body::Exec(body) => {
                write!(f, "exec {}", join(&body.commands))?;
                if body.unless.is_empty() {
                    return Ok(());
                }
                write!(f, "; not {}", join(&body.unless))
            }
            Body::File(body) => {
                write!(f, "file {}", join(body.paths.iter().map(PathPattern::text)))?;
                match &body.access {
                    Some(access) => write!(f, "; {}", join(access.iter().map(|a| a.as_str()))),
                    None => Ok(()),
                }
            }
            Body::Control => f.write_str("built-in control"),
        }
    }
}

fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}
