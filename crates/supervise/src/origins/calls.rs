//! The tool calls of one agent that may still have effects, and the conversations that they are of.

mod effects;

use std::collections::VecDeque;

use stockade_agents::Intent;
use stockade_event::{Event, Listed, Said};
use stockade_types::{Certainty, ClaimSource, DecisionId, Digest, RawText};

use super::{
    SubAgent,
    open::{Found, Open, Place},
    servers::{Called, Passed},
    sources::{Admitted, Sources, agree, same},
};

/// Calls that are open at a time; agents run some dozens.
const OPEN_MAX: usize = 512;
/// Ids of calls that have returned, and prompts, that are known again when they are sent again.
const SAID_MAX: usize = 1024;
/// Sub-agents that are told apart; what later ones say is taken for the agent's.
const SUB_AGENTS_MAX: usize = 1024;
/// Requests to models whose conversation is known; agents make some at a time.
const REQUESTS_MAX: usize = 256;

/// What the agent of a region has said.
#[derive(Default)]
pub(super) struct Region {
    /// The agent's own conversation.
    own: Conversation,
    /// Those of its sub-agents, which run in the same processes.
    others: Vec<Conversation>,
    /// Requests of sub-agents, by the decision that allowed them, with the place of the conversation.
    requests: VecDeque<(DecisionId, usize)>,
    /// How many calls there were.
    calls: u32,
    /// A process began for one of them.
    ran: bool,
    /// Calls without a result, oldest first.
    open: VecDeque<Open>,
    returned: VecDeque<Returned>,
    /// Prompts since the last answer: a call that fails is made again.
    prompts: Vec<Digest>,
    sources: Sources,
    /// Calls that servers got.
    passed: Passed,
}

/// A call that has its result.
struct Returned {
    id: RawText,
    /// The conversation that it was of.
    place: Place,
    /// The event with the call, if there is one, and where that was learned.
    call: Option<(u64, ClaimSource)>,
    /// What another agent was told by it, in traffic: some agents go on while it begins.
    told: Vec<Digest>,
}

/// What an agent and its model say to each other.
#[derive(Default)]
struct Conversation {
    /// The last prompt.
    turn: Option<u64>,
    /// The call that started it, and how that is known.
    start: Option<(u64, Certainty)>,
    has_ended: bool,
}

/// What a claim tells.
#[derive(Default)]
pub(super) struct Told {
    /// The call that has returned with it and its command, if nothing ran for it although this agent's
    /// commands are seen to run.
    pub(super) unmet: Option<(u64, RawText)>,
    pub(super) sub_agent: Option<SubAgent>,
}

impl Region {
    /// Returns what an open call names.
    pub(super) fn intent(&self, call: u64) -> Option<&Intent> {
        let open = self.open.iter().find(|open| open.number == call)?;
        Some(&open.intent)
    }

    /// Notes that an open call does not happen.
    pub(super) fn denied(&mut self, call: u64) {
        if let Some(open) = self.open.iter_mut().find(|open| open.number == call) {
            open.is_denied = true;
        }
    }

    /// Says what an event comes of that names an open call.
    pub(super) fn named(&self, call: u64) -> Option<Found> {
        let open = self.open.iter().find(|open| open.number == call)?;
        Some(open.found(Certainty::Exact))
    }

    /// Returns the last prompt of the agent itself.
    pub(super) const fn turn(&self) -> Option<u64> {
        self.own.turn
    }

    /// Tells whether calls of a model were seen, so that a tool call is known before it has an effect.
    pub(super) const fn is_heard(&self) -> bool {
        self.sources.has_traffic()
    }

    /// Returns how many calls there were.
    pub(super) const fn calls(&self) -> u32 {
        self.calls
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let said = self.open.len() + self.returned.len() + self.prompts.len();
        said + self.passed.len()
            + self.others.len()
            + self.requests.len()
            + self.sources.remembered()
    }

