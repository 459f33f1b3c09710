//! What agents and servers of tools say to each other over HTTP (MCP's streamable transport), read while it
//! passes.
//!
//! No server acts on JSON of which the end is missing. So a request passes as it comes, and the piece with
//! which its JSON ends waits until its calls are in the record and policy lets them pass. What a server says
//! of its tools waits in the same way until it was compared with what is known of them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use stockade_agents::{
    Intent,
    mcp::{self, Answers, Id, Message, Messages, Read, ToolCall},
};
use stockade_event::Said;
use stockade_policy::{Control, Decision, ToolRequest};
use stockade_types::{ClaimSource, DecisionId, RawText, Subject};
use tokio::{sync::oneshot, time::timeout};

use super::{
    Addressed, Answer, Carrier, Field,
    pins::{self, Comparison, Fresh},
    said::Sayings,
    stop::Stop,
    unpack::{Take, Unpack},
};
use crate::{
    closings::{Closings, Slot},
    judge::Judge,
    limits::{CLAIM_WAIT, MCP_CALLS_MAX},
};

/// The form under which tools that a server itself names are kept.
const FORM: &str = "mcp";
/// Fields that clients of the protocol send.
const FIELDS: [&str; 2] = ["mcp-protocol-version", "mcp-session-id"];

/// Numbers of calls, by which they are told apart in the record: clients count each for itself.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// A request while it passes.
#[derive(Clone)]
pub(crate) struct Tap(Arc<Mutex<Passing>>);

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that becomes known on the way"
)]
struct Passing {
    /// The server in rules and in the record: its host.
    server: RawText,
    subject: Subject,
    judge: Arc<Judge>,
    closings: Closings,
    sayings: Sayings,
    slot: Option<Arc<Slot>>,
    /// Until its JSON has ended, or it begins as something else.
    request: Option<Unpack<Reading>>,
    /// Why it is not read.
    unread: Option<&'static str>,
    /// Reading it could begin.
    is_readable: bool,
    /// It has fields of the protocol.
    is_marked: bool,
    /// It was judged.
    is_judged: bool,
    /// It is for a server of tools: its answer is read.
    is_mcp: bool,
    answer: Option<Unpack<Hearing>>,
    /// It asks which tools there are.
    lists: bool,
    /// Calls that are not answered yet, with their ids in the record.
    calls: VecDeque<(Id, RawText)>,
    fresh: Option<Fresh>,
    due: Option<Comparison>,
    unrecorded: Vec<oneshot::Receiver<()>>,
}

#[derive(Default)]
struct Reading(Messages);

impl Take for Reading {
    fn take(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }
}

struct Hearing(Answers);

impl Take for Hearing {
    fn take(&mut self, bytes: &[u8]) {
        self.0.feed(bytes);
    }
}

/// What waits before a request may end.
struct Due {
    judge: Arc<Judge>,
    read: Read,
    server: RawText,
    subject: Subject,
    unread: Option<&'static str>,
    unrecorded: Vec<oneshot::Receiver<()>>,
}

