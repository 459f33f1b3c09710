//! Sign-in at an OpenID Connect provider: the code flow with PKCE, `state` and `nonce`. What a token has to
//! say is in `stockade_trust::oidc`; here is what is fetched, and what is remembered between two requests.

mod attempts;
mod provider;
mod rules;
mod settings;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Deserialize;
use stockade_trust::oidc::{Claims, Purpose};
use stockade_types::{Digest, UnixMillis};
use url::{Url, form_urlencoded};

pub(crate) use attempts::Attempt;
use attempts::Attempts;
pub(crate) use provider::{OidcError, Provider};
pub use rules::EnrolRule;
pub(crate) use rules::{Issuers, RULES_MAX};
pub use settings::OidcSettings;

use crate::{
    ControlError,
    outbound::{Asking, Said},
    random,
};

/// How long ago a person may have signed in at the provider who has to prove again who it is, in seconds: a
/// minute less than what votes and changes ask for.
const AGAIN_S: u64 = 240;
/// Bytes of a code, and of what the provider says of an error.
const CODE_BYTES_MAX: usize = 4_096;
const ERROR_CHARS_MAX: usize = 200;

/// This server as a client of the provider by which people sign in.
pub(crate) struct Client {
    pub(crate) settings: OidcSettings,
    provider: Provider,
    attempts: Mutex<Attempts>,
}

