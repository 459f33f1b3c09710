//! Keys of ssh: programs inside log in with them, and have only their public halves.

use std::fmt;

use stockade_types::{Host, Port, RuleId};

use super::{CREDENTIALS_MAX, Credential, EFFECT, ListedCredential, conditions, names, reaches};
use crate::{
    HostSets, Origin,
    fields::{At, Fields, File, missing, shown},
    kinds::net::{self, NetBody},
    view_path::view_path,
};

/// The word for the kind.
pub(super) const KIND: &str = "ssh-key";
/// The port of a key that names none.
const PORT: u16 = 22;
/// The variable inside that leads to the agent which signs with the keys.
const VARIABLE: &str = "SSH_AUTH_SOCK";
/// Fields that such a credential has.
const FIELDS: [&str; 6] = ["id", "kind", "source", "hosts", "ports", "users"];

/// A key of ssh that stays outside.
#[derive(Clone, Debug)]
pub struct SshKey {
    /// Its name in messages and records.
    pub id: RuleId,
    /// Where it is outside.
    pub source: SshKeySource,
    /// The users of the hosts whom it logs in as.
    pub users: Vec<String>,
    /// Its layer.
    pub origin: Origin,
    /// Its place, as `file:line`.
    pub place: String,
    bounds: NetBody,
}

/// Where a key of ssh is, outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SshKeySource {
    /// A file without a passphrase that only its owner can read; `~/…` or absolute.
    File(String),
    /// A key of the caller's ssh-agent, by its fingerprint (`SHA256:…`) or its comment.
    Agent(String),
}

impl fmt::Display for SshKeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file `{path}`"),
            Self::Agent(name) => write!(f, "the key `{name}` of your ssh-agent"),
        }
    }
}

impl SshKey {
    /// Tells whether it logs in at this host and port.
    pub fn is_bound_to(&self, host: &Host, port: Port) -> bool {
        reaches(&self.bounds, host, port).is_ok()
    }

    /// Returns the hosts that it is for.
    pub(crate) const fn bounds(&self) -> &NetBody {
        &self.bounds
    }

    /// Returns the hosts and users that it is for, for messages.
    pub fn conditions(&self) -> String {
        let users: Vec<&str> = self.users.iter().map(String::as_str).collect();
        format!("{} as {}", conditions(&self.bounds), names(&users))
    }
}

impl From<&SshKey> for ListedCredential {
    fn from(own: &SshKey) -> Self {
        Self {
            id: own.id.clone(),
            kind: KIND,
            from: own.source.to_string(),
            variable: Some(VARIABLE.to_owned()),
            conditions: own.conditions(),
            origin: own.origin,
            source: own.place.clone(),
        }
    }
}

/// Tells whether a credential is a key of ssh.
pub(super) fn is_one(fields: &Fields<'_>) -> bool {
    fields.value("kind").and_then(|at| at.value.as_str()) == Some(KIND)
}

/// Reads one key into those of the layers above it.
pub(super) fn read(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    sets: &HostSets,
    (known, keys): (&[Credential], &mut Vec<SshKey>),
) {
    let Some(new) = key(file, fields, sets) else {
        return;
    };
    let ids = known.iter().map(|old| (&old.id, &old.place));
    let mut ids = ids.chain(keys.iter().map(|old| (&old.id, &old.place)));
    let message = match ids.find(|(id, _)| **id == new.id) {
        Some((_, place)) => format!("`{}` is already used at {place}", new.id),
        None if keys.len() >= CREDENTIALS_MAX => {
            format!("more ssh keys than a session can have ({CREDENTIALS_MAX})")
        }
        None => return keys.push(new),
    };
    file.problem(&fields.span(), &fields.field("id"), message);
}

fn key(file: &mut File<'_>, fields: &Fields<'_>, sets: &HostSets) -> Option<SshKey> {
    let before = file.problems.len();
    for (name, why) in [
        ("id", "a name for messages and records"),
        (
            "source",
            "where the key is, for example { file = \"~/.ssh/id_ed25519\" }",
        ),
        (
            "users",
            "the users whom it logs in as, for example [\"git\"]",
        ),
    ] {
        missing(file, fields, name, why);
    }
    for name in fields.keys() {
        if let Some(at) = fields.value(name).filter(|_| !FIELDS.contains(&name)) {
            let message = format!(
                "a credential of kind {} does not have it; take it out",
                names(&[KIND])
            );
            file.problem(&at.span, &at.field, message);
        }
    }
    let id = fields.parsed::<RuleId>(file, "id");
    let source = source(file, fields);
    let users = fields.list(file, "users", user);
    let bounds = net::bounds(file, fields, (EFFECT, PORT), sets);
    let (Some(id), Some(source), Some(users), Some(bounds)) = (id, source, users, bounds) else {
        return None;
    };
    (file.problems.len() == before).then(|| SshKey {
        id: id.value,
        source,
        users: users.into_iter().map(|at| at.value).collect(),
        origin: file.source.origin,
        place: file.place(&fields.span()),
        bounds,
    })
}

/// Reads the name of a user of a host.
fn user(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+@\\".contains(&b);
    if !text.is_empty() && text.len() <= 255 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{}` is not the name of a user; patterns do not hold here",
        shown(text)
    ))
}

fn source(file: &mut File<'_>, fields: &Fields<'_>) -> Option<SshKeySource> {
    let table = fields.table(file, "source", &["file", "agent"])?;
    let path = table.text(file, "file");
    let agent: Option<At<String>> = table.text(file, "agent");
    if table.keys().len() != 1 {
        let message = "expected one of `file` and `agent`, for example { agent = \"SHA256:…\" }";
        file.problem(&table.span(), table.path(), message);
        return None;
    }
    let (at, message) = match (path, agent) {
        (Some(at), _) => match view_path(&at.value) {
            Ok(path) => return Some(SshKeySource::File(path)),
            Err(message) => (at, message),
        },
        (None, Some(at)) if !at.value.is_empty() => return Some(SshKeySource::Agent(at.value)),
        (None, Some(at)) => {
            let message = "expected the fingerprint or the comment that `ssh-add -l` shows";
            (at, message.to_owned())
        }
        (None, None) => return None,
    };
    file.problem(&at.span, &at.field, message);
    None
}
