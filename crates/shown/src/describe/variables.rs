//! How variables are shown: first those that change what many programs do; secrets are masked.

use stockade_policy::{Variable, looks_secret};
use stockade_secrets::hide_alike;
use stockade_types::{Digest, RawText};

/// Names that change what many programs do, the most important first; `*` matches any characters at
/// that end.
const TELLING: [&str; 42] = [
    "HOME",
    "PATH",
    "LD_*",
    "GIT_*",
    "SSH_*",
    "XDG_*",
    "BASH_ENV",
    "BASH_FUNC_*",
    "ENV",
    "ZDOTDIR",
    "IFS",
    "SHELL",
    "KUBECONFIG",
    "KUBE*",
    "AWS_*",
    "GOOGLE_*",
    "CLOUDSDK_*",
    "AZURE_*",
    "DOCKER_*",
    "TF_*",
    "PYTHON*",
    "PIP_*",
    "UV_*",
    "PERL*",
    "RUBY*",
    "GEM_*",
    "BUNDLE_*",
    "NODE_*",
    "npm_config_*",
    "NPM_CONFIG_*",
    "YARN_*",
    "JAVA_*",
    "JDK_*",
    "CARGO_*",
    "RUST*",
    "GO*",
    "MAKEFLAGS",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "*_proxy",
    "*_PROXY",
];
/// Rows of such variables; if a command sets more, they are counted, and the whole list is in the
/// details.
const ROWS_MAX: usize = 24;
/// Variables in the details; if a command sets more, they are counted and still bound.
const DETAILS_MAX: usize = 256;
/// Characters of a name or a value that are shown; the digest replaces the rest.
const VALUE_CHARS_MAX: usize = 160;
/// Names that only look like those of secrets: a reader needs their values to understand the
/// effect.
const PLAIN: [&str; 5] = [
    "GIT_CONFIG_KEY_*",
    "GIT_AUTHOR_*",
    "LD_*",
    "DYLD_*",
    "BASH_FUNC_*",
];
/// Ends of names that hold paths, whatever else the name contains.
const PATHS: [&str; 6] = ["_SOCK", "_FILE", "_DIR", "_PATH", "_CERT", "_CERTS"];

/// The variables of a question.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// One row each.
    pub(super) rows: Vec<Shown>,
    /// One sentence for those without a row.
    pub(super) rest: Option<String>,
    /// All of them, if there are more than rows.
    pub(super) details: Vec<Shown>,
}

/// A name as it may be seen, and its value; none if it is no longer set.
pub(super) type Shown = (RawText, Option<RawText>);

impl Variables {
    /// Separates the variables that are shown at once from those that are only counted.
    pub(super) fn of(differing: &[Variable]) -> Self {
        let mut ranked: Vec<(usize, &Variable)> = differing
            .iter()
            .map(|variable| (rank(&variable.name), variable))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let telling = ranked
            .iter()
            .filter(|(rank, _)| *rank < TELLING.len())
            .count();
        let shown = telling.min(ROWS_MAX);
        let pair = |(_, variable): &(usize, &Variable)| {
            let value = variable.value.as_ref();
            let value = value.map(|value| shown_value(&variable.name, value));
            (shortened(&variable.name), value)
        };
        let mut details: Vec<Shown> = ranked.iter().take(DETAILS_MAX).map(pair).collect();
        if ranked.len() > DETAILS_MAX {
            let more = format!("… and {} more", ranked.len() - DETAILS_MAX);
            details.push((more.as_str().into(), None));
        }
        let rest = match (telling - shown, ranked.len() - telling) {
            (0, 0) => None,
            (0, 1) => Some("and 1 more variable differs".to_owned()),
            (0, more) => Some(format!("and {more} more variables differ")),
            (telling, more) => Some(format!(
                "and {telling} more variables that change what many programs do, and {more} others differ"
            )),
        };
        Self {
            rows: details.iter().take(shown).cloned().collect(),
            details: if rest.is_some() { details } else { Vec::new() },
            rest,
        }
    }
}

fn rank(name: &RawText) -> usize {
    TELLING
        .iter()
        .position(|pattern| is_like(name.as_bytes(), pattern))
        .unwrap_or(TELLING.len())
}

