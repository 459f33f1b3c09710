//! Bytes of the grammar of HTTP, and hosts as messages name them.

use std::net::Ipv6Addr;

use stockade_types::Host;

/// Tells whether `byte` is a `tchar` (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Reads a host as a message carries it: a name in ASCII, an IPv4 address, or an IPv6 address in
/// brackets (RFC 3986 section 3.2.2). Names in other scripts are A-labels by then (RFC 5890 section
/// 2.3.2.1): what else a server makes of such bytes is not known.
pub(crate) fn host_of(bytes: &[u8]) -> Option<Host> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.is_ascii() {
        return None;
    }
    match text.strip_prefix('[') {
        Some(rest) => {
            let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
            Some(Host::Address(address.to_canonical()))
        }
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn only_what_every_server_reads_alike_is_a_host() {
        for (sent, host) in [
            ("Good.test", Some("good.test")),
            ("good.test.", Some("good.test")),
            ("xn--bcher-kva.test", Some("xn--bcher-kva.test")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[::ffff:192.0.2.1]", Some("192.0.2.1")),
            ("[192.0.2.1]", None),
            ("[good.test]", None),
            ("[fe80::1%25eth0]", None),
            ("[v1.x]", None),
            ("[2001:db8::1", None),
            ("127.1", None),
            ("2130706433", None),
            ("bücher.test", None),
            ("ｇｏｏｄ.test", None),
            ("good。test", None),
            ("go\u{ad}od.test", None),
            ("good..test", None),
            (".good.test", None),
            ("good.test..", None),
            (".", None),
            ("", None),
        ] {
            let read = host_of(sent.as_bytes()).map(|host| host.to_string());
            assert_eq!(read.as_deref(), host, "{sent}");
        }
    }
}
