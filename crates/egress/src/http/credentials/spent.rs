//! Bodies by which a login gets new tokens (RFC 6749 sections 4.1.3 and 6), and the answers with them
//! (section 5.1). What is read here is foreign: a body is JSON or a form, an answer is JSON.

use serde_json::{Map, Value};
use stockade_policy::{has_secret_part, with_secret_part};

use crate::scrub::{Letters, percent_encoded};

/// The member that holds the token for new ones.
const REFRESH: &str = "refresh_token";
/// How a body says what it gives for new tokens, and that it is the token for that.
const GRANT: (&str, &str) = ("grant_type", "refresh_token");
/// Longest token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Shortest one: what is shorter could not be told from ordinary text in later answers.
const TOKEN_BYTES_MIN: usize = 8;
/// What takes the place of a token that belongs to no field of the login.
const WITHHELD: &str = "withheld-by-the-boundary";

/// Returns the body with `value` in the place of a placeholder, if it is one that gives `placeholder`, and
/// nothing else, for new tokens.
pub(in crate::http) fn spent(body: &[u8], placeholder: &str, value: &str) -> Option<Vec<u8>> {
    let is_own = |text: &str| has_secret_part(text.as_bytes(), placeholder.as_bytes());
    if body.trim_ascii_start().starts_with(b"{") {
        let mut fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        (fields.get(GRANT.0)?.as_str()? == GRANT.1).then_some(())?;
        let token = fields.get_mut(REFRESH)?;
        is_own(token.as_str()?).then_some(())?;
        *token = value.into();
        return serde_json::to_vec(&fields).ok();
    }
    let text = std::str::from_utf8(body).ok()?;
    let pairs: Vec<(&str, &str)> = text
        .split('&')
        .map(|pair| pair.split_once('='))
        .collect::<Option<_>>()?;
    let only = |name: &str| {
        let mut all = pairs.iter().filter(|(own, _)| *own == name);
        let first = all.next();
        first
            .filter(|_| all.next().is_none())
            .map(|(_, value)| *value)
    };
    let gives = only(GRANT.0)? == GRANT.1 && is_own(only(REFRESH)?);
    gives.then_some(())?;
    let value = percent_encoded(value, Letters::Upper);
    let written = pairs.iter().map(|(name, own)| match *name {
        REFRESH => format!("{name}={value}"),
        _ => format!("{name}={own}"),
    });
    Some(written.collect::<Vec<_>>().join("&").into_bytes())
}

/// An answer with new tokens.
#[derive(Debug)]
pub(in crate::http) struct Fresh {
    fields: Map<String, Value>,
}

impl Fresh {
    /// Reads an answer; the error says why it is none with new tokens.
    pub(in crate::http) fn read(body: &[u8]) -> Result<Self, &'static str> {
        let fields: Result<Map<String, Value>, _> = serde_json::from_slice(body);
        let fields = fields.map_err(|_| "its body is no table of JSON")?;
        Ok(Self { fields })
    }

    /// Returns the token that the answer has as `member`.
    pub(in crate::http) fn token(&self, member: &str) -> Result<Option<&str>, &'static str> {
        let text = match self.fields.get(member) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(_) => return Err("a token in it is no text"),
        };
        let is_token = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token {
            Ok(Some(text))
        } else {
            Err("a token in it is too short, too long or no token")
        }
    }

    /// Returns for how many seconds the tokens are valid.
    pub(in crate::http) fn lifetime_s(&self) -> Option<u64> {
        self.fields.get("expires_in")?.as_u64()
    }

    /// Puts a placeholder in the place of a token that was read.
    pub(in crate::http) fn hide(&mut self, member: &str, placeholder: &str) {
        if let Some(Value::String(text)) = self.fields.get_mut(member) {
            *text = with_secret_part(text, placeholder);
        }
    }

    /// Writes it, without the tokens that `is_hidden` does not know.
    pub(in crate::http) fn written(mut self, is_hidden: impl Fn(&str) -> bool) -> Vec<u8> {
        for (name, value) in &mut self.fields {
            if !is_hidden(name) {
                withhold(name, value);
            }
        }
        serde_json::to_vec(&self.fields).unwrap_or_default()
    }
}

