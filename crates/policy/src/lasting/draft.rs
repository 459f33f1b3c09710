//! Rules about single requests and about what they mean, as narrow as a policy can write them.

use std::collections::BTreeMap;

use stockade_types::{RawText, Target};

use super::{LastingRule, RuleForm, literal, quoted, text};
use crate::{
    Forge, ForgeOperation, Git, GitOperation, Meaning, Model, Package, PackageOperation, RefEffect,
    request_path::RequestPath,
};

/// How narrow the path of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The path, with any query: what a query says is often an account, a search or a token.
    Path,
    /// The path with any query, where a segment that looks like an id can be any.
    Ids,
}

/// Methods that read (RFC 9110 section 9.2.1).
const READING: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
/// Hexadecimal digits of the shortest segment that is taken for a hash: git shortens to so many.
const HASH_DIGITS_MIN: usize = 7;
/// Stands for a hidden secret of no known form.
const HIDDEN: &str = "(hidden)";
/// Digits of the mark of a hidden secret.
const MARK_DIGITS: usize = 8;
/// The fields of such rules, in the order in which they are written.
const ORDER: [&str; 12] = [
    "methods",
    "paths",
    "ecosystems",
    "repositories",
    "operations",
    "names",
    "refs",
    "delete",
    "actions",
    "providers",
    "models",
    "hosted_tools",
];

/// What a field of a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Words(Vec<String>),
    Flag(bool),
}

/// A rule about requests to one host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    what: &'static str,
    host: String,
    port: u16,
    fields: BTreeMap<&'static str, Value>,
    risk: Option<&'static str>,
}

impl Draft {
    /// Returns the rules that a request could be allowed by: those about what it means first.
    pub(super) fn of(target: &Target, meaning: &[Meaning], width: Width) -> Vec<Self> {
        let (Some(host), Some(port)) = (&target.host, target.port) else {
            return Vec::new();
        };
        let draft = |(what, fields, risk)| Self {
            what,
            host: host.clone(),
            port,
            fields,
            risk,
        };
        let mut drafts: Vec<Self> = meaning.iter().filter_map(meant).map(draft).collect();
        drafts.extend(addressed(target, width).map(draft));
        drafts
    }

    /// Takes the requests of another rule in, if that adds no others: all but one field are the same.
    pub(super) fn merge(&mut self, other: &Self) -> bool {
        let alike = (self.what, &self.host, self.port, self.risk)
            == (other.what, &other.host, other.port, other.risk)
            && self.fields.keys().eq(other.fields.keys());
        if !alike {
            return false;
        }
        let mut differing = self
            .fields
            .iter_mut()
            .zip(other.fields.values())
            .filter(|((_, own), other)| own != other);
        match (differing.next(), differing.next()) {
            (None, _) => true,
            (Some(((_, Value::Words(own)), Value::Words(more))), None) => {
                own.extend(more.iter().cloned());
                own.sort_unstable();
                own.dedup();
                true
            }
            (Some(_), _) => false,
        }
    }

    pub(super) fn rule(&self) -> LastingRule {
        let mut conditions = format!(
            "what = \"{}\"\nhosts = [{}]\nports = [{}]\n",
            self.what,
            quoted(&self.host),
            self.port
        );
        let mut words = Vec::new();
        for (key, value) in ORDER
            .iter()
            .filter_map(|key| self.fields.get_key_value(key))
        {
            let (written, said) = match value {
                Value::Flag(flag) => (flag.to_string(), flag.to_string()),
                Value::Words(list) => {
                    let quoted: Vec<String> = list.iter().map(|one| quoted(one)).collect();
                    (format!("[{}]", quoted.join(", ")), list.join(", "))
                }
            };
            conditions.extend([key, " = ", written.as_str(), "\n"]);
            words.push(format!("{key} {said}"));
        }
        if self.fields.contains_key("paths") {
            words.push("any query".to_owned());
        }
        let place = format!("{} {}:{}", self.what, self.host, self.port);
        LastingRule {
            form: RuleForm::Allow,
            conditions,
            words: format!("any program here: {place}; {}", words.join("; ")),
            risk: self.risk.map(str::to_owned),
        }
    }
}

type Parts = (
    &'static str,
    BTreeMap<&'static str, Value>,
    Option<&'static str>,
);

