//! Request and response heads.

use std::net::IpAddr;

use stockade_types::{Host, RawText};

use super::{
    Malformed,
    body::Framing,
    lines::{self, Scanner, members},
};
use crate::{
    grammar,
    http::{Addressed, Dressed, Field, Fields, Head},
    limits::TARGET_BYTES_MAX,
    proxies::Proxy,
};

/// What the names of fields for proxies begin with (`Proxy-Authorization`, `Proxy-Connection`).
const PROXY_FIELDS: &[u8] = b"proxy-";
/// The port that addresses of plain HTTP leave out.
const HTTP_PORT: u16 = 80;

/// Longest method; the longest registered one has 17 letters (IANA HTTP Method Registry).
const METHOD_BYTES_MAX: usize = 24;
/// Digits of a `Content-Length`: below 2^63.
const LENGTH_DIGITS_MAX: usize = 18;

/// How HTTP/1 carries a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// How long the body is.
    pub(crate) framing: Framing,
    /// The client will send more requests.
    pub(crate) persistent: bool,
    /// The client asks for a WebSocket (RFC 6455).
    pub(crate) websocket: bool,
    minor: u8,
}

impl Carried {
    /// How a request of our own is carried: without a body, and as the last one of its connection.
    pub(crate) const fn bare() -> Self {
        Self {
            framing: Framing::Empty,
            persistent: false,
            websocket: false,
            minor: 1,
        }
    }
}

/// A request head as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// What is judged.
    pub(crate) head: Head,
    /// How it is carried.
    pub(crate) carried: Carried,
}

impl RequestHead {
    /// Takes away what was said to us as a proxy.
    pub(super) fn without_proxy_fields(mut self) -> Self {
        let others = self
            .head
            .fields
            .iter()
            .filter(|field| !is_for_proxies(field));
        self.head.fields = others.collect();
        self
    }
}

#[cfg(test)]
impl RequestHead {
    /// As [`write`], of a head that no connection carries.
    pub(super) fn written(&self) -> Vec<u8> {
        to_server(&self.head, self.carried.minor)
    }
}

/// Writes the head of a request that was permitted, as the server is to see it, or the proxy before
/// it. No head is written elsewhere.
pub(crate) fn write(dressed: &Dressed<'_, Carried>, proxy: Option<&Proxy>) -> Vec<u8> {
    let (request, head) = (dressed.request(), dressed.head());
    match proxy {
        Some(proxy) => to_proxy(request, head, proxy),
        None => to_server(head, request.carried.minor),
    }
}

