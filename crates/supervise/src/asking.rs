//! Executions that a person is asked about: the supervisor first finds everything that affects
//! their meaning, shows it, and reads it again before they happen.

use stockade_event::{Durability, Event};
use stockade_policy::{Decision, Effect, EffectBound, ExecRequest, Involved, Origin, Request};
use stockade_sys::notifier::Notification;
use stockade_types::{RawText, Verdict};

use super::{ERRNO_DENIED, ERRNO_NOT_JUDGED, Supervision, exec::Attempt, push};
use crate::{Caller, covers::Reach, resolve::Resolver};
use stockade_approval::CoveredBy;

impl Supervision {
    /// Waits for a person's answer to an execution.
    pub(super) async fn ask_exec(
        &self,
        mut attempt: Attempt,
        decision: &Decision,
        caller: &Caller,
    ) -> Result<(), i32> {
        let call = &caller.call;
        let tid = call.tid();
        let resolver = self.resolver(tid).map_err(|_| ERRNO_NOT_JUDGED)?;
        let asked = self.complete(&resolver, &mut attempt);
        let asked = asked.ok_or(ERRNO_NOT_JUDGED)?;
        let request = Request::Exec(asked.clone());
        let (record, used) = self.ask(&request, decision, caller).await;
        let allowed = record.verdict == Verdict::Allow;
        let write = |decision| {
            let decided = Event::ExecDecided { decision };
            self.write(&decided, Durability::Synced)
                .ok_or(ERRNO_NOT_JUDGED)
        };
        write(record)?;
        if !allowed {
            self.note_refusal(&attempt, decision);
            return Err(ERRNO_DENIED);
        }
        // Last, since writing takes time.
        if !self.unchanged(&asked, attempt.deciding, call) || !self.seal(&attempt, tid) {
            write(self.changed_since(&request, decision))?;
            return Err(ERRNO_DENIED);
        }
        let reach = reach(&resolver, &attempt, &asked);
        let process = attempt.identity();
        self.note_start(call, attempt, None)
            .ok_or(ERRNO_NOT_JUDGED)?;
        if let Some(approval) = used {
            let covers = &self.processes.covers;
            covers.begin(process, CoveredBy::Approval(approval), reach);
        }
        Ok(())
    }

    /// Lets an execution through that belongs to an approved or allowed command; `None` if it does
    /// not, or if a rule about a file asks about it.
    pub(super) fn belongs(
        &self,
        attempt: &Attempt,
        decision: &Decision,
        call: &Notification,
    ) -> Option<CoveredBy> {
        let program = attempt.program()?;
        let by = self
            .processes
            .covers
            .of_execution(attempt.identity(), program)?;
        let holds = match &by {
            CoveredBy::Approval(id) => self.desk.holds(id),
            CoveredBy::Rule(_) => true,
        };
        let asked = self.policy.asks_by_default(decision);
        (holds && asked && !super::exec::only_checks(call)).then_some(by)
    }

    /// Journals an execution that belongs to an approved or allowed command.
    pub(super) fn let_belonging(
        &self,
        by: &CoveredBy,
        attempt: Attempt,
        (request, decision): (&Request, &Decision),
        call: &Notification,
    ) -> Option<()> {
        let id = self.recorder.new_decision();
        let allowed = Decision {
            verdict: Verdict::Allow,
            reason: format!("belongs to what {} let run", by.in_words()),
            ..decision.clone()
        };
        let record = self.recorder.record(id, request, &allowed);
        let mut events = Vec::new();
        if let CoveredBy::Approval(approval) = by {
            events.push(Event::ApprovalUsed {
                approval: approval.clone(),
                decision: id,
            });
        }
        events.push(Event::ExecDecided { decision: record });
        self.write_all(&events, Durability::Synced)?;
        // As with an answer, post-exec verification checks all of it again.
        self.note_start(call, attempt, None)
    }

    /// Lets an allowed execution through; if a rule of a file allows it, the rule covers the
    /// programs that belong to it.
    pub(super) fn let_allowed(
        &self,
        resolver: &Resolver,
        call: &Notification,
        attempt: Attempt,
        (decision, decided): (&Decision, Event),
    ) -> Option<()> {
        let process = attempt.identity();
        let rule = decision
            .rule
            .clone()
            .filter(|_| decision.origin != Some(Origin::Builtin));
        let cover = rule.and_then(|rule| {
            let reach = reach(resolver, &attempt, attempt.program()?.request);
            Some((CoveredBy::Rule(rule), reach))
        });
        // A traced process covers nothing: its tracer would get the cover.
        let cover =
            cover.filter(|(_, reach)| !reach.is_nothing() && self.seal(&attempt, resolver.tid()));
        self.note_start(call, attempt, Some(decided))?;
        if let Some((by, reach)) = cover {
            self.processes.covers.begin(process, by, reach);
        }
        Some(())
    }

    /// Returns the request for the decision, with everything that an answer binds.
    fn complete(&self, resolver: &Resolver, attempt: &mut Attempt) -> Option<ExecRequest> {
        for level in &mut attempt.levels {
            level.request.digest = level
                .request
                .digest
                .or_else(|| self.files.digest(&level.file).ok());
        }
        let deciding = attempt.deciding;
        let own = &attempt.levels.get(deciding)?.request;
        let others = attempt.levels.iter().enumerate();
        let involved = others
            .filter(|(index, _)| *index != deciding)
            .map(|(_, level)| Involved {
                path: level.request.program.clone(),
                digest: level.request.digest,
            })
            .collect();
        Some(ExecRequest {
            differing: self.start.differing(own, attempt.image > 0),
            involved,
            effects: effects(resolver, attempt, own),
            ..own.clone()
        })
    }

    /// Reads the call again: it must still be the call that was approved.
    fn unchanged(&self, asked: &ExecRequest, deciding: usize, call: &Notification) -> bool {
        let tid = call.tid();
        let name = stockade_sys::seccomp::name(call.number).unwrap_or_default();
        let Ok(resolver) = self.resolver(tid) else {
            return false;
        };
        let Ok(mut again) = self.attempt(&resolver, call, name, tid) else {
            return false;
        };
        again.deciding = deciding;
        // Files that the session can write are hashed anew.
        for level in &mut again.levels {
            level.request.digest = None;
        }
        let Some(now) = self.complete(&resolver, &mut again) else {
            return false;
        };
        now.is_known_by_content()
            && now.digest == asked.digest
            && now.involved == asked.involved
            && now.program == asked.program
            && now.argv == asked.argv
            && now.cwd == asked.cwd
            && now.environment == asked.environment
            && now.effects == asked.effects
    }
}

/// Finds what the answer to an execution covers.
fn reach(resolver: &Resolver, attempt: &Attempt, asked: &ExecRequest) -> Reach {
    Reach {
        next: attempt.next(),
        ..push::reach(resolver, asked)
    }
}

/// Returns the known effects of an execution, and the scope of an answer to it.
fn effects(resolver: &Resolver, attempt: &Attempt, own: &ExecRequest) -> Vec<Effect> {
    let mut effects = push::effects(resolver, own);
    effects.extend(reach(resolver, attempt, own).in_words().map(|text| Effect {
        label: "also lets".to_owned(),
        text: RawText::from(text.as_str()),
        bound: EffectBound::Always,
    }));
    effects
}
