//! Cedar at work: which sets of rules allow, which ask, which deny.
//!
//! Matching is ours and done before; Cedar sees for each request which rules matched and decides
//! by its own semantics: default deny, `forbid` wins, no order. The answer depends on nothing but
//! those sets, and not on the names in them, so it is remembered by the roles that rules play.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::{Mutex, OnceLock, PoisonError},
};

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, EntityUid, Policy as CedarPolicy,
    PolicyId, PolicySet, Request as CedarRequest, RestrictedExpression,
};
use serde_json::{Value, json};
use stockade_types::{RequestKind, Verdict};

use crate::{
    kinds::{cedar::CedarError, net::NetBody},
    rule::Rule,
};

/// Most answers that are remembered; a session meets far fewer kinds of them.
const REMEMBERED_MAX: usize = 4_096;

/// Which rules take part in one decision, and how; indices into the rules, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Rules that match.
    pub(crate) matched: Vec<usize>,
    /// Rules with conditions on requests, where the request is the connection that carries them.
    pub(crate) later: Vec<usize>,
    /// Asks among `matched` that an allow rule is an exception to.
    pub(crate) excepted: Vec<usize>,
    /// Asks that were approved.
    pub(crate) approved: Vec<usize>,
}

/// Cedar and what it answered so far.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Made at the first decision: that takes longer than to load a policy, and a process may come to
    /// none.
    authorizer: OnceLock<Authorizer>,
    principal: EntityUid,
    resource: EntityUid,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    compiled: HashMap<usize, Vec<CedarPolicy>>,
    answers: HashMap<(RequestKind, Vec<Role>), Verdict>,
}

/// What one rule brings into a decision. Cedar's answer does not depend on the names of rules, so
/// it is remembered by the roles of all that take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Role {
    effect: Verdict,
    conditional: bool,
    tightens: bool,
    part: Part,
}

/// Where a rule stands in the tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    Matched { excepted: bool, approved: bool },
    Later,
}

/// Returns the role of every rule, sorted.
fn roles(rules: &[Rule], tally: &Tally) -> Vec<Role> {
    let role = |number: &usize, part| {
        rules.get(*number).map(|rule| Role {
            effect: rule.effect,
            conditional: rule.net().is_some_and(NetBody::has_request_conditions),
            tightens: rule.only_tightens(),
            part,
        })
    };
    let matched = tally.matched.iter().filter_map(|number| {
        let excepted = tally.excepted.contains(number);
        let approved = tally.approved.contains(number);
        role(number, Part::Matched { excepted, approved })
    });
    let later = tally
        .later
        .iter()
        .filter_map(|number| role(number, Part::Later));
    let mut roles: Vec<Role> = matched.chain(later).collect();
    roles.sort_unstable();
    roles
}

/// Why Cedar could not answer; the verdict is then a deny.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("rule `{rule}` is not valid Cedar: {reason}")]
    Compile { rule: String, reason: String },
    #[error("the request could not be given to Cedar: {0}")]
    Request(String),
    #[error("rule could not be evaluated: {0}")]
    Evaluate(String),
    #[error(transparent)]
    Cedar(#[from] CedarError),
}

impl Engine {
    pub(crate) fn new() -> Result<Self, EngineError> {
        let uid = |text: &str| {
            text.parse::<EntityUid>()
                .map_err(|e| EngineError::Request(e.to_string()))
        };
        Ok(Self {
            authorizer: OnceLock::new(),
            principal: uid("Stockade::Session::\"this\"")?,
            resource: uid("Stockade::Effect::\"this\"")?,
            state: Mutex::default(),
        })
    }

    /// Sets Cedar up, so that the first decision need not.
    pub(crate) fn make_ready(&self) {
        self.authorizer.get_or_init(Authorizer::new);
    }

    /// Gives the verdict for what matching found.
    pub(crate) fn verdict(
        &self,
        kind: RequestKind,
        rules: &[Rule],
        tally: &Tally,
    ) -> Result<Verdict, EngineError> {
        // A poisoned lock means a panic in here; what is remembered is complete either way.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, roles(rules, tally));
        if let Some(verdict) = state.answers.get(&key) {
            return Ok(*verdict);
        }
        let set = state.policies(rules, tally)?;
        let verdict = self.evaluate(kind, rules, tally, &set)?;
        if state.answers.len() >= REMEMBERED_MAX {
            state.answers.clear();
        }
        state.answers.insert(key, verdict);
        Ok(verdict)
    }