    /// Prepares a claim for the record.
    pub(super) fn admits(&mut self, event: &mut Event, intent: &Intent) -> Admitted {
        match event {
            Event::PromptSubmitted {
                parts,
                aside,
                decision,
                learned_from,
                ..
            } => {
                if !*aside && let Some(place) = self.started_by(intent) {
                    self.is_of(*decision, place);
                }
                let is_traffic = *learned_from == ClaimSource::Traffic;
                if is_traffic && self.prompts.contains(&digest(parts, *aside)) {
                    return Admitted::Before;
                }
                self.sources.prompt(parts, *learned_from)
            }
            Event::ToolCalled {
                id,
                name,
                arguments,
                learned_from,
                ..
            } => {
                let called = Called {
                    id,
                    name,
                    arguments: arguments.as_ref(),
                };
                self.called_before(called, *learned_from, intent)
            }
            Event::ToolReturned {
                id,
                call,
                decision,
                learned_from,
                ..
            } => {
                let (of, admitted) = self.returned_before(id, *learned_from, *decision);
                *call = of;
                admitted
            }
            Event::ModelCalled {
                learned_from,
                response_id,
                usage,
                ..
            } => self
                .sources
                .model(response_id.as_ref(), usage, *learned_from),
            Event::PlanChanged { id, call, .. } => {
                let mut open = self.open.iter().rev();
                *call = open.find(|open| open.id == *id).map(|open| open.number);
                Admitted::New
            }
            _ => Admitted::New,
        }
    }

    /// Says which open call a result is for, and whether the result was told before.
    fn returned_before(
        &mut self,
        id: &RawText,
        source: ClaimSource,
        request: Option<DecisionId>,
    ) -> (Option<u64>, Admitted) {
        if source == ClaimSource::Mcp
            && let Some(call) = self.passed.returned(id)
        {
            return (Some(call), Admitted::again(call));
        }
        let is_own = |open: &&Open| !id.as_bytes().is_empty() || open.source == source;
        let mut open = self.open.iter().filter(|open| open.id == *id);
        let found = open.find(is_own);
        let found = found.map(|open| (open.number, open.place, open.source));
        if found.is_none() && id.as_bytes().is_empty() {
            // Its call is another source's, which tells of the result too.
            return (None, Admitted::Before);
        }
        let call = found.map(|(number, ..)| number);
        if let Some((claim, _, other)) = found
            && other != source
        {
            return (call, Admitted::again(claim));
        }
        let before = self.returned.iter().rev().find(|known| known.id == *id);
        let is_known = before.is_some();
        let place = match (found, before) {
            (Some((_, place, _)), _) => place,
            (None, Some(before)) => before.place,
            (None, None) => None,
        };
        if let Some(place) = place {
            self.is_of(request, place);
        }
        let admitted = if found.is_some() || !is_known {
            Admitted::New
        } else {
            Admitted::Before
        };
        (call, admitted)
    }

    /// Says whether another source has named this call, and whether it said the same of it.
    fn called_before(
        &mut self,
        called: Called<'_>,
        source: ClaimSource,
        intent: &Intent,
    ) -> Admitted {
        let found = match source {
            ClaimSource::Mcp => self.passed.passes(&mut self.open, called),
            ClaimSource::Traffic | ClaimSource::Hook | ClaimSource::Otlp => {
                self.passed.is_told(&mut self.open, called)
            }
        };
        let found = found.and_then(|at| self.open.get(at));
        if let Some(open) = found {
            return Admitted::Again {
                claim: open.number,
                agrees: agree(&open.intent, intent),
            };
        }
        if source == ClaimSource::Mcp {
            return Admitted::New;
        }
        self.named_before(called.id, source, intent)
    }

    /// The same, for sources that have the model's ids.
    fn named_before(&self, id: &RawText, source: ClaimSource, intent: &Intent) -> Admitted {
        if id.as_bytes().is_empty() {
            // Some agents export no ids.
            let is_it = |open: &&Open| open.source != source && same(&open.intent, intent);
            let open = self.open.iter().find(is_it);
            return open.map_or(Admitted::New, |open| Admitted::again(open.number));
        }
        let is_it = |open: &&Open| open.id == *id && open.source != source;
        if let Some(open) = self.open.iter().find(is_it) {
            return Admitted::Again {
                claim: open.number,
                agrees: agree(&open.intent, intent),
            };
        }
        if source == ClaimSource::Otlp && self.knows_from_otlp(id) {
            return Admitted::Before;
        }
        let calls = self.returned.iter().filter(|known| known.id == *id);
        let mut calls = calls.filter_map(|known| known.call);
        let other = calls.find(|(_, learned_from)| *learned_from != source);
        other.map_or(Admitted::New, |(claim, _)| Admitted::again(claim))
    }

