//! What programs inside have in the place of a value: random, and of a shape that clients take for
//! one of theirs.

use crate::RunError;

/// How keys of known services begin; the longest that fits is kept.
const PREFIXES: [&str; 26] = [
    "sk-ant-api03-",
    "sk-ant-admin01-",
    "sk-ant-oat01-",
    "sk-ant-",
    "sk-proj-",
    "sk-svcacct-",
    "sk-or-v1-",
    "sk-",
    "gsk_",
    "xai-",
    "AIza",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "hf_",
    "npm_",
    "pypi-",
    "xoxb-",
    "xoxp-",
    "sntrys_",
    "dop_v1_",
    "eyJ",
];
/// Values from this length on are taken for keys of a program, whose length and punctuation say
/// nothing of what they are. Others may be passwords, of which nothing is told.
const KEY_BYTES_MIN: usize = 32;
const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Makes a placeholder; of a login (`user:password`) the user stays.
pub(super) fn of(value: &str, is_login: bool) -> Result<String, RunError> {
    let (kept, secret) = match value.split_once(':').filter(|_| is_login) {
        Some((user, password)) => (format!("{user}:"), password),
        None => (String::new(), value),
    };
    let fits = PREFIXES.iter().filter(|prefix| secret.starts_with(*prefix));
    let prefix = fits
        .max_by_key(|prefix| prefix.len())
        .copied()
        .unwrap_or_default();
    let rest = secret.get(prefix.len()..).unwrap_or_default();
    let is_key = rest.len() >= KEY_BYTES_MIN;
    let is_hex = is_key && rest.bytes().all(|b| HEX.contains(&b));
    let letters: &[u8] = if is_hex { HEX } else { LETTERS };
    let shape = if is_key {
        rest.to_owned()
    } else {
        "x".repeat(KEY_BYTES_MIN)
    };
    let mut text = kept + prefix;
    for byte in shape.bytes() {
        if matches!(byte, b'-' | b'_' | b'.') {
            text.push(char::from(byte));
        } else {
            text.push(letter(letters)?);
        }
    }
    Ok(text)
}

/// Draws one of `letters`, each as likely as the others.
fn letter(letters: &[u8]) -> Result<char, RunError> {
    let count = u64::try_from(letters.len()).unwrap_or(1);
    let drawn = getrandom::u64().map_err(|error| RunError::Random(error.to_string()))?;
    // Of 2^64 numbers the few that some letters have more than others cannot be told.
    let at = usize::try_from(drawn % count).unwrap_or_default();
    Ok(letters.get(at).copied().map_or('x', char::from))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn placeholders_have_the_shape_of_keys_and_nothing_of_passwords() {
        for (value, start, length) in [
            (
                "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789-_AB",
                "sk-ant-api03-",
                53,
            ),
            ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_", 40),
            ("AIzaSyA-abcdefghijklmnopqrstuvwxyz01234", "AIza", 39),
            ("hunter2!", "", 32),
            ("lab:hunter2!", "lab:", 36),
            ("0123456789abcdef0123456789abcdef", "", 32),
        ] {
            let is_login = value.starts_with("lab:");
            let (one, two) = (of(value, is_login).unwrap(), of(value, is_login).unwrap());
            assert!(one.starts_with(start), "{one}");
            assert_eq!(one.len(), length, "{one}");
            assert_ne!(one, two);
            assert!(!one.contains("hunter2"), "{one}");
        }
        let hex = of("0123456789abcdef0123456789abcdef", false).unwrap();
        assert!(hex.bytes().all(|b| b.is_ascii_hexdigit()), "{hex}");
    }
}
