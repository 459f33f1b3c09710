//! Mail: the relay, and messages.
//!
//! Nothing that other people wrote is in a header. Bodies are base64, so that no line of theirs is one of the
//! dialogue with the relay.

use std::{fmt, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use stockade_types::UnixMillis;
use tokio::{
    net::TcpStream,
    task::spawn_blocking,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::client::TlsStream;
use url::Host;

use super::{smtp::Dialogue, words::Told};
use crate::{
    ControlError, kept,
    notice::is_address,
    outbound::{Outbound, OutboundError},
};

/// The file, among the keys: it holds a password.
const FILE: &str = "mail.json";
/// Bytes of a name or password.
const WORD_BYTES_MAX: usize = 256;
/// Domains in which people may name addresses.
const DOMAINS_MAX: usize = 50;
/// How long a relay may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Characters of a line of base64 (RFC 2045, section 6.8).
const LINE: usize = 76;
/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How TLS begins; without it no mail is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// With the connection.
    Implicit,
    /// With the command `STARTTLS`.
    Starttls,
}

/// The relay that takes mail of the server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How TLS begins.
    pub tls: MailTls,
    /// Name and password, if it asks for them.
    pub login: Option<(String, String)>,
    /// The address from which mail comes.
    pub from: String,
    /// Domains in which people may name addresses for themselves.
    pub domains: Vec<String>,
    /// Whether it may be in a private network.
    pub private: bool,
    /// Certificates of the authorities by which it is known, PEM; without them those of the system.
    pub authorities: Option<String>,
}

impl fmt::Debug for MailSettings {
    /// Shows nothing of the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailSettings")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

impl MailSettings {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first thing that is not accepted.
    pub fn check(&self) -> Result<(), ControlError> {
        let value = |what, value: &str, expected| ControlError::Value {
            what,
            value: value.chars().take(80).collect(),
            expected,
        };
        if Host::parse(&self.host).is_err() || self.port == 0 {
            let expected = "a name or an address, and a port if it is not 465 or 587";
            return Err(value("the relay", &self.host, expected));
        }
        if !is_address(&self.from) {
            let expected = "`NAME@HOST` in plain letters";
            return Err(value("the address of the sender", &self.from, expected));
        }
        for word in self.login.iter().flat_map(|(name, word)| [name, word]) {
            if word.is_empty() || word.len() > WORD_BYTES_MAX || word.contains('\0') {
                let expected = "1 to 256 bytes each";
                return Err(value("the name and password for the relay", "", expected));
            }
        }
        let is_domain = |domain: &String| is_address(&format!("a@{domain}"));
        if let Some(domain) = self.domains.iter().find(|domain| !is_domain(domain)) {
            return Err(value("the domain", domain, "for example `example.org`"));
        }
        if self.domains.len() > DOMAINS_MAX {
            let count = self.domains.len().to_string();
            return Err(value("the domains", &count, "at most 50"));
        }
        Ok(())
    }

    /// Checks that a person may have mail of questions at an address: one in a domain that the settings name.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn check_personal(&self, address: &str) -> Result<(), ControlError> {
        let host = address.rsplit_once('@').map_or("", |(_, host)| host);
        let is_own = |domain: &String| domain.eq_ignore_ascii_case(host);
        if is_address(address) && self.domains.iter().any(is_own) {
            return Ok(());
        }
        Err(ControlError::Value {
            what: "the mail address",
            value: address.chars().take(80).collect(),
            expected: "an address in a domain of the organisation, which `serve mail --domain` names",
        })
    }

    /// Keeps the settings among the keys in `dir`, in place of those that are there.
    ///
    /// # Errors
    /// When they are not accepted, or cannot be written.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), ControlError> {
        self.check()?;
        kept::write(dir, FILE, self)
    }

    /// Forgets the settings in `dir`.
    ///
    /// # Errors
    /// When they cannot be removed. `Ok(false)` if there were none.
    pub(crate) fn remove(dir: &Path) -> Result<bool, ControlError> {
        kept::remove(dir, FILE)
    }

    /// Reads the settings among the keys in `dir`, for each message: so a new password counts at once, and
    /// none stays in memory. Blocks.
    ///
    /// # Errors
    /// When others could have read or written them, or they are not accepted. `Ok(None)` if there are none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, ControlError> {
        let settings: Option<Self> = kept::read(dir, FILE)?;
        if let Some(settings) = &settings {
            settings.check()?;
        }
        Ok(settings)
    }
}

/// A message: to whom, and its bytes.
pub(crate) struct Message {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) bytes: String,
}

impl Message {
    /// Writes one. The id is the same for all attempts, so that programs can tell that they have it.
    pub(crate) fn new(
        from: &str,
        told: &Told<'_>,
        (id, host): (&str, &str),
        now: UnixMillis,
    ) -> Self {
        let to = &told.channel.to;
        let body = told.mail().replace('\n', "\r\n");
        let body = STANDARD.encode(body);
        // Base64 is one byte a character.
        let lines: Vec<&str> = (0..body.len())
            .step_by(LINE)
            .filter_map(|at| body.get(at..body.len().min(at + LINE)))
            .collect();
        let bytes = format!(
            "From: Stockade <{from}>\r\nTo: <{to}>\r\nSubject: {}\r\nDate: {}\r\nMessage-ID: <{id}@{host}>\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: base64\r\nAuto-Submitted: auto-generated\r\n\r\n{}\r\n",
            told.headline(),
            date(now),
            lines.join("\r\n"),
        );
        Self {
            from: from.to_owned(),
            to: to.clone(),
            bytes,
        }
    }
}