impl Tap {
    /// Begins to read a request that can be for a server of tools.
    pub(crate) fn new<C>(
        carrier: &Carrier<'_>,
        request: &Addressed<C>,
        decision: DecisionId,
    ) -> Option<Self> {
        let head = &request.head;
        if head.method != "POST" {
            return None;
        }
        let fields = || head.fields.iter();
        let codings = fields().filter(|field| field.is("content-encoding"));
        let body = Unpack::new(
            codings.map(|field: Field<'_>| field.value),
            Reading::default(),
        );
        let (body, unread) = match body {
            Ok(body) => (Some(body), None),
            Err(why) => (None, Some(why)),
        };
        let is_marked = fields().any(|field| FIELDS.iter().any(|name| field.is(name)));
        let host = request.host.to_string();
        let path = head.path.as_bytes();
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        // One host can have several servers.
        let place = [format!("{host}:{}", request.port).as_bytes(), path].concat();
        let fresh = Fresh::new(
            Arc::clone(&carrier.proxy.known),
            FORM.to_owned(),
            (request.subject.clone(), decision),
        )
        .learned_from(ClaimSource::Mcp);
        Some(Self(Arc::new(Mutex::new(Passing {
            server: host.as_str().into(),
            subject: request.subject.clone(),
            judge: Arc::clone(&carrier.proxy.judge),
            closings: carrier.proxy.closings.clone(),
            sayings: Sayings {
                contents: Arc::clone(&carrier.proxy.contents),
                kept: carrier.proxy.judge.record_content(),
                subject: request.subject.clone(),
                learned_from: ClaimSource::Mcp,
                decision: Some(decision),
            },
            slot: None,
            is_readable: body.is_some(),
            request: body,
            unread,
            is_marked,
            is_judged: false,
            is_mcp: false,
            answer: None,
            lists: false,
            calls: VecDeque::new(),
            fresh: Some(fresh.of_place(RawText::from_bytes(place))),
            due: None,
            unrecorded: Vec::new(),
        }))))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Passing) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells whether it can still be for a server of tools.
    pub(crate) fn is_there(&self) -> bool {
        self.with(|passing| passing.is_mcp || !passing.is_judged)
    }

    /// Takes bytes of the body of the request.
    pub(crate) fn request(&self, bytes: &[u8]) {
        self.with(|passing| passing.request(bytes));
    }

    /// Waits, where the request ends with what was read, until its calls may be made.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn judged(&self) -> Result<(), Stop> {
        match self.with(Passing::due) {
            Some(due) => due.judged().await,
            None => Ok(()),
        }
    }

    /// Takes what matters of the head of the answer.
    pub(crate) fn head<'f>(&self, codings: impl Iterator<Item = &'f [u8]>) {
        self.with(|passing| {
            if !passing.is_mcp {
                return;
            }
            let server = passing.server.clone();
            match Unpack::new(codings, Hearing(Answers::new(server))) {
                Ok(body) => passing.answer = Some(body),
                Err(why) => passing.unheard(why),
            }
        });
    }

    /// Takes bytes of the body of the answer.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        self.with(|passing| passing.hear(bytes));
    }

    /// Waits until what the server said of its tools was compared, and what else it said is recorded.
    ///
    /// # Errors
    /// The refusal, if the agent may not read it.
    pub(crate) async fn compared(&self) -> Result<(), Box<Decision>> {
        let (due, unrecorded) = self.with(|passing| {
            let unrecorded = std::mem::take(&mut passing.unrecorded);
            (passing.due.take(), unrecorded)
        });
        recorded(unrecorded).await;
        match due {
            Some(comparison) => comparison.done().await,
            None => Ok(()),
        }
    }
}

/// Waits until claims are recorded, for a bounded time.
async fn recorded(unrecorded: Vec<oneshot::Receiver<()>>) {
    if unrecorded.is_empty() {
        return;
    }
    let all = async {
        for one in unrecorded {
            // It ends without a word.
            drop(one.await);
        }
    };
    drop(timeout(CLAIM_WAIT, all).await);
}

impl Passing {
    fn request(&mut self, bytes: &[u8]) {
        let Some(body) = &mut self.request else {
            return;
        };
        if let Err(why) = body.feed(bytes) {
            self.unread = Some(why);
            return;
        }
        let Some(Reading(messages)) = body.get_ref() else {
            return;
        };
        if !messages.can_be() {
            (self.request, self.is_judged) = (None, true);
        } else if messages.is_begun() && self.slot.is_none() {
            self.slot = Slot::take();
            if self.slot.is_none() {
                self.unread = Some("too many requests at a time");
            }
        }
    }

