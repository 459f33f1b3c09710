//! Rules about names that depend on their text: protected paths, and variables that pass.

use crate::{
    EnvironmentSettings, Origin, Sourced, WorkspaceSettings,
    pattern::{Glob, ProtectedPattern, glob::Case, protected::Part},
};

/// Parts of names under which secrets are stored; such a name passes only if a policy names it
/// exactly.
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
/// Beginnings of names that make other code run; such a name passes only if a policy names it
/// exactly.
const CODE_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "BASH_FUNC_"];

impl EnvironmentSettings {
    /// Returns whether a variable of the caller exists inside.
    ///
    /// A name that looks like a secret, or that makes other code run, needs an exact entry.
    pub fn passes(&self, name: &str) -> bool {
        let exact_only = looks_secret(name);
        self.pass.iter().any(|pattern| {
            pattern.value == name
                || (!exact_only
                    && !Glob::is_plain(&pattern.value)
                    && Glob::parse(&pattern.value)
                        .is_ok_and(|glob| glob.matches(name.as_bytes(), Case::Exact)))
        })
    }
}

/// Returns whether a variable looks like a secret or makes other code run: it passes only by its
/// exact name, and its value is not shown.
pub fn looks_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    SECRET_PARTS.iter().any(|part| upper.contains(part))
        || CODE_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

/// Returns whether every variable that a glob matches looks like a secret, so that the glob passes
/// none.
pub(crate) fn hides_secret(glob: &str) -> bool {
    // Braces would have to be expanded first.
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
    /// Names without a wildcard.
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

    /// Returns whether a protected path can begin with this name.
    pub fn include(&self, name: &[u8]) -> bool {
        let first = name.first().map(|byte| usize::from(*byte));
        let possible = first.is_some_and(|byte| self.bytes.get(byte) == Some(&true));
        let fits = |part: &Part| part.fits(name);
        possible && self.names.iter().any(fits) || self.others.iter().any(fits)
    }
}

/// The beginning of the names of the boundary's own files.
const OWN: &[u8] = b".stockade";

/// A protecting pattern, and the place in which it applies.
#[derive(Clone, Copy)]
struct Protecting<'s> {
    pattern: &'s Sourced<ProtectedPattern>,
    /// It does not apply below packages.
    outside_packages: bool,
}

impl WorkspaceSettings {
    /// Returns the pattern that protects a path below the workspace, at any depth.
    ///
    /// `dir/**` also protects `dir` itself. ASCII case is ignored (`.GIT/config`), because some
    /// file systems ignore it.
    pub fn protects(&self, relative: &[u8]) -> Option<&str> {
        let parts: Vec<&[u8]> = parts(relative);
        self.find(&parts, matches)
    }