/// Sends a message by the relay, once. `own` is the name of this server.
///
/// # Errors
/// When the relay is not reached, is not the one that is known, or does not take it.
pub(crate) async fn send(
    settings: MailSettings,
    message: &Message,
    own: &str,
) -> Result<(), String> {
    let exchange = async { deliver(connected(&settings, own).await?, message).await };
    let sent = timeout(PATIENCE, exchange).await;
    sent.map_err(late)?
}

/// Tells whether the relay answers as it has to, and takes the login. Nothing is sent.
///
/// # Errors
/// When not.
pub(crate) async fn probe(settings: MailSettings, own: &str) -> Result<(), String> {
    let probed = timeout(PATIENCE, connected(&settings, own)).await;
    probed.map_err(late)?.map(drop)
}

fn late(_: Elapsed) -> String {
    format!("the relay took longer than {} seconds", PATIENCE.as_secs())
}

/// A dialogue inside TLS.
type Secured = Dialogue<TlsStream<TcpStream>>;

/// Connects to the relay and logs in.
async fn connected(settings: &MailSettings, own: &str) -> Result<Secured, String> {
    let failed = |error: OutboundError| stockade_types::chain(&error);
    let (pem, private) = (settings.authorities.clone(), settings.private);
    let made = spawn_blocking(move || Outbound::new(pem.as_deref(), private)).await;
    let outbound = made.map_err(|error| error.to_string())?.map_err(failed)?;
    let host = Host::parse(&settings.host).map_err(|error| error.to_string())?;
    let stream = outbound.dial(&host, settings.port).await.map_err(failed)?;
    let mut dialogue = match settings.tls {
        MailTls::Implicit => {
            let stream = outbound.secure(&host, stream).await.map_err(failed)?;
            let mut dialogue = Dialogue::new(stream);
            dialogue.greeted().await?;
            dialogue
        }
        MailTls::Starttls => opened(&outbound, &host, stream, own).await?,
    };
    let offers = dialogue.hello(own).await?;
    if let Some((name, password)) = &settings.login {
        dialogue.log_in(&offers, name, password).await?;
    }
    Ok(dialogue)
}

/// Has a relay begin TLS on a connection in clear. Nothing else is said in clear.
async fn opened(
    outbound: &Outbound,
    host: &Host<String>,
    stream: TcpStream,
    own: &str,
) -> Result<Secured, String> {
    let mut dialogue = Dialogue::new(stream);
    dialogue.greeted().await?;
    let offers = dialogue.hello(own).await?;
    if !offers.iter().any(|offer| offer == "STARTTLS") {
        return Err("the relay does not offer STARTTLS; nothing is sent without TLS".to_owned());
    }
    dialogue.command("STARTTLS", "STARTTLS", &[220]).await?;
    let stream = dialogue.into_inner()?;
    let secured = outbound.secure(host, stream).await;
    let secured = secured.map_err(|error| stockade_types::chain(&error))?;
    Ok(Dialogue::new(secured))
}

async fn deliver(mut dialogue: Secured, message: &Message) -> Result<(), String> {
    let from = format!("MAIL FROM:<{}>", message.from);
    dialogue.command(&from, "MAIL", &[250]).await?;
    let to = format!("RCPT TO:<{}>", message.to);
    dialogue.command(&to, "RCPT", &[250, 251]).await?;
    dialogue.command("DATA", "DATA", &[354]).await?;
    dialogue.data(&message.bytes).await?;
    // Whether it says goodbye changes nothing: it has the message.
    stockade_types::ignored(
        dialogue.command("QUIT", "QUIT", &[221]).await,
        "the relay has the message",
    );
    Ok(())
}

/// Writes a time as mail does (RFC 5322, section 3.3), in UTC.
fn date(at: UnixMillis) -> String {
    // 1 January 1970 was a Thursday.
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = stockade_event::rfc3339(at.0.saturating_mul(1_000_000));
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let day = usize::try_from(at.0 / DAY_MS % 7).unwrap_or_default();
    let month: usize = part(5, 7).parse().unwrap_or(1);
    format!(
        "{}, {} {} {} {} +0000",
        DAYS.get(day).unwrap_or(&"Thu"),
        part(8, 10),
        MONTHS.get(month.saturating_sub(1)).unwrap_or(&"Jan"),
        part(0, 4),
        part(11, 19),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_mail() {
        let at = UnixMillis(1_614_265_330_000);
        assert_eq!(date(at), "Thu, 25 Feb 2021 15:02:10 +0000");
        assert_eq!(date(UnixMillis(0)), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(
            date(UnixMillis(1_709_251_199_000)),
            "Thu, 29 Feb 2024 23:59:59 +0000"
        );
    }
}
