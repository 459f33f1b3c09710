//! Request and response heads.

use std::net::IpAddr;

use stockade_policy::{AsRequest, HttpRequest, Permitted, Request};
use stockade_types::{Host, Port, RawText, Subject};

use super::{
    Malformed,
    body::Framing,
    lines::{self, Field, Scanner, members},
};
use crate::{limits::TARGET_BYTES_MAX, proxies::Proxy};

/// What the names of fields for proxies begin with (`Proxy-Authorization`, `Proxy-Connection`).
const PROXY_FIELDS: &[u8] = b"proxy-";
/// The port that addresses of plain HTTP leave out.
const HTTP_PORT: u16 = 80;

/// Longest method; the longest registered one has 17 letters (IANA HTTP Method Registry).
const METHOD_BYTES_MAX: usize = 24;
/// Digits of a `Content-Length`: below 2^63.
const LENGTH_DIGITS_MAX: usize = 18;

/// Fields by which a request names another path or method than its first line, which some servers
/// and frameworks follow; `-` and `_` are the same to many.
const OVERRIDES: [&str; 8] = [
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-rewrite-uri",
    "x-forwarded-uri",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// A request head that has exactly one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// Method, upper-case letters.
    pub(crate) method: String,
    /// Path with query, or `*`.
    pub(crate) path: RawText,
    /// Host that the `Host` field names, canonical.
    pub(crate) host: Host,
    /// Port that the `Host` field names.
    pub(crate) port: Option<u16>,
    /// How long the body is.
    pub(crate) framing: Framing,
    /// The client will send more requests.
    pub(crate) persistent: bool,
    /// The client asks for a WebSocket (RFC 6455).
    pub(crate) websocket: bool,
    /// A field that names another path or method, of [`OVERRIDES`].
    pub(crate) overriding: Option<&'static str>,
    minor: u8,
    fields: Vec<u8>,
}

