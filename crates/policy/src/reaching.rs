//! Whether a host is open to a program as a whole.

use stockade_types::{Host, HostName, Port, Subject, Verdict};

use crate::{Approvals, NetRequest, Policy, Request, kinds::net::NetBody};

impl Policy {
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
