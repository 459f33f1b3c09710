//! Credentials of a session: their values are found outside, and programs inside get placeholders.
//!
//! A value goes from its source to the egress process, and nowhere else: not to arguments, variables,
//! files or records.

mod logins;
mod placeholder;
mod sources;

use std::{collections::HashMap, path::Path};

use stockade_egress::HeldCredential;
use stockade_plan::CredentialFacts;
use stockade_policy::{
    AWS_VARIABLES, Credential, CredentialKind, CredentialSource, Outside, Policy,
};
use stockade_types::{RawText, Secret};

pub(crate) use self::logins::{HeldLogins, InsideFile, are_outside};
use self::{placeholder::Seed, sources::VALUE_BYTES_MIN};

pub(crate) use self::sources::value;
use crate::{RunError, caller::Caller};

/// What the plan shows where no session starts.
const SHOWN: &str = "PLACEHOLDER";
/// Variables by which clients of AWS have another access key than the one with the placeholder.
const AWS_OTHERS: [&str; 3] = ["AWS_PROFILE", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"];
/// How an address without TLS begins.
const PLAIN: &[u8] = b"http://";

/// Says which variables the caller has.
pub(crate) fn outside(environment: &[(RawText, RawText)]) -> Outside {
    let mut outside = Outside::default();
    for (name, value) in environment {
        let Ok(name) = std::str::from_utf8(name.as_bytes()) else {
            continue;
        };
        // Shorter ones are no keys: words such as `none`, for servers that want something there.
        if value.as_bytes().trim_ascii().len() < VALUE_BYTES_MIN {
            continue;
        }
        outside.set.insert(name.to_owned());
        let start = value.as_bytes().get(..PLAIN.len()).unwrap_or_default();
        if start.eq_ignore_ascii_case(PLAIN) {
            outside.plain.insert(name.to_owned());
        }
    }
    outside
}

/// Whether values are found, or only their places shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Find {
    /// A session starts and has a network.
    Values,
    /// One starts that has none: nothing will be sent, but files with logins are inside.
    Logins,
    /// Nothing will be sent.
    Nothing,
}

/// The credentials of a session, and what its owner should know of them.
pub(crate) struct Held {
    pub(crate) values: Vec<HeldCredential>,
    pub(crate) logins: HeldLogins,
    pub(crate) notes: Vec<String>,
}

/// Leaves only the credentials that the session has in the policy, finds their values, and puts
/// placeholders into the command and the variables that have one.
///
/// # Errors
/// When one has no value that can be used: a session without it would fail in ways that are hard to
/// understand.
pub(crate) fn hold(
    policy: &mut Policy,
    argv: &mut [RawText],
    caller: &mut Caller,
    find: Find,
    state_dir: &Path,
) -> Result<Held, RunError> {
    let mut notes = policy.settle_credentials(&outside(&caller.environment));
    let seed = match find {
        Find::Values | Find::Logins if !policy.credentials().is_empty() => {
            let seed = Seed::open(state_dir);
            Some(seed.map_err(RunError::Placeholders)?)
        }
        Find::Values | Find::Logins | Find::Nothing => None,
    };
    let (logins, tokens) = match &seed {
        Some(seed) => HeldLogins::find(policy, caller, seed),
        None => Default::default(),
    };
    notes.extend(logins.unfit());
    let seed = seed.filter(|_| find == Find::Values);
    let mut held = self::find(policy, caller, seed.as_ref())?;
    held.extend(tokens);
    let values = caller.environment.iter_mut().map(|(_, value)| value);
    for text in values.chain(argv) {
        *text = cover(text, policy, &held);
    }
    Ok(Held {
        values: held,
        logins,
        notes,
    })
}

