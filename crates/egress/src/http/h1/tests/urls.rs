//! Addresses in the request line, beside what clients that follow the URL standard of WHATWG make of them:
//! what is judged is what such a client means, or it is refused.

use url::Url;

use super::request;

/// What a request for an address in its request line names: host, port and path.
type Named = (String, u16, Vec<u8>);

/// Reads a request whose target is `address`, under the host that the address has as it stands there.
fn judged(address: &str) -> Option<Named> {
    // A path, whatever follows; rules about paths never allow one that begins with two slashes.
    if address.starts_with('/') {
        return None;
    }
    let (_, after) = address.split_once("//")?;
    let authority = after.split(['/', '?', '#', '\\']).next()?;
    let own = authority.rsplit('@').next()?;
    let parsed = Url::parse(address).ok();
    let standard = parsed.as_ref().and_then(|url| {
        let port = url
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        url.host_str().map(|host| format!("{host}{port}"))
    });
    // A client writes into `Host` what it understood; an attacker, whatever may pass.
    let hosts = [Some(authority.to_owned()), Some(own.to_owned()), standard];
    let head = hosts.into_iter().flatten().find_map(|host| {
        request(&format!("GET {address} HTTP/1.1\r\nHost: {host}\r\n\r\n")).ok()
    })?;
    let head = head.head;
    Some((
        head.host.to_string(),
        head.port.unwrap_or(80),
        head.path.as_bytes().to_vec(),
    ))
}

/// The same as the standard has it; nothing where it fails.
fn standard(address: &str) -> Option<Named> {
    let url = Url::parse(address).ok()?;
    let query = url
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let host = url.host_str()?.trim_matches(['[', ']']);
    // The dot of a name that is complete (RFC 1034 section 3.1) makes no other host.
    let host = host.strip_suffix('.').unwrap_or(host).to_owned();
    let path = format!("{}{query}", url.path()).into_bytes();
    Some((host, url.port_or_known_default()?, path))
}

