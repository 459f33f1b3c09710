//! Credentials that programs inside use without having them: where the value is, in which part of a
//! request it stands, and for which requests it is put there.
//!
//! A policy never holds a value. What programs inside have is a placeholder; the egress process puts
//! the value in its place after a request was decided.

mod login;
mod read;
mod ssh_key;
mod standing;
mod token;

use std::fmt;

use stockade_types::{Host, Port, RuleId, Verdict};

use crate::{
    Origin,
    kinds::{join, net::NetBody},
    request_path::RequestPath,
};

pub use login::LoginField;
pub(crate) use login::{read as read_logins, strays};
pub(crate) use read::read;
pub use ssh_key::{SshKey, SshKeySource};
pub use standing::Outside;
pub(crate) use standing::Unused;
pub use token::{has_secret_part, secret_part, with_secret_part};

/// Methods by which a server answers with the request itself (RFC 9110 section 9.3.8; `TRACK` does the
/// same), so that no credential is ever sent with them.
const ECHOING: [&str; 2] = ["TRACE", "TRACK"];

/// One credential.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Its name in messages and records.
    pub id: RuleId,
    /// In which part of a request it stands.
    pub kind: CredentialKind,
    /// Where its value is outside.
    pub source: CredentialSource,
    /// The variable inside that holds the placeholder; without it programs send nothing, and the
    /// value is added.
    pub variable: Option<String>,
    /// Its layer.
    pub origin: Origin,
    /// Its place, as `file:line`.
    pub place: String,
    /// It may be sent without TLS.
    pub plain: bool,
    /// Without its variable outside there is no such credential, instead of no session.
    optional: bool,
    /// The variable with the address that a client uses it for.
    address: Option<String>,
    bounds: NetBody,
}

/// The part of a request in which a credential stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `Authorization: Bearer VALUE` (RFC 6750), or another word than `Bearer` that the program wrote.
    Bearer,
    /// `Authorization: Basic …` (RFC 7617).
    Basic {
        /// The user, where the value is only the password; else the value is `user:password`.
        user: Option<String>,
    },
    /// A field of its own.
    Header {
        /// Its name in lowercase.
        name: String,
    },
    /// A parameter of the query.
    Query {
        /// Its name.
        parameter: String,
    },
    /// What git sends over HTTPS: `Basic`, with the value as password.
    GitHttps {
        /// The user.
        user: String,
    },
    /// A signature of AWS, made with the value, which is `ID:SECRET` or `ID:SECRET:TOKEN`.
    AwsSigv4 {
        /// The one region that it is for.
        region: Option<String>,
        /// The one service that it is for.
        service: Option<String>,
    },
    /// The member `refresh_token` of a body with which new tokens are got (RFC 6749 section 6).
    Refresh,
    /// None: it is sent nowhere.
    Kept,
}

impl CredentialKind {
    /// Returns the word used in policy files.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Basic { .. } => "basic",
            Self::Header { .. } => "header",
            Self::Query { .. } => "query",
            Self::GitHttps { .. } => "git-https",
            Self::AwsSigv4 { .. } => "aws-sigv4",
            Self::Refresh => "refresh",
            Self::Kept => "kept",
        }
    }

    /// Tells whether the value itself is sent, so that an answer can have it.
    pub const fn is_sent(&self) -> bool {
        match self {
            Self::Bearer
            | Self::Basic { .. }
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::GitHttps { .. }
            | Self::Refresh
            | Self::Kept => true,
            Self::AwsSigv4 { .. } => false,
        }
    }

    /// Returns the parts of a value that are secret.
    pub fn secrets<'v>(&self, value: &'v str) -> Vec<&'v str> {
        match self {
            Self::Bearer
            | Self::Basic { .. }
            | Self::Header { .. }
            | Self::Query { .. }
            | Self::GitHttps { .. }
            | Self::Refresh
            | Self::Kept => vec![value],
            // The id of an access key is no secret.
            Self::AwsSigv4 { .. } => value.split(':').skip(1).collect(),
        }
    }
}

/// Variables from which clients of AWS take the two parts of an access key.
pub const AWS_VARIABLES: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// Where the value of a credential is, outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A variable of the caller.
    Variable(String),
    /// The first line of a file that only its owner can read; `~/…` or absolute.
    File(String),
    /// The first line that a command of the caller prints.
    Command(Vec<String>),
    /// A token in the login file of an agent, which the agent has renewed from time to time.
    Login(LoginField),
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable `{name}`"),
            Self::File(path) => write!(f, "the file `{path}`"),
            Self::Command(argv) => write!(f, "the command `{}`", argv.join(" ")),
            Self::Login(LoginField { file, field, .. }) => {
                write!(f, "the field `{field}` of the file `{file}`")
            }
        }
    }
}

/// Why a credential is not for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFor {
    /// Another host.
    Host,
    /// Another port.
    Port,
    /// Another method, or one whose answer is the request.
    Method,
    /// Another path, or one that servers read in different ways.
    Path,
    /// The request is not inside TLS.
    Plain,
}