impl Client {
    /// Makes one; nothing is asked yet.
    ///
    /// # Errors
    /// When there are no authorities to know the provider by.
    pub(crate) async fn new(settings: OidcSettings) -> Result<Self, OidcError> {
        let authorities = settings.authorities.clone();
        let provider = Provider::new(&settings.issuer, authorities, settings.private).await?;
        Ok(Self {
            settings,
            provider,
            attempts: Mutex::default(),
        })
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the provider answers as it has to.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn probe(&self) -> Result<(), OidcError> {
        let published = self.provider.published().await?;
        let discovery = published.discovery;
        if discovery.authorization_endpoint.is_none() {
            return Err(OidcError::Endpoint("authorization_endpoint"));
        }
        let has_token = discovery.token_endpoint.is_some();
        has_token
            .then_some(())
            .ok_or(OidcError::Endpoint("token_endpoint"))
    }

    /// Begins an attempt in a browser, and returns where the person goes.
    ///
    /// # Errors
    /// When the provider cannot be asked, or there are no random bytes.
    pub(crate) async fn begin(
        &self,
        origin: &str,
        browser: &str,
        next: &str,
        again: Option<(stockade_trust::UserId, String)>,
    ) -> Result<String, OidcError> {
        let published = self.provider.published().await?;
        let place = published.discovery.authorization_endpoint.clone();
        let place = place.ok_or(OidcError::Endpoint("authorization_endpoint"))?;
        let mut place =
            Url::parse(&place).map_err(|_| OidcError::Endpoint("authorization_endpoint"))?;
        let draw = || random::secret().map_err(|error| OidcError::Outbound(error.to_string()));
        let (state, nonce, verifier) = (draw()?, draw()?, draw()?);
        let challenge = URL_SAFE_NO_PAD.encode(Digest::of(verifier.as_bytes()).as_bytes());
        {
            let mut query = place.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("response_mode", "query")
                .append_pair("scope", "openid profile email")
                .append_pair("client_id", &self.settings.client_id)
                .append_pair("redirect_uri", &redirect(origin))
                .append_pair("state", &state)
                .append_pair("nonce", &nonce)
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", "S256");
            // With it the provider has to say when the person signed in. Who proves it again must have
            // done so lately.
            let age = if again.is_some() {
                AGAIN_S
            } else {
                12 * 60 * 60
            };
            query.append_pair("max_age", &age.to_string());
        }
        let attempt = Attempt {
            browser: random::hash(browser),
            nonce,
            verifier,
            next: next.to_owned(),
            again,
        };
        self.attempts().add(state, attempt, Instant::now());
        Ok(place.into())
    }

    /// Ends an attempt; `None` if this browser has not begun it.
    pub(crate) fn end(&self, state: &str, browser: &str) -> Option<Attempt> {
        let browser = random::hash(browser);
        self.attempts().take(state, &browser, Instant::now())
    }

    /// Exchanges the code of an attempt, and returns what the provider says of the person.
    ///
    /// # Errors
    /// When the provider refuses, or its token is not used.
    pub(crate) async fn exchange(
        &self,
        origin: &str,
        attempt: &Attempt,
        (code, issuer): (&str, &str),
        now: UnixMillis,
    ) -> Result<Claims, OidcError> {
        #[derive(Deserialize)]
        struct Answer {
            id_token: Option<String>,
        }
        let published = self.provider.published().await?;
        let discovery = &published.discovery;
        // Another provider that the same person uses could have sent the browser here (RFC 9207).
        let is_named = discovery.authorization_response_iss_parameter_supported;
        if (is_named || !issuer.is_empty()) && issuer != discovery.issuer {
            return Err(OidcError::Refused("the answer is of another issuer".into()));
        }
        if code.is_empty() || code.len() > CODE_BYTES_MAX {
            return Err(OidcError::Refused("the answer has no code".into()));
        }
        let place = discovery.token_endpoint.as_ref();
        let place = place.ok_or(OidcError::Endpoint("token_endpoint"))?;
        let (status, body) = self
            .provider
            .outbound
            .ask(Asking {
                url: place,
                authorization: self.authorization(),
                body: Said::Form(self.form(origin, attempt, code)),
            })
            .await?;
        if status.as_u16() != 200 {
            return Err(OidcError::Refused(refusal(&body)));
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| OidcError::Refused(error.to_string()))?;
        let token = answer
            .id_token
            .ok_or_else(|| OidcError::Refused("the answer has no ID token".into()))?;
        let purpose = Purpose::SignIn {
            nonce: &attempt.nonce,
            max_age_ms: attempt.again.as_ref().map(|_| AGAIN_S * 1_000),
        };
        let audience = &self.settings.client_id;
        self.provider.check(&token, audience, purpose, now).await
    }

    fn authorization(&self) -> Option<String> {
        let secret = self.settings.client_secret.as_ref()?;
        // RFC 6749, section 2.3.1: both parts as in a form.
        let encode =
            |text: &str| -> String { form_urlencoded::byte_serialize(text.as_bytes()).collect() };
        let both = format!("{}:{}", encode(&self.settings.client_id), encode(secret));
        Some(format!("Basic {}", STANDARD.encode(both)))
    }

    fn form(&self, origin: &str, attempt: &Attempt, code: &str) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &redirect(origin))
            .append_pair("code_verifier", &attempt.verifier);
        if self.settings.client_secret.is_none() {
            form.append_pair("client_id", &self.settings.client_id);
        }
        form.finish()
    }
}

/// Returns where the provider sends the browser back.
pub(crate) fn redirect(origin: &str) -> String {
    format!("{origin}/login/oidc/callback")
}

/// Returns what a provider says of a refusal; it is shown as foreign text.
fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let said: Option<Said> = serde_json::from_slice(body).ok();
    let text = said.map_or_else(
        || "it did not say why".to_owned(),
        |said| format!("{} {}", said.error, said.error_description),
    );
    text.chars().take(ERROR_CHARS_MAX).collect()
}

/// Makes the client of the settings among the keys in `dir`, if there are any.
///
/// # Errors
/// When the settings cannot be read, or there are no authorities to know the provider by.
pub(crate) async fn open(dir: &std::path::Path) -> Result<Option<Client>, ControlError> {
    let Some(settings) = OidcSettings::read(dir)? else {
        return Ok(None);
    };
    let made = Client::new(settings).await;
    made.map(Some)
        .map_err(|error| ControlError::Work(error.to_string()))
}
