//! What cannot be reached whatever a person answers, as far as it is known without asking anybody
//! outside: a name that was not allowed yet is never looked up, for its text would leave with it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use stockade_policy::{Control, Decision, NetRequest, Request, RuleName};
use stockade_types::{Host, Port, Verdict};

use crate::{
    Proxy,
    dial::{Unreachable, known},
    judge::Allowed,
    limits::{UNREACHED_HOSTS_MAX, UNREACHED_KEPT},
};

/// Ports of the web.
const WEB: [u16; 2] = [80, 443];

/// Hosts that were found out of reach a short time ago, by connections that were allowed.
#[derive(Debug, Default)]
pub(crate) struct Unreached(Mutex<HashMap<Host, (Unreachable, Instant)>>);

impl Unreached {
    /// Remembers why an allowed connection could not be made; what may be otherwise at the next try
    /// is not kept.
    pub(crate) fn note(&self, host: &Host, error: &Unreachable) {
        if !error.is_refusal() && !error.is_absent() {
            return;
        }
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= UNREACHED_HOSTS_MAX {
            hosts.clear();
        }
        hosts.insert(host.clone(), (error.clone(), Instant::now()));
    }

    fn find(&self, host: &Host) -> Option<Unreachable> {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (error, since) = hosts.get(host)?;
        if since.elapsed() < UNREACHED_KEPT {
            return Some(error.clone());
        }
        hosts.remove(host);
        None
    }
}

impl Proxy {
    /// Returns the refusal of a host that no answer could open, so that nobody is asked for it.
    pub(crate) fn out_of_reach(&self, request: &NetRequest, asked: &Decision) -> Option<Decision> {
        let error = known(request, &self.resolver, asked.terms.private)
            .or_else(|| self.unreached.find(&request.host))?;
        Some(refusal(&error, request.port, asked))
    }
}

impl Proxy {
    /// The same for a request that would be asked about before its connection is made.
    pub(crate) fn request_out_of_reach(
        &self,
        http: &Request,
        connection: &Allowed<NetRequest>,
    ) -> Option<Decision> {
        if self.judge.look(http).verdict != Verdict::Ask {
            return None;
        }
        self.out_of_reach(connection.permitted.get(), &connection.decision)
    }
}

/// Makes the deny of a control that stands above the rule of `decision`.
pub(crate) fn refusal(error: &Unreachable, port: Port, decision: &Decision) -> Decision {
    let (control, remedy) = match error {
        Unreachable::Private { host } => {
            // A rule that names no port is about those of the web.
            let (rule, given) = if WEB.contains(&port.get()) {
                (String::new(), String::new())
            } else {
                (format!(", ports = [{port}]"), format!(":{port}"))
            };
            let remedy = format!(
                "no answer opens it; an [[allow]] rule with id = \"{host}\", what = \"net\", hosts = \
                 [\"{host}\"]{rule}, private = true in your policy does, or `run --allow-host \
                 {host}{given},private`"
            );
            (Control::PrivateAddress, remedy)
        }
        Unreachable::Never { fake: true, .. } => (
            Control::NeverReached,
            "198.18.0.0/15 is what a resolver with made-up addresses gives (a VPN or proxy client): \
             have it leave this host alone, or write its real address into `[network.hosts]`"
                .to_owned(),
        ),
        Unreachable::Denied { by, .. } => {
            let reason = match by.reason.as_str() {
                "" => error.full(),
                why => format!("{}: {why}", error.full()),
            };
            return Decision {
                reason,
                ..(**by).clone()
            };
        }
        _ => (Control::NeverReached, String::new()),
    };
    let mut refused = control.denies(error.full(), &remedy);
    let by = decision.rule.clone().zip(decision.origin);
    let by = by.map(|(id, origin)| RuleName { id, origin });
    refused.rules.extend(by);
    refused
}
