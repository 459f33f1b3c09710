//! Logins that were refreshed inside, and the only way in which they reach the user's own files.
//!
//! Untrusted code wrote the agent's copy. Only the fields that a refresh changes are taken from it,
//! each by value and only in the form that the user's own has; if anything else differs, it is a
//! different login, and nothing is taken. Of logins whose tokens stay outside nothing is read here
//! (`credentials/logins.rs`).

use std::{ffi::OsStr, fs, path::PathBuf};

use serde_json::{Map, Value};
use stockade_policy::Login;
use stockade_types::Digest;

use crate::{
    caller::Caller,
    seed_list::{Original, Seeded},
    seeds::Directory,
    whole_files::{LOGIN_BYTES_MAX, TOKEN_BYTES_MAX, replace},
};

/// A login file, in both places.
#[derive(Clone, Debug)]
pub(crate) struct LoginPlace {
    pub(crate) login: Login,
    /// The agent's directory on the host.
    pub(crate) directory: PathBuf,
    /// The list of the files copied into it.
    pub(crate) list: PathBuf,
    /// The user's own file.
    pub(crate) own: PathBuf,
    /// The user's own file, as people write its path.
    pub(crate) shown: String,
    /// The file inside has placeholders, and what is renewed gets into the user's own at once.
    pub(crate) is_outside: bool,
}

/// What happened to a login inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginState {
    /// It is equal to the user's, or there is none.
    Same,
    /// Only tokens differ.
    Refreshed {
        /// The user's own file, as people write its path.
        file: String,
        /// The fields that differ.
        fields: Vec<String>,
    },
    /// It is not a refreshed form of the user's, for this reason.
    Other {
        /// The user's own file, as people write its path.
        file: String,
        /// Why nothing can be taken from it.
        reason: String,
    },
}

/// A login that was refreshed inside, as it would be written.
struct Refreshed {
    fields: Vec<String>,
    text: String,
}

impl LoginPlace {
    /// Compares both files.
    pub(crate) fn state(&self, caller: &Caller) -> LoginState {
        let file = self.shown.clone();
        match self.refreshed(caller) {
            Ok(None) => LoginState::Same,
            Ok(Some(Refreshed { fields, .. })) => LoginState::Refreshed { file, fields },
            Err(reason) => LoginState::Other { file, reason },
        }
    }

    /// Reads both files and returns the new content of the user's.
    fn refreshed(&self, caller: &Caller) -> Result<Option<Refreshed>, String> {
        if self.is_outside {
            return Ok(None);
        }
        let list = Seeded::read(&self.list);
        let Some(known) = list.get(&self.login.file) else {
            return Ok(None);
        };
        let inside = Directory::open(&self.directory, caller)
            .ok()
            .and_then(|directory| directory.contents(OsStr::new(&self.login.file)));
        let Some(inside) = inside.filter(|bytes| Digest::of(bytes) != known.digest) else {
            return Ok(None);
        };
        let Ok(own) = fs::read(&self.own) else {
            return Ok(None);
        };
        let parse = |bytes: &[u8], whose: &str| -> Result<Map<String, Value>, String> {
            (bytes.len() <= LOGIN_BYTES_MAX)
                .then(|| serde_json::from_slice(bytes).ok())
                .flatten()
                .ok_or_else(|| format!("{whose} is no table of JSON"))
        };
        let own_fields = parse(&own, "yours")?;
        let inside = parse(&inside, "the agent's")?;
        let mut merged = own_fields.clone();
        let mut fields = Vec::new();
        take(
            &mut merged,
            &inside,
            &self.login.tokens,
            &mut Vec::new(),
            &mut fields,
        )?;
        if fields.is_empty() {
            return Ok(None);
        }
        if Digest::of(&own) != known.digest {
            return Err("yours has changed since the session began".to_owned());
        }
        let text = serde_json::to_string_pretty(&merged).map_err(|error| error.to_string())?;
        Ok(Some(Refreshed { fields, text }))
    }

    /// Replaces the user's own file with the refreshed login, as a whole.
    ///
    /// # Errors
    /// When there is nothing to take, or the file cannot be written.
    pub(crate) fn copy(&self, caller: &Caller) -> Result<(), String> {
        let (own_uid, _) = stockade_sys::identity::own();
        if own_uid != caller.uid {
            return Err("it belongs to another user, who can do this".to_owned());
        }
        let refreshed = self
            .refreshed(caller)?
            .ok_or("it was not refreshed inside")?;
        let written = replace(&self.own, refreshed.text.as_bytes());
        let metadata = written.map_err(|error| error.to_string())?;
        // The agent's file is a refreshed form of the user's present file.
        let mut list = Seeded::read(&self.list);
        let (file, text) = (&self.login.file, refreshed.text.as_bytes());
        list.set(file, Original::of(file, Some(&metadata), text));
        list.write(&self.list).map_err(|error| error.to_string())
    }
}

