//! Settings: over which channels people are told that something waits or went wrong, and at which mail address
//! the caller is.

mod changes;

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_types::UnixMillis;
use tokio::task::spawn_blocking;

use super::{
    access::Action,
    call::Call,
    page::{Mood, Page, empty, foreign, may, note, state, time, token},
    problem::Problem,
    serving::View,
};
use crate::{
    notice::{Form, Kind},
    notify::MailSettings,
    state::{ChannelRow, DeliveryRow},
};

pub(crate) use changes::{add, again, own_mail, remove, test};

/// Deliveries that were given up and are listed.
const DEAD: u32 = 100;

/// Settings.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    /// Whether people can have mail at all.
    mail: bool,
    /// Domains in which the caller may name an address.
    domains: Vec<String>,
    /// The mail address of the caller.
    address: Option<String>,
    /// The relay of mail, for who manages channels.
    relay: Option<Relay>,
    /// Channels, for who manages them.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<Channel>>,
    /// Deliveries that were given up, for who manages channels; the newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead: Option<Vec<Dead>>,
}

/// The relay of mail.
#[derive(Debug, Serialize)]
struct Relay {
    server: String,
    from: String,
}

/// A channel.
#[derive(Debug, Serialize)]
struct Channel {
    id: String,
    name: String,
    /// `webhook`, `slack`, `mattermost`, `teams` or `mail`.
    form: &'static str,
    /// Where it goes, without the path of an address, which can be a secret.
    to: String,
    kinds: Vec<&'static str>,
    /// Roles of whose questions it hears; none is all.
    roles: Vec<String>,
    details: bool,
    private: bool,
    created: UnixMillis,
    waiting: u64,
    dead: u64,
    skipped: u64,
    /// When the last delivery arrived.
    sent: Option<UnixMillis>,
    /// Why the next one has not.
    error: Option<String>,
}

/// A delivery that was given up.
#[derive(Debug, Serialize)]
struct Dead {
    id: String,
    channel: String,
    kind: &'static str,
    /// The page that it is about.
    page: String,
    at: UnixMillis,
    ended: UnixMillis,
    attempts: u64,
    error: String,
}

/// Reads the settings of the relay.
async fn mail(call: &Call) -> Result<Option<MailSettings>, Problem> {
    let dir = call.web.server.data.keys_path();
    let read = spawn_blocking(move || MailSettings::read(&dir)).await;
    Ok(read.map_err(|error| Problem::failed(&error))??)
}

/// `GET /settings`
pub(crate) async fn show(call: Arc<Call>) -> Result<Settings, Problem> {
    let server = &call.web.server;
    let caller = call.caller()?;
    let mail = mail(&call).await?;
    let own = server.state.address_of(&caller.user).await?;
    let mut settings = Settings {
        mail: mail.is_some(),
        domains: mail
            .as_ref()
            .map_or_else(Vec::new, |mail| mail.domains.clone()),
        address: own.map(|row| row.channel.to),
        relay: None,
        channels: None,
        dead: None,
    };
    if may(&call, Action::ManagePeople) {
        let rows = server.state.channels().await?;
        let mut channels = Vec::new();
        for row in rows.iter().filter(|row| row.owner.is_none()) {
            channels.push(channel(&call, row).await?);
        }
        let dead = server.state.dead(DEAD).await?;
        settings.dead = Some(dead.into_iter().map(|row| given_up(row, &rows)).collect());
        settings.channels = Some(channels);
        settings.relay = mail.map(|mail| Relay {
            server: format!("{}:{}", mail.host, mail.port),
            from: mail.from,
        });
    }
    Ok(settings)
}

async fn channel(call: &Call, row: &ChannelRow) -> Result<Channel, Problem> {
    let standing = call.web.server.state.standing_of(&row.id).await?;
    let set = &row.channel;
    Ok(Channel {
        id: row.id.clone(),
        name: set.name.clone(),
        form: set.form.word(),
        to: set.shown(),
        kinds: set.kinds.iter().map(|kind| kind.word()).collect(),
        roles: set.roles.iter().cloned().collect(),
        details: set.details,
        private: set.private,
        created: row.created,
        waiting: standing.waiting,
        dead: standing.dead,
        skipped: row.skipped,
        sent: standing.sent,
        error: standing.error,
    })
}

fn given_up(row: DeliveryRow, rows: &[ChannelRow]) -> Dead {
    let channel = rows.iter().find(|channel| channel.id == row.channel);
    let name = channel.map(|channel| match channel.owner {
        // Whose address it is, and which, is for that person.
        Some(_) => "mail of a person".to_owned(),
        None => channel.channel.name.clone(),
    });
    Dead {
        channel: name.unwrap_or_else(|| row.channel.clone()),
        kind: row.notice.kind.word(),
        page: row.notice.path,
        at: row.created,
        ended: row.ended.unwrap_or(row.created),
        attempts: row.attempts,
        error: row.error.unwrap_or_default(),
        id: row.id,
    }
}

