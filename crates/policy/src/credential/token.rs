//! Tokens in three parts (JSON Web Tokens, RFC 7519), of which only the signature is secret: their other
//! parts say whose they are and how long they are valid, which clients read.

/// Shortest signature; that of the weakest algorithm (HS256) has 43 letters.
const SIGNATURE_BYTES_MIN: usize = 32;
/// What the first part begins with: `{"` in base64.
const START: &[u8] = b"eyJ";

/// Returns the part of a token that nobody may have: the signature, or all of it where it has none.
pub fn secret_part(token: &str) -> &str {
    let part = split(token.as_bytes()).and_then(|(said, _)| token.get(said.len()..));
    part.unwrap_or(token)
}

/// Tells whether `text` is a token whose secret part is `part`.
pub fn has_secret_part(text: &[u8], part: &[u8]) -> bool {
    text == part || split(text).is_some_and(|(_, signature)| signature == part)
}

/// Returns a token with `part` in the place of its secret part.
pub fn with_secret_part(token: &str, part: &str) -> String {
    let secret = secret_part(token);
    let said = token.strip_suffix(secret).unwrap_or_default();
    [said, part].concat()
}

/// Splits what a token says, with the point behind it, from its signature.
fn split(token: &[u8]) -> Option<(&[u8], &[u8])> {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut parts = token.split(|byte| *byte == b'.');
    let (first, second, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let is_token = parts.next().is_none()
        && first.starts_with(START)
        && !second.is_empty()
        && signature.len() >= SIGNATURE_BYTES_MIN
        && [first, second, signature]
            .iter()
            .all(|part| part.iter().all(letter));
    is_token.then_some(())?;
    Some((token.strip_suffix(signature)?, signature))
}

#[cfg(test)]
mod tests {
    use super::{has_secret_part, secret_part, with_secret_part};

    #[test]
    fn only_the_signature_of_a_token_is_secret() {
        let signature = "S".repeat(43);
        let token = format!("eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.{signature}");
        assert_eq!(secret_part(&token), signature);
        let other = "p".repeat(40);
        let shown = format!("eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjF9.{other}");
        assert_eq!(with_secret_part(&token, &other), shown);
        assert!(has_secret_part(shown.as_bytes(), other.as_bytes()));
        assert!(!has_secret_part(
            format!("x{other}").as_bytes(),
            other.as_bytes()
        ));
    }

    #[test]
    fn what_is_no_such_token_is_secret_as_a_whole() {
        let long = "S".repeat(43);
        for token in [
            "sk-ant-oat01-abcdefghijklmnopqrstuvwxyz".to_owned(),
            "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.".to_owned(),
            "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.short".to_owned(),
            format!("eyJhbGciOiJub25lIn0..{long}"),
            format!("eyJhbGciOiJkaXIifQ.{long}.{long}.{long}.{long}"),
            format!("eyJhbGciOiJub25lIn0.a b.{long}"),
            format!("other.eyJleHAiOjF9.{long}"),
        ] {
            assert_eq!(secret_part(&token), token);
            assert_eq!(with_secret_part(&token, "placeholder"), "placeholder");
            assert!(has_secret_part(b"placeholder", b"placeholder"));
        }
    }
}
