//! One token: a signed statement of a provider (RFC 7519 as OpenID Connect Core 1.0, section 3.1.3.7, and
//! RFC 8725 want it).

use serde_json::Value;
use stockade_types::UnixMillis;

use super::{
    Discovery,
    json::Members,
    keys::{Algorithm, KeySet},
};
use crate::base64url;

/// Bytes of a token that are read.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// How far the clocks of a provider and of the server may differ, in milliseconds.
pub const SKEW_MS: u64 = 60_000;
/// How old a token of a person may be, in milliseconds: it comes straight from the provider.
pub const ID_TOKEN_MS_MAX: u64 = 10 * 60_000;
/// For how long a token of a job may be valid at most, in milliseconds.
pub const WORKLOAD_TOKEN_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Bytes of the name of a person at a provider (OpenID Connect Core, section 2), and of a job.
const SUBJECT_BYTES_MAX: usize = 255;
const WORKLOAD_SUBJECT_BYTES_MAX: usize = 1_024;
/// Bytes of what makes a token the only one of its kind.
const ID_BYTES_MAX: usize = 256;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// To sign a person in.
    SignIn {
        /// What was drawn for this attempt.
        nonce: &'a str,
        /// How long ago the person may have proved who it is, in milliseconds, if that was asked for.
        max_age_ms: Option<u64>,
    },
    /// To enrol the machine of a job.
    Workload,
}

/// What a token has to say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider.
    pub provider: &'a Discovery,
    /// For whom the token is: the id of the client, or what a rule says.
    pub audience: &'a str,
    /// What it is for.
    pub purpose: Purpose<'a>,
    /// The time.
    pub now: UnixMillis,
}

/// Why a token is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is too long.
    #[error("the token has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is no signed token.
    #[error("the token is not three parts of base64url with an object in each of the first two")]
    Form,
    /// Its header names something that is not accepted.
    #[error("the header of the token has `{0}`, which is not accepted")]
    Header(String),
    /// It is signed in a way that is not accepted.
    #[error("the token is signed with `{0}`; expected RS256, PS256, ES256 or EdDSA")]
    Algorithm(String),
    /// The provider has no such key, at least not any more or not yet.
    #[error("the token names a key that the issuer does not publish")]
    Key,
    /// The key signs in another way.
    #[error("the token is signed in another way than its key is for")]
    OtherAlgorithm,
    /// The signature is wrong.
    #[error("the signature of the token is wrong")]
    Signature,
    /// A claim is missing or of another type.
    #[error("the token has no valid claim `{0}`")]
    Claim(&'static str),
    /// It is of another provider.
    #[error("the token is of another issuer")]
    Issuer,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// It was given to another client.
    #[error("the token was given to another client (`azp`)")]
    Party,
    /// It is for another attempt.
    #[error("the token is for another attempt to sign in (`nonce`)")]
    Nonce,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet; compare the clocks")]
    Early,
    /// It was issued too long ago, or is valid for too long.
    #[error("the token was issued too long ago, or is valid for too long")]
    Old,
    /// The person did not prove lately who it is.
    #[error("the issuer did not ask the person again (`auth_time`)")]
    Stale,
}

/// What a token that was checked says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The name of the person or job at the provider.
    pub subject: String,
    /// Until when the token is valid.
    pub expires: UnixMillis,
    /// When the person last proved who it is, if the provider says so.
    pub authenticated: Option<UnixMillis>,
    members: Members,
}

