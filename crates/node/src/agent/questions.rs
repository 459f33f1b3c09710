//! Questions of sessions that ask people in roles: up to the server, and their answers back.
//!
//! Each running session has a thread that watches its control socket. The agent only carries: the session
//! checks a grant itself, and shows progress without believing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    thread,
    time::Duration,
};

use hyper::Method;
use stockade_api::node::{Answered, QuestionAnswer, QuestionSent, StageStanding};
use stockade_approval::{Answer, Case, Client, ClientError, Progress};
use stockade_trust::UserId;
use stockade_types::{ApprovalId, SessionId, chain};
use tokio::sync::mpsc;

use crate::http::{Connection, HttpError};

/// Running sessions whose questions are watched; those of further ones are answered at their terminals.
const WATCHED_MAX: usize = 256;
/// Events of sessions that wait to be handled: more keep the threads waiting.
const EVENTS_MAX: usize = 256;
/// How long a thread waits for a change before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits for a session that does not listen yet, and how often; then it waits longer.
const START: Duration = Duration::from_millis(100);
const STARTS: u32 = 100;
/// Status of a question that the server does not take.
const REFUSALS: std::ops::Range<u16> = 400..500;

/// What a session says.
#[derive(Debug)]
pub(super) enum Said {
    /// A question is open.
    Asked {
        /// Whose.
        session: SessionId,
        /// What leaves the machine with it.
        case: Box<Case>,
    },
    /// A question is not open any more.
    Closed {
        /// Whose.
        session: SessionId,
        /// Which.
        approval: ApprovalId,
    },
    /// The session is over.
    Over {
        /// Which.
        session: SessionId,
    },
}

/// The open questions of running sessions.
pub(super) struct Questions {
    give: mpsc::Sender<Said>,
    take: mpsc::Receiver<Said>,
    watched: BTreeSet<SessionId>,
    open: BTreeMap<(SessionId, ApprovalId), Open>,
}

#[derive(Debug)]
struct Open {
    case: Box<Case>,
    /// Whether the server has it, over the present connection.
    is_sent: bool,
}

impl Questions {
    pub(super) fn new() -> Self {
        let (give, take) = mpsc::channel(EVENTS_MAX);
        Self {
            give,
            take,
            watched: BTreeSet::new(),
            open: BTreeMap::new(),
        }
    }

    /// Watches a running session, if it is not watched yet.
    pub(super) fn watch(&mut self, session: &SessionId, dir: PathBuf) {
        if self.watched.contains(session) || self.watched.len() >= WATCHED_MAX {
            return;
        }
        let (give, name) = (self.give.clone(), session.clone());
        let started = thread::Builder::new()
            .name("questions".to_owned())
            .spawn(move || {
                watch(&name, &dir, &give);
                stockade_types::ignored(
                    give.blocking_send(Said::Over { session: name }),
                    "it fails only if the agent ends",
                );
            });
        if started.is_ok() {
            self.watched.insert(session.clone());
        }
    }

    /// Returns what a session says next.
    pub(super) async fn next(&mut self) -> Option<Said> {
        self.take.recv().await
    }

    /// Notes that the server may have forgotten every question: there is a new connection.
    pub(super) fn disconnected(&mut self) {
        for open in self.open.values_mut() {
            open.is_sent = false;
        }
    }

    /// Takes in what a session said; returns the question that the server has to forget.
    pub(super) fn said(&mut self, said: Said) -> Vec<(SessionId, ApprovalId)> {
        match said {
            Said::Asked { session, case } => {
                let name = (session, case.id.clone());
                let open = Open {
                    case,
                    is_sent: false,
                };
                self.open.insert(name, open);
                Vec::new()
            }
            Said::Closed { session, approval } => {
                let name = (session, approval);
                self.open.remove(&name).map(|_| name).into_iter().collect()
            }
            Said::Over { session } => {
                // Its place is for another one.
                self.watched.remove(&session);
                let open = self.open.keys().filter(|(whose, _)| *whose == session);
                let names: Vec<(SessionId, ApprovalId)> = open.cloned().collect();
                for name in &names {
                    self.open.remove(name);
                }
                names
            }
        }
    }

    /// Returns the questions that the server does not have; they count as sent.
    pub(super) fn unsent(&mut self) -> Vec<(SessionId, Case)> {
        let unsent = self.open.iter_mut().filter(|(_, open)| !open.is_sent);
        let taken = unsent.map(|((session, _), open)| {
            open.is_sent = true;
            (session.clone(), (*open.case).clone())
        });
        taken.collect()
    }

    /// Notes that a question did not reach the server.
    pub(super) fn not_sent(&mut self, session: &SessionId, approval: &ApprovalId) {
        let name = (session.clone(), approval.clone());
        if let Some(open) = self.open.get_mut(&name) {
            open.is_sent = false;
        }
    }
}

