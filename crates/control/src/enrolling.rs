//! Tokens by which machines enrol.

use stockade_api::EnrolToken;
use stockade_types::Digest;

use crate::{
    ControlError,
    clock::now,
    random,
    state::{EnrolTokenRow, State},
};

/// Makes `count` tokens by which as many machines enrol, each at the URL of `at`, where the authority with the
/// digest of `at` vouches for the server. They are not kept, and cannot be shown again.
///
/// # Errors
/// When the state cannot be written.
pub(crate) async fn issue(
    state: &State,
    (authority, url): (Digest, String),
    row: &EnrolTokenRow,
    count: u32,
) -> Result<Vec<EnrolToken>, ControlError> {
    let secrets = (0..count).map(|_| random::secret());
    let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<String> = secrets.iter().map(|secret| random::hash(secret)).collect();
    state.add_enrol_tokens(&hashes, row, now()).await?;
    let token = |secret| EnrolToken {
        url: url.clone(),
        ca: authority,
        secret,
        expires: row.expires,
    };
    Ok(secrets.into_iter().map(token).collect())
}
