//! How something is said. What other people wrote stays text: in mail and chats it can neither be a link nor
//! call anybody, and what a channel is not to be told is not in it at all.

use serde_json::{Value, json};
use stockade_types::RawText;

use crate::notice::{Channel, Form, Kind, Notice};

/// Characters of a name, and of what the lists of the pages show.
const NAME_CHARS_MAX: usize = 80;
const SUMMARY_CHARS_MAX: usize = 600;

/// What a message is made of.
#[derive(Clone, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) notice: &'a Notice,
    pub(crate) org: &'a str,
    /// Where the pages are.
    pub(crate) origin: &'a str,
    /// The name of the machine, as it calls itself.
    pub(crate) machine: Option<String>,
}

impl Told<'_> {
    fn link(&self) -> String {
        format!("{}{}", self.origin, self.notice.path)
    }

    /// What has happened, in words of the server alone: the only name in it is that of a role.
    pub(crate) fn headline(&self) -> String {
        let role = self.notice.role.as_deref().unwrap_or("people");
        match self.notice.kind {
            Kind::QuestionWaiting => format!("A question waits for {role}"),
            Kind::CaseEscalated => format!("A question takes long and asks {role} too"),
            Kind::GlassBroken => "One person has overridden all stages of a question".to_owned(),
            Kind::RolloutHalted => "A rollout was halted".to_owned(),
            Kind::BundleRefused => "A machine cannot use a policy".to_owned(),
            Kind::FindingHigh => "A finding of high severity was raised".to_owned(),
            Kind::Test => "This is a test of a channel".to_owned(),
        }
    }

    fn summary(&self) -> Option<String> {
        let is_told = self.channel.details && !self.notice.summary.is_empty();
        is_told.then(|| seen(&self.notice.summary, SUMMARY_CHARS_MAX))
    }

    const fn more(&self) -> Option<&'static str> {
        if self.notice.last {
            return Some("Of this machine no more is told for some minutes; the pages have all.");
        }
        None
    }

    /// Returns the body of a request to a receiver.
    pub(crate) fn body(&self) -> String {
        match self.channel.form {
            Form::Webhook | Form::Mail => self.event().to_string(),
            Form::Slack => json!({"text": self.chat(entities), "unfurl_links": false}).to_string(),
            Form::Mattermost => json!({"text": self.chat(markdown)}).to_string(),
            Form::Teams => json!({"text": self.chat(entities)}).to_string(),
        }
    }

    /// What programs are told.
    fn event(&self) -> Value {
        let notice = self.notice;
        let time = |at: u64| stockade_event::rfc3339(at.saturating_mul(1_000_000));
        let mut data = json!({
            "org": self.org,
            "headline": self.headline(),
            "link": self.link(),
            "last": notice.last,
        });
        let members = [
            ("role", notice.role.clone()),
            ("question", notice.question.clone()),
            ("rule", notice.rule.clone()),
            ("node", notice.node.as_ref().map(ToString::to_string)),
            (
                "machine",
                self.machine.as_ref().map(|name| seen(name, NAME_CHARS_MAX)),
            ),
            ("expires", notice.expires.map(|at| time(at.0))),
            ("summary", self.summary()),
        ];
        for (name, value) in members {
            if let (Some(value), Some(data)) = (value, data.as_object_mut()) {
                data.insert(name.to_owned(), value.into());
            }
        }
        json!({"type": notice.kind.word(), "timestamp": time(notice.at.0), "data": data})
    }

    /// What a chat is told: the headline, names as code, and the link.
    fn chat(&self, quoted: fn(&str) -> String) -> String {
        let machine = self.machine.as_ref().map(|machine| {
            let machine = seen(machine, NAME_CHARS_MAX);
            format!(" (machine {})", quoted(&machine))
        });
        let summary = self.summary().map(|text| format!(": {}", quoted(&text)));
        let more = self.more().map(|more| format!(" {more}"));
        [
            self.headline(),
            machine.unwrap_or_default(),
            summary.unwrap_or_default(),
            format!(". {}", self.link()),
            more.unwrap_or_default(),
        ]
        .concat()
    }

    /// What a person is told by mail.
    pub(crate) fn mail(&self) -> String {
        let notice = self.notice;
        let mut lines = vec![format!("{}.", self.headline())];
        if let Some(machine) = &self.machine {
            lines.push(format!(
                "Machine: {}",
                plain(&seen(machine, NAME_CHARS_MAX))
            ));
        }
        if let Some(rule) = &notice.rule {
            lines.push(format!("Rule:    {}", plain(rule)));
        }
        if let Some(summary) = self.summary() {
            lines.push(format!("What:    {summary}"));
        }
        if let Some(expires) = notice.expires {
            let at = stockade_event::rfc3339(expires.0.saturating_mul(1_000_000));
            let at = at.get(..16).unwrap_or(&at).replace('T', " ");
            lines.push(format!("Until:   {at} UTC"));
        }
        lines.extend([String::new(), self.link(), String::new()]);
        lines.extend(self.more().map(str::to_owned));
        lines.push(format!(
            "Stockade of {} sends this. Who hears of what: {}/settings",
            self.org, self.origin
        ));
        lines.join("\n")
    }
}

/// Shows what cannot be seen, in one line of at most so many characters.
fn seen(text: &str, chars_max: usize) -> String {
    stockade_event::text::cut(&RawText::from(text).display(), chars_max)
}

/// A name in a mail, without the signs that programs which show mail make links of.
fn plain(text: &str) -> String {
    let is_kept = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    text.chars()
        .map(|c| if is_kept(c) { c } else { '_' })
        .collect()
}

/// Foreign text as code, in which chats make neither links nor mentions.
fn markdown(text: &str) -> String {
    format!("`{}`", text.replace('`', "'"))
}

/// The same for Slack and Teams, to which three characters mean more (`&`, `<`, `>`).
fn entities(text: &str) -> String {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    markdown(&text)
}