impl Claims {
    /// Returns a claim that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.text(name)
    }

    /// Returns a claim as a text, to compare it with a pattern: texts, numbers and truth values have one.
    pub fn value(&self, name: &str) -> Option<String> {
        match self.members.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Returns the texts of a claim that is a list, or one text.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        match self.members.0.get(name)? {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => {
                let text = |item: &Value| item.as_str().map(str::to_owned);
                items.iter().map(text).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }

    /// Tells whether the provider says that a list is elsewhere because it is too long, as Entra does with
    /// more than 200 groups.
    pub fn is_left_out(&self, name: &str) -> bool {
        let names = self
            .members
            .0
            .get("_claim_names")
            .and_then(Value::as_object);
        let is_named = names.is_some_and(|names| names.contains_key(name));
        let has_groups = self.members.0.get("hasgroups") == Some(&Value::Bool(true));
        is_named || (name == "groups" && has_groups && !self.members.0.contains_key(name))
    }

    fn time(&self, name: &'static str) -> Result<Option<UnixMillis>, TokenError> {
        let Some(value) = self.members.0.get(name) else {
            return Ok(None);
        };
        let wrong = TokenError::Claim(name);
        // A provider may write parts of a second; they do not matter here.
        let seconds = match (value.as_u64(), value.as_f64()) {
            (Some(seconds), _) => seconds,
            (None, Some(_)) => {
                let text = value.to_string();
                let whole = text.split('.').next().unwrap_or_default();
                whole.parse().map_err(|_| wrong.clone())?
            }
            (None, None) => return Err(wrong),
        };
        let millis = seconds.checked_mul(1_000).ok_or(wrong)?;
        Ok(Some(UnixMillis(millis)))
    }
}

/// Checks a token, and returns what it says.
///
/// # Errors
/// The first thing that does not fit. [`TokenError::Key`] can mean that the provider has changed its keys
/// since they were fetched.
pub fn check_token(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Form);
    };
    let header = members(head)?;
    let algorithm = header_algorithm(&header, expected)?;
    let kid = match header.0.get("kid") {
        None => None,
        Some(kid) => Some(
            kid.as_str()
                .ok_or_else(|| TokenError::Header("kid".into()))?,
        ),
    };
    let key = keys.find(kid, algorithm).ok_or(TokenError::Key)?;
    if key.algorithm != algorithm || !expected.provider.signs_with(algorithm) {
        return Err(TokenError::OtherAlgorithm);
    }
    let signature = base64url::decode(signature).ok_or(TokenError::Form)?;
    let signed = token
        .get(..head.len() + 1 + body.len())
        .ok_or(TokenError::Form)?;
    if !key.has_signed(signed.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    claims(members(body)?, expected)
}

/// Returns the issuer that a token names, before anything of it is checked: it says only which keys to look
/// at.
///
/// # Errors
/// When it is no signed token, or names none.
pub fn issuer_of(token: &str) -> Result<String, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let mut parts = token.split('.');
    let body = parts.nth(1).ok_or(TokenError::Form)?;
    let issuer = members(body)?.text("iss").map(str::to_owned);
    issuer.ok_or(TokenError::Issuer)
}

fn members(part: &str) -> Result<Members, TokenError> {
    let bytes = base64url::decode(part).ok_or(TokenError::Form)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Form)
}

fn header_algorithm(header: &Members, expected: &Expected<'_>) -> Result<Algorithm, TokenError> {
    // Each of these brings a key, points to one, or changes how the rest is read.
    for name in ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"] {
        if header.0.contains_key(name) {
            return Err(TokenError::Header(name.to_owned()));
        }
    }
    if let Some(kind) = header.0.get("typ") {
        // Tokens for access, for logging out and others of the same provider have types of their own.
        let kind = kind.as_str().unwrap_or_default();
        let is_plain = kind.eq_ignore_ascii_case("JWT");
        let is_workload = expected.purpose == Purpose::Workload && kind.is_empty();
        if !is_plain && !is_workload {
            return Err(TokenError::Header("typ".to_owned()));
        }
    }
    let name = header.text("alg").unwrap_or_default();
    Algorithm::named(name).ok_or_else(|| TokenError::Algorithm(name.chars().take(20).collect()))
}

