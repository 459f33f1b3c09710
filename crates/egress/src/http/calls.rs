//! Calls of models: what is asked and answered, read of a copy while it passes.
//!
//! A [`Tap`] is made for each admitted request whose address is one of a call. Whoever passes the two
//! bodies on gives it their bytes; when the last of them lets go of it, the event `model.called` is
//! written. It changes nothing, and no decision rests on what it claims. The one thing that a request waits
//! for, with its end, is that the tools of servers in it were compared (`pins`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use stockade_agents::{
    Answered, Api, Asked, Bounded, Call, Content, Definition, Definitions, HostedTool, Intent,
    Place, Request, Response,
};
use stockade_event::{
    Event, HostedToolSeen, Listed, ModelUsage, TextSeen, ToolCallSeen, ToolResultSeen,
};
use stockade_policy::Decision;
use stockade_types::{
    CallEnd, ClaimSource, DecisionId, Host, ModelApi, ModelProvider, Port, RawText, Subject,
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    Addressed, Carrier, Field,
    pins::{self, Comparison, Fresh},
    said::Sayings,
    unpack::{Take, Unpack},
};
use crate::{
    closings::{Closings, Slot},
    gate::count,
    limits::{CALL_ENTRIES_MAX, CLAIM_WAIT},
};

/// A call while it passes.
#[derive(Clone)]
pub(crate) struct Tap(Arc<Mutex<Passing>>);

/// What is known of a call.
struct Passing {
    about: About,
    closings: Closings,
    /// Its place among those that are read.
    slot: Option<Arc<Slot>>,
    sayings: Sayings,
    started: Instant,
    first_byte: Option<Instant>,
    status: Option<u16>,
    request: Side<Reading>,
    /// Definitions that are compared before the request is whole.
    fresh: Fresh,
    response: Side<Response>,
    /// What the request asks, once it was read.
    asked: Option<Asked>,
    /// Tool calls that were told of.
    told: usize,
    /// Claims that may not be recorded yet.
    unrecorded: Vec<oneshot::Receiver<()>>,
    is_whole: bool,
    /// It is in the record as a refusal.
    is_refused: bool,
}

/// Whose call it is.
struct About {
    api: Api,
    subject: Subject,
    host: Host,
    port: Port,
    decision: DecisionId,
}

/// One body.
struct Side<R: Take> {
    bytes: u64,
    body: Option<Unpack<R>>,
    /// Why it is not read.
    unread: Option<&'static str>,
}