    /// Returns whether a path is protected so that no answer opens it: by a file and not only by
    /// presets, or as one of the boundary's own.
    pub fn is_held(&self, relative: &[u8]) -> bool {
        let parts: Vec<&[u8]> = parts(relative);
        let own = |part: &&[u8]| {
            let front = part.get(..OWN.len()).unwrap_or_default();
            front.eq_ignore_ascii_case(OWN)
        };
        let by_file = |one: &Protecting<'_>| one.pattern.origin != Origin::Builtin;
        let fits = |one: Protecting<'_>| {
            let pattern = one.pattern.value.parts();
            (0..parts.len())
                .filter_map(|at| Some((at, parts.get(at..)?)))
                .any(|(at, tail)| matches(pattern, tail) && self.holds(one, &parts, at))
        };
        parts.iter().any(own) || self.protecting().filter(by_file).any(fits)
    }

    /// Returns the pattern that protects something below a path: without this, a rename of `.git`
    /// would remove the protection of its hooks.
    pub fn protects_below(&self, relative: &[u8]) -> Option<&str> {
        let parts: Vec<&[u8]> = parts(relative);
        self.find(&parts, |pattern, tail| {
            (1..pattern.len())
                .filter_map(|length| pattern.get(..length))
                .any(|front| matches(front, tail))
        })
    }

    /// Returns the pattern for which a file at this path takes the place of a directory: git
    /// follows a file named `.git` to another directory, with other hooks.
    pub fn stands_for(&self, relative: &[u8]) -> Option<&str> {
        let parts: Vec<&[u8]> = parts(relative);
        self.find(&parts, stands)
    }

    /// Returns the end of a path that patterns know: `.git` for `sub/.git`. The target of a link or
    /// a pointer at that path counts under this name as well.
    pub fn known_end(&self, relative: &[u8]) -> Option<Vec<u8>> {
        let parts: Vec<&[u8]> = parts(relative);
        // Take the longest: patterns that match a shorter end also apply to it.
        let start = (0..parts.len()).find(|at| {
            let tail = parts.get(*at..).unwrap_or_default();
            self.protecting().any(|one| {
                let pattern = one.pattern.value.parts();
                (matches(pattern, tail) || stands(pattern, tail)) && self.holds(one, &parts, *at)
            })
        })?;
        parts.get(start..).map(|tail| tail.join(&b'/'))
    }

    /// Returns the first names of protected paths. A path below none of them, as nearly all of a
    /// workspace is, needs no closer check.
    pub fn beginnings(&self) -> Beginnings {
        let mut firsts: Vec<Part> = Vec::new();
        let patterns = self.protecting().map(|one| &one.pattern.value);
        for first in patterns.filter_map(|pattern| pattern.parts().first()) {
            if !firsts.contains(first) {
                firsts.push(first.clone());
            }
        }
        Beginnings::new(firsts)
    }

    /// Returns whether something at or below a path could have a protected name without being
    /// protected, though it would be elsewhere.
    pub fn spares(&self, relative: &[u8]) -> bool {
        let parts: Vec<&[u8]> = parts(relative);
        // `.cargo`, where `.cargo/registry` is such a directory.
        let begins = |directory: &Sourced<ProtectedPattern>| {
            let names = directory.value.parts();
            (1..names.len())
                .filter_map(|length| Some((names.get(..length)?, length)))
                .any(|(front, length)| {
                    let start = parts.len().checked_sub(length);
                    let tail = start.and_then(|start| parts.get(start..));
                    tail.is_some_and(|tail| matches(front, tail))
                })
        };
        !self.unprotect.is_empty() || self.in_packages(relative) || self.packages.iter().any(begins)
    }

    /// Returns whether something below a protected directory is not protected itself.
    pub fn spares_below(&self, relative: &[u8]) -> bool {
        let parts: Vec<&[u8]> = parts(relative);
        let tails = || (0..parts.len()).filter_map(|at| parts.get(at..));
        self.unprotect
            .iter()
            .chain(&self.protect_except)
            .any(|pattern| {
                let pattern = pattern.value.parts();
                let fronts = || (1..pattern.len()).filter_map(|length| pattern.get(..length));
                tails().any(|tail| fronts().any(|front| matches(front, tail)))
            })
    }

    /// Returns whether a protected directory of this name can contain something open, so that it
    /// may be created.
    pub fn opens_below(&self, relative: &[u8]) -> bool {
        let parts: Vec<&[u8]> = parts(relative);
        let mut tails = (0..parts.len()).filter_map(|at| parts.get(at..));
        tails.any(|tail| {
            self.protect_except.iter().any(|pattern| {
                let pattern = pattern.value.parts();
                let mut fronts = (1..pattern.len()).filter_map(|length| pattern.get(..length));
                fronts.any(|front| front.len() == tail.len() && matches(front, tail))
            })
        })
    }

    /// Returns whether a path is a directory of packages, or in one.
    pub fn in_packages(&self, path: &[u8]) -> bool {
        let parts: Vec<&[u8]> = parts(path);
        self.packages
            .iter()
            .any(|directory| holds_directory(directory.value.parts(), &parts))
    }

    /// Returns the settings that apply if everything is in a directory of packages.
    #[must_use]
    pub fn within_packages(&self) -> Self {
        Self {
            protect_outside_packages: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns whether a change of a file is allowed although the file makes something run outside
    /// later.
    pub fn runs_later(&self, relative: &[u8]) -> bool {
        let parts: Vec<&[u8]> = parts(relative);
        !self.in_packages(relative) && fits_any(&self.runs_later, &parts)
    }

    fn protecting(&self) -> impl Iterator<Item = Protecting<'_>> {
        let everywhere = self.protect.iter().map(|pattern| Protecting {
            pattern,
            outside_packages: false,
        });
        let outside = self
            .protect_outside_packages
            .iter()
            .map(|pattern| Protecting {
                pattern,
                outside_packages: true,
            });
        everywhere.chain(outside)
    }

    /// Returns whether a pattern that matches the part of a path from `at` on applies to this path.
    fn holds(&self, one: Protecting<'_>, parts: &[&[u8]], at: usize) -> bool {
        let origin = one.pattern.origin;
        // A lower layer lifts no protection of a higher one.
        let counts = |by: Origin| by == Origin::Builtin || by.authority() >= origin.authority();
        let above = parts.get(..at).unwrap_or_default();
        let spared = one.outside_packages
            && self
                .packages
                .iter()
                .filter(|directory| counts(directory.origin))
                .any(|directory| holds_directory(directory.value.parts(), above));
        // A deeper path that has such a name again is judged from that name on.
        let tail = parts.get(at..).unwrap_or_default();
        let open = || {
            let mut all = self.protect_except.iter();
            all.any(|pattern| matches(pattern.value.parts(), tail))
        };
        let lifted = origin == Origin::Builtin && (fits_any(&self.unprotect, parts) || open());
        !spared && !lifted
    }

    fn find(&self, parts: &[&[u8]], fits: impl Fn(&[Part], &[&[u8]]) -> bool) -> Option<&str> {
        let found = self.protecting().find(|one| {
            let pattern = one.pattern.value.parts();
            let Some(first) = pattern.first() else {
                return false;
            };
            // Skips most patterns, because they begin with a name that is not in the path.
            (0..parts.len())
                .filter_map(|at| Some((at, parts.get(at..)?)))
                .filter(|(_, tail)| tail.first().is_some_and(|part| first.fits(part)))
                .any(|(at, tail)| fits(pattern, tail) && self.holds(*one, parts, at))
        });
        found.map(|one| one.pattern.value.as_str())
    }
}

