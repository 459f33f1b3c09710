//! Where package managers get packages and whom they trust: inside they are told what they are told
//! outside, without credentials. A client that did not know the company's source would ask a public
//! one for private names, where a stranger may own them.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use stockade_plan::{CA_BUNDLE_VARIABLES, CA_VARIABLES, HostFacts, ShareFact, ShownFact};
use stockade_policy::{Origin, Settings};
use stockade_types::{AbsPath, RawText};

use crate::caller::Caller;

/// Largest file that is read; a bundle of all public authorities has a quarter of it.
const BYTES_MAX: u64 = 1 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `key=value` of npm.
    Npm,
    /// Sections and continued lines of pip.
    Pip,
    /// `KEY=value` of Go.
    Go,
    /// `key "value"` of yarn 1.
    Yarn,
    /// YAML of later yarns.
    YarnYaml,
    /// TOML: uv, poetry, bun.
    Toml,
    /// XML of Maven: the mirrors alone.
    Maven,
    /// YAML of RubyGems: the list of sources.
    Gem,
    /// TOML of mise: which versions of tools are meant.
    Versions,
}

/// Files below the home that say where packages come from.
const FILES: [(&str, Form); 12] = [
    (".npmrc", Form::Npm),
    (".config/pip/pip.conf", Form::Pip),
    (".pip/pip.conf", Form::Pip),
    (".config/go/env", Form::Go),
    (".yarnrc", Form::Yarn),
    (".yarnrc.yml", Form::YarnYaml),
    (".config/uv/uv.toml", Form::Toml),
    (".config/pypoetry/config.toml", Form::Toml),
    (".bunfig.toml", Form::Toml),
    (".m2/settings.xml", Form::Maven),
    (".gemrc", Form::Gem),
    (".config/mise/config.toml", Form::Versions),
];

/// Returns the variables of clients that name files with certificates.
pub(crate) fn certificate_variables() -> impl Iterator<Item = &'static str> {
    CA_BUNDLE_VARIABLES.into_iter().chain(CA_VARIABLES)
}

/// Adds what clients inside are told.
pub(crate) fn tell(settings: &Settings, caller: &Caller, facts: &mut HostFacts) {
    facts.environment = environment(settings, caller);
    facts.sources = files(settings, caller);
    facts.readable.extend(certificates(settings, caller));
}

/// Returns what is written in the session's home: what of the user's files says where packages come
/// from. What others than a preset hide is left out.
fn files(settings: &Settings, caller: &Caller) -> Vec<ShownFact> {
    let hide = settings.filesystem.hide.iter();
    let hidden: Vec<AbsPath> = hide
        .filter(|path| path.origin != Origin::Builtin)
        .filter_map(|path| caller.expand(&path.value))
        .collect();
    let shown = |(name, form): &(&str, Form)| {
        let path = AbsPath::new(caller.home.as_path().join(name)).ok()?;
        if hidden.iter().any(|above| path.is_within(above)) {
            return None;
        }
        let contents = mapping(&read(path.as_path())?, *form);
        (!contents.trim().is_empty()).then_some(ShownFact { path, contents })
    };
    FILES.iter().filter_map(shown).collect()
}

/// Returns the caller's variables; those that name sources of packages without credentials, unless
/// somebody else than a preset passes them by name.
fn environment(settings: &Settings, caller: &Caller) -> Vec<(RawText, RawText)> {
    let meant = |name: &[u8]| {
        let mut pass = settings.environment.pass.iter();
        pass.any(|pass| pass.origin != Origin::Builtin && pass.value.as_bytes() == name)
    };
    let variables = caller.environment.iter().cloned();
    variables
        .map(|(name, value)| {
            let text = std::str::from_utf8(value.as_bytes());
            match text {
                Ok(text) if names_a_source(name.as_bytes()) && !meant(name.as_bytes()) => {
                    let clean = without_user(text);
                    (name, clean.as_str().into())
                }
                Ok(_) | Err(_) => (name, value),
            }
        })
        .collect()
}

fn names_a_source(name: &[u8]) -> bool {
    let name = name.to_ascii_uppercase();
    let begins = [
        "NPM_CONFIG_",
        "PIP_",
        "UV_",
        "YARN_",
        "BUN_CONFIG_",
        "POETRY_REPOSITORIES_",
        "CARGO_REGISTRIES_",
        "COREPACK_NPM_",
    ];
    let ends: [&[u8]; 6] = [
        b"REGISTRY",
        b"INDEX",
        b"URL",
        b"_SERVER",
        b"FIND_LINKS",
        b"PROXY",
    ];
    name == b"GOPROXY"
        || begins
            .iter()
            .any(|front| name.starts_with(front.as_bytes()))
            && ends.iter().any(|end| name.ends_with(end))
}