    /// Three values on two: first with the approvals there are, then with those that the asks
    /// could get.
    fn evaluate(
        &self,
        kind: RequestKind,
        rules: &[Rule],
        tally: &Tally,
        set: &PolicySet,
    ) -> Result<Verdict, EngineError> {
        if self.allows(kind, rules, tally, &tally.approved, set)? {
            return Ok(Verdict::Allow);
        }
        let is_ask = |n: &&usize| {
            rules
                .get(**n)
                .is_some_and(|rule| rule.effect == Verdict::Ask)
        };
        let asks: BTreeSet<usize> = tally
            .matched
            .iter()
            .filter(is_ask)
            .chain(&tally.approved)
            .copied()
            .collect();
        if asks.len() == tally.approved.len() {
            return Ok(Verdict::Deny);
        }
        let all: Vec<usize> = asks.into_iter().collect();
        let verdict = self.allows(kind, rules, tally, &all, set)?;
        Ok(if verdict { Verdict::Ask } else { Verdict::Deny })
    }

    fn allows(
        &self,
        kind: RequestKind,
        rules: &[Rule],
        tally: &Tally,
        approved: &[usize],
        set: &PolicySet,
    ) -> Result<bool, EngineError> {
        let refused = |e: &dyn std::fmt::Display| EngineError::Request(e.to_string());
        let names = |numbers: &[usize]| {
            let known = numbers.iter().filter_map(|n| rules.get(*n));
            RestrictedExpression::new_set(
                known.map(|rule| RestrictedExpression::new_string(rule.key())),
            )
        };
        let context = Context::from_pairs([
            ("matched".to_owned(), names(&tally.matched)),
            ("later".to_owned(), names(&tally.later)),
            ("excepted".to_owned(), names(&tally.excepted)),
            ("approvals".to_owned(), names(approved)),
        ])
        .map_err(|e| refused(&e))?;
        let action: EntityUid = action(kind).parse().map_err(|e| refused(&e))?;
        let request = CedarRequest::new(
            self.principal.clone(),
            action,
            self.resource.clone(),
            context,
            None,
        )
        .map_err(|e| refused(&e))?;
        let response = self.authorizer.get_or_init(Authorizer::new).is_authorized(
            &request,
            set,
            &Entities::empty(),
        );
        // Cedar leaves a rule out that errors; a deny that is left out would be an allow.
        if let Some(error) = response.diagnostics().errors().next() {
            return Err(EngineError::Evaluate(error.to_string()));
        }
        Ok(response.decision() == CedarDecision::Allow)
    }
}

impl State {
    fn policies(&mut self, rules: &[Rule], tally: &Tally) -> Result<PolicySet, EngineError> {
        let mut set = PolicySet::new();
        for number in tally.matched.iter().chain(&tally.later) {
            let Some(rule) = rules.get(*number) else {
                continue;
            };
            let compiled = match self.compiled.entry(*number) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(compile(rule)?),
            };
            for policy in compiled.iter() {
                set.add(policy.clone()).map_err(|e| EngineError::Compile {
                    rule: rule.key(),
                    reason: e.to_string(),
                })?;
            }
        }
        Ok(set)
    }
}

/// Makes the policies from their tree, which takes a fifth of the time that parsing the text
/// takes; a test keeps tree and text equal. Annotations are for readers, so they are left out.
fn compile(rule: &Rule) -> Result<Vec<CedarPolicy>, EngineError> {
    let policies = trees(rule).into_iter().enumerate();
    let made = policies.map(|(part, tree)| {
        let id = PolicyId::new(format!("{}#{part}", rule.key()));
        CedarPolicy::from_json(Some(id), tree).map_err(|e| EngineError::Compile {
            rule: rule.key(),
            reason: e.to_string(),
        })
    });
    made.collect()
}

