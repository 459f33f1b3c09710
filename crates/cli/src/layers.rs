//! The policy files of this run, in their layers, and the hosts that clients are configured for.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use stockade_policy::{HostSets, Origin, Source, builtin, builtin_names, preset_for_command};
use stockade_types::Host;

use crate::state::HOME_VARIABLE;

/// The organisation's policy of this machine.
const ORGANISATION_FILE: &str = "/etc/stockade/policy.toml";
/// Names another organisation policy, only where [`ORGANISATION_FILE`] does not exist.
pub(crate) const ORGANISATION_VARIABLE: &str = "STOCKADE_ORG_POLICY";
/// The base for configuration of all programs (XDG Base Directory Specification).
const XDG_CONFIG_VARIABLE: &str = "XDG_CONFIG_HOME";
/// The user's policy, below the base for configuration.
const USER_FILE: &str = "stockade/policy.toml";
/// Largest configuration file that is read; the loader has the same limit for policies.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Which policy holds.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct LayerArgs {
    /// A policy file of this run, on top of the others; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Vec<PathBuf>,
    /// A preset; by default the one for the command
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// File name of the command that will run, where there is one.
    #[arg(skip)]
    pub(crate) command: Option<String>,
}

/// Reads all files: preset, organisation, user, and those of the command line.
///
/// # Errors
/// When a file cannot be read, or there is no such preset. An organisation policy that exists but
/// cannot be read is an error too: it is never skipped.
pub(crate) fn collect(args: &LayerArgs) -> anyhow::Result<Vec<Source>> {
    let mut sources = vec![preset(args)?];
    sources.extend(organisation(|name| std::env::var_os(name))?);
    if let Some((path, name)) = user_file() {
        sources.extend(optional(Origin::User, &path, &name)?);
    }
    for path in &args.policy {
        sources.push(session_file(path)?);
    }
    Ok(sources)
}

/// Reads the organisation's policy, if there is one.
///
/// # Errors
/// When it exists but cannot be read.
pub(crate) fn organisation(
    variable: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Option<Source>> {
    let fixed = Path::new(ORGANISATION_FILE);
    if let Some(source) = optional(Origin::Organisation, fixed, ORGANISATION_FILE)? {
        return Ok(Some(source));
    }
    let Some(path) = variable(ORGANISATION_VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let source = file(Origin::Organisation, &path)
        .with_context(|| format!("{ORGANISATION_VARIABLE} names it"))?;
    Ok(Some(source))
}

/// Reads one file into a layer.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn file(origin: Origin, path: &Path) -> anyhow::Result<Source> {
    let name = path.display().to_string();
    let text = read(path).with_context(|| format!("cannot read the policy `{name}`"))?;
    Ok(Source { origin, name, text })
}

fn session_file(path: &Path) -> anyhow::Result<Source> {
    file(Origin::Session, path)
}

fn preset(args: &LayerArgs) -> anyhow::Result<Source> {
    let name = match (&args.profile, &args.command) {
        (Some(profile), _) => profile.as_str(),
        (None, Some(command)) => {
            preset_for_command(command.rsplit('/').next().unwrap_or(command.as_str()))
        }
        (None, None) => "generic",
    };
    let Some(text) = builtin(name) else {
        bail!(
            "there is no preset `{name}`; write one of {}",
            builtin_names().join(", ")
        );
    };
    Ok(Source {
        origin: Origin::Builtin,
        name: name.to_owned(),
        text: text.to_owned(),
    })
}

/// Reads a file that need not be there.
fn optional(origin: Origin, path: &Path, name: &str) -> anyhow::Result<Option<Source>> {
    match read(path) {
        Ok(text) => Ok(Some(Source {
            origin,
            name: name.to_owned(),
            text,
        })),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the policy `{name}`")),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let message = format!("larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Returns where the user's policy would be, and how that is shown.
fn user_file() -> Option<(PathBuf, String)> {
    if let Some(base) = directory(XDG_CONFIG_VARIABLE) {
        let path = base.join(USER_FILE);
        let name = path.display().to_string();
        return Some((path, name));
    }
    let path = home()?.join(".config").join(USER_FILE);
    Some((path, format!("~/.config/{USER_FILE}")))
}

fn home() -> Option<PathBuf> {
    directory(HOME_VARIABLE)
}

/// Returns the directory that a variable names; a relative one would depend on where we are.
fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// Reads for which hosts the user's own clients are configured, for `hosts = ["@npm"]`.
///
/// Only files and variables of the user and the machine count, never those of the workspace. What
/// cannot be read or understood adds no host.
pub(crate) fn host_sets() -> HostSets {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let text = |path: &Path| read(path).unwrap_or_default();
    let home = home().unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let mut sets = BTreeMap::new();
    let mut put = |name: &str, urls: Vec<String>| {
        let mut hosts: Vec<Host> = urls.iter().filter_map(|url| host_of(url)).collect();
        hosts.sort();
        hosts.dedup();
        if !hosts.is_empty() {
            sets.insert(name.to_owned(), hosts);
        }
    };
    let mut npm = npm_urls(&text(&home.join(".npmrc")));
    npm.push(variable("npm_config_registry"));
    npm.push(variable("NPM_CONFIG_REGISTRY"));
    put("npm", npm);
    let pip_files = [".config/pip/pip.conf", ".pip/pip.conf"].map(|name| home.join(name));
    let pip_files = pip_files
        .iter()
        .map(PathBuf::as_path)
        .chain([Path::new("/etc/pip.conf")]);
    let mut pip: Vec<String> = pip_files.flat_map(|path| pip_urls(&text(path))).collect();
    let pip_variables = [
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "UV_INDEX",
    ];
    for name in pip_variables {
        pip.extend(variable(name).split_whitespace().map(str::to_owned));
    }
    put("pip", pip);
    let cargo_home = directory("CARGO_HOME").unwrap_or_else(|| home.join(".cargo"));
    let mut cargo = cargo_urls(&text(&cargo_home.join("config.toml")));
    cargo.extend(std::env::vars().filter_map(|(name, value)| {
        (name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX")).then_some(value)
    }));
    put("cargo", cargo);
    put("apt", apt_urls(&apt_texts()));
    let model = [
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "ANTHROPIC_BASE_URL",
        "GOOGLE_GEMINI_BASE_URL",
    ];
    put("model", model.map(variable).into());
    HostSets(sets)
}

/// Returns the texts of all lists of package sources.
fn apt_texts() -> Vec<String> {
    let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let listed = entries.flatten().map(|entry| entry.path());
        paths.extend(listed.filter(|path| {
            path.extension()
                .is_some_and(|end| end == "list" || end == "sources")
        }));
    }
    paths.sort();
    paths.iter().filter_map(|path| read(path).ok()).collect()
}

/// Reads the host out of a URL, also one with `sparse+` or `git+` in front.
fn host_of(url: &str) -> Option<Host> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let scheme = scheme.rsplit('+').next().unwrap_or(scheme);
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_port = authority.rsplit('@').next()?;
    let host = match host_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => host_port,
    };
    host.parse().ok()
}

/// Reads `registry=URL` and `@scope:registry=URL`.
fn npm_urls(text: &str) -> Vec<String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs
        .filter(|(key, _)| {
            let key = key.trim();
            key == "registry" || (key.starts_with('@') && key.ends_with(":registry"))
        })
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .collect()
}