/// The rule about method and path. `None` where no rule can name the path.
fn addressed(target: &Target, width: Width) -> Option<Parts> {
    let method = target.method.clone()?;
    let sent = target.path.as_ref()?;
    let path = RequestPath::new(sent.as_bytes());
    if path.ambiguity().is_some() {
        return None;
    }
    let named = text(&RawText::from_bytes(path.plain()))?.to_owned();
    let segment = |segment: &str| match width {
        Width::Ids if is_id(segment) => "*".to_owned(),
        Width::Path | Width::Ids if is_hidden(segment) => "*".to_owned(),
        Width::Path | Width::Ids => literal(segment),
    };
    let pattern: Vec<String> = named.split('/').map(segment).collect();
    let mut pattern = pattern.join("/");
    if pattern.len() > 1 {
        pattern.truncate(pattern.trim_end_matches('/').len());
    }
    let changes = !READING.contains(&method.as_str());
    let risk = changes.then_some("it can change something there");
    let hides = named.split('/').any(is_hidden);
    let risk = risk.or_else(|| hides.then_some("the hidden part of its path can be any"));
    let fields = [
        ("methods", Value::Words(vec![method])),
        ("paths", Value::Words(vec![pattern])),
    ];
    Some(("net", fields.into(), risk))
}

/// Tells whether a text has something hidden, as [`crate::HttpShown`] shows it: `[github-token:5f0c9a11]`.
/// A program can write the same; a rule for it is as wide, and says so.
pub(super) fn is_hidden(text: &str) -> bool {
    let has = |(at, _)| {
        let mark = text.get(at + 1..at + 1 + MARK_DIGITS).unwrap_or_default();
        let ends = text
            .get(at + 1 + MARK_DIGITS..)
            .is_some_and(|rest| rest.starts_with(']'));
        let begins = text.get(..at).is_some_and(|before| before.contains('['));
        begins && ends && mark.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    text.contains(HIDDEN) || text.match_indices(':').any(has)
}

/// Tells whether a segment of a path looks like a number, a hash or a UUID.
fn is_id(segment: &str) -> bool {
    let (digits, hex) = (
        segment.bytes().filter(u8::is_ascii_digit).count(),
        segment.bytes().filter(u8::is_ascii_hexdigit).count(),
    );
    let is_number = digits > 0 && digits == segment.len();
    let is_hash = hex == segment.len() && hex >= HASH_DIGITS_MIN && digits > 0;
    let parts: Vec<usize> = segment.split('-').map(str::len).collect();
    let is_uuid = parts == [8, 4, 4, 4, 12] && hex + 4 == segment.len();
    is_number || is_hash || is_uuid
}

/// The rule about a meaning; `None` where it is not certain, or too much to write down.
fn meant(meaning: &Meaning) -> Option<Parts> {
    let mut fields = BTreeMap::new();
    let mut add = |key, words: &[&str]| {
        let words = words.iter().map(|word| literal(word)).collect();
        fields.insert(key, Value::Words(words));
    };
    let (what, Risk(risk)) = match meaning {
        Meaning::Git(git) => ("git", of_git(git, &mut add)?),
        Meaning::Package(package) => ("package", of_package(package, &mut add)?),
        Meaning::Forge(forge) => ("forge", of_forge(forge, &mut add)?),
        Meaning::Model(model) => ("model", of_model(model, &mut add)?),
    };
    if let Meaning::Git(git) = meaning
        && git.operation == GitOperation::Push
    {
        let mut changes = git.changes.iter().flatten();
        let deletes = changes.any(|change| change.effect == RefEffect::Delete);
        fields.insert("delete", Value::Flag(deletes));
    }
    let is_text = |value: &Value| match value {
        Value::Words(words) => words.iter().all(|word| {
            !word.is_empty() && !is_hidden(word) && text(&RawText::from(word.as_str())).is_some()
        }),
        Value::Flag(_) => true,
    };
    fields.values().all(is_text).then_some((what, fields, risk))
}

/// Why a person should think twice about a rule, if there is a reason.
struct Risk(Option<&'static str>);

type Add<'a> = &'a mut dyn FnMut(&'static str, &[&str]);

fn of_git(git: &Git, add: Add<'_>) -> Option<Risk> {
    let repository = git.repository.as_deref().filter(|_| git.is_certain)?;
    add("repositories", &[repository]);
    match git.operation {
        // Who reads the refs before a push reads what a fetch reads.
        GitOperation::Fetch | GitOperation::Prepare => {
            add("operations", &["fetch"]);
            Some(Risk(None))
        }
        GitOperation::Push => {
            let changes = git.changes.as_ref().filter(|all| !all.is_empty())?;
            let deletes = |effect: RefEffect| effect == RefEffect::Delete;
            // One rule says of all its refs whether they are deleted.
            let first = changes.first().map(|change| deletes(change.effect));
            if changes.iter().any(|one| Some(deletes(one.effect)) != first) {
                return None;
            }
            let names: Option<Vec<&str>> = changes.iter().map(|one| text(&one.name)).collect();
            add("operations", &["push"]);
            add("refs", &names?);
            Some(Risk(Some(
                "a push; its bytes do not show whether it is forced",
            )))
        }
        GitOperation::Upload => None,
    }
}

fn of_package(package: &Package, add: Add<'_>) -> Option<Risk> {
    let name = package.name.as_deref().filter(|_| package.is_certain)?;
    add("ecosystems", &[package.ecosystem.as_str()]);
    add("names", &[name]);
    match package.operation {
        PackageOperation::Download => {
            add("operations", &["download"]);
            Some(Risk(None))
        }
        PackageOperation::Publish => {
            add("operations", &["publish"]);
            Some(Risk(Some("it publishes")))
        }
    }
}

fn of_forge(forge: &Forge, add: Add<'_>) -> Option<Risk> {
    if let Some(repository) = &forge.repository {
        add("repositories", &[repository]);
    }
    match (forge.operation?, &forge.actions) {
        (ForgeOperation::Read, _) => {
            add("operations", &["read"]);
            Some(Risk(None))
        }
        (ForgeOperation::Mutation, Some(actions)) if !actions.is_empty() => {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            add("operations", &["mutation"]);
            add("actions", &actions);
            Some(Risk(Some("it changes something at the code host")))
        }
        (ForgeOperation::Mutation, _) => None,
    }
}

fn of_model(model: &Model, add: Add<'_>) -> Option<Risk> {
    let (provider, name, tools) = (
        model.provider?,
        model.model.as_deref()?,
        model.hosted_tools.as_ref()?,
    );
    add("providers", &[provider.as_str()]);
    add("models", &[name]);
    if tools.is_empty() {
        // A rule cannot name calls without any.
        return Some(Risk(Some("also with any tool that the provider runs")));
    }
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    add("hosted_tools", &names);
    Some(Risk(Some(
        "the provider runs tools, whose work is not seen here",
    )))
}

#[cfg(test)]
mod tests {
    use stockade_types::Target;

    use super::{Draft, Width};

    fn drafts(method: &str, path: &str, width: Width) -> Vec<Draft> {
        let target = Target {
            host: Some("api.test".to_owned()),
            port: Some(443),
            method: Some(method.to_owned()),
            path: Some(path.into()),
            ..Target::default()
        };
        Draft::of(&target, &[], width)
    }

    fn conditions(path: &str, width: Width) -> Option<String> {
        let draft = drafts("GET", path, width).pop()?;
        let rule = draft.rule();
        let paths = rule
            .conditions
            .lines()
            .find(|line| line.starts_with("paths"));
        paths.map(str::to_owned)
    }

    /// What a program chose stands for itself alone in a rule, and only ids stand for others.
    #[test]
    fn a_path_is_written_as_narrow_as_it_is() {
        for (path, width, expected) in [
            ("/v1/items?page=2", Width::Path, "/v1/items"),
            ("/v1/items/", Width::Path, "/v1/items"),
            ("/", Width::Path, "/"),
            ("/a/*/b", Width::Path, "/a/\\\\*/b"),
            ("/a/**", Width::Ids, "/a/\\\\*\\\\*"),
            ("/a/{b,c}", Width::Path, "/a/\\\\{b,c\\\\}"),
            ("/v1/42/x", Width::Ids, "/v1/*/x"),
            ("/v1/42/x", Width::Path, "/v1/42/x"),
            ("/c/71ab7b1", Width::Ids, "/c/*"),
            (
                "/c/01234567-89ab-cdef-0123-456789abcdef",
                Width::Ids,
                "/c/*",
            ),
            ("/c/defaced", Width::Ids, "/c/defaced"),
            ("/v1/v2/a1", Width::Ids, "/v1/v2/a1"),
            (
                "/bot[slack-token:0a1b2c3d]/send?x=[npm-token:00000000]",
                Width::Path,
                "/*/send",
            ),
            (
                "/a/[x]:0a1b2c3d/[b:c]",
                Width::Path,
                "/a/[x]:0a1b2c3d/[b:c]",
            ),
        ] {
            let found = conditions(path, width);
            assert_eq!(found, Some(format!("paths = [\"{expected}\"]")), "{path}");
        }
        for path in ["/a/../b", "/a;b", "/a%2fb", "/a\u{7}"] {
            assert_eq!(conditions(path, Width::Path), None, "{path}");
        }
    }

    /// Rules are put together only where that allows no request that none of them did.
    #[test]
    fn rules_are_merged_only_where_they_differ_in_one_field() {
        let one = |method, path| drafts(method, path, Width::Path).remove(0);
        let mut rule = one("GET", "/a");
        assert!(rule.merge(&one("GET", "/b")));
        assert!(
            !rule.merge(&one("HEAD", "/c")),
            "GET /c and HEAD /a are new"
        );
        assert!(
            !rule.merge(&one("POST", "/a")),
            "it opens much, the other does not"
        );
        let risk = |rule: &Draft| rule.rule().risk;
        assert_eq!(risk(&rule), None);
        assert!(risk(&one("POST", "/a")).is_some());
        assert!(risk(&one("GET", "/[npm-token:0a1b2c3d]/a")).is_some());
    }
}
