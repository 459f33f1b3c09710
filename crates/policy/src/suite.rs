//! `[tests.NAME]` of a policy, and the one-line form of a request that they and the command line
//! share: `exec git push origin main`, `net POST https://host/path`, `net host:port`,
//! `file write PATH`, `name host`.

use stockade_types::{Host, Port, RawText, RequestKind, Subject, Verdict};

use crate::{
    Access, Approvals, Decision, ExecRequest, FileRequest, HttpRequest, NameRequest, NetRequest,
    Origin, Policy, Problem, Request, Sourced,
    address::{is_localhost, is_special_name},
    controls::{Control, VIEW},
    fields::{Fields, File, shown},
    read_network::LOCALHOST,
};

/// How a service of the machine gets into a session.
const SERVICES: &str =
    "name a service of this machine in `[network.services]`, or with `run --service`";
/// Where a one-line `exec` runs and relative files lie.
const WORKSPACE: &str = "/workspace";
/// Where a session has a file system of its own, which ends with it.
const OWN_PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "~"];

/// Why a line is not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The first word is no kind.
    #[error(
        "`{0}` is not a request; begin with exec, net, name or file, for example `exec git status`"
    )]
    Kind(String),
    /// A quote is not closed.
    #[error("`{0}` has a quote that is not closed")]
    Quote(String),
    /// Too little or too much after the kind.
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

/// What a line stands for: one request, or a connection and the request on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    requests: Vec<Request>,
    /// The connection would carry TLS, which cannot be read.
    sealed: bool,
}

impl Probe {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not a request.
    pub fn parse(line: &str) -> Result<Self, ProbeError> {
        let words = words(line)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Self::from_words(&words)
    }

    /// Reads a request that is already split into words, as the command line has it. Without a
    /// kind a URL is `net`, something that begins with `/`, `./` or `~/` is `file write`, and
    /// everything else is `exec`.
    ///
    /// # Errors
    /// When it is not a request.
    pub fn guess(words: &[&str]) -> Result<Self, ProbeError> {
        match words.split_first() {
            Some((first, rest)) => match *first {
                "exec" | "net" | "http" | "name" | "file" => Self::from_words(words),
                url if url.contains("://") && rest.is_empty() => Self::net(words, &[url]),
                path if rest.is_empty()
                    && ["/", "./", "../", "~/"].iter().any(|p| path.starts_with(p)) =>
                {
                    Self::file(words, &["write", path])
                }
                _ => Ok(Self::exec(words)),
            },
            None => Err(ProbeError::Kind(String::new())),
        }
    }

    /// Returns the requests, the connection first.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    fn from_words(words: &[&str]) -> Result<Self, ProbeError> {
        let shape = |example| ProbeError::Shape {
            line: words.join(" "),
            example,
        };
        match words {
            ["exec"] => Err(shape("exec git status")),
            ["exec", command @ ..] => Ok(Self::exec(command)),
            ["net" | "http", rest @ ..] => Self::net(words, rest),
            ["file", rest @ ..] => Self::file(words, rest),
            ["name", name] => {
                let parsed =
                    name.parse()
                        .map_err(|error: stockade_types::HostError| ProbeError::Host {
                            text: (*name).to_owned(),
                            reason: error.to_string(),
                        })?;
                let request = NameRequest {
                    name: parsed,
                    subject: Subject::default(),
                };
                Ok(Self {
                    requests: vec![Request::Name(request)],
                    sealed: false,
                })
            }
            ["name", ..] => Err(shape("name good.test")),
            _ => Err(ProbeError::Kind(shown(&words.join(" ")))),
        }
    }

    fn exec(command: &[&str]) -> Self {
        let program = command.first().copied().unwrap_or_default();
        let path = if program.contains('/') {
            program.to_owned()
        } else {
            format!("/usr/bin/{program}")
        };
        let request = ExecRequest {
            program: RawText::from(path.as_str()),
            invoked_as: RawText::from(path.as_str()),
            argv: command.iter().map(|word| RawText::from(*word)).collect(),
            cwd: RawText::from(WORKSPACE),
            ..ExecRequest::default()
        };
        Self {
            requests: vec![Request::Exec(request)],
            sealed: false,
        }
    }

    fn file(words: &[&str], rest: &[&str]) -> Result<Self, ProbeError> {
        let [access, path] = rest else {
            let line = words.join(" ");
            return Err(ProbeError::Shape {
                line,
                example: "file write src/lib.rs",
            });
        };
        let access = Access::ALL
            .into_iter()
            .find(|own| own.as_str() == *access)
            .ok_or_else(|| ProbeError::Access(shown(access)))?;
        let plain = without_dots(path);
        let in_workspace = |plain: &str| match plain.strip_prefix(WORKSPACE) {
            Some("") => Some(String::new()),
            Some(rest) => rest.strip_prefix('/').map(str::to_owned),
            None => None,
        };
        let relative = if plain.starts_with('/') {
            in_workspace(&plain)
        } else {
            let leaves = ["..", "~"].contains(&plain.split('/').next().unwrap_or_default());
            (!leaves).then(|| plain.clone())
        };
        let full = match relative.as_deref() {
            Some("") => WORKSPACE.to_owned(),
            Some(relative) => format!("{WORKSPACE}/{relative}"),
            None => plain,
        };
        let request = FileRequest {
            path: RawText::from(full.as_str()),
            workspace_relative: relative.as_deref().map(RawText::from),
            access,
            content: None,
            subject: Subject::default(),
        };
        Ok(Self {
            requests: vec![Request::File(request)],
            sealed: false,
        })
    }

    fn net(words: &[&str], rest: &[&str]) -> Result<Self, ProbeError> {
        match rest {
            [target] => Self::connection(target, None),
            [method, url] if url.contains("://") => Self::connection(url, Some(method)),
            _ => Err(ProbeError::Shape {
                line: words.join(" "),
                example: "net POST https://good.test/path",
            }),
        }
    }

    fn connection(target: &str, method: Option<&str>) -> Result<Self, ProbeError> {
        let wrong = |reason: &str| ProbeError::Host {
            text: shown(target),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = match target.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, target),
        };
        let default_port = match scheme {
            Some("http") => 80,
            Some("https") | None => 443,
            Some(_) => return Err(wrong("the scheme must be http or https")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (
                host,
                port.parse()
                    .map_err(|_| wrong("the port must be 1 to 65535"))?,
            ),
            _ => (authority, default_port),
        };
        let host: Host = host
            .parse()
            .map_err(|e: stockade_types::HostError| wrong(&e.to_string()))?;
        let port = Port::new(port).ok_or_else(|| wrong("the port must be 1 to 65535"))?;
        let subject = Subject::default();
        let mut requests = vec![Request::Net(NetRequest {
            host: host.clone(),
            port,
            subject: subject.clone(),
        })];
        let method = method.or(if scheme == Some("http") {
            Some("GET")
        } else {
            None
        });
        if let Some(method) = method {
            let path = if path.starts_with('/') {
                path.to_owned()
            } else {
                format!("/{path}")
            };
            requests.push(Request::Http(HttpRequest {
                host,
                port,
                method: method.to_owned(),
                path: RawText::from(path.as_str()),
                subject,
            }));
        }
        Ok(Self {
            requests,
            sealed: scheme == Some("https"),
        })
    }
}