impl RequestHead {
    /// Writes the head in origin form, as the server is to see it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.with_target(self.path.as_bytes(), b"")
    }

    /// As [`Addressed::write`], of a head that no connection carries.
    #[cfg(test)]
    pub(crate) fn written(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// Writes the head in absolute form, as a proxy is to see it (RFC 9112 section 3.2.2).
    fn to_proxy_bytes(&self, host: &Host, port: Port, proxy: &Proxy) -> Vec<u8> {
        let host = match host {
            Host::Address(IpAddr::V6(six)) => format!("[{six}]"),
            Host::Address(_) | Host::Name(_) => host.to_string(),
        };
        let port = match port.get() {
            HTTP_PORT => String::new(),
            port => format!(":{port}"),
        };
        // The form for the server as a whole has no path (`OPTIONS *`).
        let path = self.path.as_bytes();
        let path = if path == b"*" { b"" } else { path };
        let target = [format!("http://{host}{port}").as_bytes(), path].concat();
        let mut own = self.clone();
        // What is said to proxies is ours alone to say.
        let lines = self.fields.split_inclusive(|byte| *byte == b'\n');
        let others = lines.filter(|line| {
            let name = line.get(..PROXY_FIELDS.len()).unwrap_or_default();
            !name.eq_ignore_ascii_case(PROXY_FIELDS)
        });
        own.fields = others.collect::<Vec<_>>().concat();
        own.with_target(&target, proxy.authorization_line().as_bytes())
    }

    fn with_target(&self, target: &[u8], more: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.fields.len() + target.len() + more.len() + 48);
        bytes.extend_from_slice(self.method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(target);
        bytes.extend_from_slice(if self.minor == 0 {
            b" HTTP/1.0\r\n"
        } else {
            b" HTTP/1.1\r\n"
        });
        bytes.extend_from_slice(&self.fields);
        bytes.extend_from_slice(more);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// A request head on the connection that carries it: what is judged is what is sent.
#[derive(Clone, Debug)]
pub(crate) struct Addressed {
    /// The head.
    pub(crate) head: RequestHead,
    /// Where the connection leads.
    pub(crate) host: Host,
    /// Its port.
    pub(crate) port: Port,
    /// Who sends it.
    pub(crate) subject: Subject,
}

impl AsRequest for Addressed {
    fn as_request(&self) -> Request {
        Request::Http(HttpRequest {
            host: self.host.clone(),
            port: self.port,
            method: self.head.method.clone(),
            path: self.head.path.clone(),
            subject: self.subject.clone(),
        })
    }
}

impl Addressed {
    /// Writes the head that was permitted, as the server is to see it, or the proxy before it. No
    /// head is written elsewhere.
    pub(crate) fn write(permitted: &Permitted<Self>, proxy: Option<&Proxy>) -> Vec<u8> {
        let Self {
            head, host, port, ..
        } = permitted.get();
        match proxy {
            Some(proxy) => head.to_proxy_bytes(host, *port, proxy),
            None => head.to_bytes(),
        }
    }
}

/// A response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// Status code, 100 to 999.
    pub(crate) status: u16,
    /// How long the body is.
    pub(crate) framing: Framing,
    /// The server will take more requests.
    pub(crate) persistent: bool,
}

impl ResponseHead {
    /// Tells whether another head follows (RFC 9110 section 15.2); 101 is the last one.
    pub(crate) const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads a request head at the start of `bytes`; `None` while it is not complete.
pub(crate) fn parse_request(
    scanner: &mut Scanner,
    bytes: &[u8],
) -> Result<Option<(RequestHead, usize)>, Malformed> {
    let Some(length) = scanner.scan(bytes)? else {
        return Ok(None);
    };
    let head = bytes.get(..length).unwrap_or_default();
    Ok(Some((request(head)?, length)))
}

/// Reads a response head to a request with `method`; `None` while it is not complete.
pub(crate) fn parse_response(
    scanner: &mut Scanner,
    bytes: &[u8],
    method: &str,
) -> Result<Option<(ResponseHead, usize)>, Malformed> {
    let Some(length) = scanner.scan(bytes)? else {
        return Ok(None);
    };
    let head = bytes.get(..length).unwrap_or_default();
    Ok(Some((response(head, method)?, length)))
}

fn request(head: &[u8]) -> Result<RequestHead, Malformed> {
    let (line, fields) = lines::split(head)?;
    let (method, target, minor) = request_line(line)?;
    let general = General::of(&fields, minor)?;
    if general.coding == Coding::Other {
        return Err(Malformed("a transfer coding other than `chunked`"));
    }
    let (authority, path) = target_parts(target, method)?;
    let (host, port) = host_of(&fields)?;
    if let Some(authority) = authority
        && authority_of(authority)? != (host.clone(), port)
    {
        return Err(Malformed(
            "the request target and the `Host` field name different hosts",
        ));
    }
    let offers_h2c = offers_h2c(&fields);
    let websocket = !offers_h2c && upgrade(&fields, &general, method)?;
    let framing = match (general.coding, general.length) {
        (Coding::Chunked, _) => Framing::Chunked,
        (_, Some(0) | None) => Framing::Empty,
        (_, Some(bytes)) => Framing::Length(bytes),
    };
    if websocket && framing != Framing::Empty {
        return Err(Malformed("an upgrade request with a body"));
    }
    let raw = head
        .get(line.len() + 2..head.len().saturating_sub(2))
        .unwrap_or_default();
    Ok(RequestHead {
        method: String::from_utf8_lossy(method).into_owned(),
        path: RawText::from_bytes(path),
        host,
        port,
        framing,
        persistent: general.persistent(minor),
        websocket,
        overriding: overriding(&fields),
        minor,
        fields: if offers_h2c {
            without_offer(&fields, &general)
        } else {
            raw.to_vec()
        },
    })
}

fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), Malformed> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed("the request line does not have three parts"));
    };
    // Methods are case-sensitive, yet some servers are not: `post` must not pass for another one.
    let upper = method
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !upper {
        return Err(Malformed("the method is not upper-case letters"));
    }
    let plain = target
        .iter()
        .all(|byte| !matches!(byte, 0..=32 | 127 | b'#' | b'\\'));
    if target.is_empty() || target.len() > TARGET_BYTES_MAX || !plain {
        return Err(Malformed(
            "the request target has a character that targets do not have",
        ));
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(Malformed("the version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    Ok((method, target, minor))
}

/// Splits a target into its authority (absolute form) and its path (RFC 9112 section 3.2).
fn target_parts<'a>(
    target: &'a [u8],
    method: &[u8],
) -> Result<(Option<&'a [u8]>, &'a [u8]), Malformed> {
    if method == b"CONNECT" {
        return Err(Malformed(
            "`CONNECT` is not offered here; connect to the host itself",
        ));
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok((None, target));
    }
    let scheme = target.get(..7).unwrap_or_default();
    let rest = target.get(7..).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"http://") {
        return Err(Malformed(
            "the request target is neither a path nor an `http://` address",
        ));
    }
    let end = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match path.first() {
        None => Ok((Some(authority), b"/")),
        Some(b'/') => Ok((Some(authority), path)),
        _ => Err(Malformed("the request target has a query but no path")),
    }
}