impl<R: Take> Side<R> {
    fn new(reader: Result<Unpack<R>, &'static str>) -> Self {
        let (body, unread) = match reader {
            Ok(body) => (Some(body), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            bytes: 0,
            body,
            unread,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(count(bytes.len()));
        if let Some(body) = &mut self.body
            && let Err(why) = body.feed(bytes)
        {
            self.unread = Some(why);
        }
    }
}

/// Who reads a request.
struct Reading {
    /// What it asks, until that was said.
    request: Option<Request>,
    definitions: Definitions,
    /// What was read of these since the last time.
    defined: Vec<Definition>,
}

impl Reading {
    fn new(place: Place) -> Self {
        Self {
            definitions: Definitions::new(place.api),
            request: Some(Request::new(place)),
            defined: Vec::new(),
        }
    }
}

impl Take for Reading {
    fn take(&mut self, bytes: &[u8]) {
        if let Some(request) = &mut self.request {
            request.feed(bytes);
        }
        let defined = self.definitions.feed(bytes);
        self.defined.extend(defined);
    }
}

impl Take for Response {
    fn take(&mut self, bytes: &[u8]) {
        self.feed(bytes);
    }
}

impl Tap {
    /// Begins to read a request that was admitted, if its address is one of a call.
    pub(crate) fn new<C>(
        carrier: &Carrier<'_>,
        request: &Addressed<C>,
        decision: DecisionId,
    ) -> Option<Self> {
        let head = &request.head;
        let place = Place::of(&head.method, head.path.as_bytes())?;
        let api = place.api;
        let slot = Slot::take();
        let has_room = slot.is_some();
        let codings = head
            .fields
            .iter()
            .filter(|field| field.is("content-encoding"));
        let body = if has_room {
            Unpack::new(
                codings.map(|field: Field<'_>| field.value),
                Reading::new(place),
            )
        } else {
            Err("too many calls at a time")
        };
        let passing = Passing {
            about: About {
                api,
                subject: request.subject.clone(),
                host: request.host.clone(),
                port: request.port,
                decision,
            },
            closings: carrier.proxy.closings.clone(),
            slot,
            sayings: Sayings {
                contents: Arc::clone(&carrier.proxy.contents),
                kept: carrier.proxy.judge.record_content(),
                subject: request.subject.clone(),
                learned_from: ClaimSource::Traffic,
                decision: Some(decision),
            },
            started: Instant::now(),
            first_byte: None,
            status: None,
            request: Side::new(body),
            response: Side {
                bytes: 0,
                body: None,
                unread: (!has_room).then_some("too many calls at a time"),
            },
            fresh: Fresh::new(
                Arc::clone(&carrier.proxy.known),
                pins::form(words(api).1),
                (request.subject.clone(), decision),
            ),
            asked: None,
            told: 0,
            unrecorded: Vec::new(),
            is_whole: false,
            is_refused: false,
        };
        Some(Self(Arc::new(Mutex::new(passing))))
    }

    fn with(&self, act: impl FnOnce(&mut Passing)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes bytes of the body of the request; they may be passed on once [`Self::compared`] says so.
    pub(crate) fn request(&self, bytes: &[u8]) {
        self.with(|passing| {
            passing.request.feed(bytes);
            if let Some(reading) = passing.reading() {
                let defined = std::mem::take(&mut reading.defined);
                passing.fresh.add(defined);
            }
        });
    }

    /// Waits, where the request ends with what was read, until the tools that it defines were compared with
    /// what is known of them.
    ///
    /// # Errors
    /// The refusal, if the model may not read them.
    pub(crate) async fn compared(&self) -> Result<(), Box<Decision>> {
        let mut due = None;
        self.with(|passing| due = passing.due());
        match due {
            Some(comparison) => comparison.done().await,
            None => Ok(()),
        }
    }

    /// Takes what matters of the head of the answer.
    pub(crate) fn head<'f>(&self, status: u16, codings: impl Iterator<Item = &'f [u8]>) {
        self.with(|passing| {
            passing.status = Some(status);
            passing.ask();
            if passing.response.unread.is_none() {
                let reader = Response::new(passing.about.api);
                passing.response = Side::new(Unpack::new(codings, reader));
            }
        });
    }

    /// Takes bytes of the body of the answer.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        self.with(|passing| {
            if !bytes.is_empty() {
                passing.first_byte.get_or_insert_with(Instant::now);
            }
            passing.response.feed(bytes);
            passing.call();
        });
    }

    /// Waits until what was read so far is recorded, so that nothing that comes of a tool call is recorded
    /// before the call. What the supervisor does not record in time is recorded later.
    pub(crate) async fn recorded(&self) {
        let mut unrecorded = Vec::new();
        self.with(|passing| unrecorded = std::mem::take(&mut passing.unrecorded));
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

    /// Says that the answer was passed on whole.
    pub(crate) fn is_whole(&self) {
        self.with(|passing| passing.is_whole = true);
    }

    /// Says that the rest of the call does not pass, which is in the record.
    pub(crate) fn is_refused(&self) {
        self.with(|passing| passing.is_refused = true);
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.is_refused
            && let Some(event) = self.event()
        {
            let slot = self.slot.take();
            drop(self.closings.claim(event, Intent::default(), slot.as_ref()));
        }
    }
}

impl Passing {
    fn reading(&mut self) -> Option<&mut Reading> {
        self.request.body.as_mut().and_then(Unpack::get_mut)
    }