impl NotFor {
    /// Returns the word for what does not fit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Port => "port",
            Self::Method => "method",
            Self::Path => "path",
            Self::Plain => "connection without TLS",
        }
    }
}

/// A request as credentials see it.
#[derive(Clone, Copy, Debug)]
pub struct CredentialUse<'a> {
    /// Where the connection leads.
    pub host: &'a Host,
    /// Its port.
    pub port: Port,
    /// Method, as sent.
    pub method: &'a str,
    /// Path with query.
    pub path: &'a [u8],
    /// It is inside TLS that is opened.
    pub sealed: bool,
}

impl Credential {
    /// Returns which token of a login it is, if it is one.
    pub const fn login(&self) -> Option<&LoginField> {
        match &self.source {
            CredentialSource::Login(login) => Some(login),
            CredentialSource::Variable(_)
            | CredentialSource::File(_)
            | CredentialSource::Command(_) => None,
        }
    }

    /// Tells whether it is put into requests in whose place for it nothing stands.
    pub const fn is_added(&self) -> bool {
        self.variable.is_none() && self.login().is_none()
    }

    /// Tells whether it is for some request to this host and port.
    pub fn is_bound_to(&self, host: &Host, port: Port) -> bool {
        self.reaches(host, port).is_ok()
    }

    /// Tells whether it may be sent with a request.
    ///
    /// # Errors
    /// What of the request does not fit.
    pub fn fits(&self, request: CredentialUse<'_>) -> Result<(), NotFor> {
        self.reaches(request.host, request.port)?;
        if !request.sealed && !self.plain {
            return Err(NotFor::Plain);
        }
        let named = |own: &String| own == request.method;
        let methods = self.bounds.methods.as_ref();
        if ECHOING.contains(&request.method) || methods.is_some_and(|own| !own.iter().any(named)) {
            return Err(NotFor::Method);
        }
        if let Some(paths) = &self.bounds.paths {
            let path = RequestPath::new(request.path);
            if !paths.iter().any(|own| path.allows(own)) {
                return Err(NotFor::Path);
            }
        }
        Ok(())
    }

    /// Returns whether TLS to a host and port has to be opened for it.
    pub(crate) fn opens(&self, host: &Host, port: u16) -> bool {
        Port::new(port).is_some_and(|port| self.is_bound_to(host, port))
    }

    /// Returns the conditions, for messages.
    pub fn conditions(&self) -> String {
        conditions(&self.bounds)
    }

    /// Returns the hosts and requests that it is for.
    pub(crate) const fn bounds(&self) -> &NetBody {
        &self.bounds
    }

    /// Returns whether it may be missing, and the variable with the address that it is used for.
    pub(crate) fn limits(&self) -> (bool, Option<&str>) {
        (self.optional, self.address.as_deref())
    }

    fn reaches(&self, host: &Host, port: Port) -> Result<(), NotFor> {
        reaches(&self.bounds, host, port)
    }
}

/// Tells whether a host and port are among those of a credential.
fn reaches(bounds: &NetBody, host: &Host, port: Port) -> Result<(), NotFor> {
    let mut matching = bounds.hosts.iter();
    let mut found = NotFor::Host;
    matching
        .any(|at| {
            if !at.pattern.matches(host) {
                return false;
            }
            found = NotFor::Port;
            match at.port {
                Some(own) => own == port,
                None => bounds.ports.contain(port.get()),
            }
        })
        .then_some(())
        .ok_or(found)
}

/// Says for what a credential is.
fn conditions(bounds: &NetBody) -> String {
    let text = bounds.to_string();
    text.strip_prefix("net ").unwrap_or(&text).to_owned()
}

/// One credential as `policy show` prints it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedCredential {
    /// Its id.
    pub id: RuleId,
    /// Its kind, as in policy files.
    pub kind: &'static str,
    /// Where its value is; never the value.
    pub from: String,
    /// The variable inside that holds the placeholder.
    pub variable: Option<String>,
    /// The requests that it is sent with, in words.
    pub conditions: String,
    /// Its layer.
    pub origin: Origin,
    /// Its place, as `file:line`.
    pub source: String,
}

impl From<&Credential> for ListedCredential {
    fn from(own: &Credential) -> Self {
        Self {
            id: own.id.clone(),
            kind: own.kind.as_str(),
            from: own.source.to_string(),
            variable: own.variable.clone(),
            conditions: own.conditions(),
            origin: own.origin,
            source: own.place.clone(),
        }
    }
}

/// Most credentials of one policy: a request is looked through for each of them, and as many keys of ssh.
const CREDENTIALS_MAX: usize = 32;
/// Effect by which the hosts of a credential are read: as wide as what allows.
const EFFECT: Verdict = Verdict::Allow;

/// Joins names for a message.
fn names(list: &[&str]) -> String {
    join(list)
}