fn host_of(fields: &[Field<'_>]) -> Result<(Host, Option<u16>), Malformed> {
    let mut hosts = fields.iter().filter(|field| field.is("host"));
    match (hosts.next(), hosts.next()) {
        (Some(field), None) => authority_of(field.value),
        (None, _) => Err(Malformed("there is no `Host` field")),
        (Some(_), Some(_)) => Err(Malformed("there is more than one `Host` field")),
    }
}

/// Reads `host[:port]`; user information is refused.
fn authority_of(bytes: &[u8]) -> Result<(Host, Option<u16>), Malformed> {
    const BAD: Malformed = Malformed("the host is not a name or address with an optional port");
    let text = std::str::from_utf8(bytes).map_err(|_| BAD)?;
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    let colon = text.get(after_bracket..).and_then(|tail| tail.find(':'));
    let (host, port) = match colon {
        Some(at) => text.split_at(after_bracket + at),
        None => (text, ""),
    };
    let port = match port.strip_prefix(':') {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse::<u16>().map_err(|_| BAD)?)
        }
        Some(_) => return Err(BAD),
    };
    let bracketed = host.starts_with('[');
    let host: Host = host.parse().map_err(|_| BAD)?;
    // Brackets are for IPv6 and nothing else (RFC 3986 section 3.2.2).
    if bracketed && !matches!(host, Host::Address(_)) {
        return Err(BAD);
    }
    Ok((host, port))
}

fn overriding(fields: &[Field<'_>]) -> Option<&'static str> {
    let plain = |field: &Field<'_>| -> Vec<u8> {
        let letter = |byte: &u8| if *byte == b'_' { b'-' } else { *byte };
        field.name.iter().map(letter).collect()
    };
    let names: Vec<Vec<u8>> = fields.iter().map(plain).collect();
    let is = |own: &&str| {
        names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(own.as_bytes()))
    };
    OVERRIDES.into_iter().find(is)
}