/// Removes `.`, `..` and empty segments, as a run sees a path once it is resolved; links are not
/// looked at. What is above the workspace keeps its `..`.
fn without_dots(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match (segment, kept.last()) {
            ("" | ".", _) => {}
            ("..", Some(&last)) if last != ".." => {
                kept.pop();
            }
            ("..", None) if rooted => {}
            (segment, _) => kept.push(segment),
        }
    }
    let joined = kept.join("/");
    if rooted { format!("/{joined}") } else { joined }
}

/// Tells whether `path` is `above` or lies below it.
fn is_within(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Splits a line as a shell does for plain words and quotes.
fn words(line: &str) -> Result<Vec<String>, ProbeError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '\t') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(ProbeError::Quote(shown(line)));
    }
    words.extend(word);
    Ok(words)
}

impl Policy {
    /// Decides what a line stands for: the strictest of the connection and the request on it.
    pub fn rehearse(&self, probe: &Probe) -> (Request, Decision) {
        self.rehearse_above(probe, Origin::Builtin)
    }

    pub(crate) fn rehearse_above(&self, probe: &Probe, floor: Origin) -> (Request, Decision) {
        let mut worst: Option<(Request, Decision)> = None;
        for request in &probe.requests {
            let request = &self.as_seen(request);
            let mut decision = match request {
                Request::File(file) if file.workspace_relative.is_none() => self.outside(file),
                request if let Some(decision) = self.no_host(request) => decision,
                _ => self.decide_above(request, &Approvals::none(), floor),
            };
            let blind = probe.sealed && decision.http_only && decision.verdict == Verdict::Allow;
            if blind && request.kind() == RequestKind::Net {
                decision.verdict = Verdict::Deny;
                decision.failed_condition = Some("tls".to_owned());
                decision.reason =
                    "the rule has conditions on requests, which cannot be read inside TLS".into();
                decision.remedy =
                    "use plain HTTP here, or allow the host without `methods` and `paths`".into();
            }
            let stricter = worst
                .as_ref()
                .is_none_or(|(_, old)| decision.verdict > old.verdict);
            if stricter {
                worst = Some((request.clone(), decision));
            }
        }
        // A probe is never empty; if it were, nothing is allowed.
        worst.unwrap_or_else(|| {
            let request = Request::Exec(ExecRequest::default());
            let decision = self.decide(&request, &Approvals::none());
            (request, decision)
        })
    }
}

impl Policy {
    /// Names a service of the machine as a run does that is reached by an address of loopback.
    fn as_seen(&self, request: &Request) -> Request {
        let mut seen = request.clone();
        let (host, port) = match &mut seen {
            Request::Net(net) => (&mut net.host, net.port),
            Request::Http(http) => (&mut http.host, http.port),
            Request::Name(_) | Request::Exec(_) | Request::File(_) | Request::Port(_) => {
                return seen;
            }
        };
        if matches!(host, Host::Address(address) if address.is_loopback())
            && let Ok(local) = LOCALHOST.parse()
            && self.settings().network.service(&local, port).is_some()
        {
            *host = Host::Name(local);
        }
        seen
    }

