//! The frame of a page, and the parts that pages are made of. Text goes through `maud`, which escapes it;
//! text from machines goes through [`raw`], which also shows what cannot be seen.

use std::borrow::Cow;

use maud::{DOCTYPE, Markup, html};
use stockade_types::{RawText, UnixMillis};

use super::{access::Action, call::Call};

/// Characters of one foreign text on a page; what is longer is cut, and its length is said.
const FOREIGN_CHARS_MAX: usize = 20_000;

/// A page: what is in its frame.
pub(crate) struct Page {
    /// Its title and heading.
    pub(crate) title: String,
    /// What it answers, below the heading.
    pub(crate) lead: Markup,
    /// The rest.
    pub(crate) body: Markup,
    /// Whether it changes by itself while it is open.
    pub(crate) live: Option<Cow<'static, str>>,
}

impl Page {
    pub(crate) fn new(title: impl Into<String>, body: Markup) -> Self {
        Self {
            title: title.into(),
            lead: html! {},
            body,
            live: None,
        }
    }

    pub(crate) fn lead(mut self, lead: impl maud::Render) -> Self {
        self.lead = lead.render();
        self
    }

    /// Has the page loaded again when something of this topic changes.
    pub(crate) fn live(mut self, topic: impl Into<Cow<'static, str>>) -> Self {
        self.live = Some(topic.into());
        self
    }
}

/// A link of the rail: path, name, and the action that it needs.
type Link = (&'static str, &'static str, Action);

/// The groups of the rail: heading, and links.
const RAIL: [(&str, &[Link]); 5] = [
    (
        "Now",
        &[
            ("/", "Overview", Action::SeeOverview),
            ("/inbox", "Inbox", Action::SeeQuestions),
        ],
    ),
    (
        "Understand",
        &[
            ("/sessions", "Sessions", Action::SeeSessions),
            ("/flows", "Flows", Action::SeeSessions),
            ("/findings", "Findings", Action::SeeSessions),
            ("/search", "Search", Action::SeeSessions),
        ],
    ),
    (
        "Decide",
        &[
            ("/policy", "Policy", Action::SeePolicy),
            ("/rollouts", "Rollouts", Action::SeePolicy),
        ],
    ),
    (
        "Prove",
        &[
            ("/integrity", "Integrity", Action::SeeIntegrity),
            ("/audit", "Audit", Action::SeeAudit),
        ],
    ),
    (
        "Run",
        &[
            ("/fleet", "Fleet", Action::SeeFleet),
            ("/people", "People", Action::SeePeople),
            ("/settings", "Settings", Action::SeeOverview),
        ],
    ),
];

/// Writes the whole document.
pub(crate) fn document(call: &Call, page: &Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(call, &page.title))
            body {
                a.skip href="#main" { "Skip to content" }
                @if call.caller.is_some() {
                    .app {
                        (rail(call))
                        (main(call, page, None))
                    }
                } @else {
                    (main(call, page, Some("alone")))
                }
                p #announcer .visually-hidden role="status" {}
                (help())
            }
        }
    }
}

fn head(call: &Call, title: &str) -> Markup {
    let nonce = &call.nonce;
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="htmx-config" content=r#"{"extensions":"hx-csp","includeIndicatorCSS":false,"history":false}"#;
            title { (title) " · Stockade" }
            link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
            link rel="stylesheet" href="/assets/page.css";
            @for script in ["htmx.js", "hx-csp.js", "passkey.js", "page.js"] {
                script src={ "/assets/" (script) } nonce=(nonce) defer {}
            }
        }
    }
}

/// The part that is loaded again when something changes. Of the new page only this part is taken, and it is
/// merged, so that neither the focus nor a text that is being written is lost.
fn main(call: &Call, page: &Page, class: Option<&str>) -> Markup {
    let live = page.live.as_deref();
    let nonce = live.map(|_| call.nonce.as_str());
    let here = live.map(|_| call.here.as_str());
    html! {
        main #main class=[class] tabindex="-1" data-live=[live] hx-nonce=[nonce] hx-get=[here]
            hx-trigger=[live.map(|_| "changed")] hx-select=[live.map(|_| "#main")]
            hx-target=[live.map(|_| "this")] hx-swap=[live.map(|_| "outerMorph")]
        {
            h1 { (page.title) }
            .lead { (page.lead) }
            (page.body)
        }
    }
}

