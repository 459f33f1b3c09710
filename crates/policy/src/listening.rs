//! The policy's decision about a port on which a program of the session listens.

use std::ops::Range;

use crate::{
    Approvals, AsRequest, Control, Decision, Origin, Policy, PortRequest, Request, RuleName,
    grant::Reach,
};

/// Ports on which a server is noticed. Lower ones belong to the machine; from 32768 on are those
/// that the kernel assigns to programs that want any port (`net.ipv4.ip_local_port_range`).
pub const SERVER_PORTS: Range<u16> = 1024..32_768;

impl AsRequest for PortRequest {
    fn as_request(&self) -> Request {
        Request::Port(self.clone())
    }
}

impl Policy {
    /// Decides whether a port is published on the machine's loopback: if no earlier answer says so,
    /// it is asked about.
    pub(crate) fn listening(
        &self,
        port: &PortRequest,
        request: &Request,
        approvals: &Approvals,
    ) -> Decision {
        const CONTROL: Control = Control::ListeningPort;
        let network = &self.settings().network;
        if !network.may_publish.value {
            let reason = format!(
                "no port is published: {} says `network.publish = false`",
                network.may_publish.source
            );
            return CONTROL.denies(reason, "");
        }
        let mut published = network.publish.iter();
        if let Some(at) = published.find(|at| at.value.inside == port.port) {
            return CONTROL.allows(format!("published by {}", at.source));
        }
        let mut waiting = network.publish_listening.iter();
        if let Some(at) = waiting.find(|at| at.value == port.port) {
            return CONTROL.allows(format!("published by {}", at.source));
        }
        let own = CONTROL.id();
        let is_own = |(rule, reach): (&RuleName, Reach)| {
            let is_control = rule.origin == Origin::Builtin && Some(&rule.id) == own.as_ref();
            reach == Reach::Request && is_control
        };
        if approvals.answered(request, self.revision()).any(is_own) {
            return CONTROL.allows("a person opened it");
        }
        let reason = "a program listens on it, and goes on whatever the answer is";
        let remedy = "`run --publish PORT`, or `[[publish]]` in a policy of yours";
        CONTROL.asks(reason, remedy)
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::{ApprovalId, Digest, Port, Subject, UnixMillis, Verdict};

    use crate::{
        Approvals, Grants, HostSets, Origin, Policy, PortRequest, Request, Scope, Source, load,
    };

    fn policy(origin: Origin, text: &str) -> Policy {
        let builtin = Source {
            origin: Origin::Builtin,
            name: "generic".to_owned(),
            text: crate::builtin("generic").unwrap().to_owned(),
        };
        let own = Source {
            origin,
            name: "own.toml".to_owned(),
            text: format!("schema = 1\n{text}"),
        };
        load(&[builtin, own], &HostSets::default()).unwrap()
    }

    fn request(port: u16, exe: &str) -> Request {
        Request::Port(PortRequest {
            port: Port::new(port).unwrap(),
            subject: Subject {
                exe: exe.into(),
                ..Subject::default()
            },
        })
    }

    fn verdict(policy: &Policy, port: u16) -> Verdict {
        policy
            .decide(&request(port, "/x"), &Approvals::none())
            .verdict
    }

    #[test]
    fn a_port_is_asked_about_unless_somebody_said_so_before() {
        let plain = policy(Origin::User, "");
        assert_eq!(verdict(&plain, 3000), Verdict::Ask);
        let published = policy(Origin::User, "[[publish]]\nport = 3000\nas = 8080\n");
        assert_eq!(verdict(&published, 3000), Verdict::Allow);
        assert_eq!(verdict(&published, 8080), Verdict::Ask);
        let none = policy(Origin::Organisation, "[network]\npublish = false\n");
        assert_eq!(verdict(&none, 3000), Verdict::Deny);
    }

    #[test]
    fn a_kept_answer_is_for_that_port_and_opens_it_when_its_server_is_there() {
        let plain = policy(Origin::User, "");
        let asked = request(3000, "/node");
        let decision = plain.decide(&asked, &Approvals::none());
        let rule = plain.lasting(&asked, &decision).unwrap();
        let kept = policy(Origin::User, &rule.to_toml("always-1", "kept"));
        assert_eq!(verdict(&kept, 3000), Verdict::Allow);
        assert_eq!(verdict(&kept, 3001), Verdict::Ask);
        let network = &kept.settings().network;
        assert!(network.publish.is_empty(), "nothing is taken at the start");
        let pinned = policy(Origin::Organisation, "[require]\nanswers = \"session\"\n");
        let decision = pinned.decide(&asked, &Approvals::none());
        assert!(pinned.lasting(&asked, &decision).is_none());
    }

    #[test]
    fn an_answer_is_for_one_port_of_one_program_and_no_wider() {
        let policy = policy(Origin::User, "");
        let asked = request(3000, "/node");
        let decision = policy.decide(&asked, &Approvals::none());
        let (now, revision) = (UnixMillis(1), policy.revision());
        let id = || ApprovalId::from_random(7);
        let mut grants = Grants::new();
        for wide in [Scope::Session, Scope::Uses(2), Scope::Until(UnixMillis(9))] {
            let given = grants.grant(id(), &asked, &decision, wide, revision, now);
            assert!(given.is_err(), "{wide}");
        }
        grants
            .grant(id(), &asked, &decision, Scope::Once, revision, now)
            .unwrap();
        let verdict = |request: &Request, revision: Digest| {
            let approvals = grants.matching(request, revision, now);
            policy.decide(request, &approvals).verdict
        };
        assert_eq!(verdict(&asked, revision), Verdict::Allow);
        assert_eq!(verdict(&request(3001, "/node"), revision), Verdict::Ask);
        assert_eq!(verdict(&request(3000, "/other"), revision), Verdict::Ask);
        assert_eq!(verdict(&asked, Digest::of(b"another")), Verdict::Ask);
    }

    #[test]
    fn who_wants_no_more_such_questions_is_asked_about_no_port() {
        let mut grants = Grants::new();
        grants.deny_always(&request(3000, "/node"));
        assert!(grants.is_denied_always(&request(8000, "/python")));
    }
}
