//! The current state that the session can read: open questions, and hosts that the network did not
//! reach. One small file that is replaced as a whole.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stockade_event::Event;
use stockade_types::{ApprovalId, UnixMillis, Verdict, ignored};

/// Name of the file, beside the list of refusals.
pub const NEWS_FILE: &str = "news.json";
/// Unreached hosts that the file lists.
const UNREACHED_MAX: usize = 20;
/// Open questions that the file lists; the desk opens fewer.
const OPEN_MAX: usize = 64;
/// The port of ssh.
const SSH: u16 = 22;
/// Characters of a question's effect.
const EFFECT_CHARS_MAX: usize = 300;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Unanswered questions, oldest first.
    pub open: VecDeque<Open>,
    /// Allowed connections that could not be made, oldest first.
    pub unreached: VecDeque<NotReached>,
    /// The last host that was reached over ssh: no other source explains why a login fails there.
    #[serde(default)]
    pub ssh: Option<Reached>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Its number.
    pub approval: ApprovalId,
    /// The effect that it would allow.
    pub effect: String,
    /// The time until which it can be answered.
    pub expires: UnixMillis,
}

/// A connection that policy allowed and the network did not make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReached {
    /// Host and port.
    pub target: String,
    /// The outcome: `connection refused`, `timed out`, `the name does not exist`.
    pub outcome: String,
    /// When.
    pub time: UnixMillis,
}

/// A connection that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Host and port.
    pub target: String,
    /// When.
    pub time: UnixMillis,
}

/// Keeps the file.
#[derive(Debug)]
pub struct Newspaper {
    path: PathBuf,
    news: News,
}

impl Newspaper {
    /// Keeps the file in `directory`, which the session sees and cannot change.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join(NEWS_FILE),
            news: News::default(),
        }
    }

    /// Takes in a journaled event.
    pub fn note(&mut self, event: &Event, time: UnixMillis) {
        if take_in(&mut self.news, event, time) {
            ignored(
                self.write(),
                "the journal has it already; the file only informs the session",
            );
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(&self.news)?;
        let new = self.path.with_extension("new");
        fs::write(&new, bytes)?;
        fs::rename(new, &self.path)
    }
}

/// Takes an event in; returns whether it is news. Only these kinds are: the session does not learn
/// of others here.
fn take_in(news: &mut News, event: &Event, time: UnixMillis) -> bool {
    if let Event::ApprovalRequested {
        approval,
        decision,
        expires,
        ..
    } = event
    {
        let open = Open {
            approval: approval.clone(),
            effect: decision.effect().chars().take(EFFECT_CHARS_MAX).collect(),
            expires: *expires,
        };
        push(&mut news.open, open, OPEN_MAX);
        return true;
    }
    if let Event::ApprovalDecided { approval, .. } = event {
        let before = news.open.len();
        news.open.retain(|open| open.approval != *approval);
        return news.open.len() != before;
    }
    if let Event::ConnectionClosed {
        host,
        port,
        failed: Some(outcome),
        ..
    } = event
    {
        unreached(news, host, *port, outcome, time);
        return true;
    }
    let Event::ConnectionDecided {
        decision,
        address,
        detail,
        ..
    } = event
    else {
        return false;
    };
    let host = decision.target.host.as_deref().unwrap_or_default();
    let port = decision.target.port.unwrap_or_default();
    match (decision.verdict, address, detail) {
        (Verdict::Allow, None, Some(outcome)) => {
            unreached(news, host, port, outcome, time);
            true
        }
        (Verdict::Allow, Some(_), _) if port == SSH => {
            let target = format!("{host}:{SSH}");
            news.ssh = Some(Reached { target, time });
            true
        }
        (Verdict::Allow | Verdict::Ask | Verdict::Deny, _, _) => false,
    }
}

fn unreached(news: &mut News, host: &str, port: u16, outcome: &str, time: UnixMillis) {
    let one = NotReached {
        target: format!("{host}:{port}"),
        outcome: outcome.to_owned(),
        time,
    };
    news.unreached.retain(|other| other.target != one.target);
    push(&mut news.unreached, one, UNREACHED_MAX);
}

fn push<T>(list: &mut VecDeque<T>, one: T, most: usize) {
    if list.len() >= most {
        list.pop_front();
    }
    list.push_back(one);
}
