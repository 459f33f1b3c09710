//! What a client says after its first bytes were judged and while others may still matter.

use stockade_policy::{Control, Decision};
use stockade_types::RawText;

use crate::{
    first_line::{FirstLine, Line},
    tls::{self, Greetings, Seen},
};

/// Reads what a client sends on an open connection, before it is passed on.
#[derive(Debug)]
pub(crate) struct Watch(Option<What>);

#[derive(Debug)]
enum What {
    /// A first line that has not ended.
    Line(FirstLine),
    /// A TLS handshake, which can have a second `ClientHello`.
    Tls(Greetings),
}

impl Watch {
    /// Begins with the first bytes of a connection; nothing is read of them yet. Where there are
    /// none the server was first to speak, which none of HTTP or TLS is.
    pub(crate) fn new(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::over();
        }
        Self(Some(if tls::begins(head) {
            What::Tls(Greetings::default())
        } else {
            What::Line(FirstLine::default())
        }))
    }

    /// Reads nothing: all that is sent was understood before.
    pub(crate) const fn over() -> Self {
        Self(None)
    }

    /// Reads on; the error is the refusal of bytes that must not pass.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Box<Decision>> {
        let Some(what) = &mut self.0 else {
            return Ok(());
        };
        let refused = match what {
            What::Line(line) => match line.feed(bytes) {
                Line::Open => return Ok(()),
                Line::Other => {
                    self.0 = None;
                    return Ok(());
                }
                Line::Http => {
                    let reason = "a request line that does not begin as one, or came in pieces";
                    let remedy = "send the request in strict HTTP/1.1";
                    Control::HttpFraming.denies(reason, remedy)
                }
                Line::BrokenTls(why) => {
                    let reason = format!("the TLS ClientHello is not valid: {why}");
                    Control::TlsMalformed.denies(reason, "")
                }
            },
            What::Tls(greetings) => match greetings.feed(bytes) {
                Seen::Open => return Ok(()),
                Seen::Over => {
                    self.0 = None;
                    return Ok(());
                }
                Seen::Malformed(why) => {
                    let reason = format!("the second TLS ClientHello is not valid: {why}");
                    Control::TlsMalformed.denies(reason, "")
                }
                Seen::OtherName(name) => {
                    let sent = name.map(|name| RawText::from_bytes(name).display());
                    let sent =
                        sent.map_or_else(|| "no host".to_owned(), |sent| format!("`{sent}`"));
                    let reason =
                        format!("the second TLS ClientHello names {sent}, unlike the first one");
                    let remedy = "send the same name in both ClientHello messages";
                    Control::NameMismatch.denies(reason, remedy)
                }
            },
        };
        Err(Box::new(refused))
    }
}
