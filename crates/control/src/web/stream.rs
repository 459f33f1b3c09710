//! What changes, as server-sent events: a page that follows a topic loads itself again.
//!
//! An event names the topic only. What has changed is read with the caller's own permissions, so the stream
//! tells nobody more than that something did.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
};
use stockade_api::NodeId;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, mpsc},
    time::{Instant, timeout},
};

use super::{
    access::{Action, Circumstances, Sight},
    call::Call,
    problem::Problem,
    serving::Answer,
};
use crate::{Changed, state::SessionKey};

/// A comment keeps a connection open that has nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes within this time after an event are one event; the first is sent at once.
const TOGETHER: Duration = Duration::from_millis(250);
/// Of questions: a person waits for them.
const TOGETHER_QUESTIONS: Duration = Duration::from_millis(50);
/// Events that wait for one browser.
const WAITING: usize = 4;
/// Machines of which a stream remembers whether the caller may see them.
const KNOWN_MAX: usize = 4096;
/// A stream ends after this time; the browser connects again, and shows again that it may.
const LIFETIME: Duration = Duration::from_mins(15);

/// A topic of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Topic {
    All,
    Questions,
    Sessions,
    /// One session.
    Session(SessionKey),
    Fleet,
}

impl Topic {
    fn of(word: &str) -> Option<(Self, Action)> {
        match word {
            "all" => Some((Self::All, Action::SeeOverview)),
            "questions" => Some((Self::Questions, Action::SeeQuestions)),
            "sessions" => Some((Self::Sessions, Action::SeeSessions)),
            "fleet" => Some((Self::Fleet, Action::SeeFleet)),
            other => {
                let (node, session) = other.strip_prefix("session/")?.split_once('/')?;
                let key = SessionKey {
                    node: node.parse().ok()?,
                    session: session.parse().ok()?,
                };
                Some((Self::Session(key), Action::SeeSessions))
            }
        }
    }

    fn has(&self, changed: &Changed) -> bool {
        match changed {
            Changed::Question(_) => matches!(self, Self::All | Self::Questions),
            Changed::Session(key) => match self {
                Self::All | Self::Sessions => true,
                Self::Session(own) => own == key,
                Self::Questions | Self::Fleet => false,
            },
            Changed::Node(_) | Changed::Policy => matches!(self, Self::All | Self::Fleet),
            Changed::People => matches!(self, Self::All),
        }
    }
}

/// `GET /api/v1/stream?topic=`
pub(crate) async fn follow(call: Arc<Call>) -> Result<Answer, Problem> {
    let topic = Topic::of(call.query("topic"));
    let (topic, action) = topic.ok_or_else(|| {
        Problem::wrong(
            "there is no such topic",
            "use all, questions, sessions, session/NODE/SESSION or fleet",
        )
    })?;
    let caller = call.caller()?;
    if !caller.may(action) {
        return Err(Problem::not_found());
    }
    let filter = Filter::new(&call)?;
    if let Topic::Session(key) = &topic {
        let node = call.web.server.state.node(&key.node).await?;
        let node = node.ok_or_else(Problem::not_found)?;
        if !filter.sessions.has(&node) {
            return Err(Problem::not_found());
        }
    }
    let place = call.web.stream_place()?;
    let (send, receive) = mpsc::channel(WAITING);
    let changes = call.web.server.hub.follow();
    let watched = Watched {
        call: Arc::clone(&call),
        topic,
        filter,
        is_over: false,
        changes,
        not_before: Instant::now(),
    };
    tokio::spawn(watched.run(send, place));
    let mut response = Response::new(Body::new(Streamed(receive)));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(Answer::Raw(response))
}

/// A browser that follows a topic.
struct Watched {
    call: Arc<Call>,
    topic: Topic,
    filter: Filter,
    /// Whether it ends with the next event.
    is_over: bool,
    changes: broadcast::Receiver<Changed>,
    /// When the next event may be sent.
    not_before: Instant,
}

impl Watched {
    /// Sends until the browser is gone, is too slow, or has followed long enough.
    async fn run(mut self, send: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
        let followed = self.send_all(&send);
        stockade_types::ignored(
            timeout(LIFETIME, followed).await,
            "a stream that has lasted long enough ends; the browser connects again",
        );
    }