/// Writes the head in origin form.
fn to_server(head: &Head, minor: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size(head));
    first_line(&mut bytes, head, &[head.path.as_bytes()], minor);
    head.fields.iter().for_each(|field| line(&mut bytes, field));
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Writes the head in absolute form, as a proxy is to see it (RFC 9112 section 3.2.2).
fn to_proxy(request: &Addressed<Carried>, head: &Head, proxy: &Proxy) -> Vec<u8> {
    let host = match &request.host {
        Host::Address(IpAddr::V6(six)) => format!("[{six}]"),
        host @ (Host::Address(_) | Host::Name(_)) => host.to_string(),
    };
    let port = match request.port.get() {
        HTTP_PORT => String::new(),
        port => format!(":{port}"),
    };
    // The form for the server as a whole has no path (`OPTIONS *`).
    let path = match head.path.as_bytes() {
        b"*" => b"",
        path => path,
    };
    let authority = format!("http://{host}{port}");
    let mut bytes = Vec::with_capacity(size(head) + authority.len());
    let target = [authority.as_bytes(), path];
    first_line(&mut bytes, head, &target, request.carried.minor);
    // What is said to proxies is ours alone to say.
    let others = head.fields.iter().filter(|field| !is_for_proxies(field));
    others.for_each(|field| line(&mut bytes, field));
    bytes.extend_from_slice(proxy.authorization_line().as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Tells whether a field is said to a proxy, and to no server.
fn is_for_proxies(field: &Field<'_>) -> bool {
    let name = field.name.get(..PROXY_FIELDS.len()).unwrap_or_default();
    name.eq_ignore_ascii_case(PROXY_FIELDS)
}

/// Returns about how many bytes a head has.
fn size(head: &Head) -> usize {
    let lines = head.fields.bytes() + 4 * head.fields.len();
    head.method.len() + head.path.as_bytes().len() + lines + 16
}

fn first_line(bytes: &mut Vec<u8>, head: &Head, target: &[&[u8]], minor: u8) {
    bytes.extend_from_slice(head.method.as_bytes());
    bytes.push(b' ');
    for part in target {
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(match minor {
        0 => b" HTTP/1.0\r\n",
        _ => b" HTTP/1.1\r\n",
    });
}

fn line(bytes: &mut Vec<u8>, field: Field<'_>) {
    bytes.extend_from_slice(field.name);
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(field.value);
    bytes.extend_from_slice(b"\r\n");
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
    /// The body is in some coding other than chunks.
    pub(crate) coded: bool,
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
    let head = Head {
        method: String::from_utf8_lossy(method).into_owned(),
        path: RawText::from_bytes(path),
        host,
        port,
        fields: if offers_h2c {
            without_offer(&fields, &general)
        } else {
            fields.into_iter().collect()
        },
    };
    let carried = Carried {
        framing,
        persistent: general.persistent(minor),
        websocket,
        minor,
    };
    Ok(RequestHead { head, carried })
}

pub(super) fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), Malformed> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Malformed("the request line does not have three parts"));
    };
    check_method(method)?;
    check_target(target)?;
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(Malformed("the version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    Ok((method, target, minor))
}

/// Refuses a method that is not one. Methods are case-sensitive, yet some servers are not: `post` must
/// not pass for another one.
pub(in crate::http) fn check_method(method: &[u8]) -> Result<(), Malformed> {
    let upper = method
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !upper {
        return Err(Malformed("the method is not upper-case letters"));
    }
    Ok(())
}

/// Refuses a target with what targets do not have.
pub(in crate::http) fn check_target(target: &[u8]) -> Result<(), Malformed> {
    let plain = target
        .iter()
        .all(|byte| !matches!(byte, 0..=32 | 127 | b'#' | b'\\'));
    if target.is_empty() || target.len() > TARGET_BYTES_MAX || !plain {
        return Err(Malformed(
            "the request target has a character that targets do not have",
        ));
    }
    Ok(())
}

/// What a request with the method `CONNECT` is told.
pub(in crate::http) const CONNECT: Malformed =
    Malformed("`CONNECT` is not offered here; connect to the host itself");

/// Splits a target into its authority (absolute form) and its path (RFC 9112 section 3.2).
fn target_parts<'a>(
    target: &'a [u8],
    method: &[u8],
) -> Result<(Option<&'a [u8]>, &'a [u8]), Malformed> {
    if method == b"CONNECT" {
        return Err(CONNECT);
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
    host_named(fields)?.ok_or(Malformed("there is no `Host` field"))
}

/// Reads the `Host` field, where there is one.
pub(super) fn host_named(fields: &[Field<'_>]) -> Result<Option<(Host, Option<u16>)>, Malformed> {
    let mut hosts = fields.iter().filter(|field| field.is("host"));
    match (hosts.next(), hosts.next()) {
        (Some(field), None) => authority_of(field.value).map(Some),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Malformed("there is more than one `Host` field")),
    }
}

/// Reads `host[:port]`; user information is refused.
pub(in crate::http) fn authority_of(bytes: &[u8]) -> Result<(Host, Option<u16>), Malformed> {
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
    let host = grammar::host_of(host.as_bytes()).ok_or(BAD)?;
    Ok((host, port))
}

/// Tells whether HTTP/2 in the clear is offered beside HTTP/1.1 (RFC 7540 section 3.2), as some clients
/// do with every request. A server may pass over it, and so it is not passed on.
fn offers_h2c(fields: &[Field<'_>]) -> bool {
    let upgrades = || fields.iter().filter(|field| field.is("upgrade"));
    let h2c =
        |field: &Field<'_>| members(field.value).all(|name| name.eq_ignore_ascii_case(b"h2c"));
    upgrades().next().is_some() && upgrades().all(h2c)
}

/// Returns the fields without that offer; what else `Connection` says stays.
fn without_offer(fields: &[Field<'_>], general: &General) -> Fields {
    let offer = ["upgrade", "http2-settings", "connection"];
    let is_offer = |field: &&Field<'_>| offer.iter().any(|name| field.is(name));
    let others = fields.iter().filter(|field| !is_offer(field)).copied();
    let connection = |value| Field {
        name: b"Connection",
        value,
    };
    let kept = match (general.close, general.keep_alive) {
        (true, _) => Some(connection(b"close")),
        (false, true) => Some(connection(b"keep-alive")),
        (false, false) => None,
    };
    others.chain(kept).collect()
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
pub(super) enum Coding {
    None,
    Chunked,
    Other,
}

/// What requests and responses say in common.
pub(super) struct General {
    pub(super) length: Option<u64>,
    pub(super) coding: Coding,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl General {
    pub(super) fn of(fields: &[Field<'_>], minor: u8) -> Result<Self, Malformed> {
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

/// Reads a `Content-Length`.
pub(in crate::http) fn length(value: &[u8]) -> Result<u64, Malformed> {
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
    let mut codings = fields.iter().filter(|field| field.is("content-encoding"));
    let is_coding = |field: &Field<'_>| !field.value.eq_ignore_ascii_case(b"identity");
    let coded = general.coding == Coding::Other || codings.any(is_coding);
    Ok(ResponseHead {
        status,
        framing,
        persistent,
        coded,
    })
}
