//! The environment of the command: only what policy passes, and what the boundary itself says.

use std::collections::BTreeMap;

use stockade_policy::{Origin, Policy, Settings};
use stockade_types::RawText;

use crate::{HostFacts, Network, RunSpec, telemetry};

/// Search path where the caller has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// File inside with the certificates of all authorities that programs trust, if TLS is opened.
pub const CA_BUNDLE: &str = "/run/stockade/ca-bundle.pem";
/// File inside with the certificate of the session's own authority.
pub const CA: &str = "/run/stockade/ca.pem";
/// The same authorities as a key store of Java, which reads no other.
pub const CA_KEY_STORE: &str = "/run/stockade/ca.jks";
/// The variable by which every virtual machine of Java takes options.
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
/// Variables of clients that name all authorities they trust.
pub const CA_BUNDLE_VARIABLES: [&str; 8] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];
/// Variables of clients that name authorities beside those that they know.
pub const CA_VARIABLES: [&str; 2] = ["DENO_CERT", "NODE_EXTRA_CA_CERTS"];

/// Variables of clients that name a proxy.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"];
/// Variables of clients that name hosts which need none.
const PROXY_EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// The session's own loopback, where the servers of its programs are, and the receiver of telemetry.
const OWN_LOOPBACK: &str = "localhost,127.0.0.1,::1,198.19.255.1";
/// The variable by which node heeds the others.
const NODE_PROXY: &str = "NODE_USE_ENV_PROXY";

/// Builds the whole environment, sorted by name.
pub(crate) fn build(policy: &Policy, spec: &RunSpec, facts: &HostFacts) -> Vec<(RawText, RawText)> {
    let settings = policy.settings();
    let mut variables: BTreeMap<RawText, RawText> = BTreeMap::new();
    for (name, value) in &facts.environment {
        let passes =
            std::str::from_utf8(name.as_bytes()).is_ok_and(|n| settings.environment.passes(n));
        let is_named = || {
            let mut pass = settings.environment.pass.iter();
            pass.any(|pattern| pattern.value.as_bytes() == name.as_bytes())
        };
        if passes && (is_named() || !has_password(value)) {
            variables.insert(name.clone(), value.clone());
        }
    }
    let caller = |wanted: &str| {
        facts
            .environment
            .iter()
            .find(|(n, _)| n.as_bytes() == wanted.as_bytes())
            .map(|(_, v)| v)
    };
    let shell = caller("SHELL").cloned().unwrap_or_else(|| "/bin/sh".into());
    variables.insert("PATH".into(), search_path(facts));
    variables.insert("SHELL".into(), shell);
    variables.insert("HOME".into(), facts.home.clone().into());
    variables.insert("USER".into(), facts.user.as_str().into());
    variables.insert("LOGNAME".into(), facts.user.as_str().into());
    variables.insert("TMPDIR".into(), "/tmp".into());
    variables.insert("PWD".into(), spec.cwd.clone().into());
    let off = &settings.preset.own_questions_off.environment;
    let hooks = settings.preset.hooks.as_ref();
    let hooks = hooks.into_iter().flat_map(|hooks| &hooks.environment);
    let preset = hooks.chain(off).map(|(name, value)| (name, value, true));
    let set = settings.environment.set.iter().map(|(name, value)| {
        let is_default = value.origin == Origin::Builtin;
        (name, &value.value, is_default)
    });
    for (name, value, is_default) in preset.chain(set) {
        // A preset's value is a default: whoever passes the variable by its name means his own.
        if is_default && caller(name).is_some() && is_passed_by_owner(settings, name) {
            continue;
        }
        variables.insert(name.as_str().into(), value.as_str().into());
    }
    if let Ok(own) = telemetry::find(settings, spec, facts) {
        for (name, value) in &own.environment {
            variables.insert(name.as_str().into(), value.as_str().into());
        }
    }
    // Some agents keep their main file beside the directory unless the variable names it.
    for (state, fact) in settings.filesystem.state.iter().zip(&facts.state) {
        if let Some(name) = &state.value.path_from {
            variables.insert(name.as_str().into(), fact.path.clone().into());
        }
    }
    add_git_settings(&mut variables, &facts.git_settings);
    if policy.inspects() && spec.network == Network::Proxied {
        add_authorities(&mut variables, settings);
    }
    if spec.network == Network::Proxied {
        add_inside_proxy(&mut variables, settings);
    }
    for name in &facts.credentials.withheld {
        variables.remove(&RawText::from(name.as_str()));
    }
    for (name, placeholder) in &facts.credentials.placeholders {
        variables.insert(name.as_str().into(), placeholder.as_str().into());
    }
    variables.insert("STOCKADE_SESSION".into(), spec.session.as_str().into());
    variables.into_iter().collect()
}

