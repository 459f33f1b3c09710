//! Heads of HTTP/2: requests read as strictly as those of HTTP/1, and written anew.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{CONTENT_LENGTH, COOKIE, HOST},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use stockade_types::{Host, RawText};

use crate::{
    grammar::is_token,
    http::{
        Addressed, Dressed, Field, Fields, Head,
        h1::{
            Malformed,
            head::{CONNECT, authority_of, check_method, check_target, length},
            lines::trim,
        },
    },
    limits::HEADER_LINES_MAX,
};

/// Fields that are about one connection, which HTTP/2 does not have (RFC 9113 section 8.2.2).
const OF_CONNECTIONS: [&str; 6] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Fields that say what a message is, and so are not said after its body.
const NOT_AFTER: [&str; 4] = ["content-length", "host", "te", "trailer"];

/// How HTTP/2 carries a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// How long the body is, if the head says so.
    pub(crate) length: Option<u64>,
    /// The head is all of it.
    pub(crate) is_whole: bool,
    /// It asks for a WebSocket (RFC 8441). It is judged as the `GET` that it is in HTTP/1.
    pub(crate) websocket: bool,
}

/// A request of HTTP/2 on its connection.
pub(crate) type Judged = Addressed<Carried>;

/// Reads the head of a request; `is_whole` is whether it has no body.
pub(crate) fn read(parts: &Parts, is_whole: bool) -> Result<(Head, Carried), Malformed> {
    let websocket = websocket(parts)?;
    let method = if websocket {
        "GET"
    } else {
        parts.method.as_str()
    };
    check_method(method.as_bytes())?;
    let (host, port) = named(parts)?;
    if parts.uri.scheme() != Some(&Scheme::HTTPS) {
        return Err(Malformed("the scheme of the request is not `https`"));
    }
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    check_target(path.as_bytes())?;
    if !path.starts_with('/') && (path, method) != ("*", "OPTIONS") {
        return Err(Malformed("the request target is not a path"));
    }
    let length = check_fields(&parts.headers)?;
    if is_whole && length.is_some_and(|bytes| bytes > 0) {
        return Err(Malformed("`Content-Length` without a body"));
    }
    let fields = parts.headers.iter().filter(|(name, _)| *name != HOST);
    let head = Head {
        method: method.to_owned(),
        host,
        port,
        path: RawText::from_bytes(path),
        fields: fields
            .map(|(name, value)| Field {
                name: name.as_str().as_bytes(),
                value: value.as_bytes(),
            })
            .collect(),
    };
    let carried = Carried {
        length,
        is_whole,
        websocket,
    };
    Ok((head, carried))
}

/// Tells whether a WebSocket is asked for; every other `CONNECT` is refused.
fn websocket(parts: &Parts) -> Result<bool, Malformed> {
    match parts.extensions.get::<h2::ext::Protocol>() {
        None if parts.method == http::Method::CONNECT => Err(CONNECT),
        None => Ok(false),
        Some(protocol) if protocol.as_str() == "websocket" => Ok(true),
        Some(_) => Err(Malformed(
            "an extended `CONNECT` to something other than `websocket`",
        )),
    }
}

/// Returns the host that a request names. Who leaves `:authority` out, which gateways may do, is refused:
/// no client does.
fn named(parts: &Parts) -> Result<(Host, Option<u16>), Malformed> {
    let authority = parts.uri.authority().map(Authority::as_str);
    let authority = authority.ok_or(Malformed("there is no `:authority`"))?;
    let named = authority_of(authority.as_bytes())?;
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(named),
        (Some(host), None) if authority_of(host.as_bytes())? == named => Ok(named),
        (Some(_), None) => Err(Malformed(
            "`:authority` and the `Host` field name different hosts",
        )),
        (Some(_), Some(_)) => Err(Malformed("there is more than one `Host` field")),
    }
}

/// Refuses fields that could mean something else to another reader; returns the length of the body, if
/// it is said.
fn check_fields(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    if fields.len() > HEADER_LINES_MAX {
        return Err(Malformed("too many header fields"));
    }
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let (said, more) = (lengths.next(), lengths.next());
    if more.is_some() {
        return Err(Malformed("more than one `Content-Length`"));
    }
    for (name, value) in fields {
        check_field(name, value)?;
    }
    said.map(|value| length(value.as_bytes())).transpose()
}

