//! Random bytes, and the names and secrets that are made of them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_types::Digest;

use crate::ControlError;

/// Bytes of a secret that opens something by itself.
const SECRET_BYTES: usize = 32;

/// Draws bytes.
///
/// # Errors
/// When the system gives none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], ControlError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ControlError::Random)?;
    Ok(bytes)
}

/// Draws 64 bits.
///
/// # Errors
/// As [`bytes`].
pub(crate) fn bits() -> Result<u64, ControlError> {
    Ok(u64::from_ne_bytes(bytes()?))
}

/// Draws a name: a prefix and 16 hexadecimal digits.
///
/// # Errors
/// As [`bytes`].
pub fn name(prefix: &str) -> Result<String, ControlError> {
    Ok(format!("{prefix}{:016x}", bits()?))
}

/// Draws a secret of 256 bits, in base64url.
///
/// # Errors
/// As [`bytes`].
pub fn secret() -> Result<String, ControlError> {
    Ok(URL_SAFE_NO_PAD.encode(bytes::<SECRET_BYTES>()?))
}

/// Returns what is kept of a secret that was drawn: SHA-256, in hexadecimal digits. That suffices, because
/// nobody can guess 256 bits.
pub fn hash(secret: &str) -> String {
    Digest::of(secret.as_bytes()).to_string()
}
