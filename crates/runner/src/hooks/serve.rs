//! Answers one client of the hooks.

use std::{
    cmp,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Instant,
};

use stockade_agents::{BODY_BYTES_MAX, HookMessage, HookReader, ToolUse};
use stockade_approval::{Asker, Outcome};
use stockade_event::{Durability, Event};
use stockade_journal::SinkError;
use stockade_policy::{Approvals, Control, Decision, Request, ToolRequest};
use stockade_supervise::{SUPERVISOR, Speaker, refused};
use stockade_types::{DecisionId, RawText, Subject, Verdict, ignored};

use super::{
    Answers, claims,
    limits::{CLIENT_WAIT, HEAD_BYTES_MAX, OTHERS_CLAIMS_MAX, OTHERS_MAX, PIECE_BYTES},
    peers::{self, Measure},
    reply::{self, Reply},
};

/// Answers clients.
pub(super) struct Service {
    answers: Arc<Answers>,
    measure: Measure,
}

impl Service {
    pub(super) fn new(answers: Arc<Answers>) -> Self {
        Self {
            answers,
            measure: Measure::default(),
        }
    }

    /// Answers one client.
    pub(super) fn answer(&self, mut stream: UnixStream) {
        let reply = self
            .reply(&mut stream)
            .unwrap_or_else(|reason| Reply::Failed { reason });
        let text = serde_json::to_vec(&reply).unwrap_or_default();
        ignored(stream.write_all(&text), "the client is gone");
    }

    fn reply(&self, stream: &mut UnixStream) -> Result<Reply, String> {
        stream
            .set_write_timeout(Some(CLIENT_WAIT))
            .map_err(|error| error.to_string())?;
        let subject = peers::subject(stream, &self.answers.processes);
        let subject = subject
            .map_err(|error| format!("who asks is not known: {error}"))?
            .ok_or("who asks is not known: it has ended")?;
        let speaker = match subject.id {
            Some(process) => self.answers.recorder.origins().speaker(process),
            None => Speaker::Other,
        };
        let place = match speaker {
            Speaker::Agent => None,
            Speaker::Other => Some(self.measure.place().ok_or_else(|| {
                format!("{OTHERS_MAX} programs that no agent started as its hook ask already")
            })?),
        };
        let message = told(stream)?;
        let reply = self.decide(&message, (&subject, speaker), stream);
        drop(place);
        reply
    }

    /// Records what was told, and decides about a call.
    fn decide(
        &self,
        message: &HookMessage,
        (subject, speaker): (&Subject, Speaker),
        stream: &UnixStream,
    ) -> Result<Reply, String> {
        let claim = self.record(message, subject, speaker)?;
        match message {
            HookMessage::Before { tool, .. } => self.judge(tool, subject, claim, stream),
            HookMessage::After { .. } | HookMessage::Prompt(_) | HookMessage::Other => {
                Ok(Reply::GoOn)
            }
        }
    }

    /// Records what was told; returns the number of the event that says it, 0 if none does.
    fn record(
        &self,
        message: &HookMessage,
        subject: &Subject,
        speaker: Speaker,
    ) -> Result<u64, String> {
        let Answers {
            policy, recorder, ..
        } = &*self.answers;
        let Some((event, intent)) = claims::claim(message, subject, policy.record_content()) else {
            return Ok(0);
        };
        self.measure.keep_pace();
        if speaker == Speaker::Other {
            match self.measure.claim().cmp(&OTHERS_CLAIMS_MAX) {
                cmp::Ordering::Less => {}
                cmp::Ordering::Equal => return self.lost(1).map(|()| 0),
                // These are counted at the end.
                cmp::Ordering::Greater => return Ok(0),
            }
        }
        let written = recorder.write_claim(SUPERVISOR, event, intent);
        written.map_err(|error| self.failed(&error))
    }

