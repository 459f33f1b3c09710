//! Rules that keep an answer for later sessions: the narrowest rule that names the request.

mod draft;
mod proposed;
mod tool;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use stockade_types::{Port, RawText, RequestKind, Subject, Target, Verdict, ignored};

pub use self::{draft::Width, proposed::Proposed};
use self::{
    draft::is_hidden,
    proposed::{Open, candidates},
};
use crate::{
    Approvals, Decision, ExecRequest, FileRequest, HttpRequest, NetRequest, Origin, Policy,
    PortRequest, Request, Source,
    kinds::{
        exec::QUIET_PUSH_FLAGS,
        net::{WEB_PORTS, twin_of},
    },
    load,
};

/// A rule that would answer the same question in later sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastingRule {
    /// Its form.
    #[serde(default)]
    pub form: RuleForm,
    /// The conditions in TOML, without `id` and `reason`.
    pub conditions: String,
    /// The same in a few words.
    pub words: String,
    /// Why a person should think twice; `None` if the rule opens no more than what reads or is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<String>,
}

/// The form of a kept answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleForm {
    /// A rule, `[[allow]]`.
    #[default]
    Allow,
    /// A port that waits for its server, `[[publish]]`.
    Publish,
}

impl RuleForm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Publish];

    /// Returns the first line of such a table.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Allow => "[[allow]]",
            Self::Publish => "[[publish]]",
        }
    }
}

/// The organisation's pin that limits answers to the session.
const PIN: &str = "answers";

impl LastingRule {
    /// Makes the narrowest rule for a target that is no single request: exactly this command, this host,
    /// or this change of this path. `None` if a policy cannot name it, or if there is no such rule.
    fn for_target(kind: RequestKind, target: &Target) -> Option<Self> {
        match kind {
            RequestKind::Exec => command(target),
            RequestKind::Net => host(target),
            RequestKind::File => file(target),
            RequestKind::Port => port(target),
            // Of a tool call the target does not say everything.
            RequestKind::Http
            | RequestKind::Name
            | RequestKind::Call
            | RequestKind::Credential
            | RequestKind::Tool
            | RequestKind::Definition => None,
        }
    }

    /// Returns the whole rule as TOML.
    pub fn to_toml(&self, id: &str, reason: &str) -> String {
        let mut text = format!(
            "{}\nid = {}\n{}",
            self.form.header(),
            quoted(id),
            self.conditions
        );
        if self.form == RuleForm::Allow {
            text.extend(["reason = ", &quoted(reason), "\n"]);
        }
        text
    }

    /// Returns the same with every line commented out, and why.
    pub fn to_comment(&self, id: &str, reason: &str) -> String {
        let mut text = String::new();
        let risk = self.risk.iter().map(|risk| format!("careful: {risk}"));
        let rule = self.to_toml(id, reason);
        for line in risk.chain(rule.lines().map(str::to_owned)) {
            text.extend(["# ", line.as_str(), "\n"]);
        }
        text
    }
}

impl Policy {
    /// Returns the user's rule that would answer this question in later sessions; `None` if no rule
    /// would, or if the organisation limits answers to the session.
    pub fn lasting(&self, request: &Request, decision: &Decision) -> Option<LastingRule> {
        if decision.verdict != Verdict::Ask || self.settings().require.contains_key(PIN) {
            return None;
        }
        let rules = candidates(request, Width::Path);
        // Evaluate the policy together with the rule, to know for certain that it would answer.
        let answers = |rule: &LastingRule| {
            let text = rule.to_toml("always", "kept");
            let with = self.with(&text)?;
            let decision = with.decide(request, &Approvals::none());
            (decision.verdict == Verdict::Allow).then_some(())
        };
        let mut rules = rules.iter().map(Open::rule);
        rules.find(|rule| answers(rule).is_some())
    }

    /// Returns this policy with more rules of the user; `None` if it would be wrong.
    fn with(&self, rules: &str) -> Option<Self> {
        let mut sources = self.sources().to_vec();
        sources.push(Source {
            origin: Origin::User,
            name: "always".to_owned(),
            text: format!("schema = 1\n{rules}"),
        });
        load(&sources, self.host_sets()).ok()
    }
}

