//! Words of commands, settings and files, as people and records see them.

use std::sync::OnceLock;

use aho_corasick::AhoCorasickKind;
use stockade_types::RawText;

use super::{Finding, Secrets, forms::Form};

/// Stands for what has no known form.
const HIDDEN: &[u8] = b"(hidden)";
/// Longest user name in an address that does not count as a token.
const USER_BYTES_MAX: usize = 19;
/// Fields of HTTP whose values are secrets, as they end.
const FIELDS: [&[u8]; 4] = [b"authorization", b"x-api-key", b"private-token", b"cookie"];
/// Words before the secret in such a value.
const SCHEMES: [&[u8]; 4] = [b"bearer ", b"basic ", b"token ", b"digest "];

/// Returns a text without its secrets: what was found, such as `[github-token:5f0c9a11]`, stands for each
/// of a known form, and `(hidden)` for passwords in addresses and for values of `Authorization` and the
/// like. `None` where there is none. Marks are the same in all of a process.
pub fn hide(text: &RawText) -> Option<RawText> {
    hide_as(text, |found| format!("[{}:{}]", found.kind, found.mark))
}

/// As [`hide`], but without the number that tells one secret from another, such as `[github-token]`: so
/// the text is the same wherever it is made.
pub fn hide_alike(text: &RawText) -> Option<RawText> {
    hide_as(text, |found| format!("[{}]", found.kind))
}

fn hide_as(text: &RawText, words: fn(&Finding) -> String) -> Option<RawText> {
    let bytes = text.as_bytes();
    let Some(secrets) = known() else {
        return Some(RawText::from_bytes(HIDDEN));
    };
    let found = secrets.hide_as(bytes, words);
    let shown = without_passwords(found.as_deref().unwrap_or(bytes));
    let shown = without_fields(&shown);
    (shown != bytes).then(|| RawText::from_bytes(shown))
}

/// Hides secrets in words; `None` where no word has any.
pub fn hide_words(words: &[RawText]) -> Option<Vec<RawText>> {
    let hidden: Vec<Option<RawText>> = words.iter().map(hide).collect();
    let any = hidden.iter().any(Option::is_some);
    let shown = hidden.into_iter().zip(words);
    any.then(|| {
        shown
            .map(|(hidden, word)| hidden.unwrap_or_else(|| word.clone()))
            .collect()
    })
}

/// Returns what is looked for: known formats, as they are written by hand.
fn known() -> Option<&'static Secrets> {
    static KNOWN: OnceLock<Option<Secrets>> = OnceLock::new();
    let plain = |form| form == Form::Plain;
    let make = || Secrets::of(Vec::new(), plain, AhoCorasickKind::ContiguousNFA).ok();
    KNOWN.get_or_init(make).as_ref()
}

/// Hides credentials in addresses (RFC 3986 section 3.2.1).
fn without_passwords(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|part| part == b"://") {
        let (scheme, after) = rest.split_at(at + 3);
        shown.extend_from_slice(scheme);
        let ends = |byte: &u8| b"/?# \t\n\"'".contains(byte);
        let authority = after.iter().position(ends).unwrap_or(after.len());
        let (authority, next) = after.split_at(authority);
        rest = next;
        let Some(end) = authority.iter().rposition(|byte| *byte == b'@') else {
            shown.extend_from_slice(authority);
            continue;
        };
        let (user, host) = authority.split_at(end);
        match user.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                shown.extend_from_slice(user.get(..colon).unwrap_or_default());
                shown.push(b':');
                shown.extend_from_slice(secret_or(user.get(colon + 1..)));
            }
            None if user.len() > USER_BYTES_MAX => shown.extend_from_slice(secret_or(Some(user))),
            None => shown.extend_from_slice(user),
        }
        shown.extend_from_slice(host);
    }
    shown.extend_from_slice(rest);
    shown
}

/// Returns what stands for a secret: itself, if it is hidden already.
fn secret_or(secret: Option<&[u8]>) -> &[u8] {
    let secret = secret.unwrap_or_default();
    let is_hidden = secret == HIDDEN || (secret.starts_with(b"[") && secret.ends_with(b"]"));
    if is_hidden { secret } else { HIDDEN }
}

