//! What a process inside the boundary wants to do, as the enforcement points see it.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, HostName, RequestKind, Subject, Target};

use crate::{
    canonical::Canonical,
    kinds::{
        definition::DefinitionRequest,
        exec::ExecRequest,
        file::FileRequest,
        net::{Below, HttpRequest, NameRequest, NetRequest, endpoint_shape, twin_of},
        port::PortRequest,
        tool::ToolRequest,
    },
};

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
    /// A port of the session is about to be published on the machine's loopback.
    Port(PortRequest),
    /// An agent is about to use a tool.
    Tool(ToolRequest),
    /// A model is about to read tools of a server that are not known as they are.
    Definition(DefinitionRequest),
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
            Self::Tool(_) => RequestKind::Tool,
            Self::Definition(_) => RequestKind::Definition,
        }
    }

    /// Returns the process that wants it.
    pub const fn subject(&self) -> &Subject {
        match self {
            Self::Exec(r) => &r.subject,
            Self::Net(r) => &r.subject,
            Self::Http(r) => &r.subject,
            Self::Name(r) => &r.subject,
            Self::File(r) => &r.subject,
            Self::Port(r) => &r.subject,
            Self::Tool(r) => &r.subject,
            Self::Definition(r) => &r.subject,
        }
    }

    /// Returns its target, as records and prompts show it.
    pub fn target(&self) -> Target {
        match self {
            Self::Exec(r) => r.target(),
            Self::Net(r) => r.target(),
            Self::Http(r) => r.target(),
            Self::Name(r) => r.target(),
            Self::File(r) => r.target(),
            Self::Port(r) => r.target(),
            Self::Tool(r) => r.target(),
            Self::Definition(r) => r.target(),
        }
    }

    /// Returns the hash of the exact request: everything that gives it its meaning, without the
    /// time.
    ///
    /// For `exec` that is the file, both of its names, every file that takes part with its content,
    /// the arguments, the directory, the variables that differ from the start, and the known
    /// effects. For `net` it is host, port and the file that asks; `http` adds method and path;
    /// `file` is path, access, the content if it is known, and the file that asks; `port` is the
    /// port and the file that listens; `tool` is the tool, its server, the arguments as they were sent,
    /// and the file that asks; `definition` is the server, what its tools are and the file that shows them
    /// to a model.
    pub fn digest(&self) -> Digest {
        let mut hash = Canonical::new(b"stockade request 2");
        match self {
            Self::Exec(r) => r.hash(&mut hash),
            Self::Net(r) => r.hash(&mut hash),
            Self::Http(r) => r.hash(&mut hash),
            Self::Name(r) => r.hash(&mut hash),
            Self::File(r) => r.hash(&mut hash),
            Self::Port(r) => r.hash(&mut hash),
            Self::Tool(r) => r.hash(&mut hash),
            Self::Definition(r) => r.hash(&mut hash),
        }
        hash.finish()
    }

    /// Returns the hash that a grant wider than counted uses binds: what the person saw.
    ///
    /// `exec` is as in the exact request, but without the spelling of the path and without effects
    /// that change as the work proceeds; a push whose destination is known is also without the
    /// flags that change neither destination nor branches. The others are as in the exact request,
    /// but of any program. `net` is host and port; 80 and 443 count as one, and on these a host and
    /// its `www.` count as one. `port` is any port: no grant about a port is wider than counted
    /// uses, and a person who wants no more such questions wants none about any port. `tool` is the
    /// tool and its server, with any arguments.
    pub fn shape(&self) -> Digest {
        let mut hash = Canonical::new(b"stockade shape 2");
        match self {
            Self::Exec(r) => r.hash_shape(&mut hash),
            Self::Net(r) => return endpoint_shape(&r.host, r.port),
            Self::Http(r) => r.hash_shape(&mut hash),
            Self::Name(r) => r.hash_shape(&mut hash),
            Self::File(r) => r.hash_shape(&mut hash),
            Self::Port(r) => r.hash_shape(&mut hash),
            Self::Tool(r) => r.hash_shape(&mut hash),
            Self::Definition(r) => r.hash_shape(&mut hash),
        }
        hash.finish()
    }

    /// Returns the shape of the connection that carries the request, for `net` and `http`.
    pub(crate) fn connection_shape(&self) -> Option<Digest> {
        match self {
            Self::Net(r) => Some(endpoint_shape(&r.host, r.port)),
            Self::Http(r) => Some(endpoint_shape(&r.host, r.port)),
            Self::Exec(_)
            | Self::Name(_)
            | Self::File(_)
            | Self::Port(_)
            | Self::Tool(_)
            | Self::Definition(_) => None,
        }
    }

    /// Returns the widest that an answer to a question about this request can be; `None` if it cannot
    /// be wider than the request.
    pub fn below(&self) -> Option<Below> {
        match self {
            Self::Http(r) => Below::around(r),
            Self::Exec(_)
            | Self::Net(_)
            | Self::Name(_)
            | Self::File(_)
            | Self::Port(_)
            | Self::Tool(_)
            | Self::Definition(_) => None,
        }
    }

    /// Tells whether this is certainly one of the requests below a path.
    pub(crate) fn is_below(&self, below: &Below) -> bool {
        match self {
            Self::Http(r) => below.covers(r),
            Self::Exec(_)
            | Self::Net(_)
            | Self::Name(_)
            | Self::File(_)
            | Self::Port(_)
            | Self::Tool(_)
            | Self::Definition(_) => false,
        }
    }

    /// Tells whether an answer for longer covers whatever means the same, rather than the same path.
    pub fn is_known_by_meaning(&self) -> bool {
        match self {
            Self::Http(r) => r.bound().is_some(),
            Self::Exec(_)
            | Self::Net(_)
            | Self::Name(_)
            | Self::File(_)
            | Self::Port(_)
            | Self::Tool(_)
            | Self::Definition(_) => false,
        }
    }

    /// Returns the other host that an answer about this connection covers: the one with or without
    /// a leading `www.`, on the web ports.
    pub fn twin(&self) -> Option<HostName> {
        match self {
            Self::Net(r) => twin_of(&r.host, r.port),
            Self::Exec(_)
            | Self::Http(_)
            | Self::Name(_)
            | Self::File(_)
            | Self::Port(_)
            | Self::Tool(_)
            | Self::Definition(_) => None,
        }
    }
}
