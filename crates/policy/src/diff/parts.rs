//! Rules taken apart: what one pattern of a rule says, in a form in which equal things are equal.

use std::collections::BTreeSet;

use stockade_types::{Host, RequestKind, Verdict};

use super::Topic;
use crate::{
    Origin, Policy, Request,
    controls::COUNT,
    decide::features,
    kinds::{
        Body,
        net::{Condition, NetBody, Ports},
    },
    rule::Rule,
};

/// One pattern of a rule with all that the rule says about it.
#[derive(Debug)]
pub(super) struct Part<'p> {
    /// Number of the rule in its policy.
    pub(super) number: usize,
    pub(super) rule: &'p Rule,
    pub(super) pattern: usize,
    /// The rule with this pattern alone.
    pub(super) body: Body,
    /// Verdict and conditions, without layer, terms and reviewers.
    pub(super) conditions: String,
    /// Terms, with whom bounds are shared.
    pub(super) terms: String,
    /// Who is asked, and whether refusals are quiet.
    pub(super) answers: String,
    /// Conditions of the other patterns of an ask: an exception must lie within all that match.
    pub(super) beside: BTreeSet<String>,
}

impl Part<'_> {
    /// Returns all that decisions depend on, except for the patterns beside it.
    pub(super) fn key(&self) -> (Origin, &str, &str, &str) {
        let Self {
            conditions,
            terms,
            answers,
            ..
        } = self;
        (self.rule.origin, conditions, terms, answers)
    }

    pub(super) fn effect(&self) -> Verdict {
        self.rule.effect
    }

    /// Returns what it is about.
    pub(super) fn topic(&self) -> Topic {
        topic(&self.body)
    }

    /// Returns its conditions for people.
    pub(super) fn words(&self) -> String {
        self.body.to_string()
    }
}

/// Takes all rules of a policy apart, except the controls, which every policy has.
pub(super) fn parts(policy: &Policy) -> Vec<Part<'_>> {
    let rules = policy.rule_list().iter().enumerate().skip(COUNT);
    rules
        .flat_map(|(number, rule)| of_rule(number, rule))
        .collect()
}

fn of_rule(number: usize, rule: &Rule) -> Vec<Part<'_>> {
    let bodies = single(&rule.body);
    let written: Vec<String> = bodies
        .iter()
        .map(|body| format!("{} {}", rule.effect, canonical(body)))
        .collect();
    let all: BTreeSet<String> = written.iter().cloned().collect();
    let answers = format!("{:?} {}", rule.stage, rule.quiet);
    let terms = terms(rule, &all);
    let part = |(pattern, (body, conditions)): (usize, (Body, String))| {
        let mut beside = BTreeSet::new();
        if rule.effect == Verdict::Ask {
            beside.clone_from(&all);
            beside.remove(&conditions);
        }
        Part {
            number,
            rule,
            pattern,
            body,
            conditions,
            terms: terms.clone(),
            answers: answers.clone(),
            beside,
        }
    };
    let bodies = bodies.into_iter().zip(written);
    bodies.enumerate().map(part).collect()
}

/// Writes the terms of a rule. A bound of bytes or requests holds for all hosts of its rule together.
fn terms(rule: &Rule, all: &BTreeSet<String>) -> String {
    match rule.net() {
        Some(body) if body.terms.is_shared() => format!("{:?} {all:?}", body.terms),
        Some(body) => format!("{:?}", body.terms),
        None => String::new(),
    }
}

/// Splits a body by its patterns; a Cedar rule has one.
fn single(body: &Body) -> Vec<Body> {
    match body {
        Body::Net(own) => {
            let one = |at: &_| NetBody {
                hosts: vec![Clone::clone(at)],
                ..own.clone()
            };
            own.hosts.iter().map(one).map(Body::Net).collect()
        }
        Body::Exec(own) => {
            let one = |command: &_| crate::kinds::exec::ExecBody {
                commands: vec![Clone::clone(command)],
                ..own.clone()
            };
            own.commands.iter().map(one).map(Body::Exec).collect()
        }
        Body::File(own) => {
            let one = |path: &_| crate::kinds::file::FileBody {
                paths: vec![Clone::clone(path)],
                ..own.clone()
            };
            own.paths.iter().map(one).map(Body::File).collect()
        }
        Body::Tool(own) => {
            let one = |tool: &_| crate::kinds::tool::ToolBody {
                tools: vec![Clone::clone(tool)],
                ..own.clone()
            };
            own.tools.iter().map(one).map(Body::Tool).collect()
        }
        Body::Cedar(_) => vec![body.clone()],
        Body::Control => Vec::new(),
    }
}

