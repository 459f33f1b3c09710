//! Executions that a person is asked about: all that gives them their meaning is found out first,
//! shown, and read again before they happen.

use stockade_event::{Durability, Event};
use stockade_policy::{Decision, ExecRequest, Involved, Request};
use stockade_sys::notifier::{Notification, Notifier};
use stockade_types::Verdict;

use super::{ERRNO_DENIED, ERRNO_NOT_JUDGED, Supervision, exec::Attempt, push};
use crate::resolve::Resolver;

impl Supervision {
    /// Waits for a person's answer to an execution.
    pub(super) fn ask_exec(
        &self,
        mut attempt: Attempt,
        decision: &Decision,
        notifier: &Notifier,
        call: &Notification,
    ) -> Result<(), i32> {
        let tid = u32::try_from(call.thread.as_raw_nonzero().get()).unwrap_or_default();
        let resolver = self.resolver(tid).map_err(|_| ERRNO_NOT_JUDGED)?;
        let asked = self.complete(&resolver, &mut attempt);
        let asked = asked.ok_or(ERRNO_NOT_JUDGED)?;
        let request = Request::Exec(asked.clone());
        let wanted = || notifier.is_waiting(call);
        let record = self.ask(&request, decision, &wanted);
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
        // Last, since writing takes its time.
        if !self.unchanged(&asked, attempt.deciding, call) {
            write(self.changed_since(&request, decision))?;
            return Err(ERRNO_DENIED);
        }
        self.note_start(call, attempt, None).ok_or(ERRNO_NOT_JUDGED)
    }

    /// Returns the request that decides with everything that an answer binds.
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
            effects: push::effects(resolver, own),
            ..own.clone()
        })
    }

    /// Reads the call again: what was approved is what runs.
    fn unchanged(&self, asked: &ExecRequest, deciding: usize, call: &Notification) -> bool {
        let tid = u32::try_from(call.thread.as_raw_nonzero().get()).unwrap_or_default();
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