/// Takes texts away that are called tokens or secrets.
fn withhold(name: &str, value: &mut Value) {
    let name = name.to_ascii_lowercase();
    match value {
        Value::String(text) => {
            let is_secret = (name.contains("token") && name != "token_type")
                || ["secret", "api_key", "apikey", "raw_key"]
                    .iter()
                    .any(|word| name.contains(word));
            if is_secret {
                WITHHELD.clone_into(text);
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| withhold(&name, one)),
        Value::Object(all) => all.iter_mut().for_each(|(name, one)| withhold(name, one)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Fresh, spent};

    const PLACEHOLDER: &str = "placeholder-0123456789abcdefghij";

    fn given(body: &str) -> Option<String> {
        let new = spent(body.as_bytes(), PLACEHOLDER, "real/token+1")?;
        Some(String::from_utf8(new).unwrap())
    }

    #[test]
    fn a_token_is_given_in_its_place_alone() {
        let json = |grant: &str, name: &str| {
            format!("{{\"grant_type\":\"{grant}\",\"{name}\":\"{PLACEHOLDER}\"}}")
        };
        let expected = json("refresh_token", "refresh_token").replace(PLACEHOLDER, "real/token+1");
        assert_eq!(
            given(&json("refresh_token", "refresh_token")),
            Some(expected)
        );
        let form = format!("grant_type=refresh_token&client_id=a%20b&refresh_token={PLACEHOLDER}");
        let expected = "grant_type=refresh_token&client_id=a%20b&refresh_token=real%2Ftoken%2B1";
        assert_eq!(given(&form).as_deref(), Some(expected));
        for other in [
            json("refresh_token", "client_id"),
            json("authorization_code", "refresh_token"),
            json("refresh_token", "refresh_token").replace(PLACEHOLDER, "x"),
            format!("{{\"grant_type\":\"refresh_token\",\"refresh_token\":[\"{PLACEHOLDER}\"]}}"),
            format!("{{\"refresh_token\":\"{PLACEHOLDER}\"}}"),
            format!("{form}&refresh_token={PLACEHOLDER}"),
            format!("{form}&grant_type=authorization_code"),
            format!("grant_type=refresh_token&state={PLACEHOLDER}&refresh_token=x"),
            format!("refresh_token={PLACEHOLDER}"),
            "{".to_owned(),
            String::new(),
        ] {
            assert_eq!(given(&other), None, "{other}");
        }
        // Who reads the first of two and who reads the last see the same.
        let twice =
            json("refresh_token", "refresh_token").replace('{', "{\"refresh_token\":\"other\",");
        assert_eq!(
            given(&twice).unwrap().matches("refresh_token\":").count(),
            1
        );
    }

    #[test]
    fn no_token_of_an_answer_stays() {
        let text = r#"{"access_token":"real-access-1","token_type":"Bearer","expires_in":28800,
            "session_token":"real-other-1","account":{"uuid":"u","device_secret":"real-other-2"},
            "tokens":["real-other-3"],"refresh_token":"real-refresh-1","scope":"a b"}"#;
        let mut fresh = Fresh::read(text.as_bytes()).unwrap();
        assert_eq!(fresh.token("access_token"), Ok(Some("real-access-1")));
        assert_eq!(fresh.lifetime_s(), Some(28800));
        fresh.hide("access_token", PLACEHOLDER);
        let written = String::from_utf8(fresh.written(|name| name == "access_token")).unwrap();
        assert!(!written.contains("real-"), "{written}");
        for kept in [PLACEHOLDER, "Bearer", "28800", "\"u\"", "a b"] {
            assert!(written.contains(kept), "{kept}: {written}");
        }
        for (text, why) in [
            ("[]", "no table"),
            ("<html>", "no table"),
            (r#"{"access_token":{"a":1}}"#, "no text"),
            (r#"{"access_token":"short"}"#, "too short"),
            (r#"{"access_token":"two words here"}"#, "no token"),
        ] {
            let read = Fresh::read(text.as_bytes());
            let found = read.and_then(|fresh| fresh.token("access_token").map(|_| ()));
            assert!(found.unwrap_err().contains(why), "{text}");
        }
    }
}
