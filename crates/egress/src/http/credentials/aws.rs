//! Signatures of AWS (Signature Version 4): the program signs with a placeholder, and the request is
//! signed again with the key.
//!
//! What the program signed is not looked at; which fields, which region and which service it names is
//! taken over. The key itself is never sent.

use stockade_types::{Digest, Host};

use crate::{
    http::{Field, Fields, Head},
    limits::SIGNED_FIELDS_MAX,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const AUTHORIZATION: &str = "authorization";
/// The field with the digest of the body, or a word that says why there is none.
pub(super) const CONTENT: &str = "x-amz-content-sha256";
const TOKEN: &str = "x-amz-security-token";
const DATE: &str = "x-amz-date";
/// Words in [`CONTENT`] for bodies that are not signed.
const UNSIGNED: [&str; 2] = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];
/// Bytes of a block of SHA-256, to which a key of HMAC is filled up (RFC 2104).
const BLOCK: usize = 64;

/// An access key.
#[derive(Clone, Copy)]
struct Key<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
}

impl<'a> Key<'a> {
    /// Reads `ID:SECRET` or `ID:SECRET:TOKEN`.
    fn read(value: &'a str) -> Option<Self> {
        let (id, rest) = value.split_once(':')?;
        let (secret, token) = match rest.split_once(':') {
            Some((secret, token)) => (secret, Some(token)),
            None => (rest, None),
        };
        Some(Self { id, secret, token })
    }
}

/// What a program says in `Authorization`.
struct Said<'a> {
    key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    fields: Vec<&'a str>,
}

impl<'a> Said<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let rest = text.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let parts: Vec<_> = rest.split(',').map(str::trim).collect();
        let part = |name: &str| {
            let mut parts = parts.iter().filter_map(|part| part.strip_prefix(name));
            parts.next()?.strip_prefix('=')
        };
        let scope: Vec<_> = part("Credential")?.split('/').collect();
        let [key, date, region, service, "aws4_request"] = scope[..] else {
            return None;
        };
        let fields: Vec<_> = part("SignedHeaders")?.split(';').collect();
        part("Signature")?;
        Some(Self {
            key,
            date,
            region,
            service,
            fields,
        })
    }
}

/// Tells whether a request is signed with a placeholder.
pub(super) fn is_signed(head: &Head, placeholder: &str) -> bool {
    said(head).is_some_and(|said| said.key.eq_ignore_ascii_case(placeholder))
}

/// Tells whether the body has to be read before a request can be signed again.
pub(super) fn needs_body(head: &Head, placeholder: &str) -> bool {
    is_signed(head, placeholder) && field(head, CONTENT).is_none()
}

fn said(head: &Head) -> Option<Said<'_>> {
    let mut fields = head.fields.iter().filter(|field| field.is(AUTHORIZATION));
    let said = Said::read(fields.next()?.value)?;
    fields.next().is_none().then_some(said)
}

/// Returns the fields of a request, signed with the key that `value` is. `region` and `service` are what
/// the policy wants them to be; `body` is the digest of the whole body, if it was read.
///
/// # Errors
/// Why it cannot be signed, after `the placeholder …:`.
pub(super) fn signed(
    head: &Head,
    value: &str,
    (region, service): (Option<&str>, Option<&str>),
    body: Option<&Digest>,
) -> Result<Fields, String> {
    let key = Key::read(value).ok_or("its value is no access key")?;
    let said = said(head).ok_or("this is no signature of AWS")?;
    for (what, own, wanted) in [
        ("region", said.region, region),
        ("service", said.service, service),
    ] {
        if wanted.is_some_and(|wanted| wanted != own) {
            return Err(format!("this {what} is not one that it is for"));
        }
    }
    let date = field(head, DATE).ok_or("the request has no `x-amz-date`")?;
    let is_date = date.len() == 16 && date.is_ascii() && date.starts_with(said.date);
    if !is_date {
        return Err("its date and `x-amz-date` differ".to_owned());
    }
    let content = content(head, body)?;
    let mut fields = Fields::default();
    for own in head.fields.iter() {
        if !own.is(AUTHORIZATION) && !own.is(TOKEN) {
            fields.add(own);
        }
    }
    if let Some(token) = key.token {
        fields.add(Field {
            name: TOKEN.as_bytes(),
            value: token.as_bytes(),
        });
    }
    let (names, lines) = lines(head, &fields, &said)?;
    let request = [
        head.method.as_str(),
        &path(head, said.service)?,
        &query(head)?,
        &lines,
        &names,
        &content,
    ]
    .join("\n");
    let scope = [said.date, said.region, said.service, "aws4_request"].join("/");
    let digest = Digest::of(request.as_bytes());
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{digest}");
    let mut secret = format!("AWS4{}", key.secret).into_bytes();
    for step in [said.date, said.region, said.service, "aws4_request"] {
        secret = hmac(&secret, step.as_bytes()).as_bytes().to_vec();
    }
    let signature = hmac(&secret, text.as_bytes());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        key.id, signature
    );
    fields.add(Field {
        name: b"Authorization",
        value: authorization.as_bytes(),
    });
    Ok(fields)
}

