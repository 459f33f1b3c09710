//! What somebody inside the boundary wants to do, as the enforcement points see it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use stockade_types::{Digest, Host, HostName, Port, RawText, RequestKind, Subject, Target};

use crate::pattern::host::twin;

/// One effect that is about to happen.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A program is about to run.
    Exec(ExecRequest),
    /// A connection to a host and port.
    Net(NetRequest),
    /// One HTTP request that can be read.
    Http(HttpRequest),
    /// A name is looked up.
    Name(NameRequest),
    /// A file is about to be changed.
    File(FileRequest),
    /// A port of the session is about to be on the machine's loopback.
    Port(PortRequest),
}

/// A program is about to run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Canonical path of the file inside the boundary.
    pub program: RawText,
    /// Path as it was given to `execve`.
    pub invoked_as: RawText,
    /// Other names that the same file is known by, for example of a copy of git.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// SHA-256 of the file.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Argument vector with `argv[0]`.
    pub argv: Vec<RawText>,
    /// Directory it would run in.
    pub cwd: RawText,
    /// Every variable that it would have, in order; rules look here.
    #[serde(default)]
    pub environment: Vec<(RawText, RawText)>,
    /// The variables that are not what they were when the session started; answers bind these.
    #[serde(default)]
    pub differing: Vec<Variable>,
    /// The other files that take part: the script, its interpreters, what a loader loads.
    #[serde(default)]
    pub involved: Vec<Involved>,
    /// What is known of its effect beyond its arguments.
    #[serde(default)]
    pub effects: Vec<Effect>,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

impl ExecRequest {
    /// Tells whether every file that takes part is known by its content.
    pub fn is_known_by_content(&self) -> bool {
        self.digest.is_some() && self.involved.iter().all(|file| file.digest.is_some())
    }
}

/// A variable that is not what it was when the session started.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: RawText,
    /// Its value; `None` where it was set at the start and is not any more.
    #[serde(default)]
    pub value: Option<RawText>,
}

/// Another file that takes part in an execution.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Involved {
    /// Canonical path inside the boundary.
    pub path: RawText,
    /// SHA-256 of the file; `None` where it is not known.
    #[serde(default)]
    pub digest: Option<Digest>,
}

/// Something that an execution would do, found out before it is asked about.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What it is, in a word or two: `to`, `refs`, …
    pub label: String,
    /// The thing itself.
    pub text: RawText,
    /// Which answers bind it.
    pub bound: EffectBound,
}

/// Which answers bind an effect.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum EffectBound {
    /// All: a grant for the session covers nothing that differs in it.
    Always,
    /// Only those for counted uses: it changes with the work itself, as commits do.
    Exact,
}

/// A connection to a host and port.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NetRequest {
    /// Name or address.
    pub host: Host,
    /// TCP port.
    pub port: Port,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

/// One HTTP request whose bytes can be read.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Name or address of the connection, which the `Host` header was checked against.
    pub host: Host,
    /// TCP port of the connection.
    pub port: Port,
    /// Method, as sent.
    pub method: String,
    /// Path with query.
    pub path: RawText,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

/// A name is looked up.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NameRequest {
    /// The name.
    pub name: HostName,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

/// A port of the session is about to be on the machine's loopback, under the same number.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// Where a program of the session listens.
    pub port: Port,
    /// The program that listens.
    #[serde(default)]
    pub subject: Subject,
}

/// A file is about to be changed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Canonical path inside the boundary.
    pub path: RawText,
    /// Path below the workspace, where it is in the workspace.
    #[serde(default)]
    pub workspace_relative: Option<RawText>,
    /// What would happen to it.
    pub access: Access,
    /// What would be there afterwards, where all of it is known and shown: without it a protected
    /// file is refused, with it somebody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<FileContent>,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

/// What protected files would have in them after a change; an answer holds for this alone.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// Hash over each path with what would be there.
    pub digest: Digest,
    /// What is shown of it.
    pub effects: Vec<Effect>,
}

