//! Credentials that the session uses without having them.
//!
//! Programs send a placeholder. Here it is found ([`Credentials::look`]) before a request is judged:
//! where it stands in a place where it is not replaced, the request is refused. Only when the request
//! is about to be sent does the value take its place ([`Credentials::dress`]). What the server answers
//! is searched for the value ([`crate::scrub`]).
//!
//! Tokens of a login are renewed from time to time ([`super::renewal`]): the placeholder stays, and its value is
//! another one.

mod aws;
#[cfg(test)]
mod fuzz;
mod places;
pub(in crate::http) mod spent;
mod tokens;
mod values;

use std::{borrow::Cow, sync::Arc};

use aho_corasick::AhoCorasick;
use stockade_policy::{
    Control, Credential, CredentialKind, CredentialUse, Decision, Permitted, secret_part,
};
use stockade_types::{Digest, Host, Port, RuleId, Secret};

pub(crate) use self::tokens::too_long;
use self::{
    places::{Found, Written, found},
    values::Values,
};
use super::{Addressed, Field, Fields, Head};
use crate::scrub::Scrubber;

/// A credential with its value, for this process alone.
#[derive(Debug)]
pub struct HeldCredential {
    /// Its id in the policy.
    pub id: RuleId,
    /// What programs inside have.
    pub placeholder: String,
    /// What servers get.
    pub value: Secret<String>,
}

/// A credential of the policy of which no value came, or the other way round.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no value.
    #[error("there is no value for the credential `{0}`")]
    Missing(RuleId),
    /// What to search for cannot be set up.
    #[error("what is searched for cannot be set up")]
    Search(#[source] aho_corasick::BuildError),
}

/// A credential at work.
#[derive(Debug)]
pub(crate) struct Live {
    policy: Credential,
    /// What is searched for: the placeholder; of a token that clients read, the part that is secret.
    placeholder: String,
}

impl Live {
    /// Signs a request, if the credential signs.
    fn signed(
        &self,
        head: &Head,
        value: &Secret<String>,
        body: Option<&Digest>,
    ) -> Option<Result<Fields, String>> {
        let CredentialKind::AwsSigv4 { region, service } = &self.policy.kind else {
            return None;
        };
        let scope = (region.as_deref(), service.as_deref());
        Some(aws::signed(head, value.expose(), scope, body))
    }

    /// Refuses a request that the credential cannot sign.
    fn can_sign(
        &self,
        head: &Head,
        value: &Secret<String>,
        body: Option<&Digest>,
    ) -> Result<(), Box<Decision>> {
        match self.signed(head, value, body) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(why)) => {
                let reason = format!(
                    "the placeholder of the credential `{}`: {why}",
                    self.policy.id
                );
                let remedy = "send the request with a digest of its body in `x-amz-content-sha256`, and \
                              with a plain path and query";
                Err(misuse(reason, remedy))
            }
        }
    }
}

/// All credentials of the session.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    live: Vec<Live>,
    /// Finds the placeholders; the number of a pattern is that in `live`.
    placeholders: Option<AhoCorasick>,
    values: Values,
    /// Taken by who gets new tokens: a token for that can be spent once.
    renewing: tokio::sync::Mutex<()>,
}

/// How a request is carried, as far as credentials depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Where the connection leads.
    pub(crate) host: &'a Host,
    /// Its port.
    pub(crate) port: Port,
    /// It is TLS that is opened.
    pub(crate) sealed: bool,
}

/// The credentials that a request is to carry, and whether the program wrote their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses(Vec<(usize, Written)>);

/// A request that was permitted, with the head that is sent.
#[derive(Debug)]
pub(crate) struct Dressed<'a, C> {
    request: &'a Addressed<C>,
    head: Cow<'a, Head>,
}

impl<'a, C> Dressed<'a, C> {
    /// Says how long the body is.
    pub(super) fn with_length(mut self, bytes: usize) -> Self {
        self.head.to_mut().fields.add(Field {
            name: b"Content-Length",
            value: bytes.to_string().as_bytes(),
        });
        self
    }

