//! What a connection will carry, told from its first bytes: they must be for where it leads.

use stockade_policy::{Control, Decision, NetRequest};
use stockade_types::{Host, RawText};

use crate::{
    grammar::host_of,
    limits::HANDSHAKE_WAIT,
    sniff::{Flight, Speech},
    tls::ClientHello,
};

/// What will be done with a connection, as far as its first bytes allow to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Requests are judged one by one.
    Http,
    /// Bytes are passed on as they are.
    Relay {
        sni: Option<String>,
        detail: Option<String>,
    },
    /// TLS is opened, and what is in it are requests that are judged one by one.
    Inspect,
    /// The client waits for the server.
    Listen,
}

/// Holds the first bytes of a client against where it wants to go.
pub(crate) fn choose(
    request: &NetRequest,
    decision: &Decision,
    flight: &Flight,
) -> Result<Plan, Box<Decision>> {
    if decision.http_only && *flight != Flight::Speaks(Speech::Http) {
        return Err(Box::new(Control::NotHttp.denies(
            "the rule for this host allows certain HTTP requests, and this is not readable HTTP",
            "send HTTP/1.1 requests, with TLS or without, or have the rule allow the whole host",
        )));
    }
    match flight {
        Flight::Speaks(Speech::Http) => Ok(Plan::Http),
        Flight::Speaks(Speech::Opaque) => Ok(Plan::Relay {
            sni: None,
            detail: Some("opaque".to_owned()),
        }),
        Flight::Silent | Flight::Ended => Ok(Plan::Listen),
        Flight::Speaks(Speech::BrokenTls(why)) => {
            let reason = format!("the TLS ClientHello is not valid: {why}");
            Err(Box::new(Control::TlsMalformed.denies(reason, "")))
        }
        Flight::Unfinished => {
            let seconds = HANDSHAKE_WAIT.as_secs();
            let reason = format!(
                "the opening message ended early, or was not complete after {seconds} seconds"
            );
            Err(Box::new(Control::GreetingUnfinished.denies(reason, "")))
        }
        Flight::Speaks(Speech::Tls(hello)) => tls_plan(request, hello),
    }
}

/// Holds the name in a `ClientHello` against where the connection leads.
pub(crate) fn tls_plan(request: &NetRequest, hello: &ClientHello) -> Result<Plan, Box<Decision>> {
    const REMEDY: &str = "send the host's own name in the TLS ClientHello";
    match (&hello.server_name, &request.host) {
        (None, Host::Address(_)) => {}
        (None, Host::Name(name)) => {
            let reason = format!("the TLS ClientHello names no host, and `{name}` was expected");
            return Err(Box::new(Control::NoServerName.denies(reason, REMEDY)));
        }
        (Some(name), host) if host_of(name).as_ref() == Some(host) => {}
        (Some(name), host) => {
            let sent = RawText::from_bytes(name.as_slice()).display();
            let reason =
                format!("the TLS ClientHello names `{sent}`, but the connection is to `{host}`");
            return Err(Box::new(Control::NameMismatch.denies(reason, REMEDY)));
        }
    }
    let detail = if hello.encrypted_inner {
        "tls with an encrypted inner ClientHello; its outer name was checked"
    } else {
        "tls"
    };
    Ok(Plan::Relay {
        sni: shown_name(hello),
        detail: Some(detail.to_owned()),
    })
}

/// Returns the server name for people; hostile bytes are escaped.
pub(crate) fn shown_name(hello: &ClientHello) -> Option<String> {
    hello
        .server_name
        .as_ref()
        .map(|name| RawText::from_bytes(name.as_slice()).display())
}