impl Request {
    /// Makes the request of a record, as far as the record describes it; `None` if that is not
    /// enough. No program makes this request: it serves to find out how a policy would decide.
    pub fn of_target(kind: RequestKind, target: &Target) -> Option<Self> {
        match kind {
            RequestKind::Exec => {
                let program = target.path.clone()?;
                let invoked_as = target.raw_path.clone().unwrap_or_else(|| program.clone());
                let name = text(&invoked_as)?.rsplit('/').next()?.to_owned();
                Some(Self::Exec(ExecRequest {
                    program,
                    invoked_as,
                    aliases: vec![name],
                    argv: target.argv.clone(),
                    cwd: target.cwd.clone().unwrap_or_default(),
                    ..ExecRequest::default()
                }))
            }
            RequestKind::Net => Some(Self::Net(NetRequest {
                host: target.host.as_ref()?.parse().ok()?,
                port: Port::new(target.port?)?,
                subject: Subject::default(),
            })),
            RequestKind::File => Some(Self::File(FileRequest {
                path: target.path.clone()?,
                workspace_relative: None,
                access: target.access?,
                content: None,
                subject: Subject::default(),
            })),
            RequestKind::Port => Some(Self::Port(PortRequest {
                port: Port::new(target.port?)?,
                subject: Subject::default(),
            })),
            RequestKind::Http => {
                let meant = target.meant.iter().cloned();
                Some(Self::Http(HttpRequest {
                    host: target.host.as_ref()?.parse().ok()?,
                    port: Port::new(target.port?)?,
                    method: target.method.clone()?,
                    path: target.path.clone()?,
                    meaning: meant
                        .map(serde_json::from_value)
                        .collect::<Result<_, _>>()
                        .ok()?,
                    shown: None,
                    subject: Subject::default(),
                }))
            }
            // A name is looked up for a connection, most often for one to the web.
            RequestKind::Name => Some(Self::Net(NetRequest {
                host: target.host.as_ref()?.parse().ok()?,
                port: Port::new(WEB_PORTS[0])?,
                subject: Subject::default(),
            })),
            RequestKind::Call
            | RequestKind::Credential
            | RequestKind::Tool
            | RequestKind::Definition => None,
        }
    }
}

fn command(target: &Target) -> Option<LastingRule> {
    let program = text(target.path.as_ref()?)?;
    let invoked = target.raw_path.as_ref().or(target.path.as_ref())?;
    let name = text(invoked)?.rsplit('/').next()?;
    let mut tokens = vec![literal(name)];
    for word in target.argv.iter().skip(1) {
        let word = text(word).filter(|word| !is_hidden(word))?;
        tokens.push(literal(word));
    }
    let is_quiet = |token: &String| QUIET_PUSH_FLAGS.contains(&token.as_str());
    if name == "git" && tokens.get(1).is_some_and(|token| token == "push") {
        // Leave open the flags that do not change the effect, as in an answer for the session.
        let quiet = tokens.iter().skip(2).take_while(|t| is_quiet(t)).count();
        let flags = format!("**[{}]", QUIET_PUSH_FLAGS.join(" "));
        tokens.splice(2..2 + quiet, [flags]);
    }
    let list: Vec<String> = tokens.iter().map(|token| quoted(token)).collect();
    let mut conditions = String::from("what = \"exec\"\n");
    writeln!(conditions, "command = [{}]", list.join(", ")).ok()?;
    writeln!(conditions, "programs = [{}]", quoted(&literal(program))).ok()?;
    let words: Vec<String> = target.argv.iter().skip(1).map(RawText::display).collect();
    Some(LastingRule {
        form: RuleForm::Allow,
        conditions,
        words: format!("run exactly {name} {} ({program})", words.join(" ")),
        risk: risk_of(name, &target.argv).map(str::to_owned),
    })
}