/// Finds the value of each credential of the policy, and makes its placeholder.
fn find(
    policy: &Policy,
    caller: &Caller,
    seed: Option<&Seed>,
) -> Result<Vec<HeldCredential>, RunError> {
    let mut held: Vec<HeldCredential> = Vec::new();
    // What has one source has one placeholder: a client may send it in more than one way.
    let mut known: HashMap<String, (String, Secret<String>)> = HashMap::new();
    let others = policy.credentials().iter();
    for own in others.filter(|own| own.login().is_none()) {
        let shape = match &own.kind {
            CredentialKind::Basic { .. } | CredentialKind::AwsSigv4 { .. } => own.kind.as_str(),
            _ => "",
        };
        let key = format!("{shape} {:?}", own.source);
        let (placeholder, value) = match known.get(&key) {
            Some(known) => known.clone(),
            None => one(own, caller, seed)?,
        };
        known.insert(key, (placeholder.clone(), value.clone()));
        held.push(HeldCredential {
            id: own.id.clone(),
            placeholder,
            value,
        });
    }
    Ok(held)
}

fn one(
    own: &Credential,
    caller: &Caller,
    seed: Option<&Seed>,
) -> Result<(String, Secret<String>), RunError> {
    let Some(seed) = seed else {
        return Ok((SHOWN.to_owned(), Secret::new(String::new())));
    };
    let failed = |why: String| RunError::Credential {
        id: own.id.clone(),
        from: own.source.to_string(),
        why,
    };
    let value = sources::value(&own.source, caller).map_err(failed)?;
    let is_login = own.kind == CredentialKind::Basic { user: None };
    if is_login && !value.expose().contains(':') {
        return Err(failed(
            "is not `user:password`; add `user` if it is the password alone".to_owned(),
        ));
    }
    if matches!(own.kind, CredentialKind::AwsSigv4 { .. }) {
        access_key(value.expose()).map_err(failed)?;
        return Ok((seed.access_key(own.id.as_str()), value));
    }
    let placeholder = seed.placeholder(own.id.as_str(), value.expose(), is_login);
    Ok((placeholder, value))
}

/// Checks that a value is an access key of AWS.
fn access_key(value: &str) -> Result<(), String> {
    let parts: Vec<_> = value.split(':').collect();
    let is_key = matches!(parts.len(), 2 | 3)
        && parts.iter().all(|part| part.len() >= VALUE_BYTES_MIN)
        && parts
            .iter()
            .all(|part| part.bytes().all(|b| b.is_ascii_graphic()));
    let shape = "is not `ID:SECRET` or `ID:SECRET:TOKEN` of an access key";
    is_key.then_some(()).ok_or_else(|| shape.to_owned())
}

impl Held {
    /// Puts the placeholders where programs inside look for values.
    pub(crate) fn tell(&self, policy: &Policy) -> CredentialFacts {
        let mut facts = CredentialFacts::default();
        for own in policy.credentials() {
            if let CredentialSource::Variable(name) = &own.source {
                facts.withheld.push(name.clone());
            }
            let one = self.values.iter().find(|one| one.id == own.id);
            if let (CredentialKind::AwsSigv4 { .. }, Some(one)) = (&own.kind, one) {
                facts.withheld.extend(AWS_OTHERS.map(str::to_owned));
                let both = AWS_VARIABLES.map(|name| (name.to_owned(), one.placeholder.clone()));
                facts.placeholders.extend(both);
            } else if let (Some(name), Some(one)) = (&own.variable, one) {
                let placeholder = one.placeholder.clone();
                facts.placeholders.push((name.clone(), placeholder));
            }
        }
        facts
    }
}

/// Puts placeholders in the place of values that are part of a text, as of an address with a login.
fn cover(text: &RawText, policy: &Policy, held: &[HeldCredential]) -> RawText {
    let mut bytes = text.as_bytes().to_vec();
    for one in held {
        let mut own = policy.credentials().iter();
        let kind = own.find(|own| own.id == one.id).map(|own| &own.kind);
        let secrets = kind.map(|kind| kind.secrets(one.value.expose()));
        for secret in secrets.unwrap_or_default() {
            if !secret.is_empty() {
                bytes = replaced(&bytes, secret.as_bytes(), one.placeholder.as_bytes());
            }
        }
    }
    RawText::from_bytes(bytes)
}

fn replaced(text: &[u8], value: &[u8], other: &[u8]) -> Vec<u8> {
    let mut new = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(value.len()).position(|part| part == value) {
        new.extend_from_slice(rest.get(..at).unwrap_or_default());
        new.extend_from_slice(other);
        rest = rest.get(at + value.len()..).unwrap_or_default();
    }
    new.extend_from_slice(rest);
    new
}
