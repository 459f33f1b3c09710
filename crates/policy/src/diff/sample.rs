//! Requests that patterns match, to be tried on both policies.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use stockade_types::{Host, Port, RawText, Subject};

use super::{limits::SAMPLES_MAX, parts::Part};
use crate::{
    Access, ExecRequest, FileRequest, HttpRequest, NetRequest, Request, ToolRequest,
    kinds::{
        Body, WORKSPACE,
        exec::ExecBody,
        file::FileBody,
        net::{Condition, NetBody, Ports},
        tool::ToolBody,
    },
    pattern::{PathPattern, ProgramPattern},
};

/// Ports of a rule that is about all of them: those of the web, and one that nothing is known by.
const ANY_PORTS: [u16; 3] = [443, 80, 8443];
/// Ports of one rule that are tried.
const PORTS_MAX: usize = 3;
/// Methods and paths of one rule that are tried.
const HTTP_MAX: usize = 2;
/// Requests that clients of services make, for rules about what requests mean.
const SERVICES: [(&str, &str); 6] = [
    ("GET", "/team/repo.git/info/refs?service=git-upload-pack"),
    ("POST", "/team/repo.git/git-receive-pack"),
    ("GET", "/repos/team/repo"),
    ("POST", "/repos/team/repo/issues"),
    ("GET", "/example"),
    ("POST", "/v1/messages"),
];
/// The program of sample requests.
const PROGRAM: &str = "/usr/bin/example";

/// Makes samples of the patterns, those of changed ones first, without doubles.
pub(super) fn samples<'p>(parts: impl Iterator<Item = &'p Part<'p>>) -> Vec<Request> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for part in parts {
        for request in of_part(part) {
            if all.len() >= SAMPLES_MAX {
                return all;
            }
            if seen.insert(request.digest().to_string()) {
                all.push(request);
            }
        }
    }
    all
}

fn of_part(part: &Part<'_>) -> Vec<Request> {
    match &part.body {
        Body::Net(body) => net(body),
        Body::Exec(body) => exec(body).into_iter().collect(),
        Body::File(body) => file(body),
        Body::Tool(body) => tool(body).into_iter().collect(),
        // What a text in Cedar matches is not known; samples of other rules are tried.
        Body::Cedar(_) | Body::Control => Vec::new(),
    }
}

fn subject(programs: Option<&Vec<ProgramPattern>>) -> Subject {
    let named = programs.and_then(|own| own.iter().find_map(ProgramPattern::sample));
    Subject {
        exe: RawText::from(named.as_deref().unwrap_or(PROGRAM)),
        ..Subject::default()
    }
}

fn net(body: &NetBody) -> Vec<Request> {
    let Some(at) = body.hosts.first() else {
        return Vec::new();
    };
    let Some(host) = at.pattern.sample() else {
        return Vec::new();
    };
    let ports: Vec<u16> = match (at.port, &body.ports) {
        (Some(own), _) => vec![own.get()],
        (None, Ports::These(ports)) => ports.iter().copied().take(PORTS_MAX).collect(),
        (None, Ports::Every) => ANY_PORTS.to_vec(),
    };
    let subject = subject(body.programs.as_ref());
    let mut requests = Vec::new();
    for port in ports.into_iter().filter_map(Port::new) {
        requests.push(Request::Net(NetRequest {
            host: host.clone(),
            port,
            subject: subject.clone(),
        }));
        for (method, path) in lines(body) {
            requests.push(http(&host, port, (&method, &path), &subject));
        }
    }
    requests
}

/// Returns methods and paths of requests that a rule could be about.
fn lines(body: &NetBody) -> Vec<(String, String)> {
    let methods = body.methods.clone();
    let methods = methods.unwrap_or_else(|| vec!["GET".to_owned(), "POST".to_owned()]);
    let rooted = |pattern: &PathPattern| {
        let path = pattern.sample();
        if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        }
    };
    let mut lines = Vec::new();
    match (&body.paths, &body.meaning) {
        (
            _,
            Some(
                Condition::Git(_)
                | Condition::Package(_)
                | Condition::Forge(_)
                | Condition::Model(_),
            ),
        ) => {
            let services = SERVICES.iter();
            lines.extend(services.map(|(method, path)| ((*method).to_owned(), (*path).to_owned())));
        }
        (paths, None) => {
            let paths: Vec<String> = match paths {
                Some(paths) => paths.iter().take(HTTP_MAX).map(rooted).collect(),
                None => vec!["/".to_owned()],
            };
            for method in methods.iter().take(HTTP_MAX) {
                lines.extend(paths.iter().map(|path| (method.clone(), path.clone())));
            }
        }
    }
    lines
}

