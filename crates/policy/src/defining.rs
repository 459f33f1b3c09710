//! The policy's decision about tools of servers whose definition is not the one that was seen before.

use crate::{
    Approvals, AsRequest, Control, Decision, DefinitionRequest, OnDefinition, Origin, Policy,
    Request, RuleName, grant::Reach,
};

impl AsRequest for DefinitionRequest {
    fn as_request(&self) -> Request {
        Request::Definition(self.clone())
    }
}

impl Policy {
    /// Decides whether a model may read definitions that are not known: a changed one is asked about, and
    /// so is what could not be read; a new tool of a known server is only recorded, unless a policy says
    /// otherwise.
    pub(crate) fn defining(
        &self,
        wanted: &DefinitionRequest,
        request: &Request,
        approvals: &Approvals,
    ) -> Decision {
        const CONTROL: Control = Control::ToolDefinition;
        let mcp = &self.settings().mcp;
        let is_changed = wanted.is_changed() || wanted.unread.is_some();
        let (setting, name) = if is_changed {
            (&mcp.changed, "changed")
        } else {
            (&mcp.added, "added")
        };
        let what = match &wanted.unread {
            Some(why) => format!("definitions of tools could not be compared: {why}"),
            None if is_changed => "a tool is not what it was when it was seen first".to_owned(),
            None => "the server has a tool that it did not have before".to_owned(),
        };
        match setting.value {
            OnDefinition::Record => CONTROL.allows(what),
            OnDefinition::Deny => {
                let reason = format!("{what}; {} says `mcp.{name} = \"deny\"`", setting.source);
                CONTROL.denies(reason, "take the server out of the agent's configuration")
            }
            OnDefinition::Ask => {
                let own = CONTROL.id();
                let is_own = |(rule, reach): (&RuleName, Reach)| {
                    let is_control =
                        rule.origin == Origin::Builtin && Some(&rule.id) == own.as_ref();
                    reach == Reach::Request && is_control
                };
                if approvals.answered(request, self.revision()).any(is_own) {
                    return CONTROL.allows("a person has read the definition");
                }
                let remedy =
                    "answer the question, or take the server out of the agent's configuration";
                CONTROL.asks(what, remedy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_types::{ApprovalId, Digest, Subject, UnixMillis, Verdict};

    use crate::{
        Approvals, DefinitionRequest, Grants, HostSets, Origin, Policy, Request, Scope, Source,
        ToolSeen, load,
    };

    fn load_own(origin: Origin, text: &str) -> Result<Policy, String> {
        let source = |origin, name: &str, text: String| Source {
            origin,
            name: name.to_owned(),
            text,
        };
        let builtin = crate::builtin("generic").unwrap().to_owned();
        let sources = [
            source(Origin::Builtin, "generic", builtin),
            source(origin, "own.toml", format!("schema = 1\n{text}")),
        ];
        load(&sources, &HostSets::default()).map_err(|error| format!("{error:?}"))
    }

    fn request(before: Option<&[u8]>, now: &str, unread: Option<&str>) -> Request {
        Request::Definition(DefinitionRequest {
            server: "notes".into(),
            form: "messages".to_owned(),
            tools: vec![ToolSeen {
                tool: "add".into(),
                before: before.map(Digest::of),
                was: None,
                now: Some(now.into()),
            }],
            more: 0,
            digest: Digest::of(now.as_bytes()),
            unread: unread.map(str::to_owned),
            subject: Subject::default(),
        })
    }

    #[test]
    fn a_change_is_asked_about_and_a_new_tool_is_recorded_unless_a_policy_says_so() {
        use Verdict::{Allow, Ask, Deny};
        for (text, changed, added, unread) in [
            ("", Ask, Allow, Ask),
            (
                "[mcp]\nchanged = \"deny\"\nadded = \"ask\"\n",
                Deny,
                Ask,
                Deny,
            ),
            (
                "[mcp]\nchanged = \"record\"\nadded = \"deny\"\n",
                Allow,
                Deny,
                Allow,
            ),
        ] {
            let policy = load_own(Origin::User, text).unwrap();
            let verdict = |request: &Request| policy.decide(request, &Approvals::none()).verdict;
            assert_eq!(
                verdict(&request(Some(b"was"), "now", None)),
                changed,
                "{text}"
            );
            assert_eq!(verdict(&request(None, "now", None)), added, "{text}");
            assert_eq!(
                verdict(&request(None, "now", Some("why"))),
                unread,
                "{text}"
            );
        }
    }

    /// What the organisation wants to be asked about, no lower layer lets pass.
    #[test]
    fn a_lower_layer_only_tightens() {
        for (word, is_tighter) in [("record", false), ("ask", true), ("deny", true)] {
            let builtin = crate::builtin("generic").unwrap().to_owned();
            let source = |origin, text: String| Source {
                origin,
                name: "own.toml".to_owned(),
                text,
            };
            let sources = [
                source(Origin::Builtin, builtin),
                source(
                    Origin::Organisation,
                    "schema = 1\n[mcp]\nchanged = \"ask\"\n".to_owned(),
                ),
                source(
                    Origin::User,
                    format!("schema = 1\n[mcp]\nchanged = \"{word}\"\n"),
                ),
            ];
            assert_eq!(
                load(&sources, &HostSets::default()).is_ok(),
                is_tighter,
                "{word}"
            );
        }
        let error = load_own(Origin::User, "[mcp]\nchanged = \"warn\"\n").unwrap_err();
        assert!(
            error.contains("record") && error.contains("deny"),
            "{error}"
        );
    }

    #[test]
    fn an_answer_is_for_exactly_what_was_shown() {
        let policy = load_own(Origin::User, "").unwrap();
        let asked = request(Some(b"was"), "now", None);
        let decision = policy.decide(&asked, &Approvals::none());
        assert!(
            policy.lasting(&asked, &decision).is_none(),
            "no rule says so"
        );
        let (now, revision) = (UnixMillis(1), policy.revision());
        let id = || ApprovalId::from_random(7);
        let mut grants = Grants::new();
        for wide in [Scope::Session, Scope::Uses(2), Scope::Until(UnixMillis(9))] {
            let given = grants.grant(id(), &asked, &decision, wide, revision, now);
            assert!(given.is_err(), "{wide}");
        }
        let granted = grants.grant(id(), &asked, &decision, Scope::Once, revision, now);
        granted.unwrap();
        let verdict = |request: &Request| {
            let approvals = grants.matching(request, revision, now);
            policy.decide(request, &approvals).verdict
        };
        assert_eq!(verdict(&asked), Verdict::Allow);
        assert_eq!(verdict(&request(Some(b"was"), "now ", None)), Verdict::Ask);
        assert_eq!(
            verdict(&request(Some(b"was"), "now", Some("why"))),
            Verdict::Ask
        );
    }
}