/// Writes a body so that two bodies with the same conditions are written the same: each list is a set. All
/// fields are in it, new ones too, because it is the debug form.
fn canonical(body: &Body) -> String {
    match body {
        Body::Net(own) => {
            let mut own = own.clone();
            // The terms are compared by themselves.
            own.terms = crate::kinds::net::RuleTerms::default();
            if let Some(at) = own.hosts.first_mut() {
                // The one port of a member of a host set takes the place of the rule's.
                if let Some(port) = at.port.take() {
                    own.ports = Ports::These(vec![port.get()]);
                }
            }
            if let Ports::These(ports) = &mut own.ports {
                ports.sort_unstable();
                ports.dedup();
            }
            own.methods.as_mut().map(set);
            own.paths.as_mut().map(set);
            own.programs.as_mut().map(set);
            format!("{own:?}")
        }
        Body::Exec(own) => {
            let mut own = own.clone();
            set(&mut own.unless);
            own.programs.as_mut().map(set);
            own.cwd.as_mut().map(set);
            own.environment.as_mut().map(set);
            format!("{own:?}")
        }
        Body::File(own) => {
            let mut own = own.clone();
            own.access.as_mut().map(set);
            format!("{own:?}")
        }
        Body::Tool(own) => {
            let mut own = own.clone();
            own.servers.as_mut().map(set);
            own.effects.as_mut().map(set);
            for one in &mut own.arguments {
                set(&mut one.patterns);
            }
            set(&mut own.arguments);
            format!("{own:?}")
        }
        // The text, which a person wrote, may be laid out in another way.
        Body::Cedar(own) => format!("Cedar {:?} {}", own.kinds, own.tree),
        Body::Control => "control".to_owned(),
    }
}

fn set<T: std::fmt::Debug>(list: &mut Vec<T>) {
    list.sort_by_cached_key(|item| format!("{item:?}"));
    list.dedup_by_key(|item| format!("{item:?}"));
}

fn topic(body: &Body) -> Topic {
    match body {
        Body::Net(own) => match &own.meaning {
            Some(Condition::Model(_)) => Topic::Models,
            Some(Condition::Git(_) | Condition::Package(_) | Condition::Forge(_)) => {
                Topic::Requests
            }
            None if own.has_request_conditions() => Topic::Requests,
            None => Topic::Connections,
        },
        Body::Exec(_) => Topic::Executions,
        Body::File(_) => Topic::Files,
        Body::Tool(_) => Topic::Tools,
        Body::Cedar(_) | Body::Control => Topic::Cedar,
    }
}

/// Tells whether one pattern of a rule could have a part in how a request is judged.
pub(super) fn could_judge(rule: &Rule, pattern: usize, request: &Request) -> bool {
    match (&rule.body, request) {
        // A name is judged as the connections to it on all ports, by any program.
        (Body::Net(body), Request::Name(name)) => {
            let host = Host::Name(name.name.clone());
            let at = body.hosts.get(pattern);
            at.is_some_and(|at| at.pattern.matches(&host))
        }
        (Body::Cedar(body), _) => match request.kind() {
            RequestKind::Name | RequestKind::Net => {
                body.is_about(RequestKind::Net) || body.is_about(RequestKind::Http)
            }
            kind => body.is_about(kind),
        },
        (Body::Net(_) | Body::Exec(_) | Body::File(_) | Body::Tool(_) | Body::Control, _) => {
            features(request).is_some_and(|features| rule.fit(pattern, &features).is_ok())
        }
    }
}
