//! Answers the shim of one server.

use std::{
    cmp,
    collections::{HashMap, VecDeque},
    io::{BufReader, Write as _},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, Scope},
};

use stockade_agents::{Arguments, Content, Intent, mcp::ToolCall};
use stockade_approval::{Asker, Outcome};
use stockade_egress::wire::{Defined, DefinitionSeen};
use stockade_event::{Durability, Event};
use stockade_policy::{Approvals, Control, Decision, Request, ToolRequest};
use stockade_supervise::{SUPERVISOR, Speaker, lock, refused};
use stockade_types::{ClaimSource, DecisionId, RawText, Subject, Verdict as Decided, ignored};

use super::{
    limits::{ASKS_MAX, CLIENT_WAIT, OPEN_MAX},
    wire::{self, Tell, Verdict},
};
use crate::{
    hooks::{
        Answers,
        claims::{said, shown},
        limits::{OTHERS_CLAIMS_MAX, OTHERS_MAX},
        peers::{self, Measure},
    },
    pins::Comparing,
};

/// The form under which tools that a server itself names are kept.
const FORM: &str = "mcp";

/// Numbers of calls, by which they are told apart in the record: clients count each for itself.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Answers shims.
pub(super) struct Service {
    answers: Arc<Answers>,
    comparing: Arc<Comparing>,
    measure: Measure,
}

/// One server that is passed on.
struct Served<'s> {
    service: &'s Service,
    server: RawText,
    subject: Subject,
    speaker: Speaker,
    /// What is the same for all that this start of the server shows.
    visit: DecisionId,
    to: Mutex<UnixStream>,
    /// Calls whose result is owed: the question, the id in the record.
    open: Mutex<VecDeque<(u64, RawText)>>,
    /// Questions that wait for a person.
    waiting: Mutex<HashMap<u64, Arc<AtomicBool>>>,
    asks: AtomicUsize,
}

impl Service {
    pub(super) fn new(answers: Arc<Answers>, comparing: Arc<Comparing>) -> Self {
        Self {
            answers,
            comparing,
            measure: Measure::default(),
        }
    }

    /// Answers one shim, until it ends.
    pub(super) fn answer(&self, stream: &UnixStream) {
        if let Err(reason) = self.serve(stream) {
            // Whatever it asks next is denied there.
            let verdict = Verdict {
                number: 0,
                denied: Some(reason),
            };
            if let Ok(line) = wire::line(&verdict) {
                let mut to = stream;
                ignored(to.write_all(&line), "it is gone");
            }
        }
    }

    fn serve(&self, stream: &UnixStream) -> Result<(), String> {
        let wrong = |error: std::io::Error| error.to_string();
        stream.set_write_timeout(Some(CLIENT_WAIT)).map_err(wrong)?;
        stream.set_read_timeout(Some(CLIENT_WAIT)).map_err(wrong)?;
        let subject = peers::subject(stream, &self.answers.processes).map_err(wrong)?;
        let subject = subject.ok_or("who asks is not known: it has ended")?;
        let speaker = match subject.id {
            Some(process) => self.answers.recorder.origins().speaker(process),
            None => Speaker::Other,
        };
        let _place = match speaker {
            Speaker::Agent => None,
            Speaker::Other => Some(self.measure.place().ok_or_else(|| {
                format!("{OTHERS_MAX} programs that no agent started tell of servers already")
            })?),
        };
        let mut from = BufReader::new(stream.try_clone().map_err(wrong)?);
        let Ok(Some(Tell::Begin { server })) = wire::next(&mut from) else {
            return Err("it does not say which server it passes on".to_owned());
        };
        // From here on it says something when the agent does.
        stream.set_read_timeout(None).map_err(wrong)?;
        let served = Served {
            service: self,
            server,
            subject,
            speaker,
            visit: self.answers.recorder.new_decision(),
            to: Mutex::new(stream.try_clone().map_err(wrong)?),
            open: Mutex::default(),
            waiting: Mutex::default(),
            asks: AtomicUsize::new(0),
        };
        thread::scope(|scope| {
            let end = loop {
                match wire::next(&mut from) {
                    Ok(Some(tell)) => served.take(tell, scope)?,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error.to_string()),
                }
            };
            for wanted in lock(&served.waiting).values() {
                wanted.store(false, Ordering::Release);
            }
            end
        })
    }
}

