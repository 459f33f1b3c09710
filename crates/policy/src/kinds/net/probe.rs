//! `net host:port`, `net POST https://host/path` and `name host` in one line.

use stockade_types::{Host, Port, RawText, Subject};

use super::{HttpRequest, NameRequest, NetRequest};
use crate::{fields::shown, kinds::ProbeError};

/// A connection, and the request on it where the line says one.
pub(crate) struct Line {
    pub(crate) net: NetRequest,
    pub(crate) http: Option<HttpRequest>,
    /// The request is inside TLS and its method was not said: it counts only if TLS is opened.
    pub(crate) sealed: bool,
}

/// Reads a name that is looked up.
pub(crate) fn name_probe(name: &str) -> Result<NameRequest, ProbeError> {
    let wrong = |error: stockade_types::HostError| ProbeError::Host {
        text: name.to_owned(),
        reason: error.to_string(),
    };
    Ok(NameRequest {
        name: name.parse().map_err(wrong)?,
        subject: Subject::default(),
    })
}

/// Reads an endpoint or a URL, with a method in front of it.
pub(crate) fn probe(words: &[&str], rest: &[&str]) -> Result<Line, ProbeError> {
    match rest {
        [target] => connection(target, None),
        [method, url] if url.contains("://") => connection(url, Some(method)),
        _ => Err(ProbeError::Shape {
            line: words.join(" "),
            example: "net POST https://good.test/path",
        }),
    }
}

fn connection(target: &str, method: Option<&str>) -> Result<Line, ProbeError> {
    let wrong = |reason: &str| ProbeError::Host {
        text: shown(target),
        reason: reason.to_owned(),
    };
    let (scheme, rest) = match target.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, target),
    };
    let default_port = match scheme {
        Some("http") => 80,
        Some("https") | None => 443,
        Some(_) => return Err(wrong("the scheme must be http or https")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (
            host,
            port.parse()
                .map_err(|_| wrong("the port must be 1 to 65535"))?,
        ),
        _ => (authority, default_port),
    };
    let host: Host = host
        .parse()
        .map_err(|e: stockade_types::HostError| wrong(&e.to_string()))?;
    let port = Port::new(port).ok_or_else(|| wrong("the port must be 1 to 65535"))?;
    let subject = Subject::default();
    let net = NetRequest {
        host: host.clone(),
        port,
        subject: subject.clone(),
    };
    let sealed = scheme == Some("https") && method.is_none();
    let method = method.or(scheme.map(|_| "GET"));
    let http = method.map(|method| {
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        HttpRequest {
            host,
            port,
            method: method.to_owned(),
            path: RawText::from(path.as_str()),
            meaning: Vec::new(),
            shown: None,
            subject,
        }
    });
    Ok(Line { net, http, sealed })
}
