//! Covers: a request that belongs to an approved or allowed command is permitted by that, and
//! recorded.

use stockade_policy::Scope;
use stockade_types::{Answerer, Verdict};

use super::{
    desk::{Desk, not_recorded},
    exchange::{Asker, DeskEvent, Outcome},
    question::Answer,
    state::barred,
};
use crate::CoveredBy;

impl Desk {
    /// Permits a request that belongs to an approved or allowed command. `None` if nothing covers
    /// it or its cover was revoked; then it is asked about.
    pub(super) fn lend(&self, asker: &Asker<'_>) -> Option<Outcome> {
        let by = asker.covered.as_ref()?;
        if barred(&self.lock(), asker).is_some() {
            return None;
        }
        match by {
            CoveredBy::Approval(id) => {
                let approvals = self.lock().grants.lend(
                    id,
                    asker.request,
                    asker.decision,
                    asker.revision,
                    self.now(),
                )?;
                if (asker.decide)(&approvals).verdict != Verdict::Allow {
                    return None;
                }
                let used = DeskEvent::Used {
                    approval: id,
                    decision: asker.decision_id,
                };
                let id = id.clone();
                Some(match (self.observer)(&used) {
                    Ok(()) => Outcome::Granted { approvals, id },
                    Err(error) => not_recorded(Some(id), &error),
                })
            }
            // People in roles are asked, whatever started the command.
            CoveredBy::Rule(_) if asker.decision.review().is_some() => None,
            CoveredBy::Rule(rule) => {
                let names = self.lock().fresh_names()?;
                let id = names.0.clone();
                let span = asker.decision.stage.as_ref()?.expires;
                let question = self.question(names, asker, (self.now(), span));
                let scope = Scope::Once;
                let by = Answerer::Rule(rule.clone());
                let answer = Answer::Allow { scope };
                if let Err(error) = self.record(&question, &answer, &by, None) {
                    return Some(not_recorded(Some(id), &error));
                }
                self.lock().grant(&question, scope, None, self.now()).ok()?;
                self.use_grant(asker)
            }
        }
    }
}