fn http(host: &Host, port: Port, (method, path): (&str, &str), subject: &Subject) -> Request {
    Request::Http(HttpRequest {
        host: host.clone(),
        port,
        method: method.to_owned(),
        path: RawText::from(path),
        meaning: Vec::new(),
        shown: None,
        subject: subject.clone(),
    })
}

fn exec(body: &ExecBody) -> Option<Request> {
    let words = body.commands.first()?.sample();
    let name = words.first()?;
    let named = |own: &ProgramPattern| own.sample();
    let program = body.programs.iter().flatten().find_map(named);
    let usual = || {
        if name.contains('/') {
            name.clone()
        } else {
            format!("/usr/bin/{name}")
        }
    };
    let program = program.unwrap_or_else(usual);
    let digest = body.programs.iter().flatten().find_map(|own| match own {
        ProgramPattern::Digest(digest) => Some(*digest),
        ProgramPattern::Path(_) => None,
    });
    let cwd = body.cwd.as_ref().and_then(|own| own.first());
    let cwd = cwd.map_or_else(|| WORKSPACE.to_owned(), PathPattern::sample);
    let variables = body.environment.iter().flatten();
    let variables = variables.map(|own| {
        let (name, value) = own.sample();
        (RawText::from(name.as_str()), RawText::from(value.as_str()))
    });
    Some(Request::Exec(ExecRequest {
        program: RawText::from(program.as_str()),
        invoked_as: RawText::from(program.as_str()),
        digest,
        argv: words
            .iter()
            .map(|word| RawText::from(word.as_str()))
            .collect(),
        cwd: RawText::from(cwd.as_str()),
        environment: variables.collect(),
        ..ExecRequest::default()
    }))
}

fn file(body: &FileBody) -> Vec<Request> {
    let Some(path) = body.paths.first().map(PathPattern::sample) else {
        return Vec::new();
    };
    let relative = if path.starts_with('/') {
        path.strip_prefix(&format!("{WORKSPACE}/"))
            .map(str::to_owned)
    } else {
        Some(path)
    };
    // Rules are about the workspace; elsewhere the view decides.
    let Some(relative) = relative else {
        return Vec::new();
    };
    let full = format!("{WORKSPACE}/{relative}");
    let access = body.access.clone();
    let access = access.unwrap_or_else(|| Access::ALL.to_vec());
    let one = |access| {
        Request::File(FileRequest {
            path: RawText::from(full.as_str()),
            workspace_relative: Some(RawText::from(relative.as_str())),
            access,
            content: None,
            subject: subject(None),
        })
    };
    access.into_iter().map(one).collect()
}

fn tool(body: &ToolBody) -> Option<Request> {
    let name = body.tools.first()?.sample();
    let server = body.servers.as_ref().and_then(|own| own.first());
    let server = server.map(crate::pattern::Glob::sample);
    let mut arguments = Map::new();
    for own in &body.arguments {
        let text = own.patterns.first()?.text();
        let text = crate::pattern::Glob::parse(text).ok()?.sample();
        arguments.insert(own.name.to_string(), Value::String(text));
    }
    let arguments = Value::Object(arguments).to_string();
    let server = server.as_ref().map(String::as_bytes);
    Some(Request::Tool(ToolRequest {
        workspace: Some(RawText::from(WORKSPACE)),
        ..ToolRequest::new(name.as_bytes(), server, arguments.as_bytes(), subject(None))
    }))
}

/// Writes a sample as the line that `policy test` reads.
pub(super) fn line(request: &Request) -> String {
    let target = request.target();
    let plain = match request {
        Request::Net(net) => format!("net {}:{}", net.host, net.port),
        Request::Http(http) => {
            let scheme = if http.port.get() == 80 {
                "http"
            } else {
                "https"
            };
            let port = match http.port.get() {
                80 | 443 => String::new(),
                other => format!(":{other}"),
            };
            format!(
                "net {} {scheme}://{}{port}{}",
                http.method,
                http.host,
                http.path.display()
            )
        }
        Request::Exec(_) => format!("exec {}", target.summary()),
        Request::File(file) => {
            let path = file.workspace_relative.as_ref().unwrap_or(&file.path);
            format!("file {} {}", file.access, path.display())
        }
        Request::Tool(tool) => match &tool.server {
            Some(server) => format!("tool mcp:{}/{}", server.display(), tool.tool.display()),
            None => format!("tool {}", tool.tool.display()),
        },
        Request::Name(_) | Request::Port(_) | Request::Definition(_) => target.summary(),
    };
    let by = match request {
        Request::Net(_) | Request::Http(_) => request.subject().exe.display(),
        Request::Exec(_)
        | Request::File(_)
        | Request::Tool(_)
        | Request::Name(_)
        | Request::Port(_)
        | Request::Definition(_) => String::new(),
    };
    if by.is_empty() || by == PROGRAM {
        plain
    } else {
        format!("{plain} by {by}")
    }
}
