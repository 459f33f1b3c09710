//! The two directions of one server, line by line.
//!
//! A line is held until it is known what it says: no side acts on a line without its end. Every byte of it
//! is then passed on as it came, or none.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, Read, Write as _},
    process::{ChildStdin, ChildStdout},
    sync::{Condvar, Mutex, PoisonError},
    time::Instant,
};

use stockade_agents::mcp::{self, Answer, Answers, Id, Message, Messages, Read as Said, ToolCall};
use stockade_egress::wire::DefinitionSeen;
use stockade_supervise::lock;
use stockade_types::{RawText, ignored};

use super::{
    limits::{LINE_BYTES_MAX, OPEN_MAX, ORDER_WAIT, PARKED_MAX, PIECE_BYTES, RESULT_BYTES_MAX},
    outbox::{Outbox, say},
    wire::{Tell, Verdict},
};

/// What both directions share.
pub(super) struct Pipes {
    server: RawText,
    to_server: Mutex<Option<ChildStdin>>,
    outbox: Outbox,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The number of the last question.
    asked: u64,
    /// Lines with calls that wait, by the number of their first question.
    parked: BTreeMap<u64, Parked>,
    /// Calls that the server got, by id.
    open: VecDeque<(Id, u64)>,
    /// Questions about definitions, with their answers.
    defined: BTreeMap<u64, Option<Verdict>>,
    /// Results that were not told.
    lost: u64,
    /// Why nobody can be asked.
    alone: Option<String>,
}

/// A line that waits for verdicts.
struct Parked {
    line: Vec<u8>,
    said: Said,
    calls: Vec<(Option<Id>, u64)>,
    /// Questions that are not answered yet.
    left: BTreeSet<u64>,
    denied: Option<String>,
}