impl FileContent {
    /// Makes the content of files, by path: the bytes of each, or nothing where it goes.
    pub fn new<'f>(
        files: impl IntoIterator<Item = (&'f RawText, Option<&'f [u8]>)>,
        effects: Vec<Effect>,
    ) -> Self {
        let mut hash = Canonical::new(b"stockade content 1");
        for (path, bytes) in files {
            hash.field(path.as_bytes());
            match bytes {
                Some(bytes) => hash.field(b"is").field(bytes),
                None => hash.field(b"goes"),
            };
        }
        Self {
            digest: hash.finish(),
            effects,
        }
    }
}

/// What would happen to a file.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Its content changes.
    Write,
    /// It comes into being.
    Create,
    /// It is removed.
    Remove,
    /// It gets another name, or something else takes its name.
    Rename,
    /// Its mode, owner, times or attributes change.
    Mode,
}

impl Access {
    /// All of them, for messages and parsers.
    pub const ALL: [Self; 5] = [
        Self::Write,
        Self::Create,
        Self::Remove,
        Self::Rename,
        Self::Mode,
    ];

    /// Returns the lowercase word used in policy files and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Create => "create",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Mode => "mode",
        }
    }
}

impl Request {
    /// Returns what sort of effect it is.
    pub const fn kind(&self) -> RequestKind {
        match self {
            Self::Exec(_) => RequestKind::Exec,
            Self::Net(_) => RequestKind::Net,
            Self::Http(_) => RequestKind::Http,
            Self::Name(_) => RequestKind::Name,
            Self::File(_) => RequestKind::File,
            Self::Port(_) => RequestKind::Port,
        }
    }

    /// Returns who wants it.
    pub const fn subject(&self) -> &Subject {
        match self {
            Self::Exec(r) => &r.subject,
            Self::Net(r) => &r.subject,
            Self::Http(r) => &r.subject,
            Self::Name(r) => &r.subject,
            Self::File(r) => &r.subject,
            Self::Port(r) => &r.subject,
        }
    }

    /// Returns what it is aimed at, as records and prompts show it.
    pub fn target(&self) -> Target {
        match self {
            Self::Exec(r) => Target {
                path: Some(r.program.clone()),
                raw_path: (r.invoked_as != r.program).then(|| r.invoked_as.clone()),
                argv: r.argv.clone(),
                cwd: Some(r.cwd.clone()),
                ..Target::default()
            },
            Self::Net(r) => Target {
                host: Some(r.host.to_string()),
                port: Some(r.port.get()),
                ..Target::default()
            },
            Self::Http(r) => Target {
                host: Some(r.host.to_string()),
                port: Some(r.port.get()),
                method: Some(r.method.clone()),
                path: Some(r.path.clone()),
                ..Target::default()
            },
            Self::Name(r) => Target {
                host: Some(r.name.to_string()),
                ..Target::default()
            },
            Self::File(r) => Target {
                path: Some(r.path.clone()),
                access: Some(r.access.as_str().to_owned()),
                ..Target::default()
            },
            Self::Port(r) => Target {
                host: Some(Ipv4Addr::LOCALHOST.to_string()),
                port: Some(r.port.get()),
                ..Target::default()
            },
        }
    }

