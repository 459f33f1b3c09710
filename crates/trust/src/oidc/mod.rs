//! Tokens of OpenID Connect: what a provider says of a person who signs in, and what a platform says of a
//! job that enrols a machine. All of it is text from outside, and nothing here fetches anything.
//!
//! The algorithm is a property of the key that the provider publishes, never of the token. A token names its
//! key only by `kid`; a header that brings or points to a key of its own is refused.

mod discovery;
mod json;
mod keys;
mod pattern;
mod token;

pub use discovery::{Discovery, DiscoveryError};
pub use keys::{KeySet, KeySetError};
pub use pattern::{ClaimPattern, PatternError};
pub use token::{
    Claims, Expected, ID_TOKEN_MS_MAX, Purpose, SKEW_MS, TOKEN_BYTES_MAX, TokenError,
    WORKLOAD_TOKEN_MS_MAX, check_token, issuer_of,
};
