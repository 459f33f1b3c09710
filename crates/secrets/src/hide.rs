//! Texts as people and records see them: each secret replaced by what it is.

use super::{Finding, KEY_BLOCK_KIND, SETTING_KIND, Secrets, formats::FORMATS, forms::Form};

/// Ends what stands behind the beginning of a secret, in any form.
const ENDS: &[u8] = b"&?; \t\r\n\"'<>|";

impl Secrets {
    /// Returns a text with what was found in the place of each secret, such as
    /// `[github-token:5f0c9a11]`; `None` where there is none.
    ///
    /// Where it cannot be told where a secret ends, more of the text is replaced, never less.
    pub fn hide(&self, text: &[u8]) -> Option<Vec<u8>> {
        self.hide_as(text, |found| format!("[{}:{}]", found.kind, found.mark))
    }

    /// As [`Self::hide`], with other words in the place of each secret.
    pub(crate) fn hide_as(&self, text: &[u8], words: fn(&Finding) -> String) -> Option<Vec<u8>> {
        let found = self.find(text);
        if found.is_empty() {
            return None;
        }
        let (mut shown, mut read) = (Vec::with_capacity(text.len()), 0);
        for finding in &found {
            let at = usize::try_from(finding.at).unwrap_or(text.len());
            let Some(before) = text.get(read..at) else {
                continue;
            };
            shown.extend_from_slice(before);
            shown.extend_from_slice(words(finding).as_bytes());
            read = at + bytes_of(finding, text.get(at..).unwrap_or_default());
        }
        shown.extend_from_slice(text.get(read..).unwrap_or_default());
        Some(shown)
    }
}

/// Returns how many bytes at the beginning of `text` are hidden for a finding there.
fn bytes_of(finding: &Finding, text: &[u8]) -> usize {
    if finding.kind == KEY_BLOCK_KIND {
        // Its lines have spaces and ends of lines in any form.
        return text.len();
    }
    let escape = match finding.form {
        Form::PLAIN => 1,
        Form::PERCENT => "%00".len(),
        Form::JSON => "\\u0000".len(),
        _ => 0,
    };
    let is_known =
        finding.kind == SETTING_KIND || FORMATS.iter().any(|one| one.kind == finding.kind);
    let known = if escape > 0 && is_known {
        written(text, finding.bytes, escape)
    } else {
        0
    };
    let rest = text.get(known..).unwrap_or_default();
    // What stands right behind a token is still no text of somebody else.
    let ends = |byte: &u8| match known {
        0 => ENDS.contains(byte),
        _ => !byte.is_ascii_alphanumeric() && !b"_-.+=%~\\".contains(byte),
    };
    known + rest.iter().take_while(|byte| !ends(byte)).count()
}

/// Returns how many bytes so many bytes of a text take where each can be an escape of `escape` bytes.
fn written(text: &[u8], bytes: usize, escape: usize) -> usize {
    let mut at = 0;
    for _ in 0..bytes {
        let is_escape = matches!(text.get(at), Some(b'%' | b'\\'));
        at += if is_escape { escape } else { 1 };
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use crate::{Own, Secrets};

    fn hidden(text: &str) -> String {
        let own = Own {
            kind: "credential `svc`".to_owned(),
            text: b"correct/horse-battery/staple-9081726354".to_vec(),
        };
        let secrets = Secrets::new(vec![own]).unwrap();
        let hidden = secrets.hide(text.as_bytes());
        let text = hidden.map_or_else(
            || text.to_owned(),
            |bytes| String::from_utf8(bytes).unwrap(),
        );
        // Marks differ from run to run.
        let mut parts = text.split(']');
        let first = parts.next().unwrap_or_default().to_owned();
        let without = |part: &str| match part.rsplit_once(':') {
            Some((before, mark)) if mark.len() == 8 && before.contains('[') => before.to_owned(),
            _ => part.to_owned(),
        };
        parts.fold(without(&first), |all, part| {
            format!("{all}]{}", without(part))
        })
    }

    /// The secret is gone in every form, and of what is around it as much stays as can be told apart.
    #[test]
    fn a_secret_is_hidden_and_what_is_around_it_stays() {
        let token = ["ghp_", "k3Xv9QmZ2rT7bNw4Yc8LpD1sHf6GjA5uEoKq"].concat();
        let escaped = token.replace('Z', "%5A");
        let escaped_all = |before: &str| {
            let bytes = token.bytes();
            bytes.fold(String::new(), |all, byte| {
                format!("{all}{before}{byte:02x}")
            })
        };
        let (all, json) = (escaped_all("%"), escaped_all("\\u00"));
        for (text, expected) in [
            (
                format!("/bot{token}/send?a=b"),
                "/bot[github-token]/send?a=b",
            ),
            (format!("/{token}/x"), "/[github-token]/x"),
            (format!("/a/{escaped}/x"), "/a/[github-token]/x"),
            (
                format!("/a/{all}/x?{all}&y"),
                "/a/[github-token]/x?[github-token]&y",
            ),
            (
                format!("{{\"a\": \"{json}\"}}"),
                "{\"a\": \"[github-token]\"}",
            ),
            (
                format!("Authorization: Bearer {token}"),
                "Authorization: Bearer [github-token]",
            ),
            (
                format!("https://me:{token}@host/x"),
                "https://me:[github-token]@host/x",
            ),
            (
                format!("'{token}' '{token}'"),
                "'[github-token]' '[github-token]'",
            ),
            (
                "db_password = \"q7Rx2Lm9Tz4Vb8Kc1Wd5\", more".to_owned(),
                "db_[secret-setting]\", more",
            ),
            (
                "/correct/horse-battery/staple-9081726354?x&y".to_owned(),
                "/[credential `svc`]?x&y",
            ),
        ] {
            assert_eq!(hidden(&text), expected, "{text}");
        }
    }
}
