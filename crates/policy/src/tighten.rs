//! A policy that is published while another one decides: it can deny in a running session, and nothing
//! else.
//!
//! A session never gets more than its own policy gives it, and never more than the newer one does. What the
//! newer one asks about or allows waits for the next session, so its questions and allows count for nothing
//! here.

use stockade_types::Verdict;

use crate::{Approvals, Decision, HostSets, Origin, Policy, Problems, Request, Source, load};

impl Policy {
    /// Loads the policy that this one would be with another layer of the organisation: in the place of the
    /// one with the name `before`, or beside the others if there is none. If lower layers do not fit it, no
    /// new session would start with them, and it is loaded without them.
    ///
    /// # Errors
    /// All mistakes of the new layer.
    pub fn with_layer(&self, before: Option<&str>, layer: Source) -> Result<Self, Problems> {
        let mut sources = self.sources().to_vec();
        let is_it = |source: &Source| {
            source.origin == Origin::Organisation && Some(source.name.as_str()) == before
        };
        match sources.iter_mut().find(|source| is_it(source)) {
            Some(source) => *source = layer,
            None => sources.push(layer),
        }
        let sets: &HostSets = self.host_sets();
        load(&sources, sets).or_else(|_| {
            sources
                .retain(|source| matches!(source.origin, Origin::Builtin | Origin::Organisation));
            load(&sources, sets)
        })
    }

    /// Has a newer policy deny beside this one from now on; none takes that back.
    pub fn tighten(&self, newer: Option<Self>) {
        self.newer.set(newer);
    }

    /// Tells whether a newer policy denies beside this one.
    pub fn is_tightened(&self) -> bool {
        self.newer.get().is_some()
    }

    /// Returns what a newer policy says against a request that this one does not deny; `None` if nothing.
    pub fn newer_denies(&self, request: &Request, own: &Decision) -> Option<Decision> {
        let newer = self.newer.get()?;
        let said = newer.decide_above(request, &Approvals::none(), Origin::Builtin);
        let reason = match said.verdict {
            Verdict::Deny => said.reason.clone(),
            // Its requests would have to be judged, and this session does not look into them.
            Verdict::Allow if said.http_only && !own.http_only => {
                "it judges single requests to this host, which this session does not open"
                    .to_owned()
            }
            Verdict::Allow | Verdict::Ask => return None,
        };
        Some(Decision {
            verdict: Verdict::Deny,
            reason: format!("by the policy that was published since this session began: {reason}"),
            remedy: if said.verdict == Verdict::Deny {
                said.remedy.clone()
            } else {
                "start a new session".to_owned()
            },
            ..said
        })
    }

    /// Decides by this policy, and then by the newer one if this one does not deny.
    pub(crate) fn decide_by_both(&self, request: &Request, approvals: &Approvals) -> Decision {
        let own = self.decide_above(request, approvals, Origin::Builtin);
        if own.verdict == Verdict::Deny {
            return own;
        }
        self.newer_denies(request, &own).unwrap_or(own)
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::{Subject, Verdict};

    use crate::{Approvals, HostSets, NetRequest, Origin, Policy, Request, Source, builtin, load};

    fn layer(text: &str) -> Source {
        Source {
            origin: Origin::Organisation,
            name: "org.toml (default 1)".to_owned(),
            text: format!("schema = 1\n{text}"),
        }
    }

    fn policy(text: &str) -> Policy {
        let preset = Source {
            origin: Origin::Builtin,
            name: "generic".to_owned(),
            text: builtin("generic").unwrap_or_default().to_owned(),
        };
        load(&[preset, layer(text)], &HostSets::default()).expect("it is a policy")
    }

    fn verdict(policy: &Policy, host: &str) -> Verdict {
        let request = Request::Net(NetRequest {
            host: host.parse().expect("a host"),
            port: stockade_types::Port::new(443).expect("a port"),
            subject: Subject::default(),
        });
        policy.decide(&request, &Approvals::none()).verdict
    }

    const BOTH: &str =
        "[[allow]]\nid = \"both\"\nwhat = \"net\"\nhosts = [\"a.test\", \"b.test\"]\n";
    const ONE: &str = "[[allow]]\nid = \"one\"\nwhat = \"net\"\nhosts = [\"a.test\", \"c.test\"]\n\
                       [[deny]]\nid = \"no-b\"\nwhat = \"net\"\nhosts = [\"b.test\"]\n";

    #[test]
    fn a_newer_policy_denies_and_gives_nothing() {
        let policy = policy(BOTH);
        let before = |host| verdict(&policy, host);
        let (a, b, c) = (before("a.test"), before("b.test"), before("c.test"));
        assert_eq!((a, b), (Verdict::Allow, Verdict::Allow));
        let newer = policy.with_layer(Some("org.toml (default 1)"), layer(ONE));
        let newer = newer.expect("it is a policy");
        assert_eq!(
            verdict(&newer, "c.test"),
            Verdict::Allow,
            "a new session gets it"
        );
        policy.tighten(Some(newer));
        assert_eq!(verdict(&policy, "a.test"), Verdict::Allow, "both allow it");
        assert_ne!(verdict(&policy, "b.test"), Verdict::Allow);
        assert_eq!(verdict(&policy, "c.test"), c, "it gives nothing");
        // The one that is in force again takes its denials back, and no more.
        policy.tighten(None);
        assert_eq!(verdict(&policy, "b.test"), b);
        assert_eq!(verdict(&policy, "c.test"), c);
    }

    #[test]
    fn rules_about_requests_deny_where_requests_are_not_seen() {
        let policy = policy(BOTH);
        let paths = "[[allow]]\nid = \"both\"\nwhat = \"net\"\nhosts = [\"a.test\"]\nmethods = [\"GET\"]\n\
                     [[allow]]\nid = \"b\"\nwhat = \"net\"\nhosts = [\"b.test\"]\n";
        let newer = policy.with_layer(Some("org.toml (default 1)"), layer(paths));
        policy.tighten(Some(newer.expect("it is a policy")));
        assert_eq!(verdict(&policy, "a.test"), Verdict::Deny);
        assert_eq!(verdict(&policy, "b.test"), Verdict::Allow);
    }
}