/// Copies the differing values into `own`; a difference in anything other than a token is an error.
fn take(
    own: &mut Map<String, Value>,
    inside: &Map<String, Value>,
    tokens: &[String],
    path: &mut Vec<String>,
    fields: &mut Vec<String>,
) -> Result<(), String> {
    if let Some(key) = inside.keys().find(|key| !own.contains_key(*key)) {
        path.push(key.clone());
        return Err(differs(path));
    }
    for (key, value) in own.iter_mut() {
        path.push(key.clone());
        match (value, inside.get(key)) {
            (Value::Object(own), Some(Value::Object(inside))) => {
                take(own, inside, tokens, path, fields)?;
            }
            (own, Some(inside)) if own == inside => {}
            (own, Some(inside)) => {
                let is_token = tokens.iter().any(|pattern| matches(pattern, path));
                if !is_token || !has_shape_of(inside, own) {
                    return Err(differs(path));
                }
                *own = inside.clone();
                fields.push(path.join("."));
            }
            (_, None) => return Err(differs(path)),
        }
        path.pop();
    }
    Ok(())
}

fn differs(path: &[String]) -> String {
    format!("`{}` differs in more than a token", path.join("."))
}

/// Compares a path with `a.b`, where `*` is any key.
fn matches(pattern: &str, path: &[String]) -> bool {
    let parts: Vec<&str> = pattern.split('.').collect();
    parts.len() == path.len()
        && parts
            .iter()
            .zip(path)
            .all(|(part, key)| *part == "*" || part == key)
}

/// Whether a value can be the same sort of token as the other: visible ASCII, or a number that is a
/// time.
fn has_shape_of(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::String(text), Value::String(_)) => {
            !text.is_empty()
                && text.len() <= TOKEN_BYTES_MAX
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        }
        (Value::Number(number), Value::Number(_)) => number.is_u64(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::take;

    fn taken(own: Value, inside: Value) -> Result<(Value, Vec<String>), String> {
        let object = |value: Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
        let mut merged = object(own);
        let tokens = ["tokens.access", "*.until", "at"].map(str::to_owned);
        let mut fields = Vec::new();
        take(
            &mut merged,
            &object(inside),
            &tokens,
            &mut Vec::new(),
            &mut fields,
        )?;
        Ok((Value::Object(merged), fields))
    }

    #[test]
    fn tokens_are_taken_by_value_and_nothing_else() {
        let own = || json!({"tokens": {"access": "a", "account": "1"}, "x": {"until": 5}});
        let (merged, fields) = taken(
            own(),
            json!({"tokens": {"access": "b", "account": "1"}, "x": {"until": 9}}),
        )
        .unwrap();
        assert_eq!(
            merged,
            json!({"tokens": {"access": "b", "account": "1"}, "x": {"until": 9}})
        );
        assert_eq!(fields, ["tokens.access", "x.until"]);
        for inside in [
            json!({"tokens": {"access": "b", "account": "2"}, "x": {"until": 5}}),
            json!({"tokens": {"access": "b", "account": "1"}, "x": {"until": 5}, "hook": "sh"}),
            json!({"tokens": {"access": "b", "account": "1", "y": 1}, "x": {"until": 5}}),
            json!({"tokens": {"access": "b"}, "x": {"until": 5}}),
            json!({"tokens": {"access": "b\n", "account": "1"}, "x": {"until": 5}}),
            json!({"tokens": {"access": "", "account": "1"}, "x": {"until": 5}}),
            json!({"tokens": {"access": {"a": 1}, "account": "1"}, "x": {"until": 5}}),
            json!({"tokens": {"access": "b", "account": "1"}, "x": {"until": "5"}}),
            json!({"tokens": {"access": "b", "account": "1"}, "x": {"until": -5}}),
            json!({"tokens": "b", "x": {"until": 5}}),
        ] {
            taken(own(), inside.clone()).expect_err(&inside.to_string());
        }
        let long = "x".repeat(20_000);
        taken(json!({"at": "a"}), json!({"at": long})).unwrap_err();
    }
}
