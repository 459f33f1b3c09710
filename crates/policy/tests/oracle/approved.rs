//! The requests that an answer covers, found by comparing requests field by field.

use std::collections::BTreeSet;

use stockade_policy::Request;
use stockade_types::UnixMillis;

/// An answer to a question, as the reference keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) request: Request,
    pub(crate) rules: BTreeSet<String>,
    /// Its scope is wider than counted uses.
    pub(crate) wide: bool,
    pub(crate) until: Option<UnixMillis>,
    /// The request at hand is on a connection that was opened with it.
    pub(crate) carries: bool,
}

impl Given {
    pub(crate) fn holds(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|end| now < end)
    }

    /// Whether it covers the request itself.
    pub(crate) fn covers(&self, request: &Request) -> bool {
        if self.wide {
            is_alike(&self.request, request)
        } else {
            is_same(&self.request, request)
        }
    }

    pub(crate) fn answers(&self, rule: &str, about_connections: bool, request: &Request) -> bool {
        let by_connection = about_connections
            && (self.wide || self.carries)
            && matches!(request, Request::Http(_))
            && is_on(&self.request, request);
        self.rules.contains(rule) && (self.covers(request) || by_connection)
    }
}

/// Whether the second is a request on the first, which is a connection, or on an equal one.
fn is_on(connection: &Request, request: &Request) -> bool {
    match (connection, request) {
        (Request::Net(a), Request::Http(b)) => {
            door(&a.host.to_string(), a.port.get()) == door(&b.host.to_string(), b.port.get())
        }
        _ => false,
    }
}

/// Both web ports count as one, and on them a name and its `www.` count as one.
fn door(host: &str, port: u16) -> (String, u16) {
    if [80, 443].contains(&port) {
        let bare = host.strip_prefix("www.").unwrap_or(host);
        return (bare.to_owned(), 443);
    }
    (host.to_owned(), port)
}

/// Exactly the same, by the same program.
fn is_same(a: &Request, b: &Request) -> bool {
    match (a, b) {
        (Request::Net(a), Request::Net(b)) => a == b,
        (Request::Http(a), Request::Http(b)) => a == b,
        (Request::Name(a), Request::Name(b)) => a == b,
        (Request::File(a), Request::File(b)) => a == b,
        (Request::Exec(x), Request::Exec(y)) => x.invoked_as == y.invoked_as && is_alike(a, b),
        _ => false,
    }
}

/// The same as shown, by any program.
fn is_alike(a: &Request, b: &Request) -> bool {
    match (a, b) {
        (Request::Net(a), Request::Net(b)) => {
            door(&a.host.to_string(), a.port.get()) == door(&b.host.to_string(), b.port.get())
        }
        (Request::Http(a), Request::Http(b)) => {
            (&a.host, a.port, &a.method, &a.path) == (&b.host, b.port, &b.method, &b.path)
        }
        (Request::Name(a), Request::Name(b)) => a.name == b.name,
        (Request::File(a), Request::File(b)) => (&a.path, a.access) == (&b.path, b.access),
        (Request::Exec(a), Request::Exec(b)) => {
            (&a.program, a.digest, &a.cwd, &a.argv) == (&b.program, b.digest, &b.cwd, &b.argv)
        }
        _ => false,
    }
}
