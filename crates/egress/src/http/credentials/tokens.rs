//! Tokens of logins, which are given for new ones.

use aho_corasick::BuildError;
use stockade_policy::{Control, CredentialKind, Decision};
use stockade_types::{RawText, RuleId, Secret};
use tokio::sync::MutexGuard;

use super::{Credentials, Line, Live, Uses, misuse, places::Written, spent};
use crate::{http::Head, wire::Token};

impl Live {
    /// Returns its credential.
    pub(in crate::http) const fn id(&self) -> &RuleId {
        &self.policy.id
    }

    /// Returns the part of its placeholder that is searched for.
    pub(in crate::http) fn placeholder(&self) -> &str {
        &self.placeholder
    }

    /// Returns how answers with new tokens name it.
    pub(in crate::http) fn member(&self) -> Option<&'static str> {
        self.policy.login().and_then(|own| own.member)
    }
}

impl Uses {
    /// The use of one credential in a body.
    pub(in crate::http) fn of(at: usize) -> Self {
        Self(vec![(at, Written::Nothing)])
    }
}

impl Credentials {
    /// Waits for the turn to give a token: one can be given once.
    pub(in crate::http) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.renewing.lock().await
    }

    /// Returns the number of the token that a request can be given for new ones.
    pub(in crate::http) fn renewed(&self, head: &Head, line: Line<'_>) -> Option<usize> {
        self.live.iter().position(|live| {
            live.policy.kind == CredentialKind::Refresh
                && live.policy.fits(super::request(head, line)).is_ok()
        })
    }

    /// Refuses a body that has the placeholder in another place than where it is given, or that cannot
    /// be read.
    pub(in crate::http) fn can_spend(
        &self,
        at: usize,
        head: &Head,
        body: &[u8],
    ) -> Result<(), Box<Decision>> {
        let Some(live) = self.live.get(at) else {
            return Ok(());
        };
        let id = &live.policy.id;
        let mut codings = head
            .fields
            .iter()
            .filter(|field| field.is("content-encoding"));
        if codings.any(|field| !field.value.eq_ignore_ascii_case(b"identity")) {
            let reason = format!("the body that asks for new tokens of `{id}` is in a coding");
            return Err(misuse(reason, "send it without `Content-Encoding`"));
        }
        let placeholder = live.placeholder.as_bytes();
        let has = body
            .windows(placeholder.len())
            .any(|part| part == placeholder);
        if has && spent::spent(body, &live.placeholder, &live.placeholder).is_none() {
            let reason = format!(
                "the placeholder of the credential `{id}`: it stands in a body, where it is not replaced"
            );
            let remedy = "send it as `refresh_token`, with `refresh_token` as `grant_type`";
            return Err(misuse(reason, remedy));
        }
        Ok(())
    }

    /// Returns a body with the token in the place of its placeholder, if it gives that.
    pub(in crate::http) fn spent(&self, at: usize, body: &[u8]) -> Option<Vec<u8>> {
        let (live, value) = (self.live.get(at)?, self.values.get(at)?);
        spent::spent(body, &live.placeholder, value.expose())
    }

    pub(in crate::http) fn login(&self, at: usize) -> Option<&RuleId> {
        let login = self.live.get(at)?.policy.login()?;
        Some(&login.login)
    }

    /// Iterates over the tokens of a login.
    pub(in crate::http) fn tokens_of<'a>(
        &'a self,
        login: &'a RuleId,
    ) -> impl Iterator<Item = &'a Live> {
        let is_own = move |live: &&Live| live.policy.login().is_some_and(|own| own.login == *login);
        self.live.iter().filter(is_own)
    }

    /// Makes tokens those of the session.
    pub(in crate::http) fn take(&self, tokens: Vec<Token>) -> Result<(), BuildError> {
        let place = |token: Token| {
            let at = self
                .live
                .iter()
                .position(|live| live.policy.id == token.credential)?;
            Some((at, Secret::new(token.value.expose().clone())))
        };
        let new: Vec<_> = tokens.into_iter().filter_map(place).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.values.renew(&self.live, new)
    }

    /// Takes all values out of what a program is to get.
    pub(in crate::http) fn cleaned(&self, mut body: Vec<u8>) -> Vec<u8> {
        if let Some(scrubber) = self.values.scrubber() {
            scrubber.clean(&mut body);
        }
        body
    }
}

/// Refuses a body that is longer than any that asks for new tokens.
pub(crate) fn too_long(path: &RawText) -> Decision {
    let reason = format!(
        "the body of the request to `{}` is longer than one that asks for new tokens",
        path.display()
    );
    Control::CredentialMisuse.denies(reason, "send only what asks for new tokens there")
}