/// Returns the same policies as [`texts`], as Cedar's JSON.
fn trees(rule: &Rule) -> Vec<Value> {
    let key = literal(&rule.key());
    let in_set = |set: &str| {
        json!({ "contains": {
            "left": { ".": { "left": { "Var": "context" }, "attr": set } },
            "right": { "Value": key },
        } })
    };
    let join = |operator: &str, left: Value, right: Value| json!({ operator: { "left": left, "right": right } });
    let all = json!({ "op": "All" });
    let action = match rule.body.kinds() {
        [] => all.clone(),
        [one] => json!({ "op": "==", "entity": entity(*one) }),
        several => {
            let entities: Vec<Value> = several.iter().map(|kind| entity(*kind)).collect();
            json!({ "op": "in", "entities": entities })
        }
    };
    let policy = |effect: &str, conditions: Vec<(&str, Value)>| {
        let conditions: Vec<Value> = conditions
            .into_iter()
            .map(|(kind, body)| json!({ "kind": kind, "body": body }))
            .collect();
        json!({
            "effect": effect,
            "principal": all,
            "action": action,
            "resource": all,
            "conditions": conditions,
        })
    };
    let conditions = rule.net().is_some_and(NetBody::has_request_conditions);
    let matched = in_set("matched");
    match rule.effect {
        Verdict::Allow if conditions => {
            vec![policy(
                "permit",
                vec![("when", join("||", matched, in_set("later")))],
            )]
        }
        Verdict::Allow => vec![policy("permit", vec![("when", matched)])],
        Verdict::Deny => vec![policy("forbid", vec![("when", matched)])],
        Verdict::Ask => {
            let answered = join("&&", matched.clone(), in_set("approvals"));
            let permit = if conditions {
                join("||", answered, in_set("later"))
            } else {
                answered
            };
            let unless = join("||", in_set("approvals"), in_set("excepted"));
            let forbid = policy("forbid", vec![("when", matched), ("unless", unless)]);
            if rule.only_tightens() {
                return vec![forbid];
            }
            vec![policy("permit", vec![("when", permit)]), forbid]
        }
    }
}

fn entity(kind: RequestKind) -> Value {
    json!({ "type": "Stockade::Action", "id": kind.as_str() })
}

fn action(kind: RequestKind) -> String {
    format!("Stockade::Action::\"{kind}\"")
}

/// Returns the rule as Cedar policies: one for an allow or a deny, two for an ask.
pub(crate) fn texts(rule: &Rule) -> Vec<String> {
    let key = quoted(&rule.key());
    let conditions = rule.net().is_some_and(NetBody::has_request_conditions);
    let head = |effect: &str, note: &str| {
        format!(
            "@id({key})\n@verdict(\"{}\")\n@layer(\"{}\")\n@reason({})\n{note}{effect} (principal, \
             action{}, resource)\n",
            rule.effect,
            rule.origin,
            quoted(&rule.reason),
            scope(rule),
        )
    };
    let matched = format!("context.matched.contains({key})");
    let opened = format!("context.later.contains({key})");
    let approved = format!("context.approvals.contains({key})");
    match rule.effect {
        Verdict::Allow if conditions => {
            vec![format!(
                "{}when {{ {matched} || {opened} }};",
                head("permit", "")
            )]
        }
        Verdict::Allow => vec![format!("{}when {{ {matched} }};", head("permit", ""))],
        Verdict::Deny => {
            vec![format!(
                "{}when {{ {matched} }};",
                head("forbid", "@absolute(\"true\")\n")
            )]
        }
        Verdict::Ask => {
            let permit = if conditions {
                format!("({matched} && {approved}) || {opened}")
            } else {
                format!("{matched} && {approved}")
            };
            let forbid = format!(
                "{}when {{ {matched} }}\nunless {{ {approved} || context.excepted.contains({key}) }};",
                head("forbid", "")
            );
            if rule.only_tightens() {
                return vec![forbid];
            }
            vec![
                format!("{}when {{ {permit} }};", head("permit", "")),
                forbid,
            ]
        }
    }
}

fn scope(rule: &Rule) -> String {
    match rule.body.kinds() {
        [] => String::new(),
        [one] => format!(" == {}", action(*one)),
        several => {
            let actions: Vec<String> = several.iter().map(|kind| action(*kind)).collect();
            format!(" in [{}]", actions.join(", "))
        }
    }
}

/// Returns text that a Cedar string can hold without escapes: what a reader cannot see is made
/// visible, and backslashes are turned.
fn literal(text: &str) -> String {
    let visible = stockade_types::RawText::from(text).display();
    visible.replace('\\', "/")
}