/// Returns the files with certificates that passed variables name, so that they exist inside. Never
/// one with a private key.
fn certificates(settings: &Settings, caller: &Caller) -> Vec<ShareFact> {
    let named = certificate_variables().filter(|name| settings.environment.passes(name));
    let named = named.filter_map(|name| caller.variable(name));
    let mut found: Vec<ShareFact> = Vec::new();
    for path in named.filter_map(|value| AbsPath::new(value.to_os()).ok()) {
        let real = fs::canonicalize(path.as_path()).ok();
        let is_certificate = real
            .as_deref()
            .and_then(read)
            .is_some_and(|text| is_certificate(&text));
        let from = real.and_then(|real| AbsPath::new(real).ok());
        if let (true, Some(from)) = (is_certificate, from) {
            let share = ShareFact { path, from };
            if !found.contains(&share) {
                found.push(share);
            }
        }
    }
    found
}

pub(crate) fn is_certificate(text: &str) -> bool {
    text.contains("CERTIFICATE-----") && !text.to_ascii_uppercase().contains("PRIVATE KEY")
}

/// Reads a regular file of text.
pub(crate) fn read(path: &Path) -> Option<String> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).ok()?;
    let path: PathBuf = path.to_owned();
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return None;
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Keeps of a file what says where packages come from.
fn mapping(text: &str, form: Form) -> String {
    let kept = match form {
        Form::Npm => lines(text, |line| {
            let key = line.split_once('=').map_or("", |(key, _)| key.trim());
            let is_place = ["cache", "prefix"].contains(&key);
            is_place || key == "registry" || key.starts_with('@') && key.ends_with(":registry")
        }),
        Form::Yarn => lines(text, |line| {
            let key = line.split_whitespace().next().unwrap_or_default();
            let key = key.trim_matches('"');
            key == "registry" || key.starts_with('@') && key.ends_with(":registry")
        }),
        Form::Go => lines(text, |line| {
            let key = line.split_once('=').map_or("", |(key, _)| key.trim());
            [
                "GOPROXY",
                "GOPRIVATE",
                "GONOPROXY",
                "GONOSUMDB",
                "GOSUMDB",
                "GOINSECURE",
            ]
            .contains(&key)
        }),
        Form::YarnYaml => lines(text, |line| {
            let key = line.split_once(':').map_or("", |(key, _)| key.trim());
            let key = key.trim_matches(['"', '\'']);
            // A scope is a key of its own, with its server below it.
            key == "npmScopes"
                || key == "npmRegistryServer"
                || key == "npmPublishRegistry"
                || line.starts_with(' ') && line.trim_end().ends_with(':')
        }),
        Form::Pip => pip(text),
        Form::Toml => text.parse::<toml::Table>().map_or_else(
            |_| String::new(),
            |mut table| {
                clean(&mut table);
                toml::to_string(&table).unwrap_or_default()
            },
        ),
        Form::Maven => maven(text),
        Form::Gem => gem(text),
        Form::Versions => text.parse::<toml::Table>().map_or_else(
            |_| String::new(),
            |mut table| {
                table.retain(|key, _| ["alias", "tools"].contains(&key));
                toml::to_string(&table).unwrap_or_default()
            },
        ),
    };
    without_user(&kept)
}

