//! Certificates of authorities, for sessions whose TLS is opened: of those that vouch for servers, and
//! of the session's own one, which programs inside must trust.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use stockade_plan::{CA, CA_BUNDLE, CA_KEY_STORE, HostFacts};
use stockade_policy::Policy;
use stockade_types::{AbsPath, RawText};

use crate::{
    RunError, java_store,
    registries::{certificate_variables, is_certificate, read},
};

/// Where distributions keep the authorities that the machine trusts; the first that exists counts.
pub(crate) const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// What programs inside read, in the order in which it is written.
const FILES: [&str; 3] = [CA_BUNDLE, CA, CA_KEY_STORE];
/// The variable whose authorities are beside those that a client knows.
const BESIDE: &str = "NODE_EXTRA_CA_CERTS";

/// Returns the files in which programs look for authorities unless something names others, if the
/// policy has TLS opened; links resolved.
pub(crate) fn trust_files(policy: &Policy) -> Vec<AbsPath> {
    let mut found = Vec::new();
    if !policy.inspects() {
        return found;
    }
    for path in SYSTEM {
        let real = fs::canonicalize(path).ok().filter(|real| real.is_file());
        let real = real.and_then(|real| AbsPath::new(real).ok());
        found.extend(real.filter(|real| !found.contains(real)));
    }
    found
}

/// Makes the files of [`trust`] in the directory `inside`, empty: one of them is shown in place of the
/// machine's own from the start.
///
/// # Errors
/// When they cannot be made.
pub(crate) fn announce(inside: &Path) -> io::Result<()> {
    FILES
        .iter()
        .try_for_each(|path| fs::write(told(inside, path), ""))
}

/// Returns where a file that programs find below `/run/stockade` is on the machine.
fn told(inside: &Path, path: &str) -> PathBuf {
    inside.join(Path::new(path).file_name().unwrap_or_default())
}

/// Has programs inside trust `own`, the authority by which TLS is opened: what they read goes to the
/// directory `inside`. Returns the authorities that vouch for servers, in PEM.
///
/// # Errors
/// When a file that policy names has no certificate, or nothing can be written.
pub(crate) fn trust(
    policy: &Policy,
    facts: &HostFacts,
    inside: &Path,
    own: &str,
) -> Result<String, RunError> {
    let named = policy.settings().network.upstream_ca.iter();
    let named: Vec<&str> = named.map(|at| at.value.as_str()).collect();
    let named = read_named(&named, &facts.home)?;
    let mut roots = SYSTEM.iter().find_map(|path| read(Path::new(path)));
    let roots = roots.get_or_insert_default();
    add(roots, &named);
    show(inside, (own, roots, named), &facts.environment)?;
    Ok(std::mem::take(roots))
}

/// Reads the authorities of the files that policy names. PEM, one after the other.
///
/// # Errors
/// When one of them has no certificate: without it some server could not be reached.
fn read_named(named: &[&str], home: &AbsPath) -> Result<String, RunError> {
    let mut all = String::new();
    for name in named {
        let path = match name.strip_prefix("~/") {
            Some(rest) => home.as_path().join(rest),
            None => PathBuf::from(name),
        };
        let Some(text) = read(&path).filter(|text| is_certificate(text)) else {
            return Err(RunError::Certificates { path });
        };
        add(&mut all, &text);
    }
    Ok(all)
}

/// Writes what programs inside trust into the directory of what the agent may read: `own`, the `roots`
/// and what the caller's variables name. `named` are those roots that no client knows by itself.
///
/// # Errors
/// When it cannot be written.
fn show(
    directory: &Path,
    (own, roots, named): (&str, &str, String),
    environment: &[(RawText, RawText)],
) -> Result<(), RunError> {
    let of_variable = |name: &str| {
        let mut all = environment.iter();
        let (_, value) = all.find(|(other, _)| other.as_bytes() == name.as_bytes())?;
        read(&PathBuf::from(value.to_os())).filter(|text| is_certificate(text))
    };
    let (mut all, mut beside) = (roots.to_owned(), named);
    let mut seen: Vec<String> = Vec::new();
    for name in certificate_variables() {
        let is_new = |text: &String| !roots.contains(text.as_str()) && !seen.contains(text);
        let Some(text) = of_variable(name).filter(is_new) else {
            continue;
        };
        add(&mut all, &text);
        if name == BESIDE {
            add(&mut beside, &text);
        }
        seen.push(text);
    }
    for text in [&mut all, &mut beside] {
        add(text, own);
    }
    let store = java_store::write(&all);
    for (path, bytes) in FILES.into_iter().zip([all.into(), beside.into(), store]) {
        let path = told(directory, path);
        fs::write(&path, bytes).map_err(|source| RunError::SessionDirectory { path, source })?;
    }
    Ok(())
}

fn add(all: &mut String, text: &str) {
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    all.push_str(text);
}