/// Writes a Cedar string literal.
fn quoted(text: &str) -> String {
    format!("\"{}\"", literal(text).replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::{Engine, Rule, State, Tally, compile};
    use stockade_types::{RequestKind, Verdict};

    use crate::{Origin, kinds::Body};

    fn rule(id: &str, effect: Verdict) -> Rule {
        Rule {
            id: id.parse().unwrap(),
            effect,
            origin: Origin::User,
            place: "test:1".to_owned(),
            reason: "because \"quoted\" \\ and \u{202e}hidden".to_owned(),
            stage: None,
            quiet: false,
            body: Body::Control,
        }
    }

    fn verdict(rules: &[Rule], tally: &Tally) -> Verdict {
        Engine::new()
            .unwrap()
            .verdict(RequestKind::Exec, rules, tally)
            .unwrap()
    }

    #[test]
    fn deny_wins_ask_follows_and_nothing_is_a_deny() {
        let rules = [
            rule("a", Verdict::Allow),
            rule("q", Verdict::Ask),
            rule("d", Verdict::Deny),
        ];
        let matched = |matched: &[usize]| Tally {
            matched: matched.to_vec(),
            ..Tally::default()
        };
        assert_eq!(verdict(&rules, &matched(&[])), Verdict::Deny);
        assert_eq!(verdict(&rules, &matched(&[0])), Verdict::Allow);
        assert_eq!(verdict(&rules, &matched(&[0, 1])), Verdict::Ask);
        assert_eq!(verdict(&rules, &matched(&[1])), Verdict::Ask);
        assert_eq!(verdict(&rules, &matched(&[0, 1, 2])), Verdict::Deny);
        let approved = Tally {
            approved: vec![1],
            ..matched(&[1])
        };
        assert_eq!(verdict(&rules, &approved), Verdict::Allow);
        let denied = Tally {
            approved: vec![1],
            ..matched(&[1, 2])
        };
        assert_eq!(verdict(&rules, &denied), Verdict::Deny);
        let excepted = Tally {
            excepted: vec![1],
            ..matched(&[0, 1])
        };
        assert_eq!(verdict(&rules, &excepted), Verdict::Allow);
    }

    #[test]
    fn the_text_that_is_shown_is_what_decides() {
        let source = crate::Source {
            origin: Origin::User,
            name: "user.toml".to_owned(),
            text: "schema = 1\nextends = [\"builtin:codex\"]\n\
                   [[allow]]\nid = \"get\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nmethods = [\"GET\"]\n\
                   [[ask]]\nid = \"post\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nmethods = [\"POST\"]\n\
                   [[deny]]\nid = \"keys\"\nwhat = \"file\"\npaths = [\"*.pem\"]\n\
                   [[cedar]]\nid = \"c\"\n\
                   text = '@verdict(\"ask\") forbid (principal, action, resource);'\n"
                .to_owned(),
        };
        let policy = crate::load(&[source], &crate::HostSets::default()).unwrap();
        let mut compared = 0;
        for rule in policy.rule_list() {
            let texts = super::texts(rule);
            let trees = super::trees(rule);
            assert_eq!(texts.len(), trees.len());
            for (text, tree) in texts.iter().zip(trees) {
                let mut parsed = cedar_policy::Policy::parse(None, text)
                    .unwrap()
                    .to_json()
                    .unwrap();
                parsed.as_object_mut().unwrap().remove("annotations");
                assert_eq!(parsed, tree, "{text}");
                compared += 1;
            }
        }
        assert!(compared > 15, "{compared}");
    }

    // keeps invariant: failing-rule-denies
    #[test]
    fn a_rule_that_errors_is_not_left_out() {
        let rules = [rule("a", Verdict::Allow), rule("d", Verdict::Deny)];
        let tally = Tally {
            matched: vec![0, 1],
            ..Tally::default()
        };
        let engine = Engine::new().unwrap();
        let broken = "forbid (principal, action, resource) when { context.nothing };";
        let mut compiled = compile(&rules[1]).unwrap();
        compiled[0] = cedar_policy::Policy::parse(None, broken).unwrap();
        *engine.state.lock().unwrap() = State {
            compiled: [(1, compiled)].into(),
            ..State::default()
        };
        assert!(engine.verdict(RequestKind::Exec, &rules, &tally).is_err());
    }
}
