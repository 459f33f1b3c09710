//! Whether a host is open to a program as a whole.

use std::net::IpAddr;

use stockade_types::{Host, HostName, Port, RequestKind, Subject, Verdict};

use crate::{
    Approvals, Decision, Meaning, NetRequest, Policy, Request,
    kinds::{
        Body, Features,
        net::{Condition, HostAt, NetBody, NetFeatures, Programs, Topic},
    },
    pattern::HostPattern,
};

/// Meanings that a request can have in spite of its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LooksFor {
    /// Of git.
    pub git: bool,
    /// Of calls of models.
    pub models: bool,
    /// How old the versions of packages are.
    pub ages: bool,
}

impl Policy {
    /// Returns the deny of connections to an address, where a rule denies that address: it holds too
    /// where a name leads there. A policy that was published since counts as well.
    pub fn denies_address(&self, request: &NetRequest, address: IpAddr) -> Option<Decision> {
        let there = Request::Net(NetRequest {
            host: Host::Address(address.to_canonical()),
            ..request.clone()
        });
        let newer = || self.newer.get()?.denies_address(request, address);
        self.denied_by_rule(&there).or_else(newer)
    }

    /// Tells whether a rule denies addresses: such a rule holds for names that lead there too.
    pub fn names_denied_addresses(&self) -> bool {
        let is_address = |at: &HostAt| match at.pattern {
            HostPattern::Address(_) | HostPattern::Network { .. } => true,
            HostPattern::Name(_)
            | HostPattern::OneLabel(_)
            | HostPattern::Below(_)
            | HostPattern::AnyName => false,
        };
        let denies = self
            .rule_list()
            .iter()
            .filter(|rule| rule.effect == Verdict::Deny);
        let mut bodies = denies.filter_map(|rule| rule.net());
        bodies.any(|body| body.hosts.iter().any(is_address))
    }

    /// Tells whether TLS of some connection can have to be opened.
    pub fn inspects(&self) -> bool {
        !self.credentials().is_empty()
            || self.rule_list().iter().any(|rule| match &rule.body {
                Body::Net(body) => body.has_request_conditions() || body.terms.inspects(),
                Body::Cedar(body) => body.is_about(RequestKind::Http),
                Body::Exec(_) | Body::File(_) | Body::Tool(_) | Body::Control => false,
            })
    }

    /// Returns what the head of a request means, as far as rules about its host need it.
    pub fn meaning(&self, host: &Host, method: &str, path: &[u8]) -> Vec<Meaning> {
        let topics = self.topics(host);
        Meaning::of_head(&topics, method, path)
    }

    /// Returns which meanings rules about a host look for, whatever the head of a request says.
    pub fn looks_for(&self, host: &Host) -> LooksFor {
        let topics = self.topics(host);
        let conditions = self.bodies(host).filter_map(|body| body.meaning.as_ref());
        LooksFor {
            git: topics.contains(&Topic::Git),
            models: topics.contains(&Topic::Model),
            ages: conditions.into_iter().any(Condition::looks_at_ages)
                || self
                    .newer
                    .get()
                    .is_some_and(|newer| newer.looks_for(host).ages),
        }
    }

    /// Returns what rules about a host tell requests apart by, each once.
    pub(crate) fn topics(&self, host: &Host) -> Vec<Topic> {
        let mut topics: Vec<Topic> = self.bodies(host).flat_map(NetBody::topics).collect();
        if let Some(newer) = self.newer.get() {
            topics.extend(newer.topics(host));
        }
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    /// Returns what rules about a host say.
    pub(crate) fn bodies(&self, host: &Host) -> impl Iterator<Item = &NetBody> {
        let features = Features::Net(NetFeatures {
            host,
            port: 0,
            program: Programs::Any,
            http: None,
        });
        let candidates: Vec<_> = self.index.candidates(&features).into_iter().collect();
        let body = |at: usize| self.rules.get(at).and_then(|rule| rule.net());
        candidates.into_iter().filter_map(move |one| body(one.rule))
    }

    /// Returns whether a connection of `subject` to `name` is allowed on some port without a
    /// question, for any traffic.
    pub fn reaches(&self, name: &HostName, subject: &Subject) -> bool {
        let host = Host::Name(name.clone());
        let allowed = |port: u16| {
            let Some(port) = Port::new(port) else {
                return false;
            };
            let request = Request::Net(NetRequest {
                host: host.clone(),
                port,
                subject: subject.clone(),
            });
            let decision = self.decide(&request, &Approvals::none());
            decision.verdict == Verdict::Allow && !decision.http_only
        };
        let allows = self
            .rule_list()
            .iter()
            .filter(|rule| rule.effect == Verdict::Allow)
            .filter_map(|rule| rule.net());
        let named = allows.filter(|body| body.hosts.iter().any(|own| own.pattern.matches(&host)));
        let mut ports = named.flat_map(NetBody::named_ports);
        ports.any(allowed)
    }
}
