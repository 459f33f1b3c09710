//! What a provider publishes about itself: OpenID Connect Discovery 1.0, section 3.

use serde::Deserialize;

use super::keys::Algorithm;

/// Bytes of the document; those of large providers have some ten thousand.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;

/// What a provider publishes about itself. Members that are not named here are allowed, as the standard
/// demands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Discovery {
    /// The provider's own name: exactly the address that was asked.
    pub issuer: String,
    /// Where a person signs in. Platforms that only issue tokens for jobs have none.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where a code is exchanged for a token.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// Where the provider's keys are.
    pub jwks_uri: String,
    /// How tokens may be signed.
    #[serde(default)]
    id_token_signing_alg_values_supported: Vec<String>,
    /// Whether the way back names the issuer (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// Why a document of a provider is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// It is too long.
    #[error("it has more than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong,
    /// It is no such document.
    #[error("it cannot be read: {0}")]
    Content(String),
    /// It is about another provider.
    #[error("it is of the issuer `{found}`; expected `{expected}`, letter for letter")]
    Issuer {
        /// What it says.
        found: String,
        /// What was asked.
        expected: String,
    },
    /// An address is not one of HTTPS.
    #[error("its `{0}` does not begin with `https://`")]
    Plain(&'static str),
    /// None of the algorithms that are accepted.
    #[error("it signs tokens in none of the ways RS256, PS256, ES256, EdDSA")]
    Algorithm,
}

impl Discovery {
    /// Reads the document of `issuer`.
    ///
    /// # Errors
    /// When it is not of this issuer, has an address without TLS, or no algorithm that is accepted.
    pub fn read(bytes: &[u8], issuer: &str) -> Result<Self, DiscoveryError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(DiscoveryError::TooLong);
        }
        let read: Self = serde_json::from_slice(bytes)
            .map_err(|error| DiscoveryError::Content(error.to_string()))?;
        if read.issuer != issuer {
            return Err(DiscoveryError::Issuer {
                found: read.issuer.chars().take(200).collect(),
                expected: issuer.to_owned(),
            });
        }
        let addresses = [
            ("jwks_uri", Some(&read.jwks_uri)),
            (
                "authorization_endpoint",
                read.authorization_endpoint.as_ref(),
            ),
            ("token_endpoint", read.token_endpoint.as_ref()),
        ];
        for (name, address) in addresses {
            if address.is_some_and(|address| !address.starts_with("https://")) {
                return Err(DiscoveryError::Plain(name));
            }
        }
        let mut named = read.id_token_signing_alg_values_supported.iter();
        if !named.any(|name| Algorithm::named(name).is_some()) {
            return Err(DiscoveryError::Algorithm);
        }
        Ok(read)
    }

    /// Tells whether the provider says that it signs tokens so.
    pub(super) fn signs_with(&self, algorithm: Algorithm) -> bool {
        let named = &self.id_token_signing_alg_values_supported;
        named
            .iter()
            .any(|name| Algorithm::named(name) == Some(algorithm))
    }
}
