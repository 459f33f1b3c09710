//! Tokens by which machines enrol.

use stockade_api::EnrolToken;
use stockade_types::Digest;

use crate::{
    ControlError,
    clock::now,
    random,
    state::{EnrolTokenRow, State},
};

/// Makes a token by which one machine enrols at `url`, where the authority with the digest `authority`
/// vouches for the server. It is not kept, and cannot be shown again.
///
/// # Errors
/// When the state cannot be written.
pub(crate) async fn issue(
    state: &State,
    authority: Digest,
    url: String,
    row: &EnrolTokenRow,
) -> Result<EnrolToken, ControlError> {
    let secret = random::secret()?;
    state
        .add_enrol_token(&random::hash(&secret), row, now())
        .await?;
    Ok(EnrolToken {
        url,
        ca: authority,
        secret,
        expires: row.expires,
    })
}
