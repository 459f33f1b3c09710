//! The first page: does anything need the caller now?

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;
use stockade_types::UnixMillis;

use super::{
    access::Action,
    call::Call,
    fleet::machines,
    page::{Mood, Page, foreign, may, note, time, verdict},
    problem::Problem,
    serving::View,
    sessions::Fleet,
};
use crate::{
    index::Seen,
    state::{Listing, Standing},
};

/// Hours of the strip of decisions.
const HOURS: u64 = 24;
/// Hosts that no session named before, and since when.
const HOSTS: u32 = 5;
const NEW_MS: u64 = 7 * 86_400_000;
/// Sizes of the strip.
const COLUMN: usize = 24;
const HEIGHT: u64 = 80;

/// What the first page counts; a number that the caller may not see is missing.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// The organisation.
    org: String,
    /// Questions that wait for the caller.
    waiting: u64,
    /// Sessions that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    /// Sessions whose record is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<u64>,
    /// Machines that are enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    machines: Option<usize>,
    /// Machines of them that are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<usize>,
    /// Machines that refused the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<usize>,
    /// What was refused and asked in each of the last 24 hours, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hours: Vec<Hour>,
    /// Hosts that no session named more than seven days ago.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    new_hosts: Vec<Host>,
}

/// An hour.
#[derive(Clone, Copy, Debug, Serialize)]
struct Hour {
    denied: u64,
    asked: u64,
}

/// A host.
#[derive(Debug, Serialize)]
struct Host {
    host: String,
    first: UnixMillis,
    /// The strictest verdict.
    verdict: String,
    sessions: u64,
}

/// `GET /`
pub(crate) async fn show(call: Arc<Call>) -> Result<Overview, Problem> {
    let mut overview = Overview {
        org: call.web.server.state.org().to_owned(),
        waiting: call.waiting,
        running: None,
        broken: None,
        machines: None,
        connected: None,
        failed: None,
        hours: Vec::new(),
        new_hosts: Vec::new(),
    };
    if may(&call, Action::SeeSessions) {
        let seen = Fleet::read(&call).await?.seen();
        let nodes = match &seen {
            Seen::All => None,
            Seen::Of(nodes) => Some(nodes.as_slice()),
        };
        let list = |standing| Listing {
            nodes,
            standing,
            ..Listing::default()
        };
        let state = &call.web.server.state;
        overview.running = Some(state.count(&list(Standing::Running)).await?);
        overview.broken = Some(state.count(&list(Standing::Broken)).await?);
        overview.look(&call, &seen).await?;
    }
    if may(&call, Action::SeeFleet) {
        let all = machines(&call).await?;
        let active = all.iter().filter(|machine| machine.retired.is_none());
        overview.machines = Some(active.clone().count());
        overview.connected = Some(active.clone().filter(|machine| machine.connected).count());
        let is_failed = |state: &str| state == "failed";
        let failed =
            active.filter(|machine| machine.policy_state.as_deref().is_some_and(is_failed));
        overview.failed = Some(failed.count());
    }
    Ok(overview)
}

impl Overview {
    /// Adds what the index says.
    async fn look(&mut self, call: &Call, seen: &Seen) -> Result<(), Problem> {
        let index = &call.web.server.index;
        let hours = index.hours(seen, call.now, HOURS).await?;
        self.hours = hours
            .into_iter()
            .map(|hour| Hour {
                denied: hour.denies,
                asked: hour.asks,
            })
            .collect();
        let since = UnixMillis(call.now.0.saturating_sub(NEW_MS));
        let hosts = index.new_hosts(seen, since, HOSTS).await?;
        self.new_hosts = hosts
            .into_iter()
            .map(|row| Host {
                host: row.host,
                first: row.first_at,
                verdict: row.verdict,
                sessions: row.sessions,
            })
            .collect();
        Ok(())
    }