/// Returns what stands for the body in a signature.
fn content(head: &Head, body: Option<&Digest>) -> Result<String, String> {
    match (field(head, CONTENT), body) {
        (Some(said), _) => {
            let is_digest = said.len() == 64 && said.bytes().all(|b| b.is_ascii_hexdigit());
            if is_digest || UNSIGNED.contains(&said) {
                return Ok(said.to_owned());
            }
            Err("each piece of its body is signed by itself, which only the key can do".to_owned())
        }
        (None, Some(digest)) => Ok(digest.to_string()),
        (None, None) => Err(
            "its body is too long to be signed, and `x-amz-content-sha256` does not say its digest"
                .to_owned(),
        ),
    }
}

/// Returns the names of the signed fields, and the fields as they are signed.
fn lines(head: &Head, fields: &Fields, said: &Said<'_>) -> Result<(String, String), String> {
    let mut names: Vec<String> = said
        .fields
        .iter()
        .map(|one| one.to_ascii_lowercase())
        .collect();
    names.extend(["host", TOKEN].map(str::to_owned));
    names.sort();
    names.dedup();
    if names.len() > SIGNED_FIELDS_MAX {
        return Err(format!("it signs more than {SIGNED_FIELDS_MAX} fields"));
    }
    let (mut kept, mut lines) = (Vec::new(), Vec::new());
    for name in names {
        let own = fields.iter().filter(|field| field.is(&name));
        let mut values = Vec::new();
        for field in own {
            let value = std::str::from_utf8(field.value);
            let value = value.map_err(|_| format!("`{name}` is no text"))?;
            values.push(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        }
        if name == "host" && values.is_empty() {
            values.push(authority(head));
        }
        // What is not sent is not signed.
        if !values.is_empty() {
            lines.push(format!("{name}:{}\n", values.join(",")));
            kept.push(name);
        }
    }
    Ok((kept.join(";"), lines.concat()))
}

/// Returns the path as it is signed: as it is sent with everything unusual encoded once more, but for the
/// storage service, where names are keys of their own.
fn path(head: &Head, service: &str) -> Result<String, String> {
    let path = head.path.as_bytes();
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    if service.starts_with("s3") {
        return decoded(path).map(|path| encoded(&path, b"/"));
    }
    let mut inner = path.split(|b| *b == b'/').skip(1).peekable();
    while let Some(segment) = inner.next() {
        let is_empty = segment.is_empty() && inner.peek().is_some();
        if is_empty || [&b"."[..], b".."].contains(&segment) {
            return Err("its path has segments that servers leave out".to_owned());
        }
    }
    Ok(encoded(path, b"/"))
}

/// Returns the query as it is signed: each part encoded in one way, and sorted.
fn query(head: &Head) -> Result<String, String> {
    let path = head.path.as_bytes();
    let query = path.splitn(2, |b| *b == b'?').nth(1).unwrap_or_default();
    if query.contains(&b'+') {
        return Err("its query has a `+`, which servers read in two ways".to_owned());
    }
    let mut parts = Vec::new();
    for part in query.split(|b| *b == b'&').filter(|part| !part.is_empty()) {
        let mut sides = part.splitn(2, |b| *b == b'=');
        let mut side = || decoded(sides.next().unwrap_or_default());
        let (name, value) = (encoded(&side()?, b""), encoded(&side()?, b""));
        parts.push((name, value));
    }
    parts.sort();
    let parts = parts
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"));
    Ok(parts.collect::<Vec<_>>().join("&"))
}

fn decoded(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.ok_or("its address has a `%` without two digits")?);
        rest = after.get(2..).unwrap_or_default();
    }
    Ok(bytes)
}

/// Encodes everything but letters, digits, `-._~` and `kept`.
fn encoded(bytes: &[u8], kept: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || kept.contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            let halves = [byte >> 4, byte & 15];
            let digits = halves
                .into_iter()
                .filter_map(|half| char::from_digit(half.into(), 16));
            text.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        }
    }
    text
}