/// Words by which package managers and their like publish.
const PUBLISHING: [&str; 3] = ["publish", "upload", "push"];
/// Flags of a push by which commits or refs can be lost at the other side.
const LOSING: [&str; 8] = [
    "-f",
    "--force",
    "--force-with-lease",
    "--force-if-includes",
    "--mirror",
    "--prune",
    "--delete",
    "-d",
];

/// Says why a person should think twice about a rule for a command.
fn risk_of(name: &str, argv: &[RawText]) -> Option<&'static str> {
    let words: Vec<&str> = argv.iter().skip(1).filter_map(text).collect();
    if name != "git" {
        let publishes = words.iter().any(|word| PUBLISHING.contains(word));
        return publishes.then_some("it publishes");
    }
    let (_, push) = words.split_at(words.iter().position(|word| *word == "push")?);
    let loses = push.iter().skip(1).any(|word| {
        let flag = word.split('=').next().unwrap_or_default();
        LOSING.contains(&flag) || word.starts_with(['+', ':'])
    });
    loses.then_some("the push can lose commits or refs at the other side")
}

fn host(target: &Target) -> Option<LastingRule> {
    let (host, port) = (target.host.as_ref()?, target.port?);
    // Both web ports count as one, and so do both names of a site.
    let ports = if WEB_PORTS.contains(&port) {
        "443, 80".to_owned()
    } else {
        port.to_string()
    };
    let other = twin_of(&host.parse().ok()?, Port::new(port)?);
    let mut hosts = vec![host.clone()];
    hosts.extend(other.map(|other| other.to_string()));
    let listed: Vec<String> = hosts.iter().map(|host| quoted(host)).collect();
    Some(LastingRule {
        form: RuleForm::Allow,
        conditions: format!(
            "what = \"net\"\nhosts = [{}]\nports = [{ports}]\n",
            listed.join(", ")
        ),
        words: format!(
            "any program here may connect to {} on {ports}",
            hosts.join(" and ")
        ),
        risk: Some("the whole host, with any method and path".to_owned()),
    })
}

fn port(target: &Target) -> Option<LastingRule> {
    let port = target.port?;
    Some(LastingRule {
        form: RuleForm::Publish,
        conditions: format!("port = {port}\nwhen = \"listening\"\n"),
        words: format!("port {port} is open whenever a program here listens on it"),
        risk: None,
    })
}

fn file(target: &Target) -> Option<LastingRule> {
    let (path, access) = (text(target.path.as_ref()?)?, target.access?);
    let list = quoted(&literal(path));
    Some(LastingRule {
        form: RuleForm::Allow,
        conditions: format!(
            "what = \"file\"\npaths = [{list}]\naccess = [{}]\n",
            quoted(access.as_str())
        ),
        words: format!("{access} {path}"),
        risk: None,
    })
}