    /// Returns what must be compared before more of the request is passed on.
    fn due(&mut self) -> Option<Comparison> {
        if self.fresh.is_over() {
            return None;
        }
        let unread = self.request.unread;
        let (has_ended, of_json) = match self.reading() {
            Some(reading) => (
                reading.definitions.has_ended(),
                reading.definitions.unread().map(pins::unread),
            ),
            None => (false, None),
        };
        if !has_ended && unread.is_none() {
            return None;
        }
        self.fresh
            .end(of_json.or_else(|| unread.map(str::to_owned)))
    }

    /// Says what the request asks, once: before anything of the answer is passed on.
    fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        let asked = self.reading().and_then(|reading| reading.request.take());
        let asked = asked.map(Request::finish).unwrap_or_default();
        for event in self.sayings.of_request(&asked) {
            let intent = match event {
                Event::PromptSubmitted { .. } => Intent::of_prompts(&asked.prompts),
                _ => Intent::default(),
            };
            let recorded = self.closings.claim(event, intent, self.slot.as_ref());
            self.unrecorded.push(recorded);
        }
        self.asked = Some(asked);
    }

    /// Says which tool calls have become whole, before the agent has their last byte.
    fn call(&mut self) {
        let response = self.response.body.as_mut().and_then(Unpack::get_mut);
        let calls = response.map(Response::new_calls).unwrap_or_default();
        self.tell(&calls);
    }

    fn tell(&mut self, calls: &[Call]) {
        self.told += calls.len();
        for call in calls {
            let event = self.sayings.called(call);
            let recorded = self
                .closings
                .claim(event, call.intent(), self.slot.as_ref());
            self.unrecorded.push(recorded);
            if let Some(event) = self.sayings.planned(call) {
                let recorded = self
                    .closings
                    .claim(event, Intent::default(), self.slot.as_ref());
                self.unrecorded.push(recorded);
            }
        }
    }

    /// Says what passed; `None` if it was no call of a model.
    fn event(&mut self) -> Option<Event> {
        self.ask();
        let asked = self.asked.take().unwrap_or_default();
        let answered = self.response.body.take().and_then(Unpack::into_inner);
        let answered = answered.map(Response::finish).unwrap_or_default();
        let calls = answered.calls.entries();
        self.tell(calls.get(self.told..).unwrap_or_default());
        let unread = self.unread(&asked, &answered);
        if !asked.is_call && !answered.is_answer && self.request.unread.is_none() {
            return None;
        }
        let is_error = self.status.is_some_and(|status| status >= 400);
        let is_read = self.response.unread.is_none() && !answered.is_truncated;
        let is_cut = !self.is_whole || (answered.is_cut && is_read && !is_error);
        let span = |to: Instant| {
            let span = to.saturating_duration_since(self.started);
            u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
        };
        let (provider, api) = words(self.about.api);
        Some(Event::ModelCalled {
            process: self.about.subject.clone(),
            learned_from: ClaimSource::Traffic,
            decision: Some(self.about.decision),
            host: self.about.host.to_string(),
            port: self.about.port.get(),
            provider,
            api,
            model_asked: self.name(asked.model.as_ref()),
            model: self.name(answered.model.as_ref()),
            response_id: self.name(answered.id.as_ref()),
            status: self.status,
            streaming: asked.streaming,
            usage: ModelUsage {
                input: answered.usage.input,
                cached: answered.usage.cached,
                cache_written: answered.usage.cache_written,
                output: answered.usage.output,
                reasoning: answered.usage.reasoning,
            },
            finish: self.name(answered.finish.as_ref()),
            error: self.name(answered.error.as_ref()),
            hosted_declared: self.tools(&asked.hosted),
            hosted_used: self.tools(&answered.hosted),
            functions: listed(&asked.functions, |name| self.shown(name)),
            prompts: listed(&asked.prompts, text),
            results: listed(&asked.results, |result| ToolResultSeen {
                call: self.shown(&result.call),
                text: text(&result.content),
            }),
            calls: listed(&answered.calls, |call| ToolCallSeen {
                id: self.shown(&call.id),
                name: self.shown(&call.name),
                arguments: call.arguments.as_ref().map(text),
            }),
            said: answered.said.as_ref().map(text),
            bytes_out: self.request.bytes,
            bytes_in: self.response.bytes,
            duration_ms: span(Instant::now()),
            first_byte_ms: self.first_byte.map(span),
            ended: if is_cut { CallEnd::Cut } else { CallEnd::Whole },
            unread,
        })
    }