    /// Returns what must be decided before more of the request is passed on, once.
    fn due(&mut self) -> Option<Due> {
        if self.is_judged {
            return None;
        }
        let reading = self.request.as_ref().and_then(Unpack::get_ref);
        let has_ended = reading.is_some_and(|Reading(messages)| messages.has_ended());
        if !has_ended && self.unread.is_none() {
            return None;
        }
        self.is_judged = true;
        let reading = self.request.take().and_then(Unpack::into_inner);
        let read = match (self.unread, reading) {
            (None, Some(Reading(messages))) => messages.finish(),
            (Some(_), _) | (None, None) => Read::default(),
        };
        let is_call = |message: &Message| match message {
            Message::Call(_) | Message::List { .. } => true,
            Message::Cancel { .. } | Message::Other { .. } => false,
        };
        self.is_mcp = self.slot.is_some()
            && (read.messages.iter().any(is_call) || (self.is_marked && !read.messages.is_empty()));
        for message in &read.messages {
            match message {
                Message::Call(call) => self.call(call),
                Message::List { .. } => self.lists = true,
                Message::Cancel { .. } | Message::Other { .. } => {}
            }
        }
        if !self.is_mcp {
            self.slot = None;
        }
        // What is in a coding that nobody knows is for a server only if it says so.
        let is_unread = self.is_marked || self.is_readable;
        Some(Due {
            judge: Arc::clone(&self.judge),
            server: self.server.clone(),
            subject: self.subject.clone(),
            unread: read.problem.or(self.unread.filter(|_| is_unread)),
            read,
            unrecorded: std::mem::take(&mut self.unrecorded),
        })
    }

    /// Says that a tool is called.
    fn call(&mut self, call: &ToolCall) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = || RawText::from(format!("mcp-{number}").as_str());
        let id = call.use_id.clone().unwrap_or_else(own);
        let event = self.sayings.passed(call, (&id, &self.server));
        let recorded = self
            .closings
            .claim(event, call.intent(), self.slot.as_ref());
        self.unrecorded.push(recorded);
        if let Some(asked) = &call.id {
            if self.calls.len() >= MCP_CALLS_MAX {
                self.calls.pop_front();
            }
            self.calls.push_back((asked.clone(), id));
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Some(body) = &mut self.answer else {
            return;
        };
        let fed = body.feed(bytes);
        let answers = body.get_mut().map(|Hearing(answers)| answers.take());
        for answer in answers.unwrap_or_default() {
            self.answered(answer);
        }
        if let Err(why) = fed {
            self.unheard(why);
        }
    }

    /// Says that an answer is not read: if it was to say which tools there are, they can be others.
    fn unheard(&mut self, why: &str) {
        if let Some(fresh) = self.fresh.as_mut().filter(|_| self.lists) {
            self.due = fresh.end(Some(why.to_owned())).or(self.due.take());
        }
    }

    fn answered(&mut self, answer: mcp::Answer) {
        if let (Some(defined), Some(fresh)) = (answer.defined, &mut self.fresh) {
            fresh.add(defined.tools);
            let comparison = fresh.end(defined.unread.map(pins::unread));
            self.due = comparison.or(self.due.take());
        }
        // An answer to a call that was never made is for nobody.
        let Some(at) = self.calls.iter().position(|(id, _)| *id == answer.id) else {
            return;
        };
        let Some((_, id)) = self.calls.remove(at) else {
            return;
        };
        let text = answer.content.as_ref().map(|text| self.sayings.text(text));
        let text = Said {
            bytes: answer.bytes,
            ..text.unwrap_or_default()
        };
        let event = self.sayings.came_back(&id, text, answer.is_error);
        let recorded = self
            .closings
            .claim(event, Intent::default(), self.slot.as_ref());
        self.unrecorded.push(recorded);
    }
}

impl Due {
    /// Has each call decided, once it is in the record.
    async fn judged(self) -> Result<(), Stop> {
        let Self {
            judge,
            read,
            server,
            subject,
            unread,
            unrecorded,
        } = self;
        recorded(unrecorded).await;
        if !judge.restricts_tools() {
            return Ok(());
        }
        if let Some(why) = unread {
            let reason = format!("a call of a tool could not be read: {why}");
            let decision = Control::ToolCall.denies(reason, "send plain JSON-RPC 2.0 in UTF-8");
            return Err(Stop::Refused(Box::new(decision)));
        }
        for message in &read.messages {
            let Message::Call(call) = message else {
                continue;
            };
            let request = ToolRequest::new(
                call.tool.as_bytes(),
                Some(server.as_bytes()),
                &call.arguments.json,
                subject.clone(),
            );
            if let Err(reason) = judge.tool(&request).await {
                let body = mcp::refusal(&read, &reason);
                return Err(Stop::Answered(Box::new(Answer::in_rpc(body))));
            }
        }
        Ok(())
    }
}
