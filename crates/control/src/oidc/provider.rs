//! One provider: what it publishes, fetched when it is needed and kept for an hour.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use stockade_trust::oidc::{
    Claims, Discovery, DiscoveryError, Expected, KeySet, KeySetError, Purpose, TokenError,
    check_token,
};
use stockade_types::{UnixMillis, chain};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::outbound::{Asking, Outbound, OutboundError};

/// For how long what a provider publishes is kept.
const KEPT: Duration = Duration::from_hours(1);
/// How soon it is fetched again because a token names a key that is not known.
const AGAIN: Duration = Duration::from_mins(1);
/// For how long a failure is kept, so that many requests do not each wait for a provider that is away.
const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// Why a provider, or what it says, is not used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum OidcError {
    /// It cannot be asked.
    #[error("the identity provider cannot be asked: {0}")]
    Outbound(String),
    /// Its document does not fit.
    #[error("the document of the identity provider is not used: {0}")]
    Discovery(#[from] DiscoveryError),
    /// Its keys do not fit.
    #[error("the keys of the identity provider are not used: {0}")]
    Keys(#[from] KeySetError),
    /// It has no place to sign in.
    #[error("the identity provider has no `{0}`")]
    Endpoint(&'static str),
    /// It refused.
    #[error("the identity provider refused: {0}")]
    Refused(String),
    /// A token is not used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl From<OutboundError> for OidcError {
    fn from(error: OutboundError) -> Self {
        Self::Outbound(chain(&error))
    }
}

/// A provider.
pub(crate) struct Provider {
    issuer: String,
    pub(super) outbound: Outbound,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    published: Option<Published>,
    failed: Option<(Instant, OidcError)>,
}

/// What a provider publishes.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) discovery: Arc<Discovery>,
    keys: Arc<KeySet>,
    at: Instant,
}

impl Provider {
    /// Makes one; nothing is asked yet.
    ///
    /// # Errors
    /// When there are no authorities to know it by.
    pub(crate) async fn new(
        issuer: &str,
        authorities: Option<String>,
        private: bool,
    ) -> Result<Self, OidcError> {
        let made = spawn_blocking(move || Outbound::new(authorities.as_deref(), private)).await;
        let outbound = made.map_err(|error| OidcError::Outbound(error.to_string()))??;
        Ok(Self {
            issuer: issuer.to_owned(),
            outbound,
            known: Mutex::default(),
        })
    }

    /// Returns what the provider publishes.
    ///
    /// # Errors
    /// When it cannot be asked, or its document or keys are not used.
    pub(crate) async fn published(&self) -> Result<Published, OidcError> {
        self.published_since(KEPT).await
    }

    /// Returns what the provider publishes, not older than `age`.
    async fn published_since(&self, age: Duration) -> Result<Published, OidcError> {
        let mut known = self.known.lock().await;
        if let Some(published) = &known.published
            && published.at.elapsed() < age
        {
            return Ok(published.clone());
        }
        if let Some((at, error)) = &known.failed
            && at.elapsed() < FAILURE_KEPT
        {
            return Err(error.clone());
        }
        match self.fetch().await {
            Ok(published) => {
                *known = Known {
                    published: Some(published.clone()),
                    failed: None,
                };
                Ok(published)
            }
            Err(error) => {
                known.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<Published, OidcError> {
        let issuer = &self.issuer;
        let place = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let discovery = Discovery::read(&self.get(&place).await?, issuer)?;
        let keys = KeySet::read(&self.get(&discovery.jwks_uri).await?)?;
        Ok(Published {
            discovery: Arc::new(discovery),
            keys: Arc::new(keys),
            at: Instant::now(),
        })
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, OidcError> {
        let (status, body) = self.outbound.ask(Asking::get(url)).await?;
        if status.as_u16() == 200 {
            return Ok(body);
        }
        Err(OidcError::Outbound(format!("it answered {status}")))
    }

    /// Checks a token. If it names a key that is not known, the provider's keys are fetched again, once a
    /// minute at most.
    ///
    /// # Errors
    /// When the token is not used, or the provider cannot be asked.
    pub(crate) async fn check(
        &self,
        token: &str,
        audience: &str,
        purpose: Purpose<'_>,
        now: UnixMillis,
    ) -> Result<Claims, OidcError> {
        let mut published = self.published().await?;
        for is_last in [false, true] {
            let expected = Expected {
                provider: &published.discovery,
                audience,
                purpose,
                now,
            };
            match check_token(token, &published.keys, &expected) {
                Err(TokenError::Key) if !is_last => {
                    published = self.published_since(AGAIN).await?;
                }
                checked => return Ok(checked?),
            }
        }
        Err(TokenError::Key.into())
    }
}