fn lines(text: &str, mut keeps: impl FnMut(&str) -> bool) -> String {
    let kept = text.lines().filter(|line| keeps(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Keeps the sources and sections of a configuration of pip; values may go on in indented lines.
fn pip(text: &str) -> String {
    let mut within = false;
    text.lines()
        .filter(|line| {
            let goes_on = line.starts_with([' ', '\t']);
            if !goes_on {
                let key = line.split(['=', ':']).next().unwrap_or_default().trim();
                within = line.starts_with('[')
                    || ["index-url", "extra-index-url", "trusted-host", "find-links"]
                        .contains(&key);
            }
            within
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Removes what could be a secret from a table.
fn clean(table: &mut toml::Table) {
    let secret = [
        "token",
        "password",
        "secret",
        "auth",
        "credential",
        "basic",
        "key",
    ];
    table.retain(|key, _| {
        let key = key.to_ascii_lowercase();
        !secret.iter().any(|part| key.contains(part))
    });
    for (_, value) in table.iter_mut() {
        match value {
            toml::Value::Table(below) => clean(below),
            toml::Value::Array(all) => {
                for below in all.iter_mut().filter_map(toml::Value::as_table_mut) {
                    clean(below);
                }
            }
            _ => {}
        }
    }
}

/// Keeps the list below `:sources:`.
fn gem(text: &str) -> String {
    let mut within = false;
    lines(text, |line| {
        if !line.trim_start().starts_with('-') {
            within = line.trim_end() == ":sources:";
            return within;
        }
        within
    })
}

fn maven(text: &str) -> String {
    let Some((_, rest)) = text.split_once("<mirrors>") else {
        return String::new();
    };
    let Some((mirrors, _)) = rest.split_once("</mirrors>") else {
        return String::new();
    };
    let lower = mirrors.to_ascii_lowercase();
    if lower.contains("password") || lower.contains("<!--") {
        return String::new();
    }
    format!("<settings><mirrors>{mirrors}</mirrors></settings>\n")
}

/// Removes user and password of every address in a text.
fn without_user(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((front, behind)) = rest.split_once("://") {
        clean.push_str(front);
        clean.push_str("://");
        let end = behind
            .find(|c: char| c.is_whitespace() || "/?#\"'<>,|".contains(c))
            .unwrap_or(behind.len());
        let (authority, after) = behind.split_at_checked(end).unwrap_or((behind, ""));
        clean.push_str(
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host),
        );
        rest = after;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::{Form, is_certificate, mapping, names_a_source, without_user};

    #[test]
    fn sources_are_kept_and_credentials_are_not() {
        let cases = [
            (
                Form::Npm,
                "; note secret\nregistry=https://u:secret@corp.test:4873/npm/\n@a:registry = http://secret@b.test\n\
                 //corp.test/:_authToken=secret\nemail=secret\n",
                "registry=https://corp.test:4873/npm/\n@a:registry = http://b.test\n",
            ),
            (
                Form::Pip,
                "[global]\nindex-url = https://u:secret@pip.test/simple\nextra-index-url =\n  https://a.test\n\
                 [x]\npassword = secret\n  secret\n",
                "[global]\nindex-url = https://pip.test/simple\nextra-index-url =\n  https://a.test\n[x]\n",
            ),
            (
                Form::Go,
                "GOPROXY=https://secret@a.test,direct\nGOFLAGS=-x=secret\n",
                "GOPROXY=https://a.test,direct\n",
            ),
            (
                Form::Yarn,
                "registry \"https://u:secret@y.test/\"\n_authToken \"secret\"\n",
                "registry \"https://y.test/\"\n",
            ),
            (
                Form::YarnYaml,
                "npmRegistryServer: \"https://y.test\"\nnpmAuthToken: secret\nnpmScopes:\n  corp:\n    \
                 npmRegistryServer: https://u:secret@c.test\n    npmAuthToken: secret\n",
                "npmRegistryServer: \"https://y.test\"\nnpmScopes:\n  corp:\n    npmRegistryServer: https://c.test\n",
            ),
            (
                Form::Toml,
                "# secret\n[[index]]\nurl = \"https://u:secret@uv.test/simple\"\npassword = \"secret\"\n[install]\ntoken = \"secret\"\n",
                "[[index]]\nurl = \"https://uv.test/simple\"\n\n[install]\n",
            ),
            (
                Form::Gem,
                "---\n:sources:\n- https://u:secret@g.test/\n:rubygems_api_key: secret\n- secret\n",
                ":sources:\n- https://g.test/\n",
            ),
            (
                Form::Maven,
                "<settings><servers><password>secret</password></servers><mirrors><mirror><url>http://u:secret@m.test:81/</url></mirror></mirrors></settings>",
                "<settings><mirrors><mirror><url>http://m.test:81/</url></mirror></mirrors></settings>\n",
            ),
            (
                Form::Versions,
                "[tools]\nnode = \"20\"\n[env]\nX = \"secret\"\n[tasks.x]\nrun = \"secret\"\n",
                "[tools]\nnode = \"20\"\n",
            ),
        ];
        for (form, text, expected) in cases {
            assert_eq!(mapping(text, form), expected, "{form:?}");
        }
        assert_eq!(mapping("= no", Form::Toml), "");
        assert_eq!(
            without_user("https://a:b@c@d.test:81/x@y ssh://git@e"),
            "https://d.test:81/x@y ssh://e"
        );
    }

    #[test]
    fn certificates_are_shown_and_keys_are_not() {
        let certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
        assert!(is_certificate(certificate));
        for key in ["PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert!(!is_certificate(&format!(
                "{certificate}-----BEGIN {key}-----\n"
            )));
        }
        assert!(!is_certificate("token = x"));
    }

    #[test]
    fn variables_of_sources_are_known() {
        for name in [
            "npm_config_registry",
            "PIP_EXTRA_INDEX_URL",
            "UV_INDEX",
            "GOPROXY",
            "CARGO_REGISTRIES_CORP_INDEX",
        ] {
            assert!(names_a_source(name.as_bytes()), "{name}");
        }
        assert!(!names_a_source(b"DATABASE_URL") && !names_a_source(b"HTTPS_PROXY"));
    }
}
