//! `[[login]]`: the tokens in the login file of an agent, as credentials.

use stockade_types::RuleId;

use super::{CREDENTIALS_MAX, Credential, CredentialKind, CredentialSource, EFFECT};
use crate::{
    HostSets, Origin, Settings,
    fields::{Fields, File, missing, shown, values},
    kinds::net::{self, NetBody},
    view_path::view_path,
};

const FIELDS: [&str; 12] = [
    "id",
    "file",
    "access",
    "refresh",
    "identity",
    "keys",
    "expires_ms",
    "hosts",
    "ports",
    "paths",
    "endpoint",
    "inside",
];
/// The port of a login that names none.
const PORT: u16 = 443;
/// The method by which tokens are got (RFC 6749 section 3.2).
const METHOD: &str = "POST";

/// A token in the login file of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginField {
    /// The login.
    pub login: RuleId,
    /// The file: the place of a directory of `[[filesystem.state]]`, and the name of one of its logins.
    pub file: String,
    /// Where in the file it is, as `a.b`.
    pub field: String,
    /// How the answer with new tokens names it (RFC 6749 section 5.1); none, if it never has it.
    pub member: Option<&'static str>,
    /// Where in the file it is said until when it is valid, in milliseconds since 1970.
    pub expires_ms: Option<String>,
}

/// Reads one file's logins into the credentials of the layers above it.
pub(crate) fn read(
    file: &mut File<'_>,
    top: &Fields<'_>,
    sets: &HostSets,
    known: &mut Vec<Credential>,
) {
    for fields in top.tables(file, "login", &FIELDS) {
        let Some(id) = id(file, &fields) else {
            continue;
        };
        let is_own = |own: &Credential| own.login().is_some_and(|field| field.login == id);
        let old = known.iter().find(|own| is_own(own));
        if let Some(old) = old {
            // What a preset says is a default.
            if old.origin != Origin::Builtin || file.source.origin == Origin::Builtin {
                let message = format!("`{id}` is already used at {}", old.place);
                file.problem(&fields.span(), &fields.field("id"), message);
                continue;
            }
        }
        let Some(new) = login(file, &fields, sets, &id) else {
            continue;
        };
        known.retain(|own| !is_own(own));
        let named = new.iter().find_map(Credential::login);
        let is_same = |own: &&Credential| {
            let other = own.login().zip(named);
            other.is_some_and(|(other, named)| other.file == named.file)
        };
        if let Some(other) = known.iter().find(is_same).and_then(Credential::login) {
            let message = format!(
                "`{file}` is the file of the login `{id}`; write that as `id` to replace it",
                file = shown(&other.file),
                id = other.login,
            );
            file.problem(&fields.span(), &fields.field("file"), message);
            continue;
        }
        if known.len() + new.len() > CREDENTIALS_MAX {
            let message = format!("more credentials than a session can have ({CREDENTIALS_MAX})");
            file.problem(&fields.span(), &fields.field("id"), message);
        } else {
            known.extend(new);
        }
    }
}

/// Says which logins name a file that is no login of a state directory, so that nothing inside has it: the
/// place in a policy, and what is wrong.
pub(crate) fn strays(credentials: &[Credential], settings: &Settings) -> Vec<(String, String)> {
    let is_known = |file: &str| {
        settings.filesystem.state.iter().any(|state| {
            let name = file.strip_prefix(state.value.path.as_str());
            let name = name.and_then(|rest| rest.strip_prefix('/'));
            state
                .value
                .logins
                .iter()
                .any(|login| Some(login.file.as_str()) == name)
        })
    };
    let stray = |own: &Credential| {
        let login = own.login()?;
        let message = format!(
            "`{}` is no file of `[[filesystem.state.logins]]`, so no session has it; name it there",
            shown(&login.file)
        );
        (!is_known(&login.file)).then(|| (own.place.clone(), message))
    };
    credentials.iter().filter_map(stray).collect()
}

fn id(file: &mut File<'_>, fields: &Fields<'_>) -> Option<RuleId> {
    missing(file, fields, "id", "a name for messages and records");
    fields.parsed::<RuleId>(file, "id").map(|at| at.value)
}

/// A login as it is written.
struct Written {
    login: RuleId,
    file: String,
    expires_ms: Option<String>,
    place: String,
    origin: Origin,
}