/// Hides values of fields of HTTP (RFC 9110 section 11.6.2) that are secrets.
fn without_fields(bytes: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(colon) = rest.iter().position(|byte| *byte == b':') {
        let (name, after) = rest.split_at(colon + 1);
        let named = name.get(..colon).unwrap_or_default();
        shown.extend_from_slice(name);
        rest = after;
        if !FIELDS.iter().any(|field| ends_with(named, field)) {
            continue;
        }
        let blanks = rest.iter().take_while(|byte| **byte == b' ').count();
        let scheme = |own: &&&[u8]| {
            rest.get(blanks..)
                .is_some_and(|text| starts_with(text, own))
        };
        let before = blanks + SCHEMES.iter().find(scheme).map_or(0, |scheme| scheme.len());
        let (before, value) = rest.split_at(before.min(rest.len()));
        let ends = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\r' | b'\n');
        let end = value.iter().position(ends).unwrap_or(value.len());
        let (value, after) = value.split_at(end);
        shown.extend_from_slice(before);
        // The name of a variable is no secret.
        let is_named = value.starts_with(b"$") || value.is_empty();
        shown.extend_from_slice(if is_named {
            value
        } else {
            secret_or(Some(value))
        });
        rest = after;
    }
    shown.extend_from_slice(rest);
    shown
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    let start = text.get(..word.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn ends_with(text: &[u8], word: &[u8]) -> bool {
    let start = text.len().checked_sub(word.len());
    let end = start.and_then(|start| text.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::hide;

    #[test]
    fn a_token_in_a_url_is_masked_and_a_user_is_not() {
        for (url, expected) in [
            ("ssh://git@good.test/r", "ssh://git@good.test/r"),
            ("git@good.test:r", "git@good.test:r"),
            ("https://good.test/a@b", "https://good.test/a@b"),
            (
                "https://ghp_0123456789012345678@good.test/r",
                "https://(hidden)@good.test/r",
            ),
            (
                "a b://u:p@h c://u:p@h",
                "a b://u:(hidden)@h c://u:(hidden)@h",
            ),
        ] {
            let hidden = hide(&url.into());
            let expected = (url != expected).then(|| expected.into());
            assert_eq!(hidden, expected, "{url}");
        }
    }

    #[test]
    fn a_field_that_authorises_is_hidden_and_the_name_of_a_variable_is_not() {
        for (text, expected) in [
            (
                "Authorization: Bearer abc.def",
                "Authorization: Bearer (hidden)",
            ),
            (
                "authorization:Basic bWU6cHc=",
                "authorization:Basic (hidden)",
            ),
            ("Proxy-Authorization: abc", "Proxy-Authorization: (hidden)"),
            (
                "curl -H 'X-Api-Key: abc' -H \"Cookie: a=b; c\" https://u:p@h/",
                "curl -H 'X-Api-Key: (hidden)' -H \"Cookie: (hidden)\" https://u:(hidden)@h/",
            ),
            (
                "Authorization: Bearer $TOKEN",
                "Authorization: Bearer $TOKEN",
            ),
            ("Authorization:", "Authorization:"),
            ("Content-Type: text/plain", "Content-Type: text/plain"),
            ("a:b:c", "a:b:c"),
            (
                "sha256:0c4b5a6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b",
                "sha256:0c4b5a6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b9c0d1e2f3a4b",
            ),
        ] {
            let hidden = hide(&text.into());
            let expected = (text != expected).then(|| expected.into());
            assert_eq!(hidden, expected, "{text}");
        }
        let token = ["ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq"].concat();
        let text = format!("https://me:{token}@h/ -H 'Authorization: Bearer {token}'");
        let hidden = hide(&text.as_str().into()).unwrap().display();
        let mark = hidden.split(['[', ']']).nth(1).unwrap();
        assert_eq!(
            hidden,
            format!("https://me:[{mark}]@h/ -H 'Authorization: Bearer [{mark}]'")
        );
    }
}