    /// Returns the request as it was judged.
    pub(crate) const fn request(&self) -> &'a Addressed<C> {
        self.request
    }

    /// Returns the head that is sent.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }
}

impl Credentials {
    /// Puts the credentials of a policy and their values together.
    ///
    /// # Errors
    /// When one has no value.
    pub(crate) fn new(
        policy: &[Credential],
        mut held: Vec<HeldCredential>,
    ) -> Result<Self, CredentialsError> {
        let (mut live, mut values) = (Vec::new(), Vec::new());
        for own in policy {
            let at = held.iter().position(|one| one.id == own.id);
            let Some(at) = at else {
                // Who has not logged in has no tokens.
                match own.login() {
                    Some(_) => continue,
                    None => return Err(CredentialsError::Missing(own.id.clone())),
                }
            };
            let HeldCredential {
                placeholder, value, ..
            } = held.swap_remove(at);
            let placeholder = match own.login() {
                Some(_) => secret_part(&placeholder).to_owned(),
                None => placeholder,
            };
            live.push(Live {
                policy: own.clone(),
                placeholder,
            });
            values.push(value);
        }
        if live.is_empty() {
            return Ok(Self::default());
        }
        // Names of fields come in lowercase in HTTP/2.
        let placeholders = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(live.iter().map(|one| one.placeholder.as_bytes()));
        Ok(Self {
            placeholders: Some(placeholders.map_err(CredentialsError::Search)?),
            values: Values::new(&live, values).map_err(CredentialsError::Search)?,
            renewing: tokio::sync::Mutex::default(),
            live,
        })
    }

    /// Finds what a request is to carry. The error is the refusal of a request that has a placeholder
    /// where it is not replaced.
    ///
    /// `body` is the digest of the whole body, where it was read.
    pub(crate) fn look(
        &self,
        head: &Head,
        line: Line<'_>,
        body: Option<&Digest>,
    ) -> Result<Uses, Box<Decision>> {
        let Some(placeholders) = &self.placeholders else {
            return Ok(Uses::default());
        };
        let mut uses = Uses::default();
        for one in found(head, placeholders) {
            let at = self.user(head, line, &one)?;
            if uses.0.iter().any(|(other, _)| *other == at) {
                let id = self.live.get(at).map(|live| live.policy.id.to_string());
                let reason = format!(
                    "the placeholder of the credential `{}` is in the request more than once",
                    id.unwrap_or_default()
                );
                return Err(misuse(reason, "send it once"));
            }
            if let (Some(live), Some(value)) = (self.live.get(at), self.values.get(at)) {
                live.can_sign(head, &value, body)?;
            }
            uses.0.push((at, Written::Placeholder));
        }
        for (at, live) in self.live.iter().enumerate() {
            let adds = live.policy.is_added()
                && live.policy.fits(request(head, line)).is_ok()
                && places::is_free(head, &live.policy.kind)
                && !uses.0.iter().any(|(other, _)| *other == at);
            if adds {
                uses.0.push((at, Written::Nothing));
            }
        }
        Ok(uses)
    }

    /// Tells whether the body of a request has to be read before it can be sent.
    pub(crate) fn needs_body(&self, head: &Head) -> bool {
        self.live.iter().any(|live| match live.policy.kind {
            CredentialKind::AwsSigv4 { .. } => aws::needs_body(head, &live.placeholder),
            _ => false,
        })
    }

    /// Returns the credential that takes the place of a placeholder.
    fn user(&self, head: &Head, line: Line<'_>, one: &Found) -> Result<usize, Box<Decision>> {
        let placeholder = self.live.get(one.number).map(|live| &live.placeholder);
        let twins = || {
            let all = self.live.iter().enumerate();
            all.filter(|(_, live)| Some(&live.placeholder) == placeholder)
        };
        let fits = |live: &Live| live.policy.fits(request(head, line));
        let right =
            |live: &Live| places::is_right(&one.place, head, &live.policy.kind, &live.placeholder);
        if let Some((at, _)) = twins().find(|(_, live)| fits(live).is_ok() && right(live)) {
            return Ok(at);
        }
        // The one that comes nearest says why.
        let near = twins().max_by_key(|(_, live)| (fits(live).is_ok(), right(live)));
        let Some((_, live)) = near else {
            return Err(misuse("a placeholder of no credential".to_owned(), ""));
        };
        let (id, where_) = (&live.policy.id, one.place.describe());
        let why = match fits(live) {
            Err(other) => format!("this {} is not one that it is sent to", other.as_str()),
            Ok(()) => format!("it stands {where_}, where it is not replaced"),
        };
        let reason = format!("the placeholder of the credential `{id}`: {why}");
        let remedy = format!(
            "send it as {} and to {}",
            places::expected(&live.policy.kind),
            live.policy.conditions()
        );
        Err(misuse(reason, &remedy))
    }

