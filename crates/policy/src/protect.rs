//! Names that decide by a look at their text: protected paths and variables that pass.

use crate::{
    EnvironmentSettings, WorkspaceSettings,
    pattern::{Glob, ProtectedPattern, glob::Case, protected::Part},
};

/// Parts of names under which secrets are kept; such a name passes only where it is given exactly.
const SECRET_PARTS: [&str; 22] = [
    "KEY",
    "TOKEN",
    "SECRET",
    // `PASSWORD`, `PASSWD`, `PGPASSFILE`, `SSHPASS`
    "PASS",
    "_PWD",
    "_PW",
    "CREDENTIAL",
    "CREDS",
    "JWT",
    "BEARER",
    "SIGNING",
    "VAULT",
    "WEBHOOK",
    "CONNECTION_STRING",
    "DATABASE_URL",
    "_SAS",
    "AUTH",
    "COOKIE",
    "PRIVATE",
    "CERT",
    "_PAT",
    "DSN",
];
/// Beginnings of names that make other code run; such a name passes only where it is given exactly.
const CODE_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "BASH_FUNC_"];

impl EnvironmentSettings {
    /// Tells whether a variable of the caller exists inside.
    ///
    /// A name that looks like a secret, or that makes other code run, needs an exact entry.
    pub fn passes(&self, name: &str) -> bool {
        let exact_only = looks_secret(name);
        self.pass.iter().any(|pattern| {
            pattern.value == name
                || (!exact_only
                    && Glob::parse(&pattern.value)
                        .is_ok_and(|glob| glob.matches(name.as_bytes(), Case::Exact)))
        })
    }
}

/// Tells whether a variable looks like a secret or makes other code run: it only passes by its
/// exact name, and its value is not shown.
pub fn looks_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    SECRET_PARTS.iter().any(|part| upper.contains(part))
        || CODE_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

/// Tells whether every variable that a glob means looks like a secret, so that it passes none.
pub(crate) fn hides_secret(glob: &str) -> bool {
    // Braces would have to be unfolded first.
    !glob.contains('{')
        && glob.split('*').any(|part| {
            let upper = part.to_ascii_uppercase();
            SECRET_PARTS.iter().any(|secret| upper.contains(secret))
        })
        || CODE_PREFIXES.iter().any(|prefix| glob.starts_with(prefix))
}

/// First parts of the patterns of protected paths.
#[derive(Clone, Debug)]
pub struct Beginnings {
    /// Those that are names, by nothing else than themselves.
    names: Vec<Part>,
    /// Bytes with which one of the names begins, in either case: most names of a workspace begin
    /// with none of them.
    bytes: [bool; 256],
    others: Vec<Part>,
}

impl Beginnings {
    fn new(firsts: Vec<Part>) -> Self {
        let mut bytes = [false; 256];
        let (names, others): (Vec<_>, Vec<_>) = firsts
            .into_iter()
            .partition(|first| first.first_byte().is_some());
        for byte in names.iter().filter_map(Part::first_byte) {
            for case in [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()] {
                if let Some(known) = bytes.get_mut(usize::from(case)) {
                    *known = true;
                }
            }
        }
        Self {
            names,
            bytes,
            others,
        }
    }

    /// Tells whether a protected path can begin with this name.
    pub fn include(&self, name: &[u8]) -> bool {
        let first = name.first().map(|byte| usize::from(*byte));
        let possible = first.is_some_and(|byte| self.bytes.get(byte) == Some(&true));
        let fits = |part: &Part| part.fits(name);
        possible && self.names.iter().any(fits) || self.others.iter().any(fits)
    }
}

impl WorkspaceSettings {
    /// Returns the pattern that protects a path below the workspace, at any depth.
    ///
    /// `dir/**` protects `dir` itself too. ASCII case is ignored (`.GIT/config`), since some file
    /// systems ignore it.
    pub fn protects(&self, relative: &[u8]) -> Option<&str> {
        let parts: Vec<&[u8]> = parts(relative);
        self.find(&parts, matches)
    }

