//! What somebody inside the boundary wants to do, as the enforcement points see it.

use serde::{Deserialize, Serialize};
use stockade_types::{Digest, HostName, RequestKind, Subject, Target};

use crate::{
    canonical::Canonical,
    kinds::{
        exec::ExecRequest,
        file::FileRequest,
        net::{HttpRequest, NameRequest, NetRequest, endpoint_shape, twin_of},
        port::PortRequest,
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
    /// A port of the session is about to be on the machine's loopback.
    Port(PortRequest),
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
            Self::Exec(r) => r.target(),
            Self::Net(r) => r.target(),
            Self::Http(r) => r.target(),
            Self::Name(r) => r.target(),
            Self::File(r) => r.target(),
            Self::Port(r) => r.target(),
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
            Self::Exec(r) => r.hash(&mut hash),
            Self::Net(r) => r.hash(&mut hash),
            Self::Http(r) => r.hash(&mut hash),
            Self::Name(r) => r.hash(&mut hash),
            Self::File(r) => r.hash(&mut hash),
            Self::Port(r) => r.hash(&mut hash),
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
            Self::Exec(r) => r.hash_shape(&mut hash),
            Self::Net(r) => return endpoint_shape(&r.host, r.port),
            Self::Http(r) => r.hash_shape(&mut hash),
            Self::Name(r) => r.hash_shape(&mut hash),
            Self::File(r) => r.hash_shape(&mut hash),
            Self::Port(r) => r.hash_shape(&mut hash),
        }
        hash.finish()
    }

    /// Returns the shape of the connection that carries the request, for `net` and `http`.
    pub(crate) fn connection_shape(&self) -> Option<Digest> {
        match self {
            Self::Net(r) => Some(endpoint_shape(&r.host, r.port)),
            Self::Http(r) => Some(endpoint_shape(&r.host, r.port)),
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
}
