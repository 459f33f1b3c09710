//! The first page: does anything need the caller now?

use std::sync::Arc;

use maud::{Markup, html};
use serde::Serialize;

use super::{
    access::Action,
    call::Call,
    fleet::machines,
    page::{Mood, Page, note},
    problem::Problem,
    serving::View,
    sessions,
};

/// What the first page counts; a number that the caller may not see is missing.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// The organisation.
    org: String,
    /// Questions that wait for the caller.
    waiting: u64,
    /// Sessions that run.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<usize>,
    /// Sessions whose record is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<usize>,
    /// Machines that are enrolled.
    #[serde(skip_serializing_if = "Option::is_none")]
    machines: Option<usize>,
    /// Machines of them that are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<usize>,
    /// Machines that refused the policy in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<usize>,
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
    };
    if call.reach(Action::SeeSessions).is_ok() {
        let seen = sessions::show(Arc::clone(&call)).await?.sessions;
        overview.running = Some(
            seen.iter()
                .filter(|one| one.live && one.ended.is_none())
                .count(),
        );
        overview.broken = Some(seen.iter().filter(|one| one.fault.is_some()).count());
    }
    if call.reach(Action::SeeFleet).is_ok() {
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

impl View for Overview {
    fn page(&self, call: &Call) -> Page {
        let is_new = self.machines == Some(0);
        let body = html! {
            .tiles {
                @if call.reach(Action::SeeQuestions).is_ok() {
                    (tile("/inbox", &self.waiting.to_string(), "wait for your answer"))
                }
                @if let Some(running) = self.running { (tile("/sessions", &running.to_string(), "sessions run now")) }
                @if let (Some(connected), Some(machines)) = (self.connected, self.machines) {
                    (tile("/fleet", &format!("{connected} of {machines}"), "machines are connected"))
                }
                @if let Some(broken) = self.broken { (tile("/sessions", &broken.to_string(), "broken records")) }
                @if let Some(failed) = self.failed { (tile("/policy", &failed.to_string(), "machines refused the policy")) }
            }
            @if is_new {
                (note(Mood::Plain, html! {
                    "Next: enrol a machine. Run " code { "stockade serve enrol-token --data DIR" }
                    " here, and " code { "stockade enrol TOKEN" } " there."
                }))
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
