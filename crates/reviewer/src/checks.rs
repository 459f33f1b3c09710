//! What is decided without a model.

use std::collections::BTreeSet;

use stockade_approval::{Opinion, Question};
use stockade_policy::{Approvals, HostSets, Origin, Policy, Problems, Source, load};
use stockade_types::{Authorisation, Risk, RuleId, Verdict};

use crate::prompt::EVIDENCE_BYTES_MAX;

/// Who says what is decided here.
const NAME: &str = "checks";

/// The checks of this program.
#[derive(Debug)]
pub struct Checks {
    shapes: Policy,
    own: BTreeSet<RuleId>,
}

impl Checks {
    /// Reads the shapes that are part of this program.
    ///
    /// # Errors
    /// When they are no policy, which a test of this crate would have said.
    pub fn new() -> Result<Self, Problems> {
        let source = Source {
            origin: Origin::Builtin,
            name: "shapes.toml".to_owned(),
            text: include_str!("shapes.toml").to_owned(),
        };
        let shapes = load(&[source], &HostSets::default())?;
        Ok(Self {
            own: shapes.rules().into_iter().map(|rule| rule.id).collect(),
            shapes,
        })
    }

    /// Decides a question, or says why a model must not be asked either; `None` if a model can be.
    pub fn opinion(&self, question: &Question) -> Option<Opinion> {
        let shown = question.matter().shown();
        if let Some(warning) = shown.warnings.first() {
            let mut opinion = Opinion::pass(NAME, format!("people have to see this: {warning}"));
            opinion.risk = Some(Risk::High);
            return Some(opinion);
        }
        let decision = self.shapes.decide(&question.request, &Approvals::none());
        let rule = decision.rule.filter(|rule| self.own.contains(rule));
        if let Some(rule) = rule {
            let (verdict, risk) = match decision.verdict {
                Verdict::Allow => (Some(Verdict::Allow), Risk::Low),
                Verdict::Deny => (Some(Verdict::Deny), Risk::Critical),
                Verdict::Ask => (None, Risk::High),
            };
            return Some(Opinion {
                verdict,
                risk: Some(risk),
                authorisation: Some(Authorisation::Unknown),
                reviewer: NAME.to_owned(),
                rationale: format!("{} (shape `{rule}`)", decision.reason),
            });
        }
        let bytes = shown.to_string().len();
        if bytes > EVIDENCE_BYTES_MAX {
            let why =
                format!("its text has {bytes} bytes, and a model is shown {EVIDENCE_BYTES_MAX}");
            return Some(Opinion::pass(NAME, why));
        }
        None
    }
}