    /// Returns the hash of the exact request: all that gives it its meaning, but no time.
    ///
    /// For `exec` that is the file, both of its names, every file that takes part with its content,
    /// the arguments, the directory, the variables that differ from the start, and the known
    /// effects. For `net` it is host, port and the file that asks; `http` adds method and path;
    /// `file` is path, access, the content where it is known, and the file that asks; `port` is the
    /// port and the file that listens.
    pub fn digest(&self) -> Digest {
        let mut hash = Canonical::new(b"stockade request 2");
        match self {
            Self::Exec(r) => {
                hash.field(b"exec").field(r.invoked_as.as_bytes());
                hash.exec_identity(r);
                hash.effects(&r.effects, &[EffectBound::Always, EffectBound::Exact]);
            }
            Self::Net(r) => {
                hash.field(b"net").endpoint(&r.host, r.port);
                hash.field(r.subject.exe.as_bytes());
            }
            Self::Http(r) => {
                hash.field(b"http").endpoint(&r.host, r.port);
                hash.field(r.method.as_bytes()).field(r.path.as_bytes());
                hash.field(r.subject.exe.as_bytes());
            }
            Self::Name(r) => {
                hash.field(b"name").field(r.name.as_str().as_bytes());
                hash.field(r.subject.exe.as_bytes());
            }
            Self::File(r) => {
                hash.file(r).field(r.subject.exe.as_bytes());
            }
            Self::Port(r) => {
                hash.field(b"port").field(&r.port.get().to_be_bytes());
                hash.field(r.subject.exe.as_bytes());
            }
        }
        hash.finish()
    }

    /// Returns the hash of what a grant wider than counted uses binds: what was shown to the person.
    ///
    /// `exec`: as the exact request, without the spelling of the path, without what changes with
    /// the work itself, and for a push whose place is known without the flags that change neither
    /// place nor branches; the others as the exact request, of any program. `net` is host and port, of which 80 and 443 are
    /// one,
    /// and there a host and its `www.` are one. `port` is any port: no grant about one is wider than
    /// counted uses, and who wants no more such questions wants none about any.
    pub fn shape(&self) -> Digest {
        let mut hash = Canonical::new(b"stockade shape 2");
        match self {
            Self::Exec(r) => {
                let bound = without_quiet_flags(r);
                hash.field(b"exec")
                    .exec_identity(bound.as_ref().unwrap_or(r));
                hash.effects(&r.effects, &[EffectBound::Always]);
            }
            Self::Net(r) => return Self::endpoint_shape(&r.host, r.port),
            Self::Http(r) => {
                hash.field(b"http").endpoint(&r.host, r.port);
                hash.field(r.method.as_bytes()).field(r.path.as_bytes());
            }
            Self::Name(r) => {
                hash.field(b"name").field(r.name.as_str().as_bytes());
            }
            Self::File(r) => {
                hash.file(r);
            }
            Self::Port(_) => {
                hash.field(b"port");
            }
        }
        hash.finish()
    }

    /// Returns the shape of the connection that carries the request, for `net` and `http`.
    pub(crate) fn connection_shape(&self) -> Option<Digest> {
        match self {
            Self::Net(r) => Some(Self::endpoint_shape(&r.host, r.port)),
            Self::Http(r) => Some(Self::endpoint_shape(&r.host, r.port)),
            Self::Exec(_) | Self::Name(_) | Self::File(_) | Self::Port(_) => None,
        }
    }

    /// Returns the other host that an answer about this connection is for: that with or without `www.`
    /// in front, on the ports of the web.
    pub fn twin(&self) -> Option<HostName> {
        match self {
            Self::Net(r) => twin_of(&r.host, r.port),
            Self::Exec(_) | Self::Http(_) | Self::Name(_) | Self::File(_) | Self::Port(_) => None,
        }
    }

    /// Both ports of the web are one door, and each site sends its visitors to one of its two names: a
    /// host that is asked about on one is on the other.
    fn endpoint_shape(host: &Host, port: Port) -> Digest {
        let mut hash = Canonical::new(b"stockade shape 2");
        if WEB_PORTS.contains(&port.get()) {
            let name = host.to_string();
            let other = twin_of(host, port).map(|other| other.to_string());
            let shorter = other
                .filter(|other| other.len() < name.len())
                .unwrap_or(name);
            hash.field(b"web").field(shorter.as_bytes());
            return hash.finish();
        }
        hash.field(b"net").endpoint(host, port);
        hash.finish()
    }
}

/// Ports of the web.
pub(crate) const WEB_PORTS: [u16; 2] = [443, 80];

