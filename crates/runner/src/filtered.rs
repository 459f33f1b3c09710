//! User configuration that programs need, without its credentials.

use std::{fs, io::Read as _, os::unix::fs::OpenOptionsExt, path::Path};

use rustix::fs::OFlags;
use stockade_plan::ShownFact;
use stockade_types::AbsPath;

use crate::relocated::Relocated;

/// Largest file that is parsed; a larger one is shown empty.
const BYTES_MAX: u64 = 1 << 20;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// git-config(1).
    Git,
    /// The configuration of Cargo.
    Cargo,
}

/// Files below the home that contain credentials among settings that programs need.
const FILES: [(&str, Form); 4] = [
    (".gitconfig", Form::Git),
    (".config/git/config", Form::Git),
    (".cargo/config.toml", Form::Cargo),
    (".cargo/config", Form::Cargo),
];

/// Returns those files of `home` that contain credentials, with the text that is shown instead.
pub(crate) fn find(home: &AbsPath, relocated: &Relocated) -> Vec<ShownFact> {
    let mut found = Vec::new();
    let places = FILES
        .iter()
        .filter_map(|(name, form)| Some((home.join(name).ok()?, *form)));
    let places =
        places.flat_map(|(at, form)| relocated.places(&at).into_iter().map(move |at| (at, form)));
    for (named, form) in places {
        // As the session would find it: under its name, and at the target of its links.
        let Some(path) = fs::canonicalize(&named).ok() else {
            continue;
        };
        let Some(text) = read(&path) else { continue };
        let contents = match form {
            Form::Git => git(&text),
            Form::Cargo => cargo(&text),
        };
        if contents == text {
            continue;
        }
        for path in [Some(named), AbsPath::new(path).ok()].into_iter().flatten() {
            let fact = ShownFact {
                path,
                contents: contents.clone(),
            };
            if !found.contains(&fact) {
                found.push(fact);
            }
        }
    }
    found
}

/// Reads a regular file; one that is too large or not text counts as full of credentials.
fn read(path: &Path) -> Option<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).ok()?;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= BYTES_MAX);
    let text = String::from_utf8(bytes).ok().filter(|_| fits);
    Some(text.unwrap_or_else(|| "\0".to_owned()))
}

/// Removes sections and values with credentials from a git configuration.
fn git(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut in_credential = false;
    let mut dropping = false;
    for line in text.split_inclusive('\n') {
        // A value continues in the next line after a backslash.
        let goes_on = line.trim_end_matches(['\n', '\r']).ends_with('\\');
        if dropping {
            dropping = goes_on;
            continue;
        }
        let trimmed = line.trim();
        let (section, rest) = match trimmed.strip_prefix('[').and_then(|s| s.split_once(']')) {
            Some((section, rest)) => (Some(section.to_ascii_lowercase()), rest.trim()),
            None => (None, trimmed),
        };
        if let Some(section) = &section {
            in_credential = section.trim_start().starts_with("credential") || has_userinfo(section);
        }
        let hides = in_credential || line.contains('\0') || is_secret(rest);
        if hides {
            dropping = goes_on;
            continue;
        }
        kept.push_str(line);
    }
    kept
}

/// Whether a `key = value` holds a credential.
fn is_secret(line: &str) -> bool {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    // An alias can contain one in a command line of git.
    if value.to_ascii_lowercase().contains("extraheader") {
        return true;
    }
    let key = key.trim().to_ascii_lowercase();
    let named = [
        "extraheader",
        "cookiefile",
        "proxyauthmethod",
        "sslkey",
        "smtppass",
        "helper",
    ];
    let parts = ["password", "token", "secret", "oauth", "apikey"];
    named.contains(&key.as_str())
        || parts
            .iter()
            .any(|part| key.replace(['-', '_'], "").contains(part))
        || has_userinfo(value)
}

/// Whether a text has a URL with a user name and a password, or with a token as the user name.
fn has_userinfo(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let end = rest.find(['/', '"', '\'', ' ', ']']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or(rest);
        authority
            .rsplit_once('@')
            // `ssh://git@host` names an account, not a secret.
            .is_some_and(|(user, _)| user != "git")
    })
}

/// Removes credentials from a Cargo configuration; one that cannot be read is shown empty.
fn cargo(text: &str) -> String {
    let Ok(mut table) = text.parse::<toml::Table>() else {
        return String::new();
    };
    if !clean(&mut table) {
        return text.to_owned();
    }
    toml::to_string(&table).unwrap_or_default()
}

/// Removes secrets below a table; returns whether there were any.
fn clean(table: &mut toml::Table) -> bool {
    let before = table.len();
    table.retain(|key, value| {
        let key = key.to_ascii_lowercase();
        let named = ["token", "secret-key", "password"];
        let is_secret = named.contains(&key.as_str()) || key.ends_with("_token");
        let text = value.as_str().is_some_and(has_userinfo);
        !is_secret && !text
    });
    let mut changed = table.len() != before;
    for (_, value) in table.iter_mut() {
        if let Some(below) = value.as_table_mut() {
            changed |= clean(below);
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::{cargo, git};

    #[test]
    fn a_git_configuration_keeps_all_but_credentials() {
        let text = "[user]\n\tname = Dev\n[credential \"https://good.test\"]\n\thelper = store\n\
                    [http \"https://good.test\"]\n\textraHeader = AUTHORIZATION: basic \\\n  c2VjcmV0\n\tsslVerify = true\n\
                    [url \"https://dev:secret@good.test/\"]\n\tinsteadOf = x:\n[Credential]\n\tusername = d\n\
                    [github]\n\tuser = dev\n\toauth-token = secret\n[remote \"o\"]\n\turl = https://secret@good.test/r\n\
                    [url \"ssh://git@good.test/\"]\n\tinsteadOf = https://good.test/\n[alias]\n\tst = status\n";
        let shown = git(text);
        assert!(
            !shown.contains("secret") && !shown.contains("c2VjcmV0"),
            "{shown}"
        );
        for kept in [
            "name = Dev",
            "sslVerify",
            "user = dev",
            "st = status",
            "ssh://git@",
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
        }
        let plain = "[user]\n\temail = d@good.test\n[core]\n\tpager = less \\\n  -R\n";
        assert_eq!(git(plain), plain);
    }

    #[test]
    fn a_cargo_configuration_keeps_all_but_tokens() {
        let text = "[build]\njobs = 4\n[registry]\ntoken = \"secret\"\n[registries.lab]\nindex = \"sparse+https://registry.test/\"\n\
                    token = \"secret\"\nsecret-key = \"secret\"\n[source.x]\nregistry = \"https://u:secret@registry.test/\"\n";
        let shown = cargo(text);
        assert!(!shown.contains("secret"), "{shown}");
        assert!(
            shown.contains("jobs = 4") && shown.contains("registry.test"),
            "{shown}"
        );
        let plain = "# mine\n[build]\njobs = 4\n";
        assert_eq!(cargo(plain), plain);
        assert_eq!(cargo("= no"), "");
    }
}