impl Written {
    /// Makes the credential of one of its tokens.
    fn token(
        &self,
        kind: CredentialKind,
        (name, field): (&str, String),
        member: Option<&'static str>,
        bounds: &NetBody,
    ) -> Option<Credential> {
        let source = LoginField {
            login: self.login.clone(),
            file: self.file.clone(),
            field,
            member,
            expires_ms: self.expires_ms.clone(),
        };
        Some(Credential {
            id: format!("{}-{name}", self.login).parse().ok()?,
            kind,
            source: CredentialSource::Login(source),
            variable: None,
            origin: self.origin,
            place: self.place.clone(),
            plain: false,
            optional: true,
            address: None,
            bounds: bounds.clone(),
        })
    }
}

/// Reads one login as the credentials that it is made of; none, if it is to be inside.
fn login(
    file: &mut File<'_>,
    fields: &Fields<'_>,
    sets: &HostSets,
    id: &RuleId,
) -> Option<Vec<Credential>> {
    let before = file.problems.len();
    if fields.flag(file, "inside").is_some_and(|at| at.value) {
        return Some(Vec::new());
    }
    for (key, why) in [
        (
            "file",
            "the file with the login, for example \"~/.agent/auth.json\"",
        ),
        (
            "access",
            "where in it the token is that requests carry, for example \"tokens.access\"",
        ),
    ] {
        missing(file, fields, key, why);
    }
    let path = path(file, fields);
    let access = field(file, fields, "access");
    let refresh = field(file, fields, "refresh");
    let identity = field(file, fields, "identity");
    let expires_ms = field(file, fields, "expires_ms");
    let keys = fields
        .list(file, "keys", keys_of)
        .map(values)
        .unwrap_or_default();
    let bounds = net::bounds(file, fields, (EFFECT, PORT), sets);
    let endpoint = endpoint(file, fields, sets);
    if !fields.has("endpoint") && (refresh.is_some() || identity.is_some()) {
        let message = "missing; where the agent gets new tokens, for example { hosts = \
                       [\"auth.agent.test\"], paths = [\"/oauth/token\"] }";
        file.problem(&fields.span(), &fields.field("endpoint"), message);
    }
    let (Some(path), Some(access), Some(bounds)) = (path, access, bounds) else {
        return None;
    };
    let written = Written {
        login: id.clone(),
        file: path,
        expires_ms,
        place: file.place(&fields.span()),
        origin: file.source.origin,
    };
    let (bearer, access) = (CredentialKind::Bearer, ("access", access));
    let mut all = vec![written.token(bearer, access, Some("access_token"), &bounds)?];
    for (number, key) in (1..).zip(keys) {
        let name = format!("key-{number}");
        all.push(written.token(CredentialKind::Bearer, (&name, key), None, &bounds)?);
    }
    if let Some(endpoint) = &endpoint {
        let refresh = refresh.map(|field| ("refresh", field));
        let identity = identity.map(|field| ("identity", field));
        for (kind, part, member) in [
            (CredentialKind::Refresh, refresh, "refresh_token"),
            (CredentialKind::Kept, identity, "id_token"),
        ] {
            if let Some(part) = part {
                all.push(written.token(kind, part, Some(member), endpoint)?);
            }
        }
    }
    (file.problems.len() == before).then_some(all)
}

fn path(file: &mut File<'_>, fields: &Fields<'_>) -> Option<String> {
    let at = fields.text(file, "file")?;
    match view_path(&at.value) {
        Ok(path) => Some(path),
        Err(message) => {
            file.problem(&at.span, &at.field, message);
            None
        }
    }
}

/// Reads where in a file of JSON something is.
fn field(file: &mut File<'_>, fields: &Fields<'_>, key: &str) -> Option<String> {
    let at = fields.text(file, key)?;
    match keys_of(&at.value) {
        Ok(keys) => Some(keys),
        Err(message) => {
            file.problem(&at.span, &at.field, message);
            None
        }
    }
}

fn keys_of(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.split('.').all(|key| !key.is_empty()) {
        return Ok(text.to_owned());
    }
    let text = shown(text);
    Err(format!(
        "`{text}` must be keys with points between, as `tokens.access`"
    ))
}

/// Reads the requests by which new tokens are got.
fn endpoint(file: &mut File<'_>, fields: &Fields<'_>, sets: &HostSets) -> Option<NetBody> {
    let table = fields.table(file, "endpoint", &["hosts", "ports", "paths"])?;
    missing(file, &table, "paths", "for example [\"/oauth/token\"]");
    let bounds = net::bounds(file, &table, (EFFECT, PORT), sets)?;
    Some(NetBody {
        methods: Some(vec![METHOD.to_owned()]),
        ..bounds
    })
}