    /// Says what could not be read, and why.
    fn unread(&self, asked: &Asked, answered: &Answered) -> Option<String> {
        const MORE: &str = "more than is read, or no JSON";
        let why = |unread: Option<&'static str>, is_truncated: bool| {
            unread.or(is_truncated.then_some(MORE))
        };
        let sides = [
            ("request", why(self.request.unread, asked.is_truncated)),
            ("answer", why(self.response.unread, answered.is_truncated)),
        ];
        let parts: Vec<String> = sides
            .into_iter()
            .filter_map(|(side, why)| Some(format!("{side}: {}", why?)))
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn name(&self, name: Option<&RawText>) -> Option<RawText> {
        name.map(|name| self.shown(name))
    }

    /// Returns a name as it is recorded.
    fn shown(&self, name: &RawText) -> RawText {
        self.sayings.shown(name)
    }

    fn tools(&self, all: &Bounded<HostedTool>) -> Vec<HostedToolSeen> {
        let seen = |tool: &HostedTool| HostedToolSeen {
            name: self.shown(&tool.name),
            server: self.name(tool.server.as_ref()),
            count: tool.count,
        };
        let all = all.entries().iter().take(CALL_ENTRIES_MAX);
        all.map(seen).collect()
    }
}

/// Returns whose form it is, and its word.
const fn words(api: Api) -> (ModelProvider, ModelApi) {
    match api {
        Api::Messages => (ModelProvider::Anthropic, ModelApi::Messages),
        Api::Responses => (ModelProvider::OpenAi, ModelApi::Responses),
        Api::Chat => (ModelProvider::OpenAi, ModelApi::Chat),
        Api::Generate => (ModelProvider::Gemini, ModelApi::Generate),
        Api::Converse => (ModelProvider::Bedrock, ModelApi::Converse),
    }
}

fn listed<T, S>(all: &Bounded<T>, seen: impl FnMut(&T) -> S) -> Listed<S> {
    Listed {
        count: all.count(),
        first: all
            .entries()
            .iter()
            .take(CALL_ENTRIES_MAX)
            .map(seen)
            .collect(),
    }
}

const fn text(content: &Content) -> TextSeen {
    TextSeen {
        bytes: content.bytes(),
        digest: content.digest(),
    }
}

#[cfg(test)]
mod tests {
    use crate::http::Contents;

    /// Ids as services make them are no secrets: events are joined by them.
    #[test]
    fn ids_of_calls_are_not_taken_for_secrets() {
        let contents = Contents::new(Vec::new());
        for id in [
            "toolu_01A09q90qw90lq917835lq9A",
            "srvtoolu_01WYG3ziw53XMcoyKL4XcZmE",
            "msg_01XFDUDYJgAACzvnptvVoYEL",
            "msg_bdrk_01XFDUDYJgAACzvnptvVoYEL",
            "call_9Fq3bYw2LkXz7VtR1mNcP8sD",
            "resp_67ccd3a9da748190baa7f1570fe91ac604becb25c45c1d41",
            "fc_67ca09c6bedc8190a7abfec07b1a1332096610f474011cc0",
            "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "gen-1748291023-Zb8vGk3hT2nQwXyR",
            "run_shell_command-1748291023123-9f8e7d6c5b4a3",
            "claude-lab-5-20300101",
        ] {
            assert_eq!(contents.hide(&id.into()), None, "{id}");
        }
    }
}