/// Has programs trust the authority by which TLS is opened, unless a file of policy says whom they
/// trust.
fn add_authorities(variables: &mut BTreeMap<RawText, RawText>, settings: &Settings) {
    let all = CA_BUNDLE_VARIABLES.iter().map(|name| (*name, CA_BUNDLE));
    let more = CA_VARIABLES.iter().map(|name| (*name, CA));
    for (name, path) in all.chain(more) {
        let set = settings.environment.set.get(name);
        if set.is_none_or(|value| value.origin == Origin::Builtin) {
            variables.insert(name.into(), path.into());
        }
    }
    let set = settings.environment.set.get(JAVA_OPTIONS);
    if set.is_none_or(|value| value.origin == Origin::Builtin) {
        let own = format!("-Djavax.net.ssl.trustStore={CA_KEY_STORE}");
        let options = variables.entry(JAVA_OPTIONS.into()).or_default();
        // Of an option that is given twice the last one counts.
        let before = options.as_bytes().iter().copied().chain(*b" ");
        let before: Vec<u8> = before.filter(|_| !options.as_bytes().is_empty()).collect();
        *options = RawText::from_bytes([before, own.into_bytes()].concat());
    }
}

/// Has programs use the session's own proxy, where policy wants that; what a file of policy sets stays.
fn add_inside_proxy(variables: &mut BTreeMap<RawText, RawText>, settings: &Settings) {
    let network = &settings.network;
    let port = network.inside_proxy.as_ref();
    let Some(port) = port.filter(|_| network.inside_proxy_variables.value) else {
        return;
    };
    let proxy = format!("http://127.0.0.1:{}", port.value);
    let named = PROXY_VARIABLES.iter().map(|name| (*name, proxy.as_str()));
    let except = PROXY_EXCEPTIONS.iter().map(|name| (*name, OWN_LOOPBACK));
    for (name, value) in named.chain(except).chain([(NODE_PROXY, "1")]) {
        let set = settings.environment.set.get(name);
        if set.is_none_or(|value| value.origin == Origin::Builtin) {
            variables.insert(name.into(), value.into());
        }
    }
}

/// Adds settings of git (git-config(1), `GIT_CONFIG_COUNT`); those that policy gives in this way stay.
fn add_git_settings(variables: &mut BTreeMap<RawText, RawText>, settings: &[(String, String)]) {
    let count: RawText = "GIT_CONFIG_COUNT".into();
    if settings.is_empty() || variables.contains_key(&count) {
        return;
    }
    variables.insert(count, settings.len().to_string().as_str().into());
    for (number, (name, value)) in settings.iter().enumerate() {
        let key = format!("GIT_CONFIG_KEY_{number}");
        variables.insert(key.as_str().into(), name.as_str().into());
        let key = format!("GIT_CONFIG_VALUE_{number}");
        variables.insert(key.as_str().into(), value.as_str().into());
    }
}

/// Tells whether a file that is no preset passes a variable by its name.
fn is_passed_by_owner(settings: &Settings, name: &str) -> bool {
    let mut pass = settings.environment.pass.iter();
    pass.any(|pattern| pattern.origin != Origin::Builtin && pattern.value == name)
}

/// Tells whether a value is an address with a password in it (`scheme://user:password@host`): like a
/// name that looks like a secret, it passes only where its name is written in full.
fn has_password(value: &RawText) -> bool {
    let text = value.display();
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        user.is_some_and(|user| user.contains(':'))
    })
}

/// Returns where the command's programs are searched: where the caller's are.
pub(crate) fn search_path(facts: &HostFacts) -> RawText {
    let mut variables = facts.environment.iter();
    let path = variables.find(|(name, _)| name.as_bytes() == b"PATH");
    path.map_or_else(|| DEFAULT_PATH.into(), |(_, path)| absolute_entries(path))
}

/// Drops empty and relative entries of a search path: they would mean the workspace.
fn absolute_entries(path: &RawText) -> RawText {
    let entries: Vec<&[u8]> = path
        .as_bytes()
        .split(|b| *b == b':')
        .filter(|entry| entry.starts_with(b"/"))
        .collect();
    if entries.is_empty() {
        DEFAULT_PATH.into()
    } else {
        RawText::from_bytes(entries.join(&b':'))
    }
}
