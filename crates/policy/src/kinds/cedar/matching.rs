//! Which rules in Cedar match a request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cedar_policy::{
    Authorizer, Entities, EntityUid, Policy, PolicyId, PolicySet, Request as CedarRequest,
};
use stockade_types::RequestKind;

use super::{
    CedarBody,
    bounds::{Attribute, Bound, folded, settled},
    context::{KINDS, Letters, Seen, schema},
};
use crate::kinds::{Body, Features, Fit};

/// Why rules in Cedar could not be evaluated; the verdict is then a deny.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CedarError {
    #[error("{0}")]
    Setup(String),
    #[error("a rule in Cedar failed: {0}")]
    Evaluate(String),
}

/// All rules in Cedar of a policy, ready for evaluation.
#[derive(Debug)]
pub(crate) struct CedarRules {
    authorizer: Authorizer,
    /// The hierarchy of actions.
    actions: Entities,
    action_of: Vec<(RequestKind, EntityUid)>,
    principal: EntityUid,
    resource: EntityUid,
    /// The name of the preset that the session is for.
    agent: String,
    rules: Vec<(usize, CedarBody)>,
    /// Some rule has an upper-case letter.
    has_capitals: bool,
    /// Filled on demand: few situations occur in one session.
    sets: Mutex<HashMap<Situation, Arc<PolicySet>>>,
}

/// Identifies a set of rules: their kind, letter case and unknown attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Situation {
    kind: RequestKind,
    is_folded: bool,
    is_sure: bool,
    unknown: Vec<&'static str>,
}

/// Allows everything, so that Cedar names each `forbid` that holds.
const OPEN: &str = "permit (principal, action, resource);";