impl Pipes {
    pub(super) fn new(to_server: ChildStdin, outbox: Outbox, server: RawText) -> Self {
        Self {
            server,
            to_server: Mutex::new(Some(to_server)),
            outbox,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Says that nobody can be asked from now on: calls are denied, and tools not read.
    pub(super) fn is_alone(&self, why: &str) {
        let parked = {
            let mut state = lock(&self.state);
            if state.alone.is_none() {
                state.alone = Some(format!(
                    "denied: the boundary could not be asked about a call of a server's tool: {why}"
                ));
            }
            std::mem::take(&mut state.parked)
        };
        self.changed.notify_all();
        let reason = lock(&self.state).alone.clone().unwrap_or_default();
        for one in parked.into_values() {
            refuse(&one.said, &reason);
        }
    }

    /// Takes an answer of the supervisor.
    pub(super) fn verdict(&self, verdict: Verdict) {
        if verdict.number == 0 {
            // It is about everything.
            return self.is_alone(&verdict.denied.unwrap_or_default());
        }
        let mut state = lock(&self.state);
        if let Some(waits) = state.defined.get_mut(&verdict.number) {
            *waits = Some(verdict);
            self.changed.notify_all();
            return;
        }
        let mut parked = state.parked.iter_mut();
        let Some((&first, one)) = parked.find(|(_, one)| one.left.contains(&verdict.number)) else {
            return;
        };
        one.left.remove(&verdict.number);
        one.denied = one.denied.take().or(verdict.denied);
        if !one.left.is_empty() {
            return;
        }
        let Some(one) = state.parked.remove(&first) else {
            return;
        };
        if one.denied.is_none() {
            for (id, number) in &one.calls {
                if let Some(id) = id {
                    if state.open.len() >= OPEN_MAX {
                        state.open.pop_front();
                    }
                    state.open.push_back((id.clone(), *number));
                }
            }
        }
        drop(state);
        match one.denied {
            None => self.to_server(&one.line),
            Some(reason) => refuse(&one.said, &reason),
        }
        self.changed.notify_all();
    }

    fn to_server(&self, line: &[u8]) {
        let mut to = lock(&self.to_server);
        let written = to
            .as_mut()
            .map(|to| to.write_all(line).and_then(|()| to.flush()));
        if written.is_some_and(|written| written.is_err()) {
            // It has ended, or reads no more, which its end shows.
            *to = None;
        }
    }

    /// Passes on what the client says, to its end.
    pub(super) fn serve_client(&self, mut from: impl Read) {
        let mut line = Line::default();
        let mut piece = vec![0; PIECE_BYTES];
        let mut messages = Messages::default();
        loop {
            let count = match from.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let mut rest = piece.get(..count).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let (part, has_end) = part(&mut rest);
                messages.feed(part);
                line.add(part);
                if line.is_long {
                    // It will be refused; only its id is looked for.
                    line.bytes.clear();
                }
                if has_end {
                    let said = std::mem::take(&mut messages).finish();
                    self.said(std::mem::take(&mut line), said);
                }
            }
        }
        // A line without its end is said to nobody, and still is not ours to keep.
        if messages.finish().messages.is_empty() {
            self.to_server(&line.bytes);
        }
        self.until(|state| state.parked.is_empty());
        *lock(&self.to_server) = None;
    }

    /// Passes a line of the client on, or has its calls decided first.
    fn said(&self, line: Line, said: Said) {
        if line.is_long {
            let reason = format!("denied: the message is longer than {LINE_BYTES_MAX} bytes");
            return refuse(&said, &reason);
        }
        let mut tells = Vec::new();
        let mut calls = Vec::new();
        {
            let mut state = lock(&self.state);
            for message in &said.messages {
                match message {
                    Message::Call(call) => {
                        state.asked += 1;
                        calls.push((call.id.clone(), state.asked));
                        tells.push((state.asked, asked(call, state.asked)));
                    }
                    Message::Cancel { of } => {
                        if let Some(numbers) = state.take_back(of) {
                            drop(state);
                            for number in numbers {
                                self.tell(Tell::Withdraw { number });
                            }
                            // The server never had the call.
                            return;
                        }
                    }
                    Message::List { .. } | Message::Other { .. } => {}
                }
            }
            if let Some(why) = said.problem {
                state.asked += 1;
                let number = state.asked;
                let why = why.to_owned();
                tells.push((number, Tell::Unread { number, why }));
            }
        }
        let Some((first, _)) = tells.first() else {
            return self.to_server(&line.bytes);
        };
        self.until(|state| state.parked.len() < PARKED_MAX);
        self.park(
            *first,
            Parked {
                line: line.bytes,
                said,
                calls,
                left: tells.iter().map(|(number, _)| *number).collect(),
                denied: None,
            },
            tells,
        );
    }

    /// Holds a line until its questions are answered; others may pass it after a while.
    fn park(&self, first: u64, parked: Parked, tells: Vec<(u64, Tell)>) {
        let alone = {
            let mut state = lock(&self.state);
            if let Some(reason) = state.alone.clone() {
                Some((parked, reason))
            } else {
                state.parked.insert(first, parked);
                None
            }
        };
        if let Some((parked, reason)) = alone {
            return refuse(&parked.said, &reason);
        }
        for (number, tell) in tells {
            if !self.tell(tell) {
                let denied = "denied: too many calls wait to be asked about".to_owned();
                self.verdict(Verdict {
                    number,
                    denied: Some(denied),
                });
            }
        }
        let until = Instant::now() + ORDER_WAIT;
        let mut state = lock(&self.state);
        while state.parked.contains_key(&first) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Tells the supervisor, if it keeps up.
    fn tell(&self, tell: Tell) -> bool {
        self.outbox.try_send(tell).is_ok()
    }

    /// Waits until something is so.
    fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut state = lock(&self.state);
        while !is_so(&state) && state.alone.is_none() {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Passes on what the server says, to its end.
    ///
    /// # Errors
    /// When the client reads it no more.
    pub(super) fn serve_server(&self, mut from: ChildStdout) -> io::Result<()> {
        let mut line = Line::default();
        let mut piece = vec![0; PIECE_BYTES];
        let mut answers = Answers::new(self.server.clone());
        let mut heard = Vec::new();
        loop {
            let count = match from.read(&mut piece) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let mut rest = piece.get(..count).unwrap_or_default();
            if rest.is_empty() {
                return to_client(&line.bytes);
            }
            while !rest.is_empty() {
                let (part, has_end) = part(&mut rest);
                answers.feed(part);
                heard.extend(answers.take());
                if !has_end {
                    line.add(part);
                    // Of a longer line all but its end passes.
                    if line.is_long {
                        to_client(&std::mem::take(&mut line.bytes))?;
                    }
                    continue;
                }
                line.add_end(part);
                answers = Answers::new(self.server.clone());
                self.heard(&std::mem::take(&mut line), std::mem::take(&mut heard))?;
            }
        }
    }

    /// Passes a line of the server on, unless what it says of its tools must not be read.
    fn heard(&self, line: &Line, answers: Vec<Answer>) -> io::Result<()> {
        let ids: Vec<Id> = answers.iter().map(|answer| answer.id.clone()).collect();
        let (mut refused, is_batch) = (None, ids.len() > 1);
        for answer in answers {
            if let Some(defined) = &answer.defined {
                refused = refused.or(self.compare(defined));
            }
            self.returned(&answer);
        }
        let Some(reason) = refused else {
            return to_client(&line.bytes);
        };
        if line.is_long {
            // Its beginning has passed: nobody can read it any more.
            to_client(b"\0\n")?;
        }
        let messages = ids.into_iter().map(|id| Message::List { id: Some(id) });
        let said = Said {
            messages: messages.collect(),
            is_batch,
            problem: None,
        };
        refuse(&said, &reason);
        Ok(())
    }

    /// Has definitions compared; returns why they must not be read.
    fn compare(&self, defined: &mcp::Defined) -> Option<String> {
        let tools = defined.tools.iter().map(|one| DefinitionSeen {
            server: one.server.clone(),
            tool: one.tool.clone(),
            digest: one.content.digest(),
            text: one.content.text().map(RawText::from_bytes),
            is_hiding: one.is_hiding,
        });
        let parts = DefinitionSeen::in_parts(tools.collect());
        let last = parts.len().saturating_sub(1);
        for (at, tools) in parts.into_iter().enumerate() {
            let number = {
                let mut state = lock(&self.state);
                state.asked += 1;
                let number = state.asked;
                state.defined.insert(number, None);
                number
            };
            let unread = defined.unread.filter(|_| at == last);
            let tell = Tell::Defined {
                number,
                tools,
                unread: unread.map(|why| why.in_words().to_owned()),
            };
            // It has to wait for an answer anyway.
            let is_told = self.outbox.send(tell).is_ok();
            let answer = is_told.then(|| self.answered(number)).flatten();
            let verdict = answer.map_or_else(
                || {
                    let alone = lock(&self.state).alone.clone();
                    Some(alone.unwrap_or_else(|| "denied: nobody could be asked".to_owned()))
                },
                |verdict| verdict.denied,
            );
            if verdict.is_some() {
                return verdict;
            }
        }
        None
    }

    fn answered(&self, number: u64) -> Option<Verdict> {
        self.until(|state| matches!(state.defined.get(&number), Some(Some(_)) | None));
        lock(&self.state).defined.remove(&number).flatten()
    }

    /// Tells of a result, if there was such a call.
    fn returned(&self, answer: &Answer) {
        let mut state = lock(&self.state);
        let Some(at) = state.open.iter().position(|(id, _)| *id == answer.id) else {
            return;
        };
        let Some((_, call)) = state.open.remove(at) else {
            return;
        };
        let lost = std::mem::take(&mut state.lost);
        drop(state);
        if lost > 0 && !self.tell(Tell::Lost { count: lost }) {
            lock(&self.state).lost += lost;
        }
        let text = answer.content.as_ref().and_then(|content| content.text());
        let is_told = self.tell(Tell::Returned {
            call,
            bytes: answer.bytes,
            text: text
                .filter(|text| text.len() <= RESULT_BYTES_MAX)
                .map(RawText::from_bytes),
            is_error: answer.is_error,
        });
        if !is_told {
            lock(&self.state).lost += 1;
        }
    }
}

impl State {
    /// Takes a line back that waits for a verdict on this call alone; returns its questions.
    fn take_back(&mut self, id: &Id) -> Option<Vec<u64>> {
        let mut parked = self.parked.iter();
        let (&first, _) = parked.find(|(_, one)| {
            let [(Some(own), _)] = &one.calls[..] else {
                return false;
            };
            own == id && !one.said.is_batch
        })?;
        let one = self.parked.remove(&first)?;
        Some(one.left.into_iter().collect())
    }
}

/// Answers in the place of the server.
fn refuse(said: &Said, reason: &str) {
    match mcp::refusal(said, reason) {
        Some(mut answer) => {
            answer.push(b'\n');
            ignored(to_client(&answer), "the client is gone");
        }
        None => say(reason),
    }
}

fn asked(call: &ToolCall, number: u64) -> Tell {
    Tell::Call {
        number,
        tool: call.tool.clone(),
        use_id: call.use_id.clone(),
        arguments: RawText::from_bytes(call.arguments.json.as_slice()),
        is_whole: call.arguments.is_whole,
    }
}

/// A line as far as it is held.
#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    is_long: bool,
}

impl Line {
    fn add(&mut self, part: &[u8]) {
        self.is_long |= self.bytes.len() + part.len() > LINE_BYTES_MAX;
        self.add_end(part);
    }

    fn add_end(&mut self, part: &[u8]) {
        self.bytes.extend_from_slice(part);
    }
}

/// Takes the next part of a line, which has its end or not.
fn part<'p>(rest: &mut &'p [u8]) -> (&'p [u8], bool) {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (part, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
    *rest = after;
    (part, end.is_some())
}

fn to_client(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}
