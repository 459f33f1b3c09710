//! `[tests.NAME]` of a policy, and the one-line form of a request that they and the command line
//! share: `exec git push origin main`, `net POST https://host/path`, `net host:port`,
//! `file write PATH`, `name host`, `tool NAME argument=value`.

use stockade_types::{Host, RequestKind, Verdict};

use crate::{
    Approvals, Decision, ExecRequest, FileRequest, Origin, Policy, ProbeError, Problem, Request,
    Sourced, Stage, ToolRequest,
    address::{is_localhost, is_special_name},
    controls::{Control, VIEW},
    fields::{At, Fields, File, shown},
    kinds::{exec, file, net, tool},
    read_network::LOCALHOST,
    read_review,
};

/// How to make a service of the machine available in a session.
const SERVICES: &str =
    "name a service of this machine in `[network.services]`, or with `run --service`";
/// Places that have their own file system in a session, which ends with it.
const OWN_PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "~"];

/// The meaning of a line: one request, or a connection and the request on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    requests: Vec<Request>,
    /// The request on the connection counts only if it is read.
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

    /// Reads a request that is already split into words, as on the command line. Without a kind, a
    /// URL is `net`, a word that begins with `/`, `./` or `~/` is `file write`, and everything else
    /// is `exec`.
    ///
    /// # Errors
    /// When it is not a request.
    pub fn guess(words: &[&str]) -> Result<Self, ProbeError> {
        match words.split_first() {
            Some((first, rest)) => match *first {
                "exec" | "net" | "http" | "name" | "file" | "tool" => Self::from_words(words),
                url if url.contains("://") && rest.is_empty() => {
                    net::probe(words, &[url]).map(Self::from)
                }
                path if rest.is_empty()
                    && ["/", "./", "../", "~/"].iter().any(|p| path.starts_with(p)) =>
                {
                    file::probe(words, &["write", path]).map(Self::from)
                }
                _ => Ok(exec::probe(words).into()),
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
            ["exec", command @ ..] => Ok(exec::probe(command).into()),
            ["net" | "http", rest @ ..] => net::probe(words, rest).map(Self::from),
            ["file", rest @ ..] => file::probe(words, rest).map(Self::from),
            ["tool", rest @ ..] => tool::probe(words, rest).map(Self::from),
            ["name", name] => Ok(Self {
                requests: vec![Request::Name(net::name_probe(name)?)],
                sealed: false,
            }),
            ["name", ..] => Err(shape("name good.test")),
            _ => Err(ProbeError::Kind(shown(&words.join(" ")))),
        }
    }
}

impl From<net::Line> for Probe {
    fn from(line: net::Line) -> Self {
        let http = line.http.map(Request::Http);
        Self {
            requests: std::iter::once(Request::Net(line.net))
                .chain(http)
                .collect(),
            sealed: line.sealed,
        }
    }
}

impl From<ExecRequest> for Probe {
    fn from(request: ExecRequest) -> Self {
        Self {
            requests: vec![Request::Exec(request)],
            sealed: false,
        }
    }
}

impl From<FileRequest> for Probe {
    fn from(request: FileRequest) -> Self {
        Self {
            requests: vec![Request::File(request)],
            sealed: false,
        }
    }
}

impl From<ToolRequest> for Probe {
    fn from(request: ToolRequest) -> Self {
        Self {
            requests: vec![Request::Tool(request)],
            sealed: false,
        }
    }
}

/// Returns whether `path` is `above` or lies below it.
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
    /// Decides a line: the strictest of the decisions on the connection and the request on it.
    pub fn rehearse(&self, probe: &Probe) -> (Request, Decision) {
        self.rehearse_above(probe, Origin::Builtin)
    }

    pub(crate) fn rehearse_above(&self, probe: &Probe, floor: Origin) -> (Request, Decision) {
        let mut worst: Option<(Request, Decision)> = None;
        let mut is_read = !probe.sealed;
        for request in &probe.requests {
            let request = &self.as_seen(request);
            let decision = match request {
                Request::File(file) if file.workspace_relative.is_none() => self.outside(file),
                request if let Some(decision) = self.no_host(request) => decision,
                _ => self.decide_above(request, &Approvals::none(), floor),
            };
            if request.kind() == RequestKind::Http && !is_read {
                continue;
            }
            is_read |= decision.http_only || decision.terms.inspect;
            let stricter = worst
                .as_ref()
                .is_none_or(|(_, old)| decision.verdict > old.verdict);
            if stricter {
                worst = Some((request.clone(), decision));
            }
        }
        // A probe is never empty; if one were, it would be denied.
        worst.unwrap_or_else(|| {
            let request = Request::Exec(ExecRequest::default());
            let decision = self.decide(&request, &Approvals::none());
            (request, decision)
        })
    }
}