fn rail(call: &Call) -> Markup {
    let Some(caller) = &call.caller else {
        return html! {};
    };
    let sees = |action: Action| caller.may(action);
    html! {
        header.rail {
            a.mark href="/" { "Stockade" }
            nav aria-label="Pages" {
                @for (group, links) in RAIL {
                    @if links.iter().any(|(_, _, action)| sees(*action)) {
                        section {
                            h2 { (group) }
                            ul {
                                @for (path, name, _) in links.iter().filter(|link| sees(link.2)) {
                                    li {
                                        a href=(path) aria-current=[is_current(&call.here, path)] {
                                            (name)
                                            @if *path == "/inbox" && call.waiting > 0 {
                                                span.count { (call.waiting) span.visually-hidden { " waiting" } }
                                            }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            .me {
                p { a href="/me" { bdi { (caller.name) } } }
                form method="post" action="/logout" {
                    (token(call))
                    button.small { "Sign out" }
                }
            }
        }
    }
}

fn is_current(here: &str, path: &str) -> Option<&'static str> {
    let here = here.split('?').next().unwrap_or_default();
    let below = here.strip_prefix(path);
    let is = below.is_some_and(|rest| rest.is_empty() || path != "/" && rest.starts_with('/'));
    is.then_some("page")
}

/// The keys, which `?` shows.
fn help() -> Markup {
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl.facts {
                @for (keys, what) in [
                    (&["g", "i"][..], "inbox"),
                    (&["g", "s"], "sessions"),
                    (&["g", "f"], "fleet"),
                    (&["g", "p"], "policy"),
                    (&["g", "w"], "flows"),
                    (&["g", "d"], "findings"),
                    (&["g", "y"], "integrity"),
                    (&["/"], "search"),
                    (&["j", "k"], "next, previous row"),
                    (&["Enter"], "open the row"),
                    (&["a"], "go to the answer of a question"),
                    (&["?"], "this list"),
                ] {
                    dt { @for key in keys { kbd { (key) } " " } }
                    dd { (what) }
                }
            }
            form method="dialog" { button { "Close" } }
        }
    }
}

/// The field that proves that a form is of this server and this session.
pub(crate) fn token(call: &Call) -> Markup {
    html! {
        @if let Some(caller) = &call.caller {
            input type="hidden" name="token" value=(caller.token);
        }
    }
}

/// Shows text that was written elsewhere: on a machine, by an agent, by a person.
pub(crate) fn raw(text: &RawText) -> Markup {
    let shown = text.display();
    let cut: String = shown.chars().take(FOREIGN_CHARS_MAX).collect();
    let is_cut = cut.len() < shown.len();
    html! {
        bdi.raw dir="auto" { (cut) }
        @if is_cut {
            span.quiet { " … (" (shown.chars().count()) " characters in all)" }
        }
    }
}

/// Shows foreign text that is held as a string.
pub(crate) fn foreign(text: &str) -> Markup {
    raw(&RawText::from(text))
}

/// Shows a foreign text of several lines.
pub(crate) fn lines(text: &str) -> Markup {
    html! {
        @for (index, line) in text.split('\n').enumerate() {
            @if index > 0 { "\n" }
            (foreign(line))
        }
    }
}

/// Shows a time: how long ago as text, the exact time with the pointer.
pub(crate) fn time(at: UnixMillis, now: UnixMillis) -> Markup {
    let exact = stockade_event::rfc3339(at.0.saturating_mul(1_000_000));
    let exact = exact.get(..19).unwrap_or(&exact).replace('T', " ");
    html! {
        time.nowrap datetime={ (exact.replace(' ', "T")) "Z" } title={ (exact) " UTC" } { (span_words(at, now)) }
    }
}

/// Shows a moment of a session as time of day, with the whole time with the pointer.
pub(crate) fn clock(at_ns: u64) -> Markup {
    let at = stockade_event::rfc3339(at_ns);
    let clock = at.get(11..19).unwrap_or(&at).to_owned();
    html! { time.nowrap datetime=(at) title=(at) { (clock) } }
}

/// Shows a verdict by its word in records.
pub(crate) fn verdict(word: &str) -> Markup {
    match word {
        "allow" => state(Mood::Good, "allowed"),
        "deny" => state(Mood::Bad, "denied"),
        "ask" => state(Mood::Open, "asked"),
        _ => html! {},
    }
}

/// Says how far a time is from now.
pub(crate) fn span_words(at: UnixMillis, now: UnixMillis) -> String {
    let past = now.0 >= at.0;
    let seconds = now.0.abs_diff(at.0) / 1000;
    let words = match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    };
    if past {
        format!("{words} ago")
    } else {
        format!("in {words}")
    }
}

/// How something stands: the word says it, the mark only repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Bad,
    Open,
    Plain,
}

impl Mood {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "state good",
            Self::Bad => "state bad",
            Self::Open => "state open",
            Self::Plain => "state",
        }
    }
}

/// Shows how something stands.
pub(crate) fn state(mood: Mood, words: &str) -> Markup {
    html! { span class=(mood.class()) { (words) } }
}

/// Says that there is nothing, and what would change that.
pub(crate) fn empty(what: &str, next: impl maud::Render) -> Markup {
    html! { .empty { p { strong { (what) } } p { (next) } } }
}

/// Says how an action of the person went.
pub(crate) fn note(mood: Mood, words: impl maud::Render) -> Markup {
    let class = match mood {
        Mood::Good => "note good",
        Mood::Bad => "note bad",
        Mood::Open | Mood::Plain => "note",
    };
    html! { div class=(class) role="status" { p { (words) } } }
}

/// Tells whether the caller may do something at all.
pub(crate) fn may(call: &Call, action: Action) -> bool {
    call.caller
        .as_ref()
        .is_some_and(|caller| caller.may(action))
}