    /// Draws the last hours; the sums are in the text.
    fn strip(&self) -> Markup {
        let (denied, asked) = self.hours.iter().fold((0, 0), |(denied, asked), hour| {
            (denied + hour.denied, asked + hour.asked)
        });
        let most = self
            .hours
            .iter()
            .map(|hour| hour.denied.max(hour.asked))
            .max();
        let most = most.unwrap_or(0).max(1);
        let height = |count: u64| (count * HEIGHT).div_ceil(most);
        let width = self.hours.len() * COLUMN;
        html! {
            h2 { "The last 24 hours" }
            figure.strip {
                svg viewBox={ "0 0 " (width) " " (HEIGHT + 2) } role="img" preserveAspectRatio="none"
                    aria-label={ "In the last 24 hours: " (denied) " refusals, " (asked) " questions." }
                {
                    line x1="0" y1=(HEIGHT + 1) x2=(width) y2=(HEIGHT + 1) {}
                    @for (index, hour) in self.hours.iter().enumerate() {
                        @let x = index * COLUMN;
                        @if hour.denied > 0 { rect.denied x=(x + 2) y=(HEIGHT - height(hour.denied)) width="9" height=(height(hour.denied)) {} }
                        @if hour.asked > 0 { rect.asked x=(x + 12) y=(HEIGHT - height(hour.asked)) width="9" height=(height(hour.asked)) {} }
                    }
                }
                figcaption {
                    a href="/search?q=verdict%3Adeny+since%3A1d" { span.key.deny { (denied) " refused" } } " "
                    a href="/search?q=verdict%3Aask+since%3A1d" { span.key.ask { (asked) " asked" } }
                }
            }
        }
    }

    fn hosts(&self, now: UnixMillis) -> Markup {
        html! {
            h2 { "New hosts in 7 days" }
            @if self.new_hosts.is_empty() { p.quiet { "No session named a host for the first time." } }
            @else {
                .table tabindex="0" role="region" aria-label="New hosts" { table {
                    thead { tr {
                        th scope="col" { "Host" } th scope="col" { "Verdict" } th.number scope="col" { "Sessions" } th scope="col" { "First" }
                    } }
                    tbody { @for one in &self.new_hosts {
                        @let link: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("host", &one.host).finish();
                        tr data-row {
                            th scope="row" { a href={ "/flows?" (link) } { (foreign(&one.host)) } }
                            td { (verdict(&one.verdict)) }
                            td.number { (one.sessions) }
                            td.nowrap { (time(one.first, now)) }
                        }
                    } }
                } }
            }
        }
    }
}

impl View for Overview {
    fn page(&self, call: &Call) -> Page {
        let is_new = self.machines == Some(0);
        let body = html! {
            .tiles {
                @if may(call, Action::SeeQuestions) {
                    (tile("/inbox", &self.waiting.to_string(), "wait for your answer"))
                }
                @if let Some(running) = self.running { (tile("/sessions?state=running", &running.to_string(), "sessions run now")) }
                @if let (Some(connected), Some(machines)) = (self.connected, self.machines) {
                    (tile("/fleet", &format!("{connected} of {machines}"), "machines are connected"))
                }
                @if let Some(broken) = self.broken { (tile("/sessions?state=broken", &broken.to_string(), "broken records")) }
                @if let Some(failed) = self.failed { (tile("/policy", &failed.to_string(), "machines refused the policy")) }
            }
            @if is_new {
                (note(Mood::Plain, html! {
                    "Next: enrol a machine. Run " code { "stockade serve enrol-token --data DIR" }
                    " here, and " code { "stockade enrol TOKEN" } " there."
                }))
            }
            @if self.running.is_some() {
                (self.strip())
                (self.hosts(call.now))
            }
        };
        Page::new("Overview", body)
            .lead(html! { "Does anything need you now? Organisation " strong { (self.org) } "." })
            .live("all")
    }
}

fn tile(path: &str, number: &str, words: &str) -> Markup {
    html! { a.tile href=(path) data-row { b { (number) } (words) } }
}
