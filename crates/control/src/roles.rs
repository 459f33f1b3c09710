//! Names of roles.

/// Characters of the name of a role.
const ROLE_CHARS_MAX: usize = 40;

/// Tells whether a text can be the name of a role: a lower-case letter, then lower-case letters, digits
/// and `-`.
pub(crate) fn is_role_name(text: &str) -> bool {
    text.len() <= ROLE_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
