//! Channels: where something is told, and of what.

use std::collections::BTreeSet;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};

use super::{Kind, Notice};
use crate::{
    ControlError,
    outbound::{self, Outbound, OutboundError},
    roles::is_role_name,
};

/// Channels of an organisation, beside the mail addresses of its people.
pub const CHANNELS_MAX: usize = 64;
/// Characters of a name.
pub(crate) const NAME_CHARS_MAX: usize = 60;
/// Bytes of an address of a receiver.
pub(crate) const TO_BYTES_MAX: usize = 2_000;
/// Roles of one channel.
const ROLES_MAX: usize = 20;
/// Bytes of the authorities of one receiver, PEM.
const AUTHORITIES_BYTES_MAX: usize = 64 << 10;
/// Bytes of a mail address (RFC 5321, section 4.5.3.1.3, without the brackets).
const ADDRESS_BYTES_MAX: usize = 254;
/// Bytes of its part before the `@`.
const LOCAL_BYTES_MAX: usize = 64;

/// How something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// To a program, signed (Standard Webhooks).
    Webhook,
    /// To an incoming webhook of Slack.
    Slack,
    /// To an incoming webhook of Mattermost.
    Mattermost,
    /// To an incoming webhook of Teams.
    Teams,
    /// By mail.
    Mail,
}

impl Form {
    /// Every form, with what people call it.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Webhook, "webhook"),
        (Self::Slack, "slack"),
        (Self::Mattermost, "mattermost"),
        (Self::Teams, "teams"),
        (Self::Mail, "mail"),
    ];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        let all = Self::ALL.iter().find(|(form, _)| *form == self);
        all.map_or("webhook", |(_, word)| word)
    }

    /// Returns the form of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word);
        found.map(|(form, _)| *form)
    }
}

/// Where something is told, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What people call it.
    pub name: String,
    /// How it is said.
    pub form: Form,
    /// An address of HTTPS, or of mail. That of a chat is a secret itself.
    pub to: String,
    /// What it hears of.
    pub kinds: BTreeSet<Kind>,
    /// Of questions, those that ask one of these roles; empty for all.
    pub roles: BTreeSet<String>,
    /// Whether it is told what the lists of the pages show of a request or finding, too.
    pub details: bool,
    /// Whether the receiver may be in a private network.
    pub private: bool,
    /// Certificates of the authorities by which the receiver is known, PEM; without them those of the
    /// system. Mail has its own.
    pub authorities: Option<String>,
}

impl Channel {
    /// Makes the channel of the mail address of a person: questions that ask a role of the person.
    pub(crate) fn personal(address: &str) -> Self {
        Self {
            name: "own mail".to_owned(),
            form: Form::Mail,
            to: address.to_owned(),
            kinds: BTreeSet::from([Kind::QuestionWaiting, Kind::CaseEscalated]),
            roles: BTreeSet::new(),
            details: false,
            private: false,
            authorities: None,
        }
    }

    /// Checks what was given.
    ///
    /// # Errors
    /// The first thing that is not accepted.
    pub fn check(&self) -> Result<(), ControlError> {
        let length = self.name.chars().count();
        if length == 0
            || length > NAME_CHARS_MAX
            || self.name.trim() != self.name
            || stockade_types::RawText::from(self.name.as_str()).has_hidden()
        {
            let expected = "1 to 60 characters that can be seen";
            return Err(wrong("the name of the channel", &self.name, expected));
        }
        match self.form {
            Form::Mail if !is_address(&self.to) => {
                return Err(wrong(
                    "the mail address",
                    &self.to,
                    "`NAME@HOST` in plain letters",
                ));
            }
            Form::Webhook | Form::Slack | Form::Mattermost | Form::Teams
                if outbound::checked(&self.to).is_err() || self.to.len() > TO_BYTES_MAX =>
            {
                let expected = "`https://HOST/…` without a user name, of at most 2000 bytes";
                return Err(wrong(
                    "the address of the receiver",
                    &shown(&self.to),
                    expected,
                ));
            }
            Form::Mail | Form::Webhook | Form::Slack | Form::Mattermost | Form::Teams => {}
        }
        if self.kinds.is_empty() || self.kinds.contains(&Kind::Test) {
            let expected = "at least one of those that `serve channel --help` lists";
            return Err(wrong("what the channel hears of", "nothing", expected));
        }
        if let Some(role) = self.roles.iter().find(|role| !is_role_name(role)) {
            let expected = "lower-case letters, digits and `-`, for example `code-owner`";
            return Err(wrong("the role", role, expected));
        }
        if self.roles.len() > ROLES_MAX {
            let count = self.roles.len().to_string();
            return Err(wrong("the roles of the channel", &count, "at most 20"));
        }
        if let Some(pem) = &self.authorities {
            let mut found = CertificateDer::pem_slice_iter(pem.as_bytes());
            if pem.len() > AUTHORITIES_BYTES_MAX || !found.any(|one| one.is_ok()) {
                let expected = "certificates in PEM, of at most 64 KiB";
                return Err(wrong("the authorities of the receiver", "", expected));
            }
        }
        Ok(())
    }

    /// Refuses a receiver that the server would not reach, as far as that can be told now. The address is
    /// looked at again for each delivery.
    ///
    /// # Errors
    /// When it leads into a private network and that is not allowed, or where nothing is ever sent.
    pub(crate) async fn check_place(&self) -> Result<(), ControlError> {
        if self.form == Form::Mail {
            return Ok(());
        }
        match Outbound::look(&self.to, self.private).await {
            // A name that leads nowhere yet may lead somewhere later.
            Ok(()) | Err(OutboundError::Name { .. } | OutboundError::Late { .. }) => Ok(()),
            Err(error) => Err(ControlError::Outside(error.to_string())),
        }
    }

    /// Tells whether it hears of something.
    pub(crate) fn hears(&self, notice: &Notice) -> bool {
        let is_asked = |role: &String| self.roles.is_empty() || self.roles.contains(role);
        self.kinds.contains(&notice.kind) && notice.role.as_ref().is_none_or(is_asked)
    }

    /// Returns where it goes without what is secret in it.
    pub fn shown(&self) -> String {
        match self.form {
            Form::Mail => self.to.clone(),
            Form::Webhook | Form::Slack | Form::Mattermost | Form::Teams => shown(&self.to),
        }
    }
}

/// Shows an address of HTTPS without its path, in which chats have a secret.
fn shown(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else {
        return "no address".to_owned();
    };
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    format!("{}://{host}{}/…", url.scheme(), port.unwrap_or_default())
}

/// Tells whether a text is a mail address that headers and the dialogue with a relay take as it is: plain
/// letters, digits and signs, so that it can end neither.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else {
        return false;
    };
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let dots = |part: &str| !part.starts_with('.') && !part.ends_with('.') && !part.contains("..");
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= ADDRESS_BYTES_MAX
        && (1..=LOCAL_BYTES_MAX).contains(&local.len())
        && local.bytes().all(is_plain)
        && dots(local)
        && host.split('.').all(is_label)
}

fn wrong(what: &'static str, value: &str, expected: &'static str) -> ControlError {
    ControlError::Value {
        what,
        value: value.chars().take(80).collect(),
        expected,
    }
}
