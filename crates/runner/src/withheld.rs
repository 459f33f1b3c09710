//! Secrets of the caller that the session does not have: values of variables that policy takes away, and
//! of settings in small files that the view does not show.
//!
//! The egress process looks for them in what leaves, and nobody else gets them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};
use stockade_egress::Withheld;
use stockade_plan::{HostFacts, LaunchPlan};
use stockade_policy::looks_secret;
use stockade_types::Secret;

use crate::credentials::Find;

/// Most values that are looked for: each costs memory in the egress process.
const VALUES_MAX: usize = 48;
/// Most files that are read, so that a start does not wait for a large directory.
const FILES_MAX: usize = 64;
/// Larger files hold more than settings.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Shorter values are words that stand everywhere.
const VALUE_BYTES_MIN: usize = 12;
/// Longer ones are certificates and the like.
const VALUE_BYTES_MAX: usize = 4096;
/// Finds what is withheld from the session of a plan, if values are wanted.
pub(crate) fn find(wanted: Find, facts: &HostFacts, plan: &LaunchPlan) -> Vec<Withheld> {
    let mut found = Found::default();
    if wanted != Find::Values {
        return found.all;
    }
    // What the session has may leave by what it is for.
    let inside = plan.command.environment.iter();
    found.known.extend(inside.map(|(_, value)| value.display()));
    for (name, value) in &facts.environment {
        let kept = plan
            .command
            .environment
            .iter()
            .any(|own| (&own.0, &own.1) == (name, value));
        let (Ok(name), Ok(value)) = (
            std::str::from_utf8(name.as_bytes()),
            std::str::from_utf8(value.as_bytes()),
        ) else {
            continue;
        };
        if !kept {
            let what = || format!("variable `{name}`");
            found.add_password(value, &what);
            if looks_secret(name) {
                found.add(value, &what);
            }
        }
    }
    for file in files(facts) {
        let what = || format!("file `{}`", file.display());
        if let Some(text) = text(&file) {
            found.read(&text, &what);
        }
    }
    found.all
}

/// Returns the files that are read: those that are hidden, and those in hidden directories themselves.
fn files(facts: &HostFacts) -> Vec<PathBuf> {
    let shared = |path: &Path| {
        let mut shares = facts.readable.iter().chain(&facts.writable);
        shares.any(|share| path.starts_with(share.path.as_path()))
    };
    let hidden = facts.hidden.iter().map(|path| path.as_path().to_owned());
    let secrets = facts.secrets.iter().map(|path| path.as_path().to_owned());
    let secrets = secrets.filter(|path| !shared(path));
    let mut files = BTreeSet::new();
    for path in hidden.chain(secrets) {
        if path.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            files.extend(entries.take(FILES_MAX).map(|entry| entry.path()));
        } else {
            files.insert(path);
        }
    }
    files.into_iter().take(FILES_MAX).collect()
}