    /// Says what a run does with names and addresses that mean something on one machine only, whatever
    /// rules say: the session's own loopback is not judged, and other such names do not exist.
    fn no_host(&self, request: &Request) -> Option<Decision> {
        let network = &self.settings().network;
        let (host, service) = match request {
            Request::Net(net) => (net.host.clone(), Some((&net.host, net.port))),
            Request::Http(http) => (http.host.clone(), Some((&http.host, http.port))),
            Request::Name(name) => (Host::Name(name.name.clone()), None),
            Request::Exec(_) | Request::File(_) | Request::Port(_) => return None,
        };
        if let Some((Host::Name(name), port)) = service
            && network.service(name, port).is_some()
        {
            return None;
        }
        let is_own = match &host {
            Host::Name(name) => is_localhost(name),
            Host::Address(address) => address.is_loopback(),
        };
        if is_own && service.is_none() {
            return Some(Control::Loopback.allows("it is always the session's own loopback"));
        }
        if is_own {
            let reason = format!("`{host}` is the session's own loopback");
            return Some(Control::Loopback.denies(reason, SERVICES));
        }
        let Host::Name(name) = &host else { return None };
        (is_special_name(name) && !network.names(name)).then(|| {
            let reason = format!("`{name}` means something on one machine only");
            Control::SpecialName.denies(reason, SERVICES)
        })
    }

    /// Says what a run does with a file outside the workspace: no rule is asked, the view decides.
    fn outside(&self, file: &FileRequest) -> Decision {
        let files = &self.settings().filesystem;
        let path = file.path.display();
        let names = |list: &[Sourced<String>]| list.iter().any(|at| is_within(&path, &at.value));
        let own = OWN_PLACES.iter().any(|place| is_within(&path, place))
            || files
                .state
                .iter()
                .any(|at| is_within(&path, &at.value.path));
        let (verdict, reason, remedy) = if names(&files.hide) {
            let reason = "rules for files judge the workspace alone; `[filesystem] hide` keeps \
                          this place out of a session";
            (Verdict::Deny, reason, "")
        } else if names(&files.write) {
            let reason = "rules for files judge the workspace alone; `[filesystem] write` shares \
                          this place with the session";
            (Verdict::Allow, reason, "")
        } else if own {
            let reason = "rules for files judge the workspace alone; in a session this place is \
                          its own, and the host's is not touched";
            (Verdict::Allow, reason, "")
        } else {
            let reason = "rules for files judge the workspace alone; outside of it a session \
                          finds only its own places and what is read-only";
            let remedy = "name the directory in `[filesystem] write`";
            (Verdict::Deny, reason, remedy)
        };
        let rule = self.control(VIEW).filter(|_| verdict == Verdict::Allow);
        let by = rule.map(|rule| (rule.id.clone(), rule.origin));
        Decision::plain(verdict, by, reason, remedy)
    }
}

/// One line of a test.
#[derive(Debug)]
pub(crate) struct Expectation {
    probe: Probe,
    line: String,
    expected: Verdict,
    origin: Origin,
    /// The problem it is where the policy answers something else.
    problem: Problem,
}

/// Reads `[tests.NAME]`.
pub(crate) fn read(file: &mut File<'_>, top: &Fields<'_>) -> Vec<Expectation> {
    let mut tests = Vec::new();
    let Some(all) = top.open_table(file, "tests") else {
        return tests;
    };
    for name in all.keys() {
        let Some(test) = all.table(file, name, &["allow", "ask", "deny"]) else {
            continue;
        };
        for expected in [Verdict::Allow, Verdict::Ask, Verdict::Deny] {
            for at in test.texts(file, expected.as_str()).unwrap_or_default() {
                match Probe::parse(&at.value) {
                    Ok(probe) => {
                        // Noting the problem gives its place; it is taken back until it fails.
                        file.problem(&at.span, &at.field, "");
                        if let Some(problem) = file.problems.pop() {
                            let origin = file.source.origin;
                            let line = at.value;
                            tests.push(Expectation {
                                probe,
                                line,
                                expected,
                                origin,
                                problem,
                            });
                        }
                    }
                    Err(error) => file.problem(&at.span, &at.field, error.to_string()),
                }
            }
        }
    }
    tests
}

/// Runs tests and returns those that fail.
pub(crate) fn run(policy: &Policy, tests: &[Expectation]) -> Vec<Problem> {
    let mut failed = Vec::new();
    for test in tests {
        let (_, decision) = policy.rehearse_above(&test.probe, test.origin);
        if decision.verdict == test.expected {
            continue;
        }
        let by = decision
            .rule
            .map_or_else(|| "no rule".to_owned(), |id| format!("rule `{id}`"));
        failed.push(Problem {
            message: format!(
                "test failed: `{}` is {} ({by}: {}), expected {}",
                shown(&test.line),
                decision.verdict,
                decision.reason,
                test.expected
            ),
            ..test.problem.clone()
        });
    }
    failed
}