impl CedarRules {
    /// Selects the rules in Cedar from all rules; `None` if there are none.
    pub(crate) fn new<'b>(
        bodies: impl IntoIterator<Item = &'b Body>,
        agent: &str,
    ) -> Result<Option<Self>, CedarError> {
        let cedar = |(number, body): (usize, &Body)| match body {
            Body::Cedar(body) => Some((number, body.as_ref().clone())),
            Body::Net(_) | Body::Exec(_) | Body::File(_) | Body::Tool(_) | Body::Control => None,
        };
        let rules: Vec<_> = bodies.into_iter().enumerate().filter_map(cedar).collect();
        if rules.is_empty() {
            return Ok(None);
        }
        let schema = schema().map_err(CedarError::Setup)?;
        let actions = schema
            .action_entities()
            .map_err(|error| CedarError::Setup(error.to_string()))?;
        let action_of = KINDS.map(|kind| uid("Action", kind.as_str()).map(|uid| (kind, uid)));
        let action_of = action_of.into_iter().collect::<Result<_, _>>()?;
        let has_capitals = rules
            .iter()
            .any(|(_, rule)| folded(&rule.tree) != rule.tree);
        Ok(Some(Self {
            authorizer: Authorizer::new(),
            actions,
            action_of,
            principal: uid("Session", "this")?,
            resource: uid("Effect", "this")?,
            agent: agent.to_owned(),
            rules,
            has_capitals,
            sets: Mutex::default(),
        }))
    }

    /// Returns the numbers of the rules that match, now or on a request that the connection could
    /// carry.
    pub(crate) fn matching(
        &self,
        features: &Features<'_>,
    ) -> Result<Vec<(usize, Fit)>, CedarError> {
        let seen = Seen::new(&self.agent, features);
        let mut found: Vec<(usize, Fit)> = Vec::new();
        for number in self.matching_as(&seen)? {
            found.push((number, Fit::Now));
        }
        // Rules that are only about requests; the first question covered those that are about
        // connections too.
        let carried = seen.carried().filter(|_| self.is_about_requests_alone());
        if let Some(carried) = carried {
            for number in self.matching_as(&carried)? {
                found.push((number, Fit::Later));
            }
        }
        found.sort_unstable_by_key(|(number, fit)| (*number, *fit));
        found.dedup_by_key(|(number, _)| *number);
        Ok(found)
    }

    fn is_about_requests_alone(&self) -> bool {
        let alone =
            |rule: &CedarBody| rule.is_about(RequestKind::Http) && !rule.is_about(RequestKind::Net);
        self.rules.iter().any(|(_, rule)| alone(rule))
    }

    /// A rule matches in the letters of the request, or with rule and request both in lower case:
    /// some file systems and servers ignore case. An exemption in the rule keeps its meaning.
    fn matching_as(&self, seen: &Seen) -> Result<Vec<usize>, CedarError> {
        if !self.rules.iter().any(|(_, rule)| rule.is_about(seen.kind)) {
            return Ok(Vec::new());
        }
        let mut found = self.asked(seen, Letters::AsTheyAre)?;
        if self.has_capitals || seen.has_capitals() {
            found.extend(self.asked(seen, Letters::Folded)?);
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    }

    fn asked(&self, seen: &Seen, letters: Letters) -> Result<Vec<usize>, CedarError> {
        let context = seen.context(letters).map_err(CedarError::Evaluate)?;
        let action = self.action_of.iter().find(|(kind, _)| *kind == seen.kind);
        let action = action.map(|(_, action)| action.clone());
        let action =
            action.ok_or_else(|| CedarError::Setup(format!("no action `{}`", seen.kind)))?;
        let (principal, resource) = (self.principal.clone(), self.resource.clone());
        let request = CedarRequest::new(principal, action, resource, context, None)
            .map_err(|error| CedarError::Evaluate(error.to_string()))?;
        let set = self.needed(seen, letters)?;
        let response = self.authorizer.is_authorized(&request, &set, &self.actions);
        // Cedar skips a rule that errors; to skip a deny would be to allow.
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(CedarError::Evaluate(error.to_string()));
        }
        let numbers = response
            .diagnostics()
            .reason()
            .filter_map(|id| id.to_string().parse().ok());
        Ok(numbers.collect())
    }

    /// Returns the rules for a situation.
    fn needed(&self, seen: &Seen, letters: Letters) -> Result<Arc<PolicySet>, CedarError> {
        let situation = Situation {
            kind: seen.kind,
            is_folded: letters == Letters::Folded,
            is_sure: seen.is_only_a_name,
            unknown: seen.unknown.iter().map(|one| one.as_str()).collect(),
        };
        // A poisoned lock means a panic in this module; the cache is complete either way.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(&situation) {
            return Ok(Arc::clone(set));
        }
        let set = Arc::new(self.set(&situation, &seen.unknown)?);
        sets.insert(situation, Arc::clone(&set));
        Ok(set)
    }

    fn set(&self, situation: &Situation, unknown: &[Attribute]) -> Result<PolicySet, CedarError> {
        let failed = |error: &dyn std::fmt::Display| CedarError::Setup(error.to_string());
        let open = Policy::parse(Some(PolicyId::new("open")), OPEN).map_err(|e| failed(&e))?;
        let mut policies = vec![open];
        let bound = if situation.is_sure {
            Bound::Surely
        } else {
            Bound::Could
        };
        let own = self.rules.iter();
        for (number, rule) in own.filter(|(_, rule)| rule.is_about(situation.kind)) {
            let id = PolicyId::new(number.to_string());
            if unknown.is_empty() && !situation.is_folded {
                policies.push(rule.policy.new_id(id));
                continue;
            }
            let mut tree = settled(&rule.tree, unknown, bound);
            if situation.is_folded {
                tree = folded(&tree);
            }
            policies.push(Policy::from_json(Some(id), tree).map_err(|e| failed(&e))?);
        }
        PolicySet::from_policies(policies).map_err(|e| failed(&e))
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, CedarError> {
    format!("{kind}::\"{id}\"")
        .parse()
        .map_err(|error: cedar_policy::ParseErrors| CedarError::Setup(error.to_string()))
}

/// Returns the kinds that a constraint on the action names.
pub(crate) fn kinds(policy: &Policy) -> Vec<RequestKind> {
    use cedar_policy::ActionConstraint;
    let has = |uid: &EntityUid, kind: RequestKind| {
        let id = uid.id().unescaped();
        id == kind.as_str() || (id == "net" && kind == RequestKind::Http)
    };
    let constraint = policy.action_constraint();
    KINDS
        .into_iter()
        .filter(|kind| match &constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => uid.id().unescaped() == kind.as_str(),
            ActionConstraint::In(uids) => uids.iter().any(|uid| has(uid, *kind)),
        })
        .collect()
}
