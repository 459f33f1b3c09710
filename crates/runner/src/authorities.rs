//! Certificates of authorities, for sessions whose TLS is opened: of those that vouch for servers, and
//! of the session's own one, which programs inside must trust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use stockade_plan::{CA, CA_BUNDLE, HostFacts};
use stockade_policy::Policy;
use stockade_types::{AbsPath, RawText};

use crate::{
    RunError,
    registries::{certificate_variables, is_certificate, read},
};

/// Where distributions keep the authorities that the machine trusts; the first that exists counts.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The variable whose authorities are beside those that a client knows.
const BESIDE: &str = "NODE_EXTRA_CA_CERTS";

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
    let roots = roots(&named, &facts.home)?;
    show(inside, (own, &roots), &facts.environment)?;
    Ok(roots)
}

/// Reads the authorities that vouch for servers: those of the machine, and of the files that policy
/// names. PEM, one after the other.
///
/// # Errors
/// When a file that policy names has no certificate: without it some server could not be reached.
fn roots(named: &[&str], home: &AbsPath) -> Result<String, RunError> {
    let system = SYSTEM.iter().find_map(|path| read(Path::new(path)));
    let mut all = system.unwrap_or_default();
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
/// and what the caller's variables name.
///
/// # Errors
/// When it cannot be written.
fn show(
    directory: &Path,
    (own, roots): (&str, &str),
    environment: &[(RawText, RawText)],
) -> Result<(), RunError> {
    let named = |name: &str| {
        let mut all = environment.iter();
        let (_, value) = all.find(|(other, _)| other.as_bytes() == name.as_bytes())?;
        read(&PathBuf::from(value.to_os())).filter(|text| is_certificate(text))
    };
    let (mut all, mut beside) = (roots.to_owned(), String::new());
    let mut seen = vec![String::new()];
    for name in certificate_variables() {
        let Some(text) = named(name).filter(|text| !seen.contains(text)) else {
            continue;
        };
        add(&mut all, &text);
        if name == BESIDE {
            add(&mut beside, &text);
        }
        seen.push(text);
    }
    for (path, mut text) in [(CA_BUNDLE, all), (CA, beside)] {
        add(&mut text, own);
        let path = directory.join(Path::new(path).file_name().unwrap_or_default());
        fs::write(&path, text).map_err(|source| RunError::SessionDirectory { path, source })?;
    }
    Ok(())
}

fn add(all: &mut String, text: &str) {
    if !all.is_empty() && !all.ends_with('\n') {
        all.push('\n');
    }
    all.push_str(text);
}