fn is_like(name: &[u8], pattern: &str) -> bool {
    if let Some(end) = pattern.strip_prefix('*') {
        return name.ends_with(end.as_bytes());
    }
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

/// Writes a value as it may be seen and recorded.
fn shown_value(name: &RawText, value: &RawText) -> RawText {
    let masked = is_secret(name) || holds_bearer(value);
    if masked {
        return RawText::from("(hidden: its name or text looks like a secret)");
    }
    shortened(&hide_alike(value).unwrap_or_else(|| value.clone()))
}

fn is_secret(name: &RawText) -> bool {
    let is_plain = PLAIN
        .iter()
        .any(|pattern| is_like(name.as_bytes(), pattern))
        || PATHS
            .iter()
            .any(|end| name.as_bytes().ends_with(end.as_bytes()));
    !is_plain && looks_secret(&name.display())
}

/// Whether a value has a token with the word that stands before it in HTTP.
fn holds_bearer(value: &RawText) -> bool {
    let lower = value.as_bytes().to_ascii_lowercase();
    lower.windows(7).any(|part| part == b"bearer ")
}

fn shortened(value: &RawText) -> RawText {
    let text = value.display();
    if text.chars().count() <= VALUE_CHARS_MAX {
        return value.clone();
    }
    let beginning: String = text.chars().take(VALUE_CHARS_MAX).collect();
    let digest = Digest::of(value.as_bytes());
    RawText::from(
        format!(
            "{beginning}… ({} bytes, sha256 {})",
            value.as_bytes().len(),
            digest.short()
        )
        .as_str(),
    )
}

#[cfg(test)]
mod tests {
    use super::{Shown, Variables};
    use stockade_policy::Variable;

    fn variables(list: &[(&str, &str)]) -> Vec<Variable> {
        list.iter()
            .map(|(name, value)| Variable {
                name: (*name).into(),
                value: Some((*value).into()),
            })
            .collect()
    }

    fn lines(list: &[Shown]) -> Vec<String> {
        list.iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={value}"),
                None => name.to_string(),
            })
            .collect()
    }

    #[test]
    fn what_changes_many_programs_comes_first_and_the_rest_is_counted() {
        let shown = Variables::of(&variables(&[
            ("AGENT", "1"),
            ("KUBECONFIG", "/w/k"),
            ("__WRAPPED_0", "1"),
            ("HOME", "/w"),
        ]));
        assert_eq!(lines(&shown.rows), ["HOME=/w", "KUBECONFIG=/w/k"]);
        assert_eq!(shown.rest.as_deref(), Some("and 2 more variables differ"));
        assert_eq!(
            lines(&shown.details),
            ["HOME=/w", "KUBECONFIG=/w/k", "AGENT=1", "__WRAPPED_0=1"]
        );
    }

    #[test]
    fn nobody_can_push_a_telling_one_out_of_sight() {
        let names: Vec<String> = (0..100).map(|n| format!("GIT_X{n}")).collect();
        let mut list: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        list.push(("HOME", "/w"));
        let shown = Variables::of(&variables(&list));
        assert_eq!(lines(&shown.rows)[0], "HOME=/w");
        assert_eq!(shown.details.len(), 101);
        assert!(shown.rest.unwrap().contains("77 more variables"));
    }

    #[test]
    fn a_flood_is_counted() {
        let names: Vec<String> = (0..5_000)
            .map(|n| format!("{}{n}", "N".repeat(500)))
            .collect();
        let list: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let shown = Variables::of(&variables(&list));
        assert_eq!(shown.details.len(), 257);
        let lines = lines(&shown.details);
        assert_eq!(lines[256], "… and 4744 more");
        assert!(lines.iter().all(|line| line.chars().count() < 220));
    }

    #[test]
    fn secrets_are_masked_and_long_values_cut() {
        let long = "x".repeat(500);
        let shown = Variables::of(&variables(&[
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("GIT_CONFIG_KEY_0", "url.x.insteadOf"),
            ("GIT_CONFIG_VALUE_0", "Authorization: Basic hunter2"),
            ("GIT_AUTHOR_NAME", "u"),
            ("PIP_INDEX_URL", "https://u:hunter2@good.test/x"),
            ("PYTHONPATH", &long),
        ]));
        let text = lines(&shown.rows).join("\n");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("GIT_CONFIG_KEY_0=url.x.insteadOf"), "{text}");
        assert!(text.contains("GIT_AUTHOR_NAME=u"), "{text}");
        assert!(text.contains("https://u:(hidden)@good.test/x"), "{text}");
        assert!(text.contains("… (500 bytes, sha256 "), "{text}");
    }
}
