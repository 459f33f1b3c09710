//! Where in a request a credential stands: each kind has one place.

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use stockade_policy::{CredentialKind, has_secret_part};
use stockade_types::RawText;

use super::aws;
use crate::{
    http::{Field, Head},
    scrub::{Letters, percent_encoded},
};

const AUTHORIZATION: &str = "authorization";

/// As tolerant as servers are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A place in a request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the value of the field with this name.
    Field(Vec<u8>),
    /// In the user and password of a field with this name, which are in base64.
    Login(Vec<u8>),
    /// In the name of a field.
    Name,
    /// In path or query.
    Path,
}

/// A placeholder that a request has.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its number among all.
    pub(super) number: usize,
    pub(super) place: Place,
}

/// Whether the program wrote the place of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It has a placeholder there.
    Placeholder,
    /// It wrote nothing.
    Nothing,
}

/// Finds all placeholders.
pub(super) fn found(head: &Head, placeholders: &AhoCorasick) -> Vec<Found> {
    let mut all = Vec::new();
    let mut look = |bytes: &[u8], place: &dyn Fn() -> Place| {
        all.extend(placeholders.find_iter(bytes).map(|found| Found {
            number: found.pattern().as_usize(),
            place: place(),
        }));
    };
    look(head.path.as_bytes(), &|| Place::Path);
    for field in head.fields.iter() {
        look(field.name, &|| Place::Name);
        look(field.value, &|| {
            Place::Field(field.name.to_ascii_lowercase())
        });
        if let Some(login) = login(field.value) {
            look(&login, &|| Place::Login(field.name.to_ascii_lowercase()));
        }
    }
    all
}

impl Place {
    /// Says where it is, after `it stands`.
    pub(super) fn describe(&self) -> String {
        let named = |name: &[u8]| RawText::from_bytes(name).display();
        match self {
            Self::Field(name) => format!("in the field `{}`", named(name)),
            Self::Login(name) => format!("in the login of the field `{}`", named(name)),
            Self::Name => "in the name of a field".to_owned(),
            Self::Path => "in the path or query".to_owned(),
        }
    }
}

/// Says how a credential of a kind is sent, after `send it as`.
pub(super) fn expected(kind: &CredentialKind) -> String {
    match kind {
        CredentialKind::Bearer => "`Authorization: Bearer …`".to_owned(),
        CredentialKind::Basic { .. } | CredentialKind::GitHttps { .. } => {
            "user or password of `Authorization: Basic …`".to_owned()
        }
        CredentialKind::Header { name } => format!("the whole of `{name}: …`"),
        CredentialKind::Query { parameter } => format!("the parameter `{parameter}=…`"),
        CredentialKind::Refresh => "`refresh_token` of a body".to_owned(),
        CredentialKind::Kept => "nothing".to_owned(),
        CredentialKind::AwsSigv4 { .. } => {
            "the access key of `Authorization: AWS4-HMAC-SHA256 …`".to_owned()
        }
    }
}

/// Tells whether a placeholder stands where a credential of this kind does.
pub(super) fn is_right(
    place: &Place,
    head: &Head,
    kind: &CredentialKind,
    placeholder: &str,
) -> bool {
    let placeholder = placeholder.as_bytes();
    let is = |name: &[u8], wanted: &str| name == wanted.as_bytes();
    let mut fields = head.fields.iter();
    match (kind, place) {
        (CredentialKind::Bearer, Place::Field(name)) => {
            is(name, AUTHORIZATION)
                && fields.any(|field| {
                    field.is(AUTHORIZATION)
                        && word(field.value)
                            .is_some_and(|(_, rest)| has_secret_part(rest, placeholder))
                })
        }
        (CredentialKind::Header { name: own }, Place::Field(name)) => {
            is(name, own) && fields.any(|field| field.is(own) && field.value == placeholder)
        }
        (CredentialKind::Basic { .. } | CredentialKind::GitHttps { .. }, Place::Login(name)) => {
            is(name, AUTHORIZATION)
                && fields.any(|field| {
                    let login = field.is(AUTHORIZATION).then(|| login(field.value));
                    let login = login.flatten();
                    login.is_some_and(|login| replaced_login(&login, placeholder, b"").is_some())
                })
        }
        (CredentialKind::AwsSigv4 { .. }, Place::Field(name)) => {
            let placeholder = std::str::from_utf8(placeholder).unwrap_or_default();
            is(name, AUTHORIZATION) && aws::is_signed(head, placeholder)
        }
        (CredentialKind::Query { parameter }, Place::Path) => {
            replaced_query(head.path.as_bytes(), parameter, (placeholder, b"")).is_some()
        }
        _ => false,
    }
}

/// Tells whether a request has nothing where a credential of this kind stands.
pub(super) fn is_free(head: &Head, kind: &CredentialKind) -> bool {
    let has = |name: &str| head.fields.iter().any(|field| field.is(name));
    match kind {
        CredentialKind::Bearer | CredentialKind::Basic { .. } | CredentialKind::GitHttps { .. } => {
            !has(AUTHORIZATION)
        }
        CredentialKind::Header { name } => !has(name),
        // Whether a request is to be signed is up to the program; the others stand in no head.
        CredentialKind::AwsSigv4 { .. } | CredentialKind::Refresh | CredentialKind::Kept => false,
        CredentialKind::Query { parameter } => !parameters(head.path.as_bytes())
            .any(|one| one.split(|b| *b == b'=').next() == Some(parameter.as_bytes())),
    }
}