/// Writes the host as a server of HTTP/2 is told it.
fn authority(head: &Head) -> String {
    let host = match &head.host {
        Host::Address(std::net::IpAddr::V6(six)) => format!("[{six}]"),
        host @ (Host::Address(_) | Host::Name(_)) => host.to_string(),
    };
    match head.port {
        None => host,
        Some(port) => format!("{host}:{port}"),
    }
}

/// Returns the text of the one field with a name.
fn field<'h>(head: &'h Head, name: &str) -> Option<&'h str> {
    let mut fields = head.fields.iter().filter(|field| field.is(name));
    let one = fields.next()?;
    let text = std::str::from_utf8(one.value).ok()?;
    fields.next().is_none().then_some(text)
}

/// Computes HMAC with SHA-256 (RFC 2104).
fn hmac(key: &[u8], text: &[u8]) -> Digest {
    let mut block = [0; BLOCK];
    let short = Digest::of(key);
    let key = if key.len() > BLOCK {
        &short.as_bytes()[..]
    } else {
        key
    };
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let with = |pad: u8, text: &[u8]| {
        let key = block.iter().map(|byte| byte ^ pad);
        let bytes: Vec<u8> = key.chain(text.iter().copied()).collect();
        Digest::of(&bytes)
    };
    with(0x5c, with(0x36, text).as_bytes())
}

#[cfg(test)]
mod tests {
    use stockade_types::Digest;

    use super::{hmac, signed};
    use crate::http::{Field, Head};

    const VALUE: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn head(method: &str, path: &str, service: &str, more: &[(&str, &str)]) -> Head {
        let names: Vec<_> = more.iter().map(|(name, _)| *name).collect();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAPLACEHOLDER/20150830/us-east-1/{service}/aws4_request, \
             SignedHeaders=host;x-amz-date;{}, Signature=00",
            names.join(";")
        );
        let own = [
            ("Host", "example.amazonaws.com"),
            ("X-Amz-Date", "20150830T123600Z"),
            ("Authorization", authorization.as_str()),
        ];
        Head {
            method: method.to_owned(),
            host: "example.amazonaws.com".parse().unwrap(),
            port: None,
            path: path.into(),
            fields: own
                .iter()
                .chain(more)
                .map(|(name, value)| Field {
                    name: name.as_bytes(),
                    value: value.as_bytes(),
                })
                .collect(),
        }
    }

    fn signature(head: &Head) -> Result<String, String> {
        let fields = signed(head, VALUE, (None, None), Some(&Digest::of(b"")))?;
        let own = fields.iter().find(|field| field.is("authorization"));
        let text = String::from_utf8(own.unwrap().value.to_vec()).unwrap();
        assert!(
            text.contains("Credential=AKIDEXAMPLE/20150830/us-east-1/"),
            "{text}"
        );
        Ok(text.rsplit('=').next().unwrap().to_owned())
    }

    /// The signatures of the test suite that AWS has published.
    #[test]
    fn signatures_are_those_of_the_published_suite() {
        for (method, path, more, expected) in [
            (
                "GET",
                "/",
                &[][..],
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "POST",
                "/",
                &[],
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                &[],
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            assert_eq!(
                signature(&head(method, path, "service", more)).as_deref(),
                Ok(expected),
                "{method} {path}"
            );
        }
    }

    /// RFC 4231, the second and the sixth test case.
    #[test]
    fn keyed_digests_are_those_of_the_standard() {
        assert_eq!(
            hmac(b"Jefe", b"what do ya want for nothing?").to_string(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hmac(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            )
            .to_string(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn what_cannot_be_signed_is_an_error() {
        let content = "x-amz-content-sha256";
        for (path, more) in [
            ("/", vec![(content, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")]),
            ("/a/../b", vec![]),
            ("/a//b", vec![]),
            ("/?a=b+c", vec![]),
            ("/?a=%zz", vec![]),
            ("/", vec![("X-Amz-Date", "20150830T123600Z")]),
        ] {
            let head = head("GET", path, "service", &more);
            signature(&head).expect_err(path);
        }
        let head = head("GET", "/", "service", &[]);
        signed(&head, VALUE, (None, None), None).unwrap_err();
        signed(
            &head,
            VALUE,
            (Some("eu-west-1"), None),
            Some(&Digest::of(b"")),
        )
        .unwrap_err();
        signed(&head, VALUE, (None, Some("s3")), Some(&Digest::of(b""))).unwrap_err();
    }
}