    /// Returns the pattern that protects something below a path: renaming `.git` away would take
    /// its hooks out of protection.
    pub fn protects_below(&self, relative: &[u8]) -> Option<&str> {
        let parts: Vec<&[u8]> = parts(relative);
        self.find(&parts, |pattern, tail| {
            (1..pattern.len())
                .filter_map(|length| pattern.get(..length))
                .any(|front| matches(front, tail))
        })
    }

    /// Returns the pattern for which a file at this path stands in the place of a directory: git
    /// follows a file named `.git` to another directory, with other hooks.
    pub fn stands_for(&self, relative: &[u8]) -> Option<&str> {
        let parts: Vec<&[u8]> = parts(relative);
        self.find(&parts, stands)
    }

    /// Returns the end of a path that patterns know: `.git` for `sub/.git`. What a link or a pointer
    /// at that path leads to has this name as well.
    pub fn known_end(&self, relative: &[u8]) -> Option<Vec<u8>> {
        let parts: Vec<&[u8]> = parts(relative);
        // The longest: what patterns say of a shorter one, they say of it too.
        let start = (0..parts.len()).find(|at| {
            let tail = parts.get(*at..).unwrap_or_default();
            self.protect.iter().any(|pattern| {
                let pattern = pattern.value.parts();
                matches(pattern, tail) || stands(pattern, tail)
            })
        })?;
        parts.get(start..).map(|tail| tail.join(&b'/'))
    }

    /// Returns the names with which protected paths begin: what lies below none of them need not
    /// be looked at any closer, which is nearly all of a workspace.
    pub fn beginnings(&self) -> Beginnings {
        let mut firsts: Vec<Part> = Vec::new();
        for first in self.protect.iter().filter_map(|p| p.value.parts().first()) {
            if !firsts.contains(first) {
                firsts.push(first.clone());
            }
        }
        Beginnings::new(firsts)
    }

    fn find(&self, parts: &[&[u8]], fits: impl Fn(&[Part], &[&[u8]]) -> bool) -> Option<&str> {
        let patterns = self.protect.iter().map(|pattern| &pattern.value);
        let found = patterns.into_iter().find(|pattern| {
            let Some(first) = pattern.parts().first() else {
                return false;
            };
            // Most patterns begin with a name that is not in the path.
            (0..parts.len())
                .filter_map(|at| parts.get(at..))
                .filter(|tail| tail.first().is_some_and(|part| first.fits(part)))
                .any(|tail| fits(pattern.parts(), tail))
        });
        found.map(ProtectedPattern::as_str)
    }
}

/// Tells whether a path is that of a directory above what a pattern protects.
fn stands(pattern: &[Part], parts: &[&[u8]]) -> bool {
    (1..pattern.len())
        .filter_map(|length| pattern.get(..length))
        .filter(|front| front.last().is_some_and(|last| *last != Part::Many))
        .any(|front| matches(front, parts))
}

fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect()
}

fn matches(pattern: &[Part], parts: &[&[u8]]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return parts.is_empty();
    };
    if *first == Part::Many {
        return rest.is_empty()
            || (0..=parts.len())
                .filter_map(|at| parts.get(at..))
                .any(|tail| matches(rest, tail));
    }
    let Some((part, tail)) = parts.split_first() else {
        return false;
    };
    first.fits(part) && matches(rest, tail)
}

#[cfg(test)]
mod tests {
    use crate::{EnvironmentSettings, Origin, Sourced, WorkspaceMode, WorkspaceSettings};

    fn sourced<T>(value: T) -> Sourced<T> {
        Sourced {
            value,
            origin: Origin::Builtin,
            source: "test:1".to_owned(),
        }
    }

    fn workspace(patterns: &[&str]) -> WorkspaceSettings {
        WorkspaceSettings {
            mode: sourced(WorkspaceMode::Direct),
            protect: patterns
                .iter()
                .map(|p| sourced((*p).to_owned().into()))
                .collect(),
        }
    }