/// Reads `index-url` and `extra-index-url`, whose values may go on in indented lines.
fn pip_urls(text: &str) -> Vec<String> {
    let mut urls = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let value = match line.split_once('=').or_else(|| line.split_once(": ")) {
            Some((key, value)) if !line.starts_with([' ', '\t']) => {
                within = matches!(key.trim(), "index-url" | "extra-index-url");
                value
            }
            _ if line.starts_with([' ', '\t']) => line,
            _ => {
                within = false;
                continue;
            }
        };
        if within {
            urls.extend(value.split_whitespace().map(str::to_owned));
        }
    }
    urls
}

/// Reads `[source.*] registry` and `[registries.*] index`.
fn cargo_urls(text: &str) -> Vec<String> {
    let Ok(table) = text.parse::<toml::Table>() else {
        return Vec::new();
    };
    let of = |section: &str, key: &str| -> Vec<String> {
        let entries = table
            .get(section)
            .and_then(toml::Value::as_table)
            .into_iter()
            .flatten();
        entries
            .filter_map(|(_, entry)| entry.get(key)?.as_str().map(str::to_owned))
            .collect()
    };
    [of("source", "registry"), of("registries", "index")].concat()
}

/// Reads one-line (`deb URL …`) and deb822 (`URIs: URL …`) sources.
fn apt_urls(texts: &[String]) -> Vec<String> {
    let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    lines
        .filter_map(|line| {
            let rest = ["deb ", "deb-src ", "URIs:"]
                .iter()
                .find_map(|p| line.strip_prefix(p))?;
            Some(rest.split_whitespace().filter(|word| word.contains("://")))
        })
        .flatten()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Host, apt_urls, cargo_urls, host_of, npm_urls, pip_urls};

    fn hosts(urls: &[String]) -> Vec<String> {
        urls.iter()
            .filter_map(|url| host_of(url))
            .map(|host: Host| host.to_string())
            .collect()
    }

    #[test]
    fn clients_say_where_their_packages_come_from() {
        let npm = "; a comment\nregistry=https://registry.test/x/\n@corp:registry = http://corp.test:4873\n\
                   //registry.test/:_authToken=secret\n";
        assert_eq!(hosts(&npm_urls(npm)), ["registry.test", "corp.test"]);
        let pip = "[global]\nindex-url = https://user:secret@pip.test/simple\nextra-index-url =\n    \
                   https://a.test/simple\n    https://b.test/simple\ntimeout = 10\n";
        assert_eq!(hosts(&pip_urls(pip)), ["pip.test", "a.test", "b.test"]);
        let cargo = "[source.main]\nregistry = \"sparse+https://index.test/\"\n[registries.own]\n\
                     index = \"git+https://own.test:8443/index\"\n";
        assert_eq!(hosts(&cargo_urls(cargo)), ["index.test", "own.test"]);
        let apt = "deb [signed-by=/x] http://deb.test/debian stable main\n# deb http://no.test x\n\
                   Types: deb\nURIs: https://one.test/debian https://two.test/debian\n";
        assert_eq!(
            hosts(&apt_urls(&[apt.to_owned()])),
            ["deb.test", "one.test", "two.test"]
        );
    }

    #[test]
    fn what_is_no_web_address_adds_no_host() {
        for url in [
            "",
            "registry.test",
            "file:///x",
            "ssh://git@a.test/x",
            "https://",
            "https://127.1/",
        ] {
            assert_eq!(host_of(url), None, "{url}");
        }
        assert_eq!(
            host_of("https://[::1]:8080/x")
                .map(|h| h.to_string())
                .as_deref(),
            Some("::1")
        );
    }
}
