//! Passwords, hashed with Argon2id.

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::SaltString,
};

/// Memory of one check in KiB, passes and lanes: the first choice of OWASP for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Characters of a password (NIST SP 800-63B: at least 15 if it is all that is asked for).
pub(crate) const CHARS_MIN: usize = 15;
/// Bytes of one; what is longer is refused, not cut.
pub(crate) const BYTES_MAX: usize = 1024;

/// Why a text is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordError {
    /// It is too short.
    #[error("the password has fewer than {CHARS_MIN} characters")]
    Short,
    /// It is too long.
    #[error("the password has more than {BYTES_MAX} bytes")]
    Long,
    /// It is one that is guessed first.
    #[error("the password is made of few different characters, or of the name")]
    Guessed,
    /// It could not be hashed.
    #[error("the password could not be hashed")]
    Hash,
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| PasswordError::Hash)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Checks that a text may be the password of a person.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn acceptable(password: &str, name: &str) -> Result<(), PasswordError> {
    if password.len() > BYTES_MAX {
        return Err(PasswordError::Long);
    }
    if password.chars().count() < CHARS_MIN {
        return Err(PasswordError::Short);
    }
    let different: std::collections::BTreeSet<char> = password.chars().collect();
    let lower = password.to_lowercase();
    let name = name.to_lowercase();
    let without_name = if name.is_empty() {
        lower
    } else {
        lower.replace(&name, "")
    };
    if different.len() < 5 || without_name.chars().count() < CHARS_MIN / 2 {
        return Err(PasswordError::Guessed);
    }
    Ok(())
}

/// Hashes a password. It takes some ten milliseconds and blocks.
///
/// # Errors
/// When it cannot be hashed.
pub(crate) fn hash(password: &str, salt: &[u8; 16]) -> Result<String, PasswordError> {
    let salt = SaltString::encode_b64(salt).map_err(|_| PasswordError::Hash)?;
    let hashed = hasher()?.hash_password(password.as_bytes(), &salt);
    Ok(hashed.map_err(|_| PasswordError::Hash)?.to_string())
}

/// A hash that fits no password. It is checked if there is no such person, so that both take as long.
pub(crate) fn nobody() -> String {
    hash("nobody has this password", &[0; 16]).unwrap_or_default()
}

/// Tells whether a password is the one that was hashed. It takes some ten milliseconds and blocks.
pub(crate) fn is(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else {
        return false;
    };
    let hasher = hasher();
    password.len() <= BYTES_MAX
        && hasher.is_ok_and(|hasher| hasher.verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::{PasswordError, acceptable, hash, is};

    #[test]
    fn only_the_password_is_the_password() {
        let hashed = hash("correct horse battery", &[1; 16]).expect("it is hashed");
        assert!(
            hashed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hashed}"
        );
        assert!(is("correct horse battery", &hashed));
        for wrong in ["", "correct horse batterz", "correct horse battery "] {
            assert!(!is(wrong, &hashed), "{wrong}");
        }
        assert!(!is("x", "not a hash") && !is("", ""));
    }

    #[test]
    fn what_is_guessed_first_is_refused() {
        assert_eq!(acceptable("correct horse battery", "ann"), Ok(()));
        assert_eq!(acceptable("пароль-достаточной-длины", "ann"), Ok(()));
        for (wrong, error) in [
            ("short", PasswordError::Short),
            ("aaaaaaaaaaaaaaaaaaaaa", PasswordError::Guessed),
            ("annannannannannann1x", PasswordError::Guessed),
        ] {
            assert_eq!(acceptable(wrong, "ann"), Err(error), "{wrong}");
        }
        let long = "abcdefgh".repeat(200);
        assert_eq!(acceptable(&long, "ann"), Err(PasswordError::Long));
    }
}
