//! The heads that a client sends to a proxy: where it wants to go, before anything of that is judged.

use stockade_types::Host;

use super::{
    Malformed,
    head::{Coding, General, RequestHead, authority_of, host_named, parse_request, request_line},
    lines::{self, Scanner},
};

/// What a client asks a proxy for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A connection to a host (RFC 9110 section 9.3.6). The head is this long; what follows it is for
    /// the host.
    Tunnel {
        /// Where to.
        to: (Host, u16),
        /// What the `Host` field names, where there is one.
        named: Option<(Host, Option<u16>)>,
        /// Bytes of the head.
        length: usize,
    },
    /// A request in absolute form (RFC 9112 section 3.2.2), and more of them later.
    Request {
        /// Where to.
        to: (Host, u16),
    },
}

/// The port that addresses of plain HTTP leave out.
const HTTP_PORT: u16 = 80;
/// How a request for a connection begins.
const CONNECT: &[u8] = b"CONNECT ";

/// Reads the head at the start of `bytes`; `None` while it is not complete.
pub(crate) fn read_wish(scanner: &mut Scanner, bytes: &[u8]) -> Result<Option<Wish>, Malformed> {
    if !bytes.starts_with(CONNECT) {
        let Some((request, length)) = parse_request(scanner, bytes)? else {
            return Ok(None);
        };
        let head = bytes.get(..length).unwrap_or_default();
        return wanted(&request, head).map(Some);
    }
    let Some(length) = scanner.scan(bytes)? else {
        return Ok(None);
    };
    let (line, fields) = lines::split(bytes.get(..length).unwrap_or_default())?;
    let (_, target, minor) = request_line(line)?;
    let general = General::of(&fields, minor)?;
    if general.coding != Coding::None || general.length.is_some_and(|bytes| bytes > 0) {
        return Err(Malformed("a `CONNECT` request with a body"));
    }
    let (host, port) = authority_of(target)?;
    let port = port.ok_or(Malformed("a `CONNECT` request without a port"))?;
    let named = host_named(&fields)?;
    Ok(Some(Wish::Tunnel {
        to: (host, port),
        named,
        length,
    }))
}

/// Tells whether a head, which was read, is of a request in absolute form.
fn is_absolute(head: &[u8]) -> bool {
    let mut words = head.splitn(3, |byte| *byte == b' ');
    let target = words.nth(1).unwrap_or_default();
    !matches!(target.first(), None | Some(b'/' | b'*'))
}

/// Returns where a request that was read wants to go.
fn wanted(request: &RequestHead, head: &[u8]) -> Result<Wish, Malformed> {
    if !is_absolute(head) {
        return Err(Malformed(
            "a proxy is asked with `CONNECT` or with an address as the request target",
        ));
    }
    let RequestHead { head, .. } = request;
    let port = head.port.unwrap_or(HTTP_PORT);
    Ok(Wish::Request {
        to: (head.host.clone(), port),
    })
}

/// Tells whether the next head, once it is complete, asks for another place than `here`: it is then
/// nobody's here to read.
pub(super) fn leads_elsewhere(
    scanner: &mut Scanner,
    bytes: &[u8],
    here: (&Host, u16),
) -> Result<bool, Malformed> {
    let wish = read_wish(scanner, bytes)?;
    Ok(wish.is_some_and(|wish| match wish {
        Wish::Tunnel { .. } => true,
        Wish::Request { to: (host, port) } => (&host, port) != here,
    }))
}