    /// Says that so many claims of programs that no agent started were not recorded.
    fn lost(&self, count: u64) -> Result<(), String> {
        let event = Event::EventsLost {
            source: "hooks".to_owned(),
            count,
            reason: format!(
                "programs that no agent started as its hook have made {OTHERS_CLAIMS_MAX} claims, and no \
                 more of theirs are recorded"
            ),
        };
        let written = self.answers.recorder.write(&event, Durability::Written);
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// Decides about a call that is about to be made.
    fn judge(
        &self,
        tool: &ToolUse,
        subject: &Subject,
        claim: u64,
        stream: &UnixStream,
    ) -> Result<Reply, String> {
        let Answers {
            policy,
            recorder,
            workspace,
            ..
        } = &*self.answers;
        let server = tool.server.as_ref().map(RawText::as_bytes);
        let (name, arguments) = (tool.tool.as_bytes(), &tool.arguments.json);
        let request = Request::Tool(ToolRequest {
            workspace: Some(workspace.clone()),
            ..ToolRequest::new(name, server, arguments, subject.clone())
        });
        let first = policy.decide(&request, &Approvals::none());
        // Where no rule of a file is about it, the call is in the record already.
        if Control::ToolCall.allows_by_default(&first) {
            return Ok(Reply::GoOn);
        }
        let number = recorder.new_decision();
        let decision = match first.verdict {
            Verdict::Allow | Verdict::Deny => first,
            Verdict::Ask => self.ask((&request, number), &first, stream),
        };
        let record = recorder.record(number, &request, &decision);
        let reply = match decision.verdict {
            Verdict::Allow => Reply::GoOn,
            Verdict::Ask | Verdict::Deny => Reply::Deny {
                reason: record.why_not(),
            },
        };
        let event = Event::ToolDecided {
            decision: record,
            id: tool.id.clone(),
        };
        let written = recorder.write(&event, Durability::Written);
        written.map_err(|error| self.failed(&error))?;
        if reply != Reply::GoOn
            && let Some(process) = subject.id
        {
            recorder.origins().denied(process, claim);
        }
        Ok(reply)
    }

    /// Asks the person, as long as the agent waits.
    fn ask(
        &self,
        (request, number): (&Request, DecisionId),
        decision: &Decision,
        stream: &UnixStream,
    ) -> Decision {
        let Answers {
            policy,
            desk,
            recorder,
            ..
        } = &*self.answers;
        let decide = |approvals: &Approvals| policy.decide(request, approvals);
        let outcome = desk.ask(&Asker {
            request,
            decision,
            decision_id: number,
            revision: recorder.revision(),
            intent: recorder.says(request.subject()),
            decide: &decide,
            wanted: &|| peers::waits(stream),
            covered: None,
            lasting: policy.lasting(request, decision),
        });
        match outcome {
            Outcome::Granted { approvals, .. } => decide(&approvals),
            Outcome::Refused { by, reason, .. } => refused(decision, &by, &reason),
        }
    }

    fn failed(&self, error: &SinkError) -> String {
        let reason = format!("the journal cannot be written: {error}");
        (self.answers.abort)(&reason);
        reason
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The first one was told of when it came.
        let more = self.measure.lost().saturating_sub(1);
        if more > 0 {
            ignored(self.lost(more), "it aborts the session, which ends");
        }
    }
}

/// Reads what a client says, to its end.
fn told(stream: &mut UnixStream) -> Result<HookMessage, String> {
    let until = Instant::now() + CLIENT_WAIT;
    let mut telling = Telling::Head(Vec::new());
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0_u64;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(slow(&io::Error::from(io::ErrorKind::TimedOut)));
        }
        let read = stream.set_read_timeout(Some(left));
        let read = read.and_then(|()| stream.read(&mut piece));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(slow(&error)),
        };
        bytes = bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        // Who says too much learns that, as long as there is an end.
        let Some(new) = piece.get(..count).filter(|new| !new.is_empty()) else {
            return telling.finish();
        };
        if bytes > 2 * BODY_BYTES_MAX {
            return telling.finish();
        }
        telling = telling.take(new);
    }
}

/// How far a client has come.
enum Telling {
    /// In the first line.
    Head(Vec<u8>),
    /// In what the agent told.
    Message(Box<HookReader>),
    /// Behind what is refused, for this reason.
    Refused(String),
}

impl Telling {
    fn take(self, new: &[u8]) -> Self {
        match self {
            Self::Head(mut head) => {
                let end = new.iter().position(|byte| *byte == b'\n');
                let (line, rest) = new.split_at(end.unwrap_or(new.len()));
                head.extend_from_slice(line);
                if head.len() > HEAD_BYTES_MAX {
                    return Self::Refused(no_agent());
                }
                let Some(rest) = rest.get(1..) else {
                    return Self::Head(head);
                };
                match reply::agent(&head) {
                    Some(agent) => Self::Message(Box::new(HookReader::new(agent))).take(rest),
                    None => Self::Refused(no_agent()),
                }
            }
            Self::Message(mut reader) => match reader.feed(new) {
                Ok(()) => Self::Message(reader),
                Err(error) => Self::Refused(error.to_string()),
            },
            Self::Refused(reason) => Self::Refused(reason),
        }
    }

    fn finish(self) -> Result<HookMessage, String> {
        match self {
            Self::Head(_) => Err(no_agent()),
            Self::Message(reader) => reader.finish().map_err(|error| error.to_string()),
            Self::Refused(reason) => Err(reason),
        }
    }
}

fn no_agent() -> String {
    "the first line names no agent whose hooks are known".to_owned()
}

fn slow(error: &io::Error) -> String {
    let seconds = CLIENT_WAIT.as_secs();
    format!("what the agent told did not arrive whole within {seconds} seconds: {error}")
}