fn check_field(name: &HeaderName, value: &HeaderValue) -> Result<(), Malformed> {
    // The library lets `"` pass in a name.
    if !name.as_str().bytes().all(is_token) {
        return Err(Malformed("a header name that is not a token"));
    }
    if OF_CONNECTIONS.contains(&name.as_str()) {
        return Err(Malformed("a field that HTTP/2 does not have"));
    }
    if name == http::header::TE && value != "trailers" {
        return Err(Malformed("`TE` other than `trailers`"));
    }
    let bytes = value.as_bytes();
    let controls = bytes
        .iter()
        .any(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
    if controls || trim(bytes).len() != bytes.len() {
        return Err(Malformed(
            "a header value with a control character, or with white space around it",
        ));
    }
    Ok(())
}

/// Refuses fields after a body that would change what the message means.
pub(crate) fn check_trailers(trailers: &HeaderMap) -> Result<(), Malformed> {
    if trailers.len() > HEADER_LINES_MAX {
        return Err(Malformed("too many trailers"));
    }
    for (name, value) in trailers {
        if NOT_AFTER.contains(&name.as_str()) {
            return Err(Malformed(
                "a trailer that would change what the message means",
            ));
        }
        check_field(name, value)?;
    }
    Ok(())
}

/// Writes the head that was permitted, as a server of HTTP/2 is to see it. No head is written elsewhere.
pub(crate) fn write(dressed: &Dressed<'_, Carried>) -> Result<Request<()>, http::Error> {
    to_h2(dressed.head(), dressed.request().carried)
}

/// Writes the same head as a server of HTTP/1 is to see it.
pub(crate) fn write_h1(dressed: &Dressed<'_, Carried>) -> Vec<u8> {
    to_h1(dressed.head(), dressed.request().carried)
}

pub(super) fn to_h2(head: &Head, carried: Carried) -> Result<Request<()>, http::Error> {
    let uri = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(authority(head))
        .path_and_query(head.path.as_bytes())
        .build()?;
    let method = if carried.websocket {
        "CONNECT"
    } else {
        head.method.as_str()
    };
    let mut written = Request::builder()
        .version(http::Version::HTTP_2)
        .method(method)
        .uri(uri);
    if carried.websocket {
        written = written.extension(h2::ext::Protocol::from("websocket"));
    }
    let mut written = written.body(())?;
    fields_to(written.headers_mut(), &head.fields)?;
    Ok(written)
}

/// Adds fields to a head.
fn fields_to(to: &mut HeaderMap, fields: &Fields) -> Result<(), http::Error> {
    for field in fields.iter() {
        let name = HeaderName::from_bytes(field.name)?;
        to.try_append(name, HeaderValue::from_bytes(field.value)?)
            .map_err(http::Error::from)?;
    }
    Ok(())
}

/// Writes the host of a request with its port.
fn authority(head: &Head) -> String {
    let host = match &head.host {
        Host::Address(IpAddr::V6(six)) => format!("[{six}]"),
        host @ (Host::Address(_) | Host::Name(_)) => host.to_string(),
    };
    match head.port {
        None => host,
        Some(port) => format!("{host}:{port}"),
    }
}

pub(super) fn to_h1(head: &Head, carried: Carried) -> Vec<u8> {
    let mut text = Vec::with_capacity(head.fields.bytes() + 4 * head.fields.len() + 256);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| text.extend_from_slice(part));
    let (method, path) = (head.method.as_bytes(), head.path.as_bytes());
    put(&[method, b" ", path, b" HTTP/1.1\r\nhost: "]);
    put(&[authority(head).as_bytes(), b"\r\n"]);
    let is = |field: &Field<'_>, name: &HeaderName| field.is(name.as_str());
    // Clients of HTTP/2 may cut cookies into pieces (RFC 9113 section 8.2.3).
    let cookies = head.fields.iter().filter(|field| is(field, &COOKIE));
    let cookies: Vec<&[u8]> = cookies.map(|field| field.value).collect();
    if !cookies.is_empty() {
        put(&[b"cookie: ", &cookies.join(&b"; "[..]), b"\r\n"]);
    }
    for field in head.fields.iter().filter(|field| !is(field, &COOKIE)) {
        if field.is("te") {
            put(&[b"connection: te\r\n"]);
        }
        put(&[field.name, b": ", field.value, b"\r\n"]);
    }
    let has_body = ["POST", "PUT", "PATCH"].contains(&head.method.as_str());
    match (carried.length, carried.is_whole) {
        (None, false) => put(&[b"transfer-encoding: chunked\r\n"]),
        (None, true) if has_body => put(&[b"content-length: 0\r\n"]),
        (None, true) | (Some(_), _) => {}
    }
    put(&[b"\r\n"]);
    text
}