/// Watches a session until it is over: only then the server may forget its questions.
fn watch(session: &SessionId, dir: &std::path::Path, give: &mpsc::Sender<Said>) {
    let mut open: BTreeSet<ApprovalId> = BTreeSet::new();
    let mut starts = 0;
    while !give.is_closed() {
        let Ok(mut watching) = Client::connect(dir).and_then(Client::watch) else {
            if !stockade_journal::layout::is_live(dir).unwrap_or(false) {
                return;
            }
            starts += 1;
            thread::sleep(if starts > STARTS { PATIENCE } else { START });
            continue;
        };
        starts = 0;
        loop {
            let lines = match watching.next(PATIENCE) {
                Ok(Some(lines)) => lines,
                Ok(None) if give.is_closed() => return,
                Ok(None) => continue,
                // Another connection shows whether it is over.
                Err(_) => break,
            };
            let mut now: BTreeSet<ApprovalId> = lines
                .iter()
                .filter(|line| line.waits_for.is_some())
                .map(|line| line.id.clone())
                .collect();
            for approval in open.difference(&now) {
                let said = Said::Closed {
                    session: session.clone(),
                    approval: approval.clone(),
                };
                if give.blocking_send(said).is_err() {
                    return;
                }
            }
            let new: Vec<ApprovalId> = now.difference(&open).cloned().collect();
            for approval in new {
                // It may be settled by now; otherwise it is tried at the next change.
                let case = Client::connect(dir).and_then(|mut client| client.case(&approval));
                let Ok(case) = case else {
                    now.remove(&approval);
                    continue;
                };
                let said = Said::Asked {
                    session: session.clone(),
                    case: Box::new(case),
                };
                if give.blocking_send(said).is_err() {
                    return;
                }
            }
            open = now;
        }
        thread::sleep(START);
    }
}

/// What became of a question that was sent.
pub(super) enum Sent {
    /// The server has it, and knows this about it.
    Taken(QuestionAnswer),
    /// It does not take it.
    Refused(String),
    /// It could not be asked.
    Lost(HttpError),
}

/// Sends a question.
pub(super) async fn send(
    connection: &Connection,
    session: &SessionId,
    case: &Case,
    owner: Option<UserId>,
) -> Sent {
    let sent = QuestionSent {
        question: case.question.clone(),
        nonce: case.nonce,
        revision: case.revision,
        review: case.review.clone(),
        rendered: case.rendered,
        uid: rustix::process::geteuid().as_raw(),
        user: owner,
    };
    let path = path(session, &case.id);
    match connection.call(Method::PUT, &path, &sent).await {
        Ok(answer) => Sent::Taken(answer),
        Err(error) => match error.problem() {
            Some(problem) if REFUSALS.contains(&problem.status) => Sent::Refused(error.to_string()),
            Some(_) | None => Sent::Lost(error),
        },
    }
}

/// Tells the server that a question is closed.
pub(super) async fn close(
    connection: &Connection,
    session: &SessionId,
    approval: &ApprovalId,
) -> Result<(), HttpError> {
    let path = format!("{}?why=settled", path(session, approval));
    match connection.ask(Method::DELETE, &path).await {
        Ok(_) => Ok(()),
        // It was closed there too.
        Err(error) if error.problem().is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

fn path(session: &SessionId, approval: &ApprovalId) -> String {
    format!("/node/v1/questions/{session}/{approval}")
}

/// Gives an answer of the server to the session in `dir`, which checks it. Blocks.
///
/// # Errors
/// Why the session does not take it.
pub(super) fn answer(
    dir: &std::path::Path,
    approval: &ApprovalId,
    answered: Answered,
) -> Result<(), String> {
    let answer = match answered {
        Answered::Granted { envelope } => Answer::Granted {
            envelope: Box::new(envelope),
        },
        Answered::Denied { reason, by } => Answer::Deny {
            reason: Some(denied(reason.as_deref(), &by)),
        },
    };
    let given = Client::connect(dir).and_then(|mut client| client.answer(approval, answer));
    given.map_err(|error: ClientError| chain(&error))
}

/// Longest reason that a session takes, in bytes.
const REASON_BYTES_MAX: usize = 400;

fn denied(reason: Option<&str>, by: &str) -> String {
    let reason = reason.unwrap_or("no reason was given");
    let whole = format!("denied by {by}: {reason}");
    let end = whole.floor_char_boundary(REASON_BYTES_MAX);
    whole.get(..end).unwrap_or_default().to_owned()
}

/// Tells the person at the terminal of the session in `dir` who is waited for. Blocks. It is only shown:
/// a session that does not take it goes on without.
pub(super) fn progress(dir: &std::path::Path, approval: &ApprovalId, stages: Vec<StageStanding>) {
    let Some(stage) = stages.into_iter().next() else {
        return;
    };
    let progress = Progress {
        stage: stage.name,
        have: stage.have,
        need: stage.need,
        until: Some(stage.until),
        also: stage.also,
    };
    let told = Client::connect(dir).and_then(|mut client| client.progress(approval, progress));
    stockade_types::ignored(told, "what is shown decides nothing, and comes again");
}