/// Returns the twin of a host of the web.
pub(crate) fn twin_of(host: &Host, port: Port) -> Option<HostName> {
    match host {
        Host::Name(name) if WEB_PORTS.contains(&port.get()) => twin(name),
        Host::Name(_) | Host::Address(_) => None,
    }
}

/// Flags of `git push` that change neither where it goes nor what it does there.
pub(crate) const QUIET_PUSH_FLAGS: [&str; 7] = [
    "-q",
    "-u",
    "-v",
    "--progress",
    "--quiet",
    "--set-upstream",
    "--verbose",
];

/// Returns a push that is known to the end without flags that change nothing of it there; `None` for
/// anything else.
fn without_quiet_flags(request: &ExecRequest) -> Option<ExecRequest> {
    let has = |label: &str| request.effects.iter().any(|effect| effect.label == label);
    let [git, push, rest @ ..] = request.argv.as_slice() else {
        return None;
    };
    let known = has("to") && has("refs") && !has("! or") && push.as_bytes() == b"push";
    known.then(|| {
        let is_quiet = |word: &&RawText| {
            let mut flags = QUIET_PUSH_FLAGS.iter();
            flags.any(|flag| flag.as_bytes() == word.as_bytes())
        };
        // What follows another option could be its value.
        let quiet = rest.iter().take_while(is_quiet).count();
        let kept = rest.iter().skip(quiet).cloned();
        ExecRequest {
            argv: [git.clone(), push.clone()]
                .into_iter()
                .chain(kept)
                .collect(),
            ..request.clone()
        }
    })
}

/// A hash over fields with their lengths, so that no two different lists of fields collide.
pub(crate) struct Canonical(Sha256);

impl Canonical {
    pub(crate) fn new(domain: &[u8]) -> Self {
        let mut hash = Self(Sha256::new());
        hash.field(domain);
        hash
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len());
        self.0.update(bytes);
        self
    }

    fn number(&mut self, number: usize) -> &mut Self {
        // `usize` is at most 64 bits wide on every target, so nothing is lost.
        self.0
            .update(u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes());
        self
    }

    fn endpoint(&mut self, host: &Host, port: Port) -> &mut Self {
        self.field(host.to_string().as_bytes())
            .field(&port.get().to_be_bytes())
    }

    fn exec_identity(&mut self, request: &ExecRequest) -> &mut Self {
        self.content(&request.program, request.digest.as_ref())
            .field(request.cwd.as_bytes())
            .number(request.argv.len());
        for word in &request.argv {
            self.field(word.as_bytes());
        }
        self.number(request.involved.len());
        for file in &request.involved {
            self.content(&file.path, file.digest.as_ref());
        }
        // Of one name that comes several times the order says which one counts.
        let mut variables: Vec<&Variable> = request.differing.iter().collect();
        variables.sort_by(|a, b| a.name.cmp(&b.name));
        self.number(variables.len());
        for variable in variables {
            self.field(variable.name.as_bytes());
            match &variable.value {
                Some(value) => self.field(b"is").field(value.as_bytes()),
                None => self.field(b"unset"),
            };
        }
        self
    }

    fn content(&mut self, path: &RawText, digest: Option<&Digest>) -> &mut Self {
        let digest: &[u8] = digest.map_or(&[], |digest| digest.as_bytes());
        self.field(path.as_bytes()).field(digest)
    }

    fn effects(&mut self, effects: &[Effect], bound: &[EffectBound]) {
        for effect in effects.iter().filter(|one| bound.contains(&one.bound)) {
            self.field(effect.label.as_bytes())
                .field(effect.text.as_bytes());
        }
    }

    fn file(&mut self, request: &FileRequest) -> &mut Self {
        self.field(b"file")
            .field(request.path.as_bytes())
            .field(request.access.as_str().as_bytes());
        if let Some(content) = &request.content {
            self.field(content.digest.as_bytes());
        }
        self
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}