impl Served<'_> {
    fn answers(&self) -> &Answers {
        &self.service.answers
    }

    fn take<'scope>(
        &'scope self,
        tell: Tell,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<(), String> {
        match tell {
            Tell::Begin { .. } => Err("it begins twice".to_owned()),
            Tell::Call {
                number,
                tool,
                use_id,
                arguments,
                is_whole,
            } => {
                let arguments = Arguments {
                    json: arguments.as_bytes().to_vec(),
                    is_whole,
                };
                let call = ToolCall {
                    id: None,
                    tool,
                    arguments,
                    use_id,
                };
                self.call(number, &call, scope)
            }
            Tell::Unread { number, why } => {
                let denied = self.answers().policy.restricts_tools().then(|| {
                    format!(
                        "denied by this boundary: a call of a tool could not be read: {why}; send plain \
                         JSON-RPC 2.0 in UTF-8"
                    )
                });
                self.reply(number, denied);
                Ok(())
            }
            Tell::Withdraw { number } => {
                if let Some(wanted) = lock(&self.waiting).get(&number) {
                    wanted.store(false, Ordering::Release);
                }
                Ok(())
            }
            Tell::Defined {
                number,
                tools,
                unread,
            } => {
                self.compare(number, (tools, unread), scope);
                Ok(())
            }
            Tell::Returned {
                call,
                bytes,
                text,
                is_error,
            } => self.returned(call, bytes, text.as_ref(), is_error),
            Tell::Lost { count } => self.lost(count),
        }
    }

    fn reply(&self, number: u64, denied: Option<String>) {
        if let Ok(line) = wire::line(&Verdict { number, denied }) {
            ignored(lock(&self.to).write_all(&line), "the shim is gone");
        }
    }

    /// Has something done on a thread of its own that can wait for a person.
    fn aside<'scope>(
        &'scope self,
        number: u64,
        scope: &'scope Scope<'scope, '_>,
        act: impl FnOnce(&AtomicBool) -> Option<String> + Send + 'scope,
    ) {
        if self.asks.fetch_add(1, Ordering::AcqRel) >= ASKS_MAX {
            self.asks.fetch_sub(1, Ordering::AcqRel);
            let reason = format!("denied: {ASKS_MAX} questions of this server wait already");
            return self.reply(number, Some(reason));
        }
        let wanted = Arc::new(AtomicBool::new(true));
        lock(&self.waiting).insert(number, Arc::clone(&wanted));
        let spawned = thread::Builder::new()
            .name("server".to_owned())
            .spawn_scoped(scope, move || {
                let denied = act(&wanted);
                lock(&self.waiting).remove(&number);
                self.asks.fetch_sub(1, Ordering::AcqRel);
                self.reply(number, denied);
            });
        if let Err(error) = spawned {
            lock(&self.waiting).remove(&number);
            self.asks.fetch_sub(1, Ordering::AcqRel);
            self.reply(
                number,
                Some(format!("denied: no thread to ask on: {error}")),
            );
        }
    }

    /// Records a call, and has it decided.
    fn call<'scope>(
        &'scope self,
        number: u64,
        call: &ToolCall,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<(), String> {
        let Answers {
            policy,
            recorder,
            workspace,
            ..
        } = self.answers();
        let own =
            || RawText::from(format!("mcp-s{}", NUMBER.fetch_add(1, Ordering::Relaxed)).as_str());
        let id = call.use_id.clone().unwrap_or_else(own);
        let kept = policy.record_content();
        let event = Event::ToolCalled {
            process: self.subject.clone(),
            learned_from: ClaimSource::Mcp,
            decision: None,
            id: shown(&id),
            name: shown(&call.name(&self.server)),
            arguments: call.arguments.content().map(|all| said(&all, kept)),
        };
        let claim = self.record(event, call.intent())?;
        let mut open = lock(&self.open);
        if open.len() >= OPEN_MAX {
            open.pop_front();
        }
        open.push_back((number, id.clone()));
        drop(open);
        let request = Request::Tool(ToolRequest {
            workspace: Some(workspace.clone()),
            ..ToolRequest::new(
                call.tool.as_bytes(),
                Some(self.server.as_bytes()),
                &call.arguments.json,
                self.subject.clone(),
            )
        });
        let first = policy.decide(&request, &Approvals::none());
        if Control::ToolCall.allows_by_default(&first) {
            self.reply(number, None);
            return Ok(());
        }
        let decision_id = recorder.new_decision();
        if first.verdict != Decided::Ask {
            let denied = self.decided(&request, &first, (decision_id, id, claim));
            self.reply(number, denied);
            return Ok(());
        }
        self.aside(number, scope, move |wanted| {
            let decision = self.ask((&request, decision_id), &first, wanted);
            self.decided(&request, &decision, (decision_id, id, claim))
        });
        Ok(())
    }

    /// Asks the person, as long as the client waits.
    fn ask(
        &self,
        (request, decision_id): (&Request, DecisionId),
        first: &Decision,
        wanted: &AtomicBool,
    ) -> Decision {
        let Answers {
            policy,
            desk,
            recorder,
            ..
        } = self.answers();
        let decide = |approvals: &Approvals| policy.decide(request, approvals);
        let outcome = desk.ask(&Asker {
            request,
            decision: first,
            decision_id,
            revision: recorder.revision(),
            intent: recorder.says(request.subject()),
            decide: &decide,
            wanted: &|| wanted.load(Ordering::Acquire),
            covered: None,
            lasting: policy.lasting(request, first),
        });
        match outcome {
            Outcome::Granted { approvals, .. } => decide(&approvals),
            Outcome::Refused { by, reason, .. } => refused(first, &by, &reason),
        }
    }

    /// Records a decision; returns why the call is denied.
    fn decided(
        &self,
        request: &Request,
        decision: &Decision,
        (number, id, claim): (DecisionId, RawText, u64),
    ) -> Option<String> {
        let recorder = &self.answers().recorder;
        let record = recorder.record(number, request, decision);
        let denied = match record.verdict {
            Decided::Allow => None,
            Decided::Ask | Decided::Deny => Some(record.why_not()),
        };
        let event = Event::ToolDecided {
            decision: record,
            id: Some(shown(&id)),
        };
        if let Err(error) = recorder.write(&event, Durability::Written) {
            return Some(self.failed(&error));
        }
        if denied.is_some()
            && let Some(process) = self.subject.id
        {
            recorder.origins().denied(process, claim);
        }
        denied
    }

    /// Records a claim; returns the number of the event that says it, 0 if none does.
    fn record(&self, event: Event, intent: Intent) -> Result<u64, String> {
        let measure = &self.service.measure;
        measure.keep_pace();
        if self.speaker == Speaker::Other {
            match measure.claim().cmp(&OTHERS_CLAIMS_MAX) {
                cmp::Ordering::Less => {}
                cmp::Ordering::Equal => return self.lost(1).map(|()| 0),
                cmp::Ordering::Greater => return Ok(0),
            }
        }
        let written = self
            .answers()
            .recorder
            .write_claim(SUPERVISOR, event, intent);
        written.map_err(|error| self.failed(&error))
    }

    fn returned(
        &self,
        call: u64,
        bytes: u64,
        text: Option<&RawText>,
        is_error: bool,
    ) -> Result<(), String> {
        let mut open = lock(&self.open);
        let Some(at) = open.iter().position(|(number, _)| *number == call) else {
            return Ok(());
        };
        let Some((_, id)) = open.remove(at) else {
            return Ok(());
        };
        drop(open);
        let kept = self.answers().policy.record_content();
        let text = text.map(|text| said(&Content::of(text.as_bytes()), kept));
        let event = Event::ToolReturned {
            process: self.subject.clone(),
            learned_from: ClaimSource::Mcp,
            decision: None,
            id: shown(&id),
            call: None,
            text: stockade_event::Said {
                bytes,
                ..text.unwrap_or_default()
            },
            is_error: Some(is_error),
        };
        self.record(event, Intent::default()).map(drop)
    }

    /// Has definitions compared.
    fn compare<'scope>(
        &'scope self,
        number: u64,
        (tools, unread): (Vec<DefinitionSeen>, Option<String>),
        scope: &'scope Scope<'scope, '_>,
    ) {
        let defined = Defined {
            form: FORM.to_owned(),
            process: self.subject.clone(),
            decision: None,
            learned_from: ClaimSource::Mcp,
            visit: self.visit,
            definitions: tools
                .into_iter()
                .map(|one| DefinitionSeen {
                    server: self.server.clone(),
                    ..one
                })
                .collect(),
            unread,
        };
        self.aside(number, scope, move |wanted| {
            let number = self.answers().recorder.new_decision();
            let refused = self
                .service
                .comparing
                .compare(&defined, number, wanted)
                .err()?;
            let record = self.answers().recorder.record(
                number,
                &Request::Tool(ToolRequest::new(
                    b"tools/list",
                    Some(self.server.as_bytes()),
                    &[],
                    self.subject.clone(),
                )),
                &refused,
            );
            let why = record.why_not();
            let event = Event::ToolDecided {
                decision: record,
                id: None,
            };
            let written = self.answers().recorder.write(&event, Durability::Written);
            Some(match written {
                Ok(_) => why,
                Err(error) => self.failed(&error),
            })
        });
    }

    /// Says that claims were not recorded.
    fn lost(&self, count: u64) -> Result<(), String> {
        let event = Event::EventsLost {
            source: "servers".to_owned(),
            count,
            reason: "programs told more of servers of tools than is recorded".to_owned(),
        };
        let written = self.answers().recorder.write(&event, Durability::Written);
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &stockade_journal::SinkError) -> String {
        let reason = format!("the journal cannot be written: {error}");
        (self.answers().abort)(&reason);
        reason
    }
}
