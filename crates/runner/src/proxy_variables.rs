//! The caller's variables for the proxy out of its network, and the file with the login for it.

use std::{fs::File, io::Read, path::Path};

use stockade_egress::ProxyVariables;
use stockade_policy::NetworkSettings;
use stockade_types::{AbsPath, RawText, Secret};

use crate::RunError;

/// Largest login file.
const LOGIN_BYTES_MAX: u64 = 4096;

/// Reads the variables that clients read, in the order that most of them use.
pub(crate) fn read(environment: &[(RawText, RawText)]) -> ProxyVariables {
    let value = |name: &str| {
        let found = environment
            .iter()
            .find(|(own, value)| own.as_bytes() == name.as_bytes() && !value.as_bytes().is_empty());
        found.and_then(|(_, value)| std::str::from_utf8(value.as_bytes()).ok())
    };
    let first = |names: &[&str]| names.iter().find_map(|name| value(name)).map(str::to_owned);
    ProxyVariables {
        http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
        https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        exceptions: first(&["no_proxy", "NO_PROXY"]),
    }
}

/// Reads `user:password` from the file that policy names.
///
/// # Errors
/// When it cannot be read: without it no host could be reached.
pub(crate) fn login(
    settings: &NetworkSettings,
    home: &AbsPath,
) -> Result<Option<Secret<String>>, RunError> {
    let Some(named) = &settings.proxy_auth_file else {
        return Ok(None);
    };
    let path = match named.value.strip_prefix("~/") {
        Some(rest) => home.as_path().join(rest),
        None => Path::new(&named.value).to_owned(),
    };
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(LOGIN_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| RunError::ProxyLogin {
            path: path.clone(),
            source,
        })?;
    let line = text.lines().next().unwrap_or_default().trim();
    if !line.contains(':') {
        let source = std::io::Error::other("its first line is not `user:password`");
        return Err(RunError::ProxyLogin { path, source });
    }
    Ok(Some(Secret::new(line.to_owned())))
}