fn claims(members: Members, expected: &Expected<'_>) -> Result<Claims, TokenError> {
    let mut claims = Claims {
        subject: String::new(),
        expires: UnixMillis(0),
        authenticated: None,
        members,
    };
    if claims.text("iss") != Some(expected.provider.issuer.as_str()) {
        return Err(TokenError::Issuer);
    }
    check_audience(&claims, expected)?;
    check_times(&mut claims, expected)?;
    let subject = claims.text("sub").unwrap_or_default();
    let subject_max = match expected.purpose {
        Purpose::SignIn { .. } => SUBJECT_BYTES_MAX,
        Purpose::Workload => WORKLOAD_SUBJECT_BYTES_MAX,
    };
    let is_plain = !subject.chars().any(char::is_control);
    if subject.is_empty() || subject.len() > subject_max || !is_plain {
        return Err(TokenError::Claim("sub"));
    }
    claims.subject = subject.to_owned();
    match expected.purpose {
        Purpose::SignIn { nonce, max_age_ms } => {
            if claims.text("nonce") != Some(nonce) || nonce.is_empty() {
                return Err(TokenError::Nonce);
            }
            check_again(&claims, max_age_ms, expected.now)?;
        }
        Purpose::Workload => {
            let id = claims.text("jti").unwrap_or_default();
            if id.is_empty() || id.len() > ID_BYTES_MAX {
                return Err(TokenError::Claim("jti"));
            }
        }
    }
    Ok(claims)
}

fn check_audience(claims: &Claims, expected: &Expected<'_>) -> Result<(), TokenError> {
    let audiences = claims.list("aud").ok_or(TokenError::Claim("aud"))?;
    if !audiences.iter().any(|one| one == expected.audience) {
        return Err(TokenError::Audience);
    }
    match expected.purpose {
        Purpose::SignIn { .. } => {
            let party = claims.members.0.get("azp");
            let is_ours = party.is_none_or(|party| party == expected.audience);
            if !is_ours || (party.is_none() && audiences.len() > 1) {
                return Err(TokenError::Party);
            }
        }
        // A token that others take too is one that others can send here.
        Purpose::Workload if audiences.len() > 1 => return Err(TokenError::Audience),
        Purpose::Workload => {}
    }
    Ok(())
}

fn check_times(claims: &mut Claims, expected: &Expected<'_>) -> Result<(), TokenError> {
    let now = expected.now.0;
    let expires = claims.time("exp")?.ok_or(TokenError::Claim("exp"))?;
    let issued = claims.time("iat")?.ok_or(TokenError::Claim("iat"))?;
    if expires.0.saturating_add(SKEW_MS) <= now {
        return Err(TokenError::Expired);
    }
    let begins = claims.time("nbf")?.map_or(issued.0, |begins| begins.0);
    if begins.max(issued.0) > now.saturating_add(SKEW_MS) {
        return Err(TokenError::Early);
    }
    let is_old = match expected.purpose {
        Purpose::SignIn { .. } => now.saturating_sub(issued.0) > ID_TOKEN_MS_MAX,
        Purpose::Workload => expires.0.saturating_sub(issued.0) > WORKLOAD_TOKEN_MS_MAX,
    };
    if is_old {
        return Err(TokenError::Old);
    }
    claims.expires = expires;
    claims.authenticated = claims.time("auth_time")?;
    Ok(())
}

/// Checks that the person proved again who it is, if that was asked for.
fn check_again(
    claims: &Claims,
    max_age_ms: Option<u64>,
    now: UnixMillis,
) -> Result<(), TokenError> {
    let future = now.0.saturating_add(SKEW_MS);
    if claims.authenticated.is_some_and(|at| at.0 > future) {
        return Err(TokenError::Early);
    }
    let Some(most) = max_age_ms else {
        return Ok(());
    };
    let age = claims.authenticated.map(|at| now.0.saturating_sub(at.0));
    if age.is_some_and(|age| age <= most.saturating_add(SKEW_MS)) {
        return Ok(());
    }
    Err(TokenError::Stale)
}