/// Puts a value where the placeholder is, or where nothing is.
pub(super) fn put(
    head: &mut Head,
    written: Written,
    kind: &CredentialKind,
    (placeholder, value): (&str, &str),
) {
    if let CredentialKind::Query { parameter } = kind {
        return put_query(head, written, parameter, (placeholder, value));
    }
    match written {
        Written::Nothing => {
            if let Some((name, value)) = new_field(kind, value) {
                head.fields.add(Field {
                    name: name.as_bytes(),
                    value: value.as_bytes(),
                });
            }
        }
        Written::Placeholder => {
            let fields = std::mem::take(&mut head.fields);
            for field in fields.iter() {
                let new = replaced_field(field, kind, (placeholder.as_bytes(), value.as_bytes()));
                head.fields.add(Field {
                    name: field.name,
                    value: new.as_deref().unwrap_or(field.value),
                });
            }
        }
    }
}

/// Returns the field that is added for a credential that stands in one.
fn new_field(kind: &CredentialKind, value: &str) -> Option<(String, String)> {
    let basic = |login: &str| format!("Basic {}", BASE64.encode(login));
    let authorization = |value| ("Authorization".to_owned(), value);
    Some(match kind {
        CredentialKind::Bearer => authorization(format!("Bearer {value}")),
        CredentialKind::Basic { user: None } => authorization(basic(value)),
        CredentialKind::Basic { user: Some(user) } | CredentialKind::GitHttps { user } => {
            authorization(basic(&format!("{user}:{value}")))
        }
        CredentialKind::Header { name } => (name.clone(), value.to_owned()),
        // No field, or none that has the value.
        CredentialKind::Query { .. }
        | CredentialKind::AwsSigv4 { .. }
        | CredentialKind::Refresh
        | CredentialKind::Kept => return None,
    })
}

fn replaced_field(
    field: Field<'_>,
    kind: &CredentialKind,
    (placeholder, value): (&[u8], &[u8]),
) -> Option<Vec<u8>> {
    match kind {
        CredentialKind::Bearer => {
            let (scheme, rest) = word(field.value).filter(|_| field.is(AUTHORIZATION))?;
            has_secret_part(rest, placeholder).then(|| [scheme, b" ", value].concat())
        }
        CredentialKind::Header { name } => {
            (field.is(name) && field.value == placeholder).then(|| value.to_owned())
        }
        CredentialKind::Basic { .. } | CredentialKind::GitHttps { .. } => {
            let (scheme, _) = word(field.value).filter(|_| field.is(AUTHORIZATION))?;
            let new = replaced_login(&login(field.value)?, placeholder, value)?;
            Some([scheme, b" ", BASE64.encode(new).as_bytes()].concat())
        }
        CredentialKind::Query { .. }
        | CredentialKind::AwsSigv4 { .. }
        | CredentialKind::Refresh
        | CredentialKind::Kept => None,
    }
}

/// Splits `Scheme rest`.
fn word(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = value.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = value.split_at(at);
    Some((scheme, rest.trim_ascii_start()))
}

/// Returns `user:password` of a field in the form of `Authorization: Basic`.
fn login(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = word(value)?;
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    BASE64.decode(rest).ok()
}

/// Puts `value` in the place of a user, a password or both that are the placeholder.
fn replaced_login(login: &[u8], placeholder: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    if login == placeholder {
        return Some(value.to_owned());
    }
    if let Some(user) = login
        .strip_suffix(placeholder)
        .filter(|user| user.ends_with(b":"))
    {
        return Some([user, value].concat());
    }
    let password = login.strip_prefix(placeholder)?;
    password
        .starts_with(b":")
        .then(|| [value, password].concat())
}

fn put_query(
    head: &mut Head,
    written: Written,
    parameter: &str,
    (placeholder, value): (&str, &str),
) {
    let value = percent_encoded(value, Letters::Upper);
    let path = head.path.as_bytes();
    let new = match written {
        Written::Placeholder => {
            let pair = (placeholder.as_bytes(), value.as_bytes());
            replaced_query(path, parameter, pair)
        }
        Written::Nothing => {
            let mark: &[u8] = if path.contains(&b'?') { b"&" } else { b"?" };
            Some([path, mark, parameter.as_bytes(), b"=", value.as_bytes()].concat())
        }
    };
    if let Some(new) = new {
        head.path = RawText::from_bytes(new);
    }
}

/// Puts `value` in the place of a parameter that is the placeholder.
fn replaced_query(
    path: &[u8],
    parameter: &str,
    (placeholder, value): (&[u8], &[u8]),
) -> Option<Vec<u8>> {
    let wanted = [parameter.as_bytes(), b"=", placeholder].concat();
    let start = path.iter().position(|b| *b == b'?')? + 1;
    let (before, query) = path.split_at(start);
    let mut parts: Vec<&[u8]> = query.split(|b| *b == b'&').collect();
    let one = parts.iter_mut().find(|part| **part == wanted.as_slice())?;
    let new = [parameter.as_bytes(), b"=", value].concat();
    *one = &new;
    Some([before, &parts.join(&b'&')].concat())
}

fn parameters(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let query = path.iter().position(|b| *b == b'?');
    let query = query.and_then(|at| path.get(at + 1..)).unwrap_or_default();
    query.split(|b| *b == b'&')
}
