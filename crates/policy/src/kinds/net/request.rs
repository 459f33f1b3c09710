//! What is known of a connection, of a request on it, and of a name that is looked up.

use super::Meaning;
use serde::{Deserialize, Serialize};
use stockade_types::{Digest, Host, HostName, Port, RawText, Subject, Target};

use crate::{canonical::Canonical, pattern::host::twin};

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
    /// What it means, as far as its body was read too; policy itself reads the head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meaning: Vec<Meaning>,
    /// What people and records see of it, where it has secrets; decisions and answers are about the
    /// request as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<Box<HttpShown>>,
    /// Who wants it.
    #[serde(default)]
    pub subject: Subject,
}

/// What people and records see of a request in which something is hidden.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct HttpShown {
    /// Path with query; what was found stands in the place of each secret.
    pub path: RawText,
    /// The same of what it means.
    pub meaning: Vec<Meaning>,
}

impl HttpShown {
    /// Makes it from the whole: `hide` returns a text without its secrets, `None` where it has none.
    /// `None` where nothing has any.
    pub fn of(
        path: &RawText,
        meaning: &[Meaning],
        hide: &dyn Fn(&RawText) -> Option<RawText>,
    ) -> Option<Self> {
        let hidden = hide(path);
        let (meaning, meant): (Vec<_>, Vec<_>) = meaning.iter().map(|one| one.hide(hide)).unzip();
        (hidden.is_some() || meant.contains(&true)).then(|| Self {
            path: hidden.unwrap_or_else(|| path.clone()),
            meaning: meaning.into_iter().flatten().collect(),
        })
    }
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

impl NetRequest {
    pub(crate) fn target(&self) -> Target {
        Target {
            host: Some(self.host.to_string()),
            port: Some(self.port.get()),
            ..Target::default()
        }
    }

    /// Adds what makes it this request and no other.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        hash.field(b"net").endpoint(&self.host, self.port);
        hash.field(self.subject.exe.as_bytes());
    }
}

impl HttpRequest {
    pub(crate) fn target(&self) -> Target {
        Target {
            host: Some(self.host.to_string()),
            port: Some(self.port.get()),
            method: Some(self.method.clone()),
            path: Some(self.shown_path().clone()),
            meaning: self.shown_meaning().iter().map(Meaning::in_words).collect(),
            meant: self
                .shown_meaning()
                .iter()
                .filter_map(Meaning::typed)
                .collect(),
            ..Target::default()
        }
    }

    /// Returns its path as people and records see it.
    pub fn shown_path(&self) -> &RawText {
        self.shown.as_ref().map_or(&self.path, |shown| &shown.path)
    }

    /// Returns what it means as people and records see it.
    pub fn shown_meaning(&self) -> &[Meaning] {
        self.shown
            .as_ref()
            .map_or(&self.meaning, |shown| &shown.meaning)
    }

    /// Returns what it means if that says what it is: then it is the same whatever its path.
    pub(crate) fn bound(&self) -> Option<String> {
        match self.meaning.as_slice() {
            [meaning] => meaning.bound(),
            _ => None,
        }
    }

    /// Adds what was shown of it: the same whoever asks.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        if let Some(bound) = self.bound() {
            hash.field(b"meaning").endpoint(&self.host, self.port);
            hash.field(bound.as_bytes());
            return;
        }
        self.hash_request(hash);
    }

    fn hash_request(&self, hash: &mut Canonical) {
        hash.field(b"http").endpoint(&self.host, self.port);
        hash.field(self.method.as_bytes())
            .field(self.path.as_bytes());
    }

    /// Adds what makes it this request and no other.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        self.hash_request(hash);
        for meaning in &self.meaning {
            hash.field(format!("{meaning:?}").as_bytes());
        }
        hash.field(self.subject.exe.as_bytes());
    }
}

impl NameRequest {
    pub(crate) fn target(&self) -> Target {
        Target {
            host: Some(self.name.to_string()),
            ..Target::default()
        }
    }

    /// Adds what was shown of it: the same whoever asks.
    pub(crate) fn hash_shape(&self, hash: &mut Canonical) {
        hash.field(b"name").field(self.name.as_str().as_bytes());
    }

    /// Adds what makes it this request and no other.
    pub(crate) fn hash(&self, hash: &mut Canonical) {
        self.hash_shape(hash);
        hash.field(self.subject.exe.as_bytes());
    }
}

/// Both ports of the web are one door, and each site sends its visitors to one of its two names: a
/// host that is asked about on one is on the other.
pub(crate) fn endpoint_shape(host: &Host, port: Port) -> Digest {
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

/// Ports of the web.
pub(crate) const WEB_PORTS: [u16; 2] = [443, 80];

/// Returns the twin of a host of the web.
pub(crate) fn twin_of(host: &Host, port: Port) -> Option<HostName> {
    match host {
        Host::Name(name) if WEB_PORTS.contains(&port.get()) => twin(name),
        Host::Name(_) | Host::Address(_) => None,
    }
}