    #[test]
    fn protection_holds_at_any_depth_and_in_any_case() {
        let settings = workspace(&[
            ".git/hooks/**",
            ".git/config",
            ".git/modules/**/config",
            "*.code-workspace",
        ]);
        for path in [
            ".git/hooks/pre-commit",
            "a/b/.git/hooks/x/y",
            ".GIT/Config",
            ".git/hooks",
            ".git/modules/a/b/config",
            "x/y.code-workspace",
            "./.git//config",
        ] {
            assert!(settings.protects(path.as_bytes()).is_some(), "{path}");
            let beginnings = settings.beginnings();
            let begins = |name: &str| beginnings.include(name.as_bytes());
            assert!(path.split('/').any(begins), "{path}");
        }
        for name in ["src", "git", "config", "x.code-workspaces", "e"] {
            assert!(!settings.beginnings().include(name.as_bytes()), "{name}");
        }
        for path in [
            ".git/index",
            "git/config",
            ".git/configs",
            ".git",
            "src/.gitx/hooks/a",
            "",
        ] {
            assert_eq!(settings.protects(path.as_bytes()), None, "{path}");
        }
        for path in [".git", "sub/.git", ".git/modules", ".git/modules/a"] {
            assert!(settings.protects_below(path.as_bytes()).is_some(), "{path}");
        }
        for path in ["src", "sub", ".git/refs"] {
            assert_eq!(settings.protects_below(path.as_bytes()), None, "{path}");
        }
        for path in [".git", "sub/.git", ".git/modules"] {
            assert!(settings.stands_for(path.as_bytes()).is_some(), "{path}");
        }
        for path in [".git/modules/a", ".git/index", "src"] {
            assert_eq!(settings.stands_for(path.as_bytes()), None, "{path}");
            assert_eq!(settings.known_end(path.as_bytes()), None, "{path}");
        }
        for (path, end) in [
            ("a/.git", ".git"),
            ("./a/.git/modules", ".git/modules"),
            ("a/.git/modules/b/.GIT", ".GIT"),
            ("a/.git/hooks/.git", ".git/hooks/.git"),
            (".git/hooks/x", ".git/hooks/x"),
        ] {
            let known = settings.known_end(path.as_bytes());
            assert_eq!(known.as_deref(), Some(end.as_bytes()), "{path}");
        }
    }

    #[test]
    fn secrets_pass_only_by_their_exact_name() {
        let pass = ["LANG", "CARGO_*", "*_KEY", "OPENAI_API_KEY", "LD_*"];
        let settings = EnvironmentSettings {
            pass: pass.iter().map(|p| sourced((*p).to_owned())).collect(),
            ..EnvironmentSettings::default()
        };
        for name in ["LANG", "CARGO_HOME", "OPENAI_API_KEY"] {
            assert!(settings.passes(name), "{name}");
        }
        for name in [
            "CARGO_REGISTRY_TOKEN",
            "OTHER_KEY",
            "LD_PRELOAD",
            "LANGUAGE",
            "AWS_SECRET",
        ] {
            assert!(!settings.passes(name), "{name}");
        }
        let settings = EnvironmentSettings {
            pass: vec![sourced("*_*".to_owned()), sourced("*PASS*".to_owned())],
            ..EnvironmentSettings::default()
        };
        for name in [
            "MYSQL_PWD",
            "PGPASSFILE_X",
            "SSHPASS",
            "SMTP_PASS",
            "LDAP_PW",
            "AWS_CREDS",
            "CI_JOB_JWT",
            "BEARER_X",
            "SLACK_WEBHOOK_URL",
            "AZURE_STORAGE_CONNECTION_STRING",
            "PROD_DATABASE_URL",
            "STORAGE_SAS",
            "VAULT_ADDR",
        ] {
            assert!(!settings.passes(name), "{name}");
        }
        assert!(settings.passes("CARGO_HOME"));
    }
}