    /// Tells whether a call was exported before: agents export it when it is decided, and when it ended.
    fn knows_from_otlp(&self, id: &RawText) -> bool {
        let is_exported = |source: ClaimSource| source == ClaimSource::Otlp;
        let mut open = self.open.iter();
        let mut returned = self.returned.iter().filter(|known| known.id == *id);
        open.any(|open| open.id == *id && is_exported(open.source))
            || returned.any(|known| known.call.is_some_and(|(_, source)| is_exported(source)))
    }

    /// Forgets a call that another source told of otherwise.
    pub(super) fn forget(&mut self, claim: u64) {
        self.open.retain(|open| open.number != claim);
    }

    /// Takes a claim that is in the record as event `claim` already, from another source: what traffic
    /// says takes the place of what others say.
    pub(super) fn repeated(&mut self, claim: u64, event: &Event, intent: Intent) -> Told {
        let mut told = Told::default();
        match event {
            Event::PromptSubmitted {
                learned_from: ClaimSource::Traffic,
                decision,
                aside,
                parts,
                ..
            } => {
                self.asked(parts, *aside, ClaimSource::Traffic);
                if !*aside {
                    told.sub_agent = self.prompted(claim, *decision);
                }
            }
            Event::ToolCalled {
                learned_from: ClaimSource::Traffic,
                decision,
                ..
            } => {
                let place = self.place(*decision);
                let turn = self.conversation(place).turn;
                let mut open = self.open.iter_mut();
                if let Some(open) = open.find(|open| open.number == claim) {
                    (open.source, open.place, open.turn) = (ClaimSource::Traffic, place, turn);
                    open.intent = intent;
                }
            }
            _ => {}
        }
        told
    }

    /// Finds the conversation that a call started by saying what a model is told now, or begins it.
    fn started_by(&mut self, intent: &Intent) -> Place {
        let says = |told: &[Digest]| told.iter().any(|prompt| intent.prompts.contains(prompt));
        let open = self.open.iter().filter(|open| says(open.told()));
        let mut open = open.map(|open| open.number).peekable();
        // What a call told that has its result can also be what a person says again later.
        let returned = self.returned.iter().rev().filter(|call| says(&call.told));
        let returned = returned.filter_map(|returned| returned.call);
        let mut returned = returned.filter(|(call, _)| !self.has_ended(*call));
        let (call, certainty) = if open.peek().is_some() {
            let call = open.next()?;
            (
                call,
                if open.next().is_none() {
                    Certainty::Exact
                } else {
                    Certainty::Inferred
                },
            )
        } else {
            (returned.next()?.0, Certainty::Inferred)
        };
        let is_it = |one: &Conversation| one.start.is_some_and(|(start, _)| start == call);
        if let Some(place) = self.others.iter().position(is_it) {
            return Some(place);
        }
        if self.others.len() >= SUB_AGENTS_MAX {
            return None;
        }
        self.others.push(Conversation {
            start: Some((call, certainty)),
            ..Conversation::default()
        });
        Some(self.others.len() - 1)
    }

    /// Says whether the conversation that a call started has come to its end.
    fn has_ended(&self, call: u64) -> bool {
        let is_it = |one: &&Conversation| one.start.is_some_and(|(start, _)| start == call);
        self.others
            .iter()
            .find(is_it)
            .is_some_and(|one| one.has_ended)
    }

    fn is_of(&mut self, request: Option<DecisionId>, place: usize) {
        let Some(request) = request else { return };
        if self.requests.iter().any(|(known, _)| *known == request) {
            return;
        }
        if self.requests.len() >= REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back((request, place));
    }

    fn place(&self, request: Option<DecisionId>) -> Place {
        let request = request?;
        let mut requests = self.requests.iter();
        let (_, place) = requests.find(|(known, _)| *known == request)?;
        Some(*place)
    }

    fn conversation(&self, place: Place) -> &Conversation {
        let other = place.and_then(|place| self.others.get(place));
        other.unwrap_or(&self.own)
    }

    fn conversation_mut(&mut self, place: Place) -> &mut Conversation {
        let other = place.and_then(|place| self.others.get_mut(place));
        other.unwrap_or(&mut self.own)
    }

