//! A request, made again of the record of its decision.

use serde::Deserialize as _;
use stockade_policy::{
    ExecRequest, FileRequest, HttpRequest, Meaning, NameRequest, NetRequest, PortRequest, Request,
    ToolRequest, Unrecorded,
};
use stockade_types::{
    Access, DecisionRecord, Digest, Host, HostName, Port, RawText, RequestKind, Subject, Target,
};

use crate::Missing;

/// What became of a record.
pub(crate) enum Rebuilt {
    /// The request, and what of it is not certain by its form.
    Request(Box<Request>, Option<Missing>),
    /// No rule is about such a thing.
    NotOfRules,
    /// It cannot be made again.
    Lost,
}

/// What an execution came to, which is an event of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Started {
    /// The program that the process was permitted to run.
    pub(crate) exe: RawText,
    /// SHA-256 of it, if it was read.
    pub(crate) digest: Option<Digest>,
    /// A `#!` line names an interpreter.
    pub(crate) is_script: bool,
}

/// Makes the request of a decision again. `workspace` is the workspace of the session, `started` what is known of
/// an execution that happened.
pub(crate) fn request(
    record: &DecisionRecord,
    workspace: &RawText,
    started: Option<&Started>,
) -> Rebuilt {
    let (target, subject) = (&record.target, &record.subject);
    let lost = || Rebuilt::Lost;
    match record.kind {
        RequestKind::Exec => exec(target, subject, started),
        RequestKind::Net => match endpoint(target) {
            Some((host, port)) => certain(Request::Net(NetRequest {
                host,
                port,
                subject: subject.clone(),
            })),
            None => lost(),
        },
        RequestKind::Http => http(target, subject).unwrap_or_else(lost),
        RequestKind::Name => match target.host.as_deref().and_then(name) {
            Some(name) => certain(Request::Name(NameRequest {
                name,
                subject: subject.clone(),
            })),
            None => Rebuilt::NotOfRules,
        },
        RequestKind::File => match (&target.path, target.access) {
            (Some(path), Some(access)) => file((path, access), workspace, subject),
            (None, _) | (_, None) => lost(),
        },
        RequestKind::Port => match target.port.and_then(Port::new) {
            Some(port) => certain(Request::Port(PortRequest {
                port,
                subject: subject.clone(),
            })),
            None => lost(),
        },
        RequestKind::Tool => match &target.tool {
            Some(tool) => {
                let server = target.server.as_ref().map(RawText::as_bytes);
                let made = ToolRequest::new(tool.as_bytes(), server, b"{}", subject.clone());
                certain(Request::Tool(ToolRequest {
                    workspace: Some(workspace.clone()),
                    ..made
                }))
            }
            None => lost(),
        },
        RequestKind::Definition => Rebuilt::Lost,
        RequestKind::Call | RequestKind::Credential => Rebuilt::NotOfRules,
    }
}

fn certain(request: Request) -> Rebuilt {
    Rebuilt::Request(Box::new(request), None)
}

fn endpoint(target: &Target) -> Option<(Host, Port)> {
    let host = target.host.as_ref()?.parse().ok()?;
    Some((host, Port::new(target.port?)?))
}

/// Reads a name that was looked up. Records of some sorts (SRV) are judged by the name behind labels that begin
/// with `_`.
fn name(text: &str) -> Option<HostName> {
    let mut rest = text;
    while let Some((first, behind)) = rest
        .split_once('.')
        .filter(|(first, _)| first.starts_with('_'))
    {
        debug_assert!(!first.is_empty(), "it begins with a byte");
        rest = behind;
    }
    rest.parse().ok()
}

fn exec(target: &Target, subject: &Subject, started: Option<&Started>) -> Rebuilt {
    let Some(program) = target.path.clone() else {
        return Rebuilt::Lost;
    };
    // The strictest of several programs was recorded: whether there were others is known by what started.
    let is_alone = started.is_some_and(|started| {
        started.exe == program && !started.is_script && !is_loader(program.as_bytes())
    });
    let request = Request::Exec(ExecRequest {
        invoked_as: target.raw_path.clone().unwrap_or_else(|| program.clone()),
        program,
        digest: started.and_then(|started| started.digest),
        argv: target.argv.clone(),
        cwd: target.cwd.clone().unwrap_or_default(),
        subject: subject.clone(),
        ..ExecRequest::default()
    });
    let missing = (!is_alone).then_some(Missing::Interpreter);
    Rebuilt::Request(Box::new(request), missing)
}

/// Tells whether a program has the name of a dynamic loader, which loads another one.
fn is_loader(path: &[u8]) -> bool {
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let base = String::from_utf8_lossy(base);
    base.starts_with("ld") && base.contains(".so")
}

fn http(target: &Target, subject: &Subject) -> Option<Rebuilt> {
    let (host, port) = endpoint(target)?;
    let read = |value| Meaning::deserialize(value).ok();
    let meaning: Vec<Meaning> = target.meant.iter().filter_map(read).collect();
    // Long meanings are recorded in words alone.
    let is_whole = meaning.len() == target.meaning.len();
    let request = Request::Http(HttpRequest {
        host,
        port,
        method: target.method.clone()?,
        path: target.path.clone()?,
        meaning,
        shown: None,
        subject: subject.clone(),
    });
    let missing = (!is_whole).then_some(Missing::Fact(Unrecorded::Meaning));
    Some(Rebuilt::Request(Box::new(request), missing))
}

/// Makes the request of a change of a file. Rules are about the workspace alone.
pub(crate) fn file(
    (path, access): (&RawText, Access),
    workspace: &RawText,
    subject: &Subject,
) -> Rebuilt {
    let below = path.as_bytes().strip_prefix(workspace.as_bytes());
    let relative = match below {
        Some(b"") => Some(&b""[..]),
        Some(rest) => rest.strip_prefix(b"/"),
        None => None,
    };
    let is_within = relative.is_some() && !workspace.as_bytes().is_empty();
    let request = Request::File(FileRequest {
        path: path.clone(),
        workspace_relative: relative.map(RawText::from_bytes),
        access,
        content: None,
        subject: subject.clone(),
    });
    Rebuilt::Request(Box::new(request), (!is_within).then_some(Missing::Place))
}
