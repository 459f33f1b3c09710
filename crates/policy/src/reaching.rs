//! Whether a host is open to a program as a whole.

use stockade_types::{Host, HostName, Port, RequestKind, Subject, Verdict};

use crate::{
    Approvals, NetRequest, Policy, Request,
    kinds::{Body, net::NetBody},
};

impl Policy {
    /// Tells whether TLS of some connection can have to be opened.
    pub fn inspects(&self) -> bool {
        self.rule_list().iter().any(|rule| match &rule.body {
            Body::Net(body) => body.has_request_conditions() || body.terms.inspects(),
            Body::Cedar(body) => body.is_about(RequestKind::Http),
            Body::Exec(_) | Body::File(_) | Body::Control => false,
        })
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