/// Decodes each `%` and two digits once.
fn decoded(text: &[u8]) -> Vec<u8> {
    let (mut at, mut out) = (0, Vec::new());
    while let Some(byte) = text.get(at) {
        let digits = text
            .get(at + 1..at + 3)
            .filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        if let (b'%', Some(two)) = (byte, digits.and_then(|two| std::str::from_utf8(two).ok())) {
            out.push(u8::from_str_radix(two, 16).unwrap());
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    out
}

/// Tells whether a path has a segment that the standard resolves. Rules about paths never allow one.
fn climbs(path: &[u8]) -> bool {
    let end = path
        .iter()
        .position(|byte| *byte == b'?')
        .unwrap_or(path.len());
    let plain = decoded(&path[..end]);
    plain
        .split(|byte| *byte == b'/')
        .any(|part| [&b"."[..], b".."].contains(&part))
}

/// Ends the test if an address is judged as another one than the standard's; returns whether it passes.
fn check(address: &str) -> bool {
    let Some(ours) = judged(address) else {
        return false;
    };
    let Some(theirs) = standard(address) else {
        panic!("{address:?} is judged as {ours:?}, and is no address");
    };
    assert_eq!((&ours.0, ours.1), (&theirs.0, theirs.1), "{address:?}");
    if !climbs(&ours.2) {
        assert_eq!(decoded(&ours.2), decoded(&theirs.2), "{address:?}");
    }
    true
}

/// Written as every client writes them, and read alike.
const READ: [&str; 26] = [
    "http://good.test/",
    "http://good.test",
    "HTTP://GOOD.test/a/b?c=d",
    "http://good.test:80/",
    "http://good.test:8080/a",
    "http://good.test:65535/",
    "http://good.test:0080/",
    "http://good.test:/a",
    "http://good.test./",
    "http://good.test/a//b",
    "http://good.test//evil.test/",
    "http://good.test/@evil.test/",
    "http://good.test/a@b:c",
    "http://good.test/%61?%62",
    "http://good.test/a?b?c",
    "http://good.test/a;b=c",
    "http://good.test/./a",
    "http://good.test/a/../b",
    "http://good.test/a/%2e%2E/b",
    "http://good.test/a/.%2e/b",
    "http://good.test/\u{fc}",
    "http://good.test/\u{2025}/a",
    "http://xn--n3h.test/",
    "http://192.0.2.1/",
    "http://192.0.2.1:81/a",
    "http://[2001:db8::1]:81/a",
];

/// Read in some other way by the standard, by other clients, or by nobody.
const REFUSED: [&str; 68] = [
    // Logins, and what looks like one.
    "http://user@good.test/",
    "http://user:pass@good.test/",
    "http://good.test@evil.test/",
    "http://good.test:80@evil.test/",
    "http://@evil.test/",
    "http://:@evil.test/",
    "http://a@b@evil.test/",
    "http://good.test%40evil.test/",
    "http://good.test\\@evil.test/",
    "http://evil.test\\.good.test/",
    // Slashes.
    "http:/good.test/",
    "http:good.test/",
    "http:///good.test/",
    "http:////good.test/",
    "http:\\\\good.test\\",
    "http:/\\good.test/",
    "\\\\good.test/",
    "good.test",
    "good.test:80",
    // Fragments, blanks and controls.
    "http://good.test/#a",
    "http://good.test?a=b",
    "http://good.test#@evil.test/",
    "http://good.test/a#b?c",
    "http://good.test/a b",
    "http://good.test/a\tb",
    "http://good\t.test/",
    "http://good.test /",
    "http://good.test\0.evil.test/",
    "http://good.test/\u{7f}",
    "http://good.test/\0",
    " http://good.test/",
    "ht\ttp://good.test/",
    // Ports.
    "http://good.test:65536/",
    "http://good.test:99999999999999999999/",
    "http://good.test:-80/",
    "http://good.test:+80/",
    "http://good.test:8a/",
    "http://good.test:0x50/",
    "http://good.test:80:80/",
    "http://good.test:\u{661}/",
    // Hosts.
    "http:///",
    "http://",
    "http://./",
    "http://../",
    "http://good..test/",
    "http://.good.test/",
    "http://go%6fd.test/",
    "http://good%00.test/",
    "http://good.test%2f.evil.test/",
    "http://\u{ff47}ood.test/",
    "http://good\u{3002}test/",
    "http://go\u{ad}od.test/",
    "http://g\u{43e}\u{43e}d.test/",
    "http://fa\u{df}.test/",
    "http://xn--a/",
    "http://a_b^c.test/",
    "http://a<b.test/",
    "http://a|b.test/",
    // Addresses in numbers.
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.0.0.1./",
    "http://256.1.1.1/",
    "http://1.2.3.4.5/",
    "http://[::1/",
    "http://[::1%25lo]/",
    "http://[v1.a]/",
];

/// Addresses of other schemes, which a request for one host cannot be about.
const SCHEMES: [&str; 6] = [
    "https://good.test/",
    "ws://good.test/",
    "ftp://good.test/",
    "file:///etc/passwd",
    "javascript://good.test/%0aalert(1)",
    "data:text/plain,a",
];

#[test]
fn addresses_are_judged_as_clients_mean_them() {
    for address in READ {
        assert!(check(address), "{address:?} is refused");
    }
    for address in REFUSED.iter().chain(&SCHEMES) {
        assert!(!check(address), "{address:?} is read");
    }
}

/// No change of an address makes one that is judged as another than clients mean.
#[test]
fn fuzz_request_address() {
    let all = READ.iter().chain(&REFUSED).chain(&SCHEMES);
    let target = stockade_fuzz::Target {
        name: "request-address",
        samples: all.map(|address| address.as_bytes().to_vec()).collect(),
        words: &[
            b"http://",
            b"@",
            b":80",
            b"\\",
            b"//",
            b"#",
            b"?",
            b"%2e",
            b"%40",
            b"[::1]",
            b"127.1",
            b"0x7f",
            b"xn--",
            b".good.test",
            b"evil.test",
            b"\xe3\x80\x82",
        ],
        tries: stockade_fuzz::TRIES,
    };
    stockade_fuzz::target(&target, |bytes| {
        if let Ok(address) = std::str::from_utf8(bytes) {
            check(address);
        }
    });
}