impl Policy {
    /// Names a service of the machine, reached through a loopback address, as a run does.
    fn as_seen(&self, request: &Request) -> Request {
        let mut seen = request.clone();
        let (host, port) = match &mut seen {
            Request::Net(net) => (&mut net.host, net.port),
            Request::Http(http) => (&mut http.host, http.port),
            Request::Name(_)
            | Request::Exec(_)
            | Request::File(_)
            | Request::Port(_)
            | Request::Tool(_)
            | Request::Definition(_) => {
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

    /// Returns a run's decision about names and addresses that mean something on one machine only,
    /// regardless of rules: the session's own loopback is not judged, and other such names do not
    /// exist.
    fn no_host(&self, request: &Request) -> Option<Decision> {
        let network = &self.settings().network;
        let (host, service) = match request {
            Request::Net(net) => (net.host.clone(), Some((&net.host, net.port))),
            Request::Http(http) => (http.host.clone(), Some((&http.host, http.port))),
            Request::Name(name) => (Host::Name(name.name.clone()), None),
            Request::Exec(_)
            | Request::File(_)
            | Request::Port(_)
            | Request::Tool(_)
            | Request::Definition(_) => {
                return None;
            }
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

    /// Returns a run's decision about a file outside the workspace: the view decides, not the
    /// rules.
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
    /// The names of the stages of each path, if the test says whom a question asks.
    asked: Option<Vec<Vec<String>>>,
    origin: Origin,
    /// The problem to report if the policy answers differently.
    problem: Problem,
}

/// Reads `[tests.NAME]`.
pub(crate) fn read(file: &mut File<'_>, top: &Fields<'_>) -> Vec<Expectation> {
    let mut tests = Vec::new();
    let Some(all) = top.open_table(file, "tests") else {
        return tests;
    };
    for name in all.keys() {
        let known = ["allow", "ask", "deny", "stages", "alternatives"];
        let Some(test) = all.table(file, name, &known) else {
            continue;
        };
        let asked = asked(file, &test);
        for expected in [Verdict::Allow, Verdict::Ask, Verdict::Deny] {
            for at in test.texts(file, expected.as_str()).unwrap_or_default() {
                match Probe::parse(&at.value) {
                    Ok(probe) => {
                        // Reporting the problem computes its place; remove it again until the test
                        // fails.
                        file.problem(&at.span, &at.field, "");
                        if let Some(problem) = file.problems.pop() {
                            let origin = file.source.origin;
                            let line = at.value;
                            let asked = asked.clone().filter(|_| expected == Verdict::Ask);
                            tests.push(Expectation {
                                probe,
                                line,
                                expected,
                                asked,
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

/// Reads whom the questions of a test ask.
fn asked(file: &mut File<'_>, test: &Fields<'_>) -> Option<Vec<Vec<String>>> {
    for (key, needs) in [("stages", "ask"), ("alternatives", "stages")] {
        if let Some(at) = test.value(key).filter(|_| !test.has(needs)) {
            let message = format!("it says whom the lines of `{needs}` ask, and there are none");
            file.problem(&at.span, &at.field, message);
        }
    }
    let (_, paths) = read_review::paths(file, test)?;
    let names = |path: Vec<At<String>>| path.into_iter().map(|at| at.value).collect();
    Some(paths.into_iter().map(names).collect())
}

/// Returns the names of the stages that a decision asks.
fn stages(decision: &Decision) -> Vec<Vec<String>> {
    let paths = decision
        .review()
        .into_iter()
        .flat_map(|review| &review.paths);
    let names = |path: &Vec<Stage>| path.iter().map(|stage| stage.name.clone()).collect();
    paths.map(names).collect()
}

fn in_words(paths: &[Vec<String>]) -> String {
    if paths.is_empty() {
        return "nobody in a role".to_owned();
    }
    let path = |path: &Vec<String>| format!("`{}`", shown(&path.join(", then ")));
    let paths: Vec<String> = paths.iter().map(path).collect();
    paths.join(" or ")
}

/// Runs tests and returns those that fail.
pub(crate) fn run(policy: &Policy, tests: &[Expectation]) -> Vec<Problem> {
    let mut failed = Vec::new();
    for test in tests {
        let (_, decision) = policy.rehearse_above(&test.probe, test.origin);
        let found = stages(&decision);
        let message = if decision.verdict != test.expected {
            let by = decision
                .rule
                .map_or_else(|| "no rule".to_owned(), |id| format!("rule `{id}`"));
            format!(
                "is {} ({by}: {}), expected {}",
                decision.verdict, decision.reason, test.expected
            )
        } else if let Some(wanted) = test.asked.as_ref().filter(|wanted| **wanted != found) {
            format!("asks {}, expected {}", in_words(&found), in_words(wanted))
        } else {
            continue;
        };
        failed.push(Problem {
            message: format!("test failed: `{}` {message}", shown(&test.line)),
            ..test.problem.clone()
        });
    }
    failed
}