    /// Returns the ids of the credentials that a request carries.
    pub(crate) fn ids<'a>(&'a self, uses: &'a Uses) -> impl Iterator<Item = &'a RuleId> {
        let live = uses.0.iter().filter_map(|(at, _)| self.live.get(*at));
        live.map(|live| &live.policy.id)
    }

    /// Makes the head that is sent: the values take the places of the placeholders.
    pub(crate) fn dress<'a, C>(
        &self,
        permitted: &'a Permitted<Addressed<C>>,
        uses: &Uses,
    ) -> Dressed<'a, C> {
        let request = permitted.get();
        if !self.is_bound_to(&request.host, request.port) {
            let head = Cow::Borrowed(&request.head);
            return Dressed { request, head };
        }
        let mut head = match self.scrubber(&request.host, request.port) {
            Some(_) => readable(&request.head),
            None => request.head.clone(),
        };
        let mut signers = Vec::new();
        for (at, written) in &uses.0 {
            let (Some(live), Some(value)) = (self.live.get(*at), self.values.get(*at)) else {
                continue;
            };
            let kind = &live.policy.kind;
            match kind {
                CredentialKind::AwsSigv4 { .. } => signers.push((live, value)),
                _ => places::put(
                    &mut head,
                    *written,
                    kind,
                    (&live.placeholder, value.expose()),
                ),
            }
        }
        // At last: a signature is of what is sent.
        for (live, value) in signers {
            // What cannot be signed any more goes with its placeholder, with which no server does anything.
            if let Some(Ok(fields)) = live.signed(&head, &value, request.body.as_ref()) {
                head.fields = fields;
            }
        }
        let head = Cow::Owned(head);
        Dressed { request, head }
    }

    /// Returns what answers of a host are searched for; none where it gets no credential.
    pub(crate) fn scrubber(&self, host: &Host, port: Port) -> Option<Arc<Scrubber>> {
        let mut sent = self.live.iter().filter(|one| one.policy.kind.is_sent());
        let is_searched = sent.any(|live| live.policy.is_bound_to(host, port));
        is_searched.then(|| self.values.scrubber()).flatten()
    }

    fn is_bound_to(&self, host: &Host, port: Port) -> bool {
        self.live
            .iter()
            .any(|live| live.policy.is_bound_to(host, port))
    }
}

fn request<'a>(head: &'a Head, line: Line<'a>) -> CredentialUse<'a> {
    CredentialUse {
        host: line.host,
        port: line.port,
        method: &head.method,
        path: head.path.as_bytes(),
        sealed: line.sealed,
    }
}

fn misuse(reason: String, remedy: &str) -> Box<Decision> {
    Box::new(Control::CredentialMisuse.denies(reason, remedy))
}

/// Returns the head of a request whose answer can be searched: in no coding, and not a part of
/// something, which could have one half of a value.
fn readable(head: &Head) -> Head {
    const LEFT_OUT: [&str; 4] = [
        "accept-encoding",
        "if-range",
        "range",
        "sec-websocket-extensions",
    ];
    let kept = |field: &Field<'_>| !LEFT_OUT.iter().any(|name| field.is(name));
    let identity = Field {
        name: b"Accept-Encoding",
        value: b"identity",
    };
    let fields = head.fields.iter().filter(kept).chain([identity]);
    Head {
        method: head.method.clone(),
        host: head.host.clone(),
        port: head.port,
        path: head.path.clone(),
        fields: fields.collect(),
    }
}