/// Returns text that a pattern can contain; bytes that are not text, and controls, allow only a
/// one-time answer.
fn text(raw: &RawText) -> Option<&str> {
    let text = std::str::from_utf8(raw.as_bytes()).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Escapes the special characters of patterns.
fn literal(text: &str) -> String {
    let mut literal = String::new();
    for c in text.chars() {
        if matches!(c, '*' | '{' | '}' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal
}

/// Writes a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => ignored(
                write!(quoted, "\\u{:04X}", u32::from(c)),
                "writing to a string cannot fail",
            ),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
    use stockade_types::Verdict;

    use super::QUIET_PUSH_FLAGS;
    use crate::{Approvals, ExecRequest, HostSets, Origin, Policy, Probe, Request, Source, load};

    fn policy(user: &str) -> Policy {
        let builtin = Source {
            origin: Origin::Builtin,
            name: "generic".to_owned(),
            text: crate::builtin("generic").unwrap().to_owned(),
        };
        let user = Source {
            origin: Origin::User,
            name: "user.toml".to_owned(),
            text: format!("schema = 1\n{user}"),
        };
        load(&[builtin, user], &HostSets::default()).unwrap()
    }

    fn exec(words: &[String]) -> Request {
        Request::Exec(ExecRequest {
            program: "/usr/bin/git".into(),
            invoked_as: "/usr/bin/git".into(),
            argv: words.iter().map(|word| word.as_str().into()).collect(),
            ..ExecRequest::default()
        })
    }

    fn decide(policy: &Policy, request: &Request) -> Verdict {
        policy.decide(request, &Approvals::none()).verdict
    }

    fn request(line: &str) -> Request {
        Probe::parse(line)
            .unwrap()
            .requests()
            .first()
            .unwrap()
            .clone()
    }

    #[test]
    fn a_kept_answer_holds_for_that_and_nothing_else() {
        let before = policy("");
        for (line, same, others) in [
            (
                "net docs.test:443",
                vec![
                    "net docs.test:443",
                    "net docs.test:80",
                    "net www.docs.test:443",
                ],
                vec!["net other.test:443", "net a.docs.test:443"],
            ),
            (
                "net docs.test:80",
                vec!["net docs.test:443"],
                vec!["net other.test:80"],
            ),
        ] {
            let asked = request(line);
            let decision = before.decide(&asked, &Approvals::none());
            let rule = before.lasting(&asked, &decision).unwrap();
            let after = policy(&rule.to_toml("always-1", "kept"));
            for line in same {
                assert_eq!(decide(&after, &request(line)), Verdict::Allow, "{line}");
            }
            for line in others {
                assert_eq!(decide(&after, &request(line)), Verdict::Ask, "{line}");
            }
        }
    }

    #[test]
    fn the_organisation_keeps_its_questions_and_may_keep_all_answers_to_the_session() {
        let organisation = |text: &str| {
            let source = Source {
                origin: Origin::Organisation,
                name: "organisation.toml".to_owned(),
                text: format!("schema = 1\n{text}"),
            };
            let builtin = Source {
                origin: Origin::Builtin,
                name: "generic".to_owned(),
                text: crate::builtin("generic").unwrap().to_owned(),
            };
            load(&[builtin, source], &HostSets::default()).unwrap()
        };
        let lasting = |policy: &Policy, line: &str| {
            let request = request(line);
            let decision = policy.decide(&request, &Approvals::none());
            assert_eq!(decision.verdict, Verdict::Ask, "{line}");
            policy.lasting(&request, &decision)
        };
        let own = organisation(
            "[[ask]]\nid = \"any-push\"\nwhat = \"exec\"\ncommand = [\"git\", \"push\", \"**\"]\n",
        );
        assert!(lasting(&own, "exec git push").is_none());
        assert!(lasting(&own, "net docs.test:443").is_some());
        let pinned = organisation("[require]\nanswers = \"session\"\n");
        assert!(lasting(&pinned, "net docs.test:443").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_kept_command_is_exactly_that_one(
            words in proptest::collection::vec("[a-z*{},\\\\\\[\\].\"' :ü-]{0,6}", 0..4),
            other in "[a-z*:-]{0,4}",
        ) {
            let argv = |more: Option<&String>| -> Vec<String> {
                let fixed = ["git", "push"].map(str::to_owned).into_iter();
                fixed.chain(words.iter().cloned()).chain(more.cloned()).collect()
            };
            let before = policy("");
            let asked = exec(&argv(None));
            let decision = before.decide(&asked, &Approvals::none());
            if decision.verdict == Verdict::Ask {
                let rule = before.lasting(&asked, &decision).unwrap();
                let after = policy(&rule.to_toml("always-1", "kept \"so\""));
                prop_assert_eq!(decide(&after, &asked), Verdict::Allow);
                let longer = exec(&argv(Some(&other)));
                // A flag that changes nothing is open only in its own place, right after the
                // command.
                let is_quiet = |word: &String| QUIET_PUSH_FLAGS.contains(&word.as_str());
                let expected = if words.iter().all(is_quiet) && is_quiet(&other) {
                    Verdict::Allow
                } else {
                    decide(&before, &longer)
                };
                prop_assert_eq!(decide(&after, &longer), expected);
            }
        }
    }
}