/// Reads a file, if it is a small one of text.
fn text(path: &Path) -> Option<String> {
    // A pipe without a writer would keep an ordinary open waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return None;
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[derive(Default)]
struct Found {
    all: Vec<Withheld>,
    known: BTreeSet<String>,
}

impl Found {
    /// Adds a value, if it is one that nobody made up as a word.
    fn add(&mut self, value: &str, what: &dyn Fn() -> String) {
        let value = value.trim().trim_matches(['"', '\'', ',', ';']);
        let is_new = is_value(value) && !self.known.contains(value);
        if is_new && self.all.len() < VALUES_MAX {
            self.known.insert(value.to_owned());
            self.all.push(Withheld {
                kind: what(),
                value: Secret::new(value.to_owned()),
            });
        }
    }

    /// Adds the password of an address, `scheme://user:password@host`.
    fn add_password(&mut self, text: &str, what: &dyn Fn() -> String) {
        for rest in text.split("://").skip(1) {
            let authority = rest
                .split(['/', '?', '#', ' ', '\n'])
                .next()
                .unwrap_or_default();
            let login = authority.rsplit_once('@').map(|(login, _)| login);
            if let Some((_, password)) = login.and_then(|login| login.split_once(':')) {
                self.add(password, what);
            }
        }
    }

    /// Adds the values of settings whose names say that they are secret.
    fn read(&mut self, text: &str, what: &dyn Fn() -> String) {
        self.add_password(text, what);
        if let Ok(json) = serde_json::from_str(text) {
            self.walk(&json, what);
            return;
        }
        let mut words = text.split_whitespace().peekable();
        // A file that is one value, and netrc(5).
        if let (Some(only), None) = (words.next(), words.peek()) {
            self.add(only, what);
        }
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            if word == "password" {
                self.add(words.next().unwrap_or_default(), what);
            }
        }
        for line in text.lines() {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let parts = line.split_once('=').or_else(|| line.split_once(": "));
            if let Some((_, value)) = parts.filter(|(name, _)| looks_secret(name)) {
                self.add(value, what);
            }
        }
    }

    fn walk(&mut self, json: &serde_json::Value, what: &dyn Fn() -> String) {
        match json {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    match value.as_str() {
                        Some(value) if looks_secret(name) => self.add(value, what),
                        _ => self.walk(value, what),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.walk(item, what)),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => {}
        }
    }
}

/// Tells whether a text can be a secret: not a path, an address, a name or a sentence.
fn is_value(value: &str) -> bool {
    let has = |is: fn(&u8) -> bool| value.bytes().any(|byte| is(&byte));
    let classes = [
        u8::is_ascii_lowercase,
        u8::is_ascii_uppercase,
        u8::is_ascii_digit,
    ];
    let classes = classes.into_iter().filter(|is| has(*is)).count();
    (VALUE_BYTES_MIN..=VALUE_BYTES_MAX).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_graphic())
        && !value.starts_with(['/', '~', '$', '<'])
        && !value.contains("://")
        && classes >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let mut found = Found::default();
        found.read(text, &|| "file `x`".to_owned());
        found
            .all
            .into_iter()
            .map(|one| one.value.expose().clone())
            .collect()
    }

    #[test]
    fn values_of_secret_settings_are_found() {
        for (text, value) in [
            (
                "A=b\nexport DB_PASSWORD='hunter2hunter2'\n",
                "hunter2hunter2",
            ),
            (
                "[default]\naws_secret_access_key = abcDEF0123456789/+=x\n",
                "abcDEF0123456789/+=x",
            ),
            (
                "//registry.test/:_authToken=npm-0123456789abcdef\n",
                "npm-0123456789abcdef",
            ),
            (
                "machine good.test login me password Abcdef0123456789\n",
                "Abcdef0123456789",
            ),
            ("api_key: \"k-0123456789abcdef\"\n", "k-0123456789abcdef"),
            (
                "{\"a\": [{\"access_token\": \"t-0123456789abcdef\"}]}",
                "t-0123456789abcdef",
            ),
            (
                "https://me:p-0123456789abcdef@good.test\n",
                "p-0123456789abcdef",
            ),
            ("t-0123456789abcdef\n", "t-0123456789abcdef"),
        ] {
            assert_eq!(values(text), [value], "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_is_none() {
        for text in [
            "DB_PASSWORD=\nDB_PASSWORD_FILE=/run/secrets/db-0123\nSECRET_NAME=production-database\n",
            "TOKEN_URL=https://good.test/a1\nTOKEN=short1\nDEBUG=abcDEF0123456789\n",
            "SECRET=$OTHER_SECRET_1234\nPASSWORD=<your password 1>\n",
            "{\"token_type\": \"bearer\", \"name\": \"abcDEF0123456789\"}",
            "",
        ] {
            assert_eq!(values(text), Vec::<String>::new(), "{text}");
        }
    }
}