/// Tells whether HTTP/2 in the clear is offered beside HTTP/1.1 (RFC 7540 section 3.2), as some clients
/// do with every request. A server may pass over it, and so it is not passed on.
fn offers_h2c(fields: &[Field<'_>]) -> bool {
    let upgrades = || fields.iter().filter(|field| field.is("upgrade"));
    let h2c =
        |field: &Field<'_>| members(field.value).all(|name| name.eq_ignore_ascii_case(b"h2c"));
    upgrades().next().is_some() && upgrades().all(h2c)
}

/// Writes the fields without that offer; what else `Connection` says stays.
fn without_offer(fields: &[Field<'_>], general: &General) -> Vec<u8> {
    let mut bytes = Vec::new();
    let offer = ["upgrade", "http2-settings", "connection"];
    for field in fields
        .iter()
        .filter(|field| !offer.iter().any(|name| field.is(name)))
    {
        bytes.extend_from_slice(field.name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(field.value);
        bytes.extend_from_slice(b"\r\n");
    }
    if general.close {
        bytes.extend_from_slice(b"Connection: close\r\n");
    } else if general.keep_alive {
        bytes.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    bytes
}

/// An upgrade to what is not read here, as that of docker to a stream of bytes.
pub(super) const OTHER_UPGRADE: Malformed =
    Malformed("an upgrade to something other than `websocket`");

/// Tells whether a WebSocket is asked for; any other upgrade is refused.
fn upgrade(fields: &[Field<'_>], general: &General, method: &[u8]) -> Result<bool, Malformed> {
    let mut upgrades = fields.iter().filter(|field| field.is("upgrade"));
    let Some(field) = upgrades.next() else {
        return Ok(false);
    };
    if fields.iter().any(|field| field.is("http2-settings")) {
        return Err(Malformed("an upgrade to HTTP/2 in the clear"));
    }
    let single = upgrades.next().is_none();
    if !single || !field.value.eq_ignore_ascii_case(b"websocket") {
        return Err(OTHER_UPGRADE);
    }
    if method != b"GET" || !general.upgrade {
        return Err(Malformed(
            "a WebSocket request that is not a `GET` with `Connection: upgrade`",
        ));
    }
    Ok(true)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
    Other,
}

/// What requests and responses say in common.
struct General {
    length: Option<u64>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl General {
    fn of(fields: &[Field<'_>], minor: u8) -> Result<Self, Malformed> {
        let mut general = Self {
            length: None,
            coding: Coding::None,
            close: false,
            keep_alive: false,
            upgrade: false,
        };
        for field in fields {
            if field.is("content-length") {
                if general.length.is_some() {
                    return Err(Malformed("more than one `Content-Length`"));
                }
                general.length = Some(length(field.value)?);
            } else if field.is("transfer-encoding") {
                if general.coding != Coding::None {
                    return Err(Malformed("more than one `Transfer-Encoding`"));
                }
                let chunked = field.value.eq_ignore_ascii_case(b"chunked");
                general.coding = if chunked {
                    Coding::Chunked
                } else {
                    Coding::Other
                };
            } else if field.is("connection") {
                general.connection(field.value)?;
            }
        }
        if general.coding != Coding::None && general.length.is_some() {
            return Err(Malformed("both `Content-Length` and `Transfer-Encoding`"));
        }
        if general.coding != Coding::None && minor == 0 {
            return Err(Malformed("a transfer coding in an HTTP/1.0 message"));
        }
        Ok(general)
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Malformed> {
        const KEPT: [&str; 4] = [
            "host",
            "content-length",
            "transfer-encoding",
            "content-type",
        ];
        for member in members(value) {
            let is = |word: &str| member.eq_ignore_ascii_case(word.as_bytes());
            // A field that is named here would be dropped by the next reader but not by us.
            if KEPT.iter().any(|name| is(name)) {
                return Err(Malformed("`Connection` names a field that must stay"));
            }
            self.close |= is("close");
            self.keep_alive |= is("keep-alive");
            self.upgrade |= is("upgrade");
        }
        Ok(())
    }

    const fn persistent(&self, minor: u8) -> bool {
        !self.close && (minor == 1 || self.keep_alive)
    }
}

fn length(value: &[u8]) -> Result<u64, Malformed> {
    const BAD: Malformed = Malformed("`Content-Length` is not a number");
    let digits =
        (1..=LENGTH_DIGITS_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).map_err(|_| BAD)?;
    if digits {
        text.parse().map_err(|_| BAD)
    } else {
        Err(BAD)
    }
}

fn response(head: &[u8], method: &str) -> Result<ResponseHead, Malformed> {
    let (line, fields) = lines::split(head)?;
    let minor = match line.get(..9) {
        Some(b"HTTP/1.1 ") => 1,
        Some(b"HTTP/1.0 ") => 0,
        _ => return Err(Malformed("the status line has no known version")),
    };
    let code = line.get(9..12).unwrap_or_default();
    let spaced = matches!(line.get(12), None | Some(b' '));
    let status = std::str::from_utf8(code)
        .ok()
        .filter(|text| spaced && text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|status| (100..=999).contains(status))
        .ok_or(Malformed("the status line has no status"))?;
    let general = General::of(&fields, minor)?;
    let bodiless = method == "HEAD" || status < 200 || status == 204 || status == 304;
    let framing = match (general.coding, general.length) {
        _ if bodiless => Framing::Empty,
        (Coding::Chunked, _) => Framing::Chunked,
        (Coding::Other, _) | (Coding::None, None) => Framing::UntilClose,
        (Coding::None, Some(0)) => Framing::Empty,
        (Coding::None, Some(bytes)) => Framing::Length(bytes),
    };
    let persistent = general.persistent(minor) && framing != Framing::UntilClose;
    Ok(ResponseHead {
        status,
        framing,
        persistent,
    })
}
