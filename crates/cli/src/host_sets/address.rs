//! The host and port of a web address.

use stockade_policy::SetHost;
use stockade_types::Port;

/// Reads host and port from an address, which may have a prefix such as `sparse+`, `git+` or a name
/// and `=`.
pub(super) fn parse(address: &str) -> Option<SetHost> {
    let (scheme, rest) = address.trim().split_once("://")?;
    let scheme = scheme.rsplit(['+', '=']).next().unwrap_or(scheme);
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host_port = authority.rsplit('@').next()?;
    let (host, port) = match host_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
        _ => (host_port, ""),
    };
    let port = match port {
        "" => None,
        port => Some(port.parse().ok().and_then(Port::new)?),
    };
    let host = host.parse().ok()?;
    Some(SetHost { host, port })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_address_has_a_host_and_the_port_that_it_names() {
        for (address, expected) in [
            ("https://registry.test/x/", Some("registry.test")),
            ("http://corp.test:4873", Some("corp.test 4873")),
            (
                "https://user:secret@pip.test:443/simple",
                Some("pip.test 443"),
            ),
            ("sparse+https://index.test/", Some("index.test")),
            ("corp=https://index.test/simple", Some("index.test")),
            ("https://[::1]:8080/x", Some("::1 8080")),
            ("https://a.test:0/", None),
            ("https://a.test:65536/", None),
            ("", None),
            ("registry.test", None),
            ("file:///x", None),
            ("ssh://git@a.test/x", None),
            ("https://", None),
            ("https://127.1/", None),
        ] {
            let found = parse(address).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }
}