    async fn send_all(&mut self, send: &mpsc::Sender<Bytes>) {
        // The browser may have missed something before it was connected.
        let mut text = "retry: 2000\n\n";
        let mut ended = self.call.web.server.ended();
        while send.send(Bytes::from_static(text.as_bytes())).await.is_ok() {
            text = tokio::select! {
                () = send.closed() => return,
                _ = ended.wait_for(|over| *over) => return,
                changed = self.next() => match changed {
                    Some(()) => "event: changed\ndata: {}\n\n",
                    None => return,
                },
                () = tokio::time::sleep(HEARTBEAT) => ": alive\n\n",
            };
        }
    }

    /// Waits for a change of the topic, and for others that come with it.
    async fn next(&mut self) -> Option<()> {
        if self.is_over {
            return None;
        }
        loop {
            match self.changes.recv().await {
                Ok(changed) => {
                    self.filter.heed(&changed);
                    // The caller may hold other roles now: the browser connects again, with these.
                    self.is_over |= matches!(changed, Changed::People);
                    if self.topic.has(&changed) && self.filter.shows(&self.call, &changed).await {
                        break;
                    }
                    if self.is_over {
                        return None;
                    }
                }
                // Whoever lags behind loads everything again.
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
        tokio::time::sleep_until(self.not_before).await;
        while !matches!(
            self.changes.try_recv(),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed)
        ) {}
        let together = match self.topic {
            Topic::Questions => TOGETHER_QUESTIONS,
            Topic::All | Topic::Sessions | Topic::Session(_) | Topic::Fleet => TOGETHER,
        };
        self.not_before = Instant::now() + together;
        // Someone who was signed out, or whose token was revoked, follows nothing more.
        self.call.is_still_there().await.then_some(())
    }
}

/// Which changes the caller may learn of.
struct Filter {
    sessions: Sight,
    fleet: Sight,
    /// What was decided about machines, as long as none of them changes.
    known: HashMap<(NodeId, bool), bool>,
}

impl Filter {
    fn new(call: &Call) -> Result<Self, Problem> {
        Ok(Self {
            sessions: call.sight(Action::SeeSessions)?,
            fleet: call.sight(Action::SeeFleet)?,
            known: HashMap::new(),
        })
    }

    /// Forgets what was decided if that can be otherwise now.
    fn heed(&mut self, changed: &Changed) {
        match changed {
            Changed::Node(node) => {
                self.known.retain(|(known, _), _| known != node);
            }
            Changed::Question(_) | Changed::Session(_) | Changed::Policy | Changed::People => {}
        }
    }

    /// Tells whether the caller may see what has changed. What cannot be read is not shown.
    async fn shows(&mut self, call: &Call, changed: &Changed) -> bool {
        match changed {
            Changed::Session(key) => self.has(call, &key.node, true).await,
            Changed::Node(node) => self.has(call, node, false).await,
            Changed::Question(id) => is_own_question(call, id).await.unwrap_or(false),
            Changed::Policy | Changed::People => true,
        }
    }

    async fn has(&mut self, call: &Call, node: &NodeId, is_session: bool) -> bool {
        let sight = if is_session {
            &self.sessions
        } else {
            &self.fleet
        };
        if sight.is_whole() {
            return true;
        }
        let key = (node.clone(), is_session);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let Ok(Some(row)) = call.web.server.state.node(node).await else {
            return false;
        };
        let has = sight.has(&row);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, has);
        has
    }
}

/// Tells whether the caller may see a question.
async fn is_own_question(call: &Call, id: &str) -> Result<bool, Problem> {
    let state = &call.web.server.state;
    let Some(row) = state.question(id).await? else {
        return Ok(false);
    };
    let team = state.team_of(&row.key.node).await?;
    let how = Circumstances::BEST;
    let caller = call.caller()?;
    Ok(caller.allows_question(Action::SeeQuestions, &row, team.as_ref(), how))
}

/// The body of a stream.
struct Streamed(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}