    /// Takes a claim that is in the record with number `seq`, and says what it tells.
    pub(super) fn claimed(&mut self, seq: u64, event: &Event, intent: Intent) -> Told {
        let mut told = Told::default();
        if let Event::PromptSubmitted {
            parts,
            aside,
            decision,
            learned_from,
            ..
        } = event
        {
            self.asked(parts, *aside, *learned_from);
            self.sources.prompted(seq, parts, *learned_from);
            // Once traffic is seen, only it says which prompt the agent works at.
            if !aside && self.sources.leads(*learned_from) {
                told.sub_agent = self.prompted(seq, *decision);
            }
        } else if let Event::ToolCalled {
            id,
            name,
            arguments,
            decision,
            learned_from,
            ..
        } = event
        {
            self.calls = self.calls.wrapping_add(1);
            self.sources.hears(*learned_from);
            if self.open.len() >= OPEN_MAX {
                self.open.pop_front();
            }
            let place = self.place(*decision);
            self.open.push_back(Open {
                number: seq,
                turn: self.conversation(place).turn,
                place,
                id: id.clone(),
                name: name.clone(),
                arguments: arguments.as_ref().map(|said| Said {
                    text: None,
                    ..said.clone()
                }),
                source: *learned_from,
                intent,
                scopes: 0,
                is_passed: false,
                is_denied: false,
            });
        } else if let Event::ToolReturned {
            id, call, decision, ..
        } = event
        {
            told.unmet = self.returned(id, *call, *decision);
        } else if let Event::ModelCalled {
            error,
            decision,
            calls,
            learned_from,
            response_id,
            usage,
            ..
        } = event
        {
            self.sources
                .answered(seq, response_id.as_ref(), usage, *learned_from);
            if error.is_none() && self.sources.leads(*learned_from) {
                self.prompts.clear();
                told.sub_agent = self.answered(*decision, calls.count > 0);
            }
        }
        told
    }

    /// Remembers what traffic asks, which is asked again if the call fails.
    fn asked(&mut self, parts: &Listed<Said>, aside: bool, source: ClaimSource) {
        if source == ClaimSource::Traffic && self.prompts.len() < SAID_MAX {
            self.prompts.push(digest(parts, aside));
        }
    }

    /// Ends a call, and says what it names if nothing ran for it.
    fn returned(
        &mut self,
        id: &RawText,
        call: Option<u64>,
        request: Option<DecisionId>,
    ) -> Option<(u64, RawText)> {
        let mut open = self.open.iter();
        let ended = open.find(|open| Some(open.number) == call);
        // What is exported comes late, when its command may not be looked for any more.
        // What a server runs belongs to the server.
        let seen = ended.filter(|open| match open.source {
            ClaimSource::Traffic | ClaimSource::Hook => !open.is_passed,
            ClaimSource::Otlp | ClaimSource::Mcp => false,
        });
        let unmet = seen.and_then(Open::unmet).filter(|_| self.ran);
        let call = ended.map(|open| (open.number, open.source));
        let told = ended.map(|open| open.told().to_vec()).unwrap_or_default();
        self.open
            .retain(|open| Some(open.number) != call.map(|(number, _)| number));
        if self.returned.len() >= SAID_MAX {
            self.returned.pop_front();
        }
        self.returned.push_back(Returned {
            id: id.clone(),
            place: self.place(request),
            call,
            told,
        });
        unmet
    }

    fn prompted(&mut self, seq: u64, request: Option<DecisionId>) -> Option<SubAgent> {
        let place = self.place(request);
        let conversation = self.conversation_mut(place);
        let before = conversation.turn.replace(seq);
        let (call, _) = conversation.start.filter(|_| before.is_none())?;
        Some(SubAgent::Started { call, prompt: seq })
    }

    fn answered(&mut self, request: Option<DecisionId>, asks_for_more: bool) -> Option<SubAgent> {
        let place = self.place(request)?;
        self.requests.retain(|(known, _)| Some(*known) != request);
        let conversation = self.conversation_mut(Some(place));
        if asks_for_more || std::mem::replace(&mut conversation.has_ended, true) {
            return None;
        }
        let (call, _) = conversation.start?;
        Some(SubAgent::Ended { call })
    }
}

fn digest(parts: &Listed<Said>, aside: bool) -> Digest {
    // Serialising our own values cannot fail.
    let text = serde_json::to_vec(&(parts, aside)).unwrap_or_default();
    Digest::of(&text)
}