/// Returns whether one of the patterns matches the end of a path, from any part on.
fn fits_any(patterns: &[Sourced<ProtectedPattern>], parts: &[&[u8]]) -> bool {
    patterns.iter().any(|pattern| {
        (0..parts.len())
            .filter_map(|at| parts.get(at..))
            .any(|tail| matches(pattern.value.parts(), tail))
    })
}

/// Returns whether a path goes through a directory with these names.
fn holds_directory(names: &[Part], parts: &[&[u8]]) -> bool {
    parts.windows(names.len().max(1)).any(|window| {
        !names.is_empty() && names.iter().zip(window).all(|(name, part)| name.fits(part))
    })
}

/// Returns whether a path is a directory above something that a pattern protects.
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
    use stockade_types::WorkspaceMode;

    use crate::{
        EnvironmentSettings, Origin, Sourced, WorkspaceSettings, pattern::ProtectedPattern,
    };

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
            protect: all(patterns),
            protect_outside_packages: Vec::new(),
            packages: Vec::new(),
            unprotect: Vec::new(),
            protect_except: Vec::new(),
            runs_later: Vec::new(),
        }
    }

    fn all(patterns: &[&str]) -> Vec<Sourced<ProtectedPattern>> {
        let patterns = patterns.iter();
        patterns
            .map(|pattern| sourced((*pattern).to_owned().into()))
            .collect()
    }

    #[test]
    fn below_packages_only_what_runs_there_by_itself_is_protected() {
        let settings = WorkspaceSettings {
            protect_outside_packages: all(&[".vscode/**", "lefthook.yml"]),
            packages: all(&["node_modules", ".cargo/registry"]),
            ..workspace(&[".git/hooks/**", ".envrc"])
        };
        for path in [
            ".vscode/tasks.json",
            "a/.vscode",
            "lefthook.yml",
            "node_modules/p/.git/hooks/x",
            "node_modules/p/.envrc",
            ".cargo/.vscode/x",
            "registry/.vscode/x",
            ".vscode/node_modules/x",
            "node_modules.d/.vscode",
        ] {
            assert!(settings.protects(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            "node_modules/p/.vscode/tasks.json",
            "a/node_modules/.vscode",
            "x/.cargo/registry/src/c/.vscode/a",
            "NODE_MODULES/p/lefthook.yml",
        ] {
            assert_eq!(settings.protects(path.as_bytes()), None, "{path}");
            assert_eq!(settings.known_end(path.as_bytes()), None, "{path}");
            assert!(settings.spares(path.as_bytes()), "{path}");
        }
        for path in ["a/node_modules", "a/.cargo"] {
            assert!(settings.spares(path.as_bytes()), "{path}");
        }
        for path in ["a/node_modulesx", "a/registry", "a/.cargo/b"] {
            assert!(!settings.spares(path.as_bytes()), "{path}");
        }
        assert!(settings.within_packages().protects(b".vscode").is_none());
    }

    #[test]
    fn what_is_lifted_is_lifted_for_presets_alone() {
        let mut settings = WorkspaceSettings {
            unprotect: all(&["examples/**", ".vscode/settings.json"]),
            ..workspace(&[".vscode/**", ".git/hooks/**"])
        };
        for path in [
            "examples/a/.vscode/x",
            "examples/.git/hooks/x",
            "b/.vscode/settings.json",
        ] {
            assert_eq!(settings.protects(path.as_bytes()), None, "{path}");
        }
        for path in [".vscode/tasks.json", ".vscode", "example/.git/hooks/x"] {
            assert!(settings.protects(path.as_bytes()).is_some(), "{path}");
        }
        assert!(settings.spares_below(b"a/.vscode") && !settings.spares_below(b".git/hooks"));
        for pattern in &mut settings.protect {
            pattern.origin = Origin::Organisation;
        }
        assert!(settings.protects(b"examples/a/.vscode/x").is_some());
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