impl View for Settings {
    fn page(&self, call: &Call) -> Page {
        let body = html! {
            @match call.query("done") {
                "added" => (note(Mood::Good, "The channel is told from now on.")),
                "removed" => (note(Mood::Good, "The channel is told no more.")),
                "tested" => (note(Mood::Good, "The receiver has the test.")),
                "again" => (note(Mood::Good, "It is tried again.")),
                "mail" => (note(Mood::Good, "You have mail of questions at this address.")),
                "no-mail" => (note(Mood::Good, "You have no mail of questions any more.")),
                _ => {}
            }
            h2 #mail { "My mail" }
            (self.own(call))
            @if let Some(channels) = &self.channels {
                h2 #channels { "Channels" }
                (list(channels, call))
                h2 #relay { "Mail of the server" }
                @match &self.relay {
                    Some(relay) => dl.facts {
                        dt { "Relay" } dd { code { (relay.server) } }
                        dt { "From" } dd { code { (relay.from) } }
                    },
                    None => p { "No relay is set: " code { "stockade serve mail --help" } " says how." },
                }
            }
            @if let Some(dead) = &self.dead { @if !dead.is_empty() {
                h2 #dead { "Not delivered" }
                (not_delivered(dead, call))
            } }
            @if self.channels.is_some() { (changes::form(call, None)) }
        };
        Page::new("Settings", body).lead("Who is told that something waits or went wrong, and how.")
    }
}

impl Settings {
    /// The address of the caller.
    fn own(&self, call: &Call) -> Markup {
        html! {
            @if !self.mail {
                p.quiet { "The server sends no mail." }
            } @else if self.domains.is_empty() && self.address.is_none() {
                p.quiet { "People name no addresses of their own here: no domain is set for them." }
            } @else {
                p {
                    "You get mail when a question waits for one of your roles. It has a link, and nothing of what \
                     is asked."
                }
                form.fields method="post" action="/settings/mail" {
                    (token(call))
                    div {
                        label for="address" {
                            "Mail address"
                            span.hint { "In " (self.domains.join(", ")) ". Empty for no mail." }
                        }
                        input #address name="address" type="email" maxlength="254" autocomplete="email"
                            value=[self.address.as_ref()];
                    }
                    .buttons { button { "Save" } }
                }
            }
        }
    }
}

fn list(channels: &[Channel], call: &Call) -> Markup {
    html! {
        @if channels.is_empty() {
            (empty("There is no channel.", "A channel tells a program, a chat or a mailbox that something waits."))
        }
        @for channel in channels {
            section.card aria-labelledby={ "name-" (channel.id) } {
                h2 id={ "name-" (channel.id) } { (foreign(&channel.name)) }
                dl.facts {
                    dt { "Goes to" } dd { (channel.form) " " code { (channel.to) } }
                    dt { "Hears of" } dd { (channel.kinds.join(", ")) }
                    dt { "Questions of" } dd {
                        @if channel.roles.is_empty() { "all roles" } @else { (channel.roles.join(", ")) }
                    }
                    @if channel.details { dt { "Details" } dd { "what lists show of a request or finding, too" } }
                    @if channel.private { dt { "Network" } dd { (state(Mood::Open, "private networks are allowed")) } }
                    dt { "Deliveries" } dd { (standing(channel, call)) }
                }
                .buttons {
                    form method="post" action={ "/settings/channels/" (channel.id) "/test" } {
                        (token(call))
                        button { "Send a test" span.visually-hidden { " to " (foreign(&channel.name)) } }
                    }
                    form method="post" action={ "/settings/channels/" (channel.id) "/remove" } {
                        (token(call))
                        button.no { "Remove" span.visually-hidden { " " (foreign(&channel.name)) } }
                    }
                }
            }
        }
    }
}

fn standing(channel: &Channel, call: &Call) -> Markup {
    html! {
        @match channel.sent {
            Some(at) => { (state(Mood::Good, "arrived")) " " (time(at, call.now)) },
            None => "none arrived today",
        }
        @if channel.waiting > 0 { ", " (channel.waiting) " waiting" }
        @if channel.dead > 0 { ", " (state(Mood::Bad, "given up")) " " (channel.dead) }
        @if channel.skipped > 0 { ", " (channel.skipped) " not told because too much waited" }
        @if let Some(error) = &channel.error { span.hint { (foreign(error)) } }
    }
}

fn not_delivered(dead: &[Dead], call: &Call) -> Markup {
    html! {
        .table tabindex="0" role="region" aria-label="Not delivered" { table {
            thead { tr {
                th scope="col" { "What" } th scope="col" { "Channel" } th scope="col" { "Given up" }
                th scope="col" { "Why" } th scope="col" { span.visually-hidden { "Action" } }
            } }
            tbody { @for one in dead {
                tr {
                    th scope="row" { a href=(one.page) { (one.kind) } span.hint { (time(one.at, call.now)) } }
                    td { (foreign(&one.channel)) }
                    td { (time(one.ended, call.now)) span.hint { "after " (one.attempts) " attempts" } }
                    td { (foreign(&one.error)) }
                    td {
                        form method="post" action={ "/settings/deliveries/" (one.id) "/again" } {
                            (token(call))
                            button.small { "Send again" span.visually-hidden { " " (one.kind) } }
                        }
                    }
                }
            } }
        } }
    }
}

/// Each kind with its words.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    Kind::ALL.iter().map(|(_, word, words)| (*word, *words))
}

/// Each form with its words.
const FORMS: [(Form, &str); 5] = [
    (Form::Webhook, "a program, signed (Standard Webhooks)"),
    (Form::Slack, "a chat of Slack (incoming webhook)"),
    (Form::Mattermost, "a chat of Mattermost (incoming webhook)"),
    (Form::Teams, "a chat of Teams (incoming webhook)"),
    (Form::Mail, "a mailbox"),
];
