//! A checked policy and the decisions on it.

use std::collections::{BTreeMap, BTreeSet};

use stockade_types::{Digest, Host, RawText, RequestKind, RuleId, Verdict};

use crate::{
    Access, Approvals, Decision, HostSets, Judged, NameRequest, Origin, OwnQuestionsOff, Permitted,
    Request, Settings, Source, Warning, WorkspaceMode,
    address::{AddressClass, classify, is_metadata_name},
    controls::{CONTENT, COUNT, METADATA, NEVER, PRIVATE, PROTECTED, VIEW},
    engine::{self, Engine, EngineError, Findings},
    explain::{Explain, Outcome},
    grant::Reach,
    index::Index,
    pattern::{ProgramPattern, command::CommandPattern},
    rule::{Body, Fit, NetBody, Rule},
    settings::Sourced,
    view::{ExecView, FileView, HttpView, NetView, Programs, View},
};

/// Ports of the web.
const WEB: [u16; 2] = [80, 443];

/// A checked policy: all layers, compiled. It cannot change; a new one replaces it.
#[derive(Debug)]
pub struct Policy {
    parts: PolicyParts,
    rules: Vec<Rule>,
    index: Index,
    engine: Engine,
}

/// What a policy is besides its rules.
#[derive(Debug)]
pub(crate) struct PolicyParts {
    pub(crate) settings: Settings,
    pub(crate) sources: Vec<Source>,
    pub(crate) host_sets: HostSets,
    pub(crate) revision: Digest,
    /// What was noted while the files were read.
    pub(crate) warnings: Vec<Warning>,
}

/// One rule as `policy show` prints it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RuleView {
    /// Its id.
    pub id: RuleId,
    /// What it does.
    pub verdict: Verdict,
    /// Its layer.
    pub origin: Origin,
    /// Where it stands, as `file:line`.
    pub source: String,
    /// Its conditions in words.
    pub conditions: String,
    /// Why it is there.
    pub reason: String,
    /// Its refusals are counted in one line, and not told one by one.
    pub quiet: bool,
}

/// Rules that match, each with the patterns that do.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) now: BTreeMap<usize, Vec<usize>>,
    pub(crate) later: BTreeMap<usize, Vec<usize>>,
}

impl Policy {
    pub(crate) fn new(parts: PolicyParts, rules: Vec<Rule>) -> Result<Self, EngineError> {
        let index = Index::new(&rules);
        Ok(Self {
            parts,
            index,
            rules,
            engine: Engine::new()?,
        })
    }

    /// Decides one request, given what was approved.
    ///
    /// The answer depends on nothing but the arguments and the policy. Whatever cannot be
    /// evaluated is a deny.
    pub fn decide(&self, request: &Request, approvals: &Approvals) -> Decision {
        self.decide_above(request, approvals, Origin::Builtin)
    }

    /// Decides as if there were no layer below `floor` in trust; `Builtin` is no floor.
    pub(crate) fn decide_above(
        &self,
        request: &Request,
        approvals: &Approvals,
        floor: Origin,
    ) -> Decision {
        let judge = Judge {
            policy: self,
            request,
            approvals,
            floor,
        };
        match request {
            Request::Name(name) => judge.name(name),
            Request::Net(net) => judge.one(&View::Net(NetView {
                host: &net.host,
                port: net.port.get(),
                program: Programs::of(&net.subject.exe),
                http: None,
            })),
            Request::Http(http) => judge.one(&View::Net(NetView {
                host: &http.host,
                port: http.port.get(),
                program: Programs::of(&http.subject.exe),
                http: Some(HttpView::new(&http.method, http.path.as_bytes())),
            })),
            Request::Exec(exec) => judge.one(&View::Exec(ExecView::new(exec))),
            Request::File(file) => judge.one(&View::File(FileView { request: file })),
            Request::Port(port) => self.listening(port, request, approvals),
        }
    }

    /// Decides and gives the proof. This is the only way to a [`Permitted`].
    ///
    /// # Errors
    /// The decision, where it is not an allow.
    #[expect(
        clippy::result_large_err,
        reason = "a denial is as much an answer as an allow"
    )]
    pub fn permit<T: Judged>(
        &self,
        value: T,
        approvals: &Approvals,
    ) -> Result<(Permitted<T>, Decision), Decision> {
        let decision = self.decide(&value.request(), approvals);
        if decision.verdict == Verdict::Allow {
            return Ok((Permitted::new(value), decision));
        }
        Err(decision)
    }

    /// Returns everything but the rules.
    pub const fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Protects a path of the workspace in addition, for this run: `what` lies there. No policy
    /// lifts that.
    pub fn protect(&mut self, pattern: String, what: &str) {
        self.parts.settings.workspace.protect.push(Sourced {
            value: pattern.into(),
            // No layer lifts it.
            origin: Origin::Organisation,
            source: what.to_owned(),
        });
    }

    /// Leaves the questions of the agent itself as the agent has them.
    pub fn keep_own_questions(&mut self) {
        self.parts.settings.preset.own_questions_off = OwnQuestionsOff::default();
    }

    /// Returns the digest of all layers and host sets; a grant holds for one revision only.
    pub const fn revision(&self) -> Digest {
        self.parts.revision
    }

    /// Returns the files it was loaded from, so that another process can load the same.
    pub fn sources(&self) -> &[Source] {
        &self.parts.sources
    }

    /// Returns the host sets it was loaded with.
    pub const fn host_sets(&self) -> &HostSets {
        &self.parts.host_sets
    }

    /// Returns all ports that a net rule names.
    pub fn net_ports(&self) -> BTreeSet<u16> {
        self.rules
            .iter()
            .filter_map(Rule::net)
            .flat_map(NetBody::named_ports)
            .collect()
    }

    /// Returns the program names that ask and deny rules name: their copies are looked for.
    pub fn command_names(&self) -> Vec<String> {
        let names: BTreeSet<String> = self
            .rules
            .iter()
            .filter(|rule| rule.effect != Verdict::Allow)
            .flat_map(|rule| match &rule.body {
                Body::Exec(body) => body.commands.as_slice(),
                _ => &[],
            })
            .filter_map(CommandPattern::program_names)
            .flatten()
            .filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned))
            .collect();
        names.into_iter().collect()
    }

    /// Tells whether only presets ask: no file of the organisation, the user or the session has a part
    /// in the question.
    pub fn asks_by_default(&self, decision: &Decision) -> bool {
        let asks = |rule: &&Rule| rule.effect == Verdict::Ask && decision.rules.contains(&rule.id);
        decision.verdict == Verdict::Ask
            && self
                .rules
                .iter()
                .filter(asks)
                .all(|rule| rule.origin == Origin::Builtin)
    }

    /// Tells whether any rule could lead to a question.
    pub fn asks(&self) -> bool {
        let own = self.rules.iter().skip(COUNT);
        own.into_iter().any(|rule| rule.effect == Verdict::Ask)
    }

    /// Tells whether any rule could let a connection out.
    pub fn reaches_network(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.net().is_some() && rule.effect != Verdict::Deny)
    }

    /// Tells whether any rule about executions names programs by their content.
    pub fn names_digests(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.body {
            Body::Exec(body) => body
                .programs
                .iter()
                .flatten()
                .any(|program| matches!(program, ProgramPattern::Digest(_))),
            _ => false,
        })
    }

    /// Tells whether any rule depends on which program connects.
    pub fn names_programs_of_connections(&self) -> bool {
        self.rules
            .iter()
            .filter_map(Rule::net)
            .any(|body| body.programs.is_some() && !body.hosts.is_empty())
    }

    /// Tells whether a rule lets connections out, or asks about them, because this program makes them.
    pub fn trusts_program(&self, program: &RawText) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.effect != Verdict::Deny)
            .filter_map(Rule::net)
            .flat_map(|body| body.programs.iter().flatten())
            .any(|own| own.matches(program, None))
    }

    /// Tells whether any rule asks about changes of files or denies them.
    pub fn restricts_files(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| matches!(rule.body, Body::File(_)) && rule.effect != Verdict::Allow)
    }

    /// Lists the rules of the files, in the order of the layers.
    pub fn rules(&self) -> Vec<RuleView> {
        let view = |rule: &Rule| RuleView {
            id: rule.id.clone(),
            verdict: rule.effect,
            origin: rule.origin,
            source: rule.place.clone(),
            conditions: rule.to_string(),
            reason: rule.reason.clone(),
            quiet: rule.quiet,
        };
        self.rules.iter().skip(COUNT).map(view).collect()
    }

    /// Returns the quiet denies whose id no other rule has: a decision names its rule by that alone.
    pub fn quiet_rules(&self) -> Vec<RuleId> {
        let is_only = |rule: &&Rule| self.rules.iter().filter(|r| r.id == rule.id).count() == 1;
        let quiet = self.rules.iter().filter(|rule| rule.quiet);
        quiet.filter(is_only).map(|rule| rule.id.clone()).collect()
    }

    /// Returns the policy as the Cedar text that decides, with what each rule matches in comments.
    pub fn to_cedar(&self) -> String {
        let mut text = format!(
            "// revision {}\n// Sets in the context name rules as LAYER/ID. `matched`: the conditions in the\n\
             // comment hold. `later`: they can only be told once requests are seen. `excepted`: an\n\
             // allow rule of enough trust names part of what this ask names. `approvals`: answered.\n",
            self.parts.revision
        );
        for rule in &self.rules {
            // A line break in a pattern would end the comment.
            let comment = RawText::from(format!("{rule} ({})", rule.place).as_str());
            text.extend(["\n// ", &comment.display(), "\n"]);
            for policy in engine::texts(rule) {
                text.push_str(&policy);
                text.push('\n');
            }
        }
        text
    }

    /// Returns a control that is judged as a rule, by its number.
    pub(crate) fn control(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number)
    }

    /// Returns what was noted while the files were read.
    pub(crate) fn noted(&self) -> &[Warning] {
        &self.parts.warnings
    }

    pub(crate) fn rule_list(&self) -> &[Rule] {
        &self.rules
    }
}

/// One decision on its way.
struct Judge<'p> {
    policy: &'p Policy,
    request: &'p Request,
    approvals: &'p Approvals,
    floor: Origin,
}

impl Judge<'_> {
    fn one(&self, view: &View<'_>) -> Decision {
        let matches = self.matches(view);
        let findings = self.findings(view, &matches);
        let kind = if matches!(self.request, Request::Name(_)) {
            RequestKind::Net
        } else {
            self.request.kind()
        };
        let explain = Explain {
            rules: &self.policy.rules,
            index: &self.policy.index,
            workspace: &self.policy.parts.settings.workspace,
            request: self.request,
            view,
            findings: &findings,
        };
        let verdict = match self
            .policy
            .engine
            .verdict(kind, &self.policy.rules, &findings)
        {
            Ok(verdict) => verdict,
            Err(error) => return Explain::error(&error),
        };
        let http_only =
            verdict == Verdict::Allow && self.is_http_only(kind, view, &matches, &findings);
        explain.decision(&Outcome { verdict, http_only })
    }

    /// A name is known where a connection to it on some port could be allowed or asked about.
    fn name(&self, request: &NameRequest) -> Decision {
        let host = Host::Name(request.name.clone());
        let at = |port| {
            View::Net(NetView {
                host: &host,
                port,
                program: Programs::Any,
                http: None,
            })
        };
        let candidates = self.policy.index.candidates(&at(0));
        let ports: BTreeSet<u16> = candidates
            .iter()
            .filter_map(|candidate| self.policy.rules.get(candidate.rule))
            .filter(|rule| rule.effect != Verdict::Deny)
            .filter_map(Rule::net)
            .flat_map(NetBody::named_ports)
            .collect();
        // Of rules that say as much, that of the web is what the name is most likely looked up for.
        let (web, others): (Vec<u16>, Vec<u16>) =
            ports.into_iter().partition(|port| WEB.contains(port));
        let mut best: Option<Decision> = None;
        for decision in web
            .into_iter()
            .chain(others)
            .map(|port| self.one(&at(port)))
        {
            if best
                .as_ref()
                .is_none_or(|old| decision.verdict < old.verdict)
            {
                best = Some(decision);
            }
        }
        match best {
            Some(decision) if decision.verdict == Verdict::Deny => decision,
            Some(decision) => Decision {
                verdict: Verdict::Allow,
                stage: None,
                http_only: false,
                remedy: String::new(),
                failed_condition: None,
                nearest_allow: None,
                ..decision
            },
            None => self.one(&at(0)),
        }
    }

    fn counts(&self, rule: &Rule) -> bool {
        self.floor == Origin::Builtin
            || rule.origin == Origin::Builtin
            || rule.origin.authority() >= self.floor.authority()
    }

    fn matches(&self, view: &View<'_>) -> Matches {
        let mut matches = Matches::default();
        for candidate in self.policy.index.candidates(view) {
            let Some(rule) = self.policy.rules.get(candidate.rule) else {
                continue;
            };
            if !self.counts(rule) {
                continue;
            }
            let list = match rule.fit(candidate.pattern, view) {
                Ok(Fit::Now) => &mut matches.now,
                Ok(Fit::Later) => &mut matches.later,
                Err(_) => continue,
            };
            list.entry(candidate.rule)
                .or_default()
                .push(candidate.pattern);
        }
        matches
    }

    fn findings(&self, view: &View<'_>, matches: &Matches) -> Findings {
        let rules = &self.policy.rules;
        let effect = |number: &usize| rules.get(*number).map(|rule| rule.effect);
        let controls = self.controls(view, matches);
        let asks = || {
            matches
                .now
                .iter()
                .filter(|(n, _)| effect(n) == Some(Verdict::Ask))
        };
        let excepted = asks()
            .filter(|(ask, patterns)| is_excepted(rules, **ask, patterns, matches))
            .map(|(ask, _)| *ask)
            .collect();
        let answered: Vec<(&RuleId, Reach)> = self
            .approvals
            .answered(self.request, self.policy.parts.revision)
            .collect();
        let asked = controls
            .iter()
            .copied()
            .filter(|n| effect(n) == Some(Verdict::Ask));
        let approved = asks()
            .map(|(ask, _)| *ask)
            .chain(asked)
            .filter(|ask| {
                let rule = rules.get(*ask);
                rule.is_some_and(|rule| is_answered(rule, &answered))
            })
            .collect();
        let mut matched: Vec<usize> = matches.now.keys().copied().chain(controls).collect();
        matched.sort_unstable();
        let later = matches
            .later
            .keys()
            .filter(|number| effect(number) != Some(Verdict::Deny))
            .copied()
            .collect();
        Findings {
            matched,
            later,
            excepted,
            approved,
        }
    }

    /// Returns the controls that apply whatever the files say.
    fn controls(&self, view: &View<'_>, matches: &Matches) -> Vec<usize> {
        match view {
            View::Net(net) => {
                let class = match net.host {
                    Host::Name(name) if is_metadata_name(name) => AddressClass::Metadata,
                    Host::Name(_) => AddressClass::Public,
                    Host::Address(address) => classify(*address),
                };
                match class {
                    AddressClass::Metadata => vec![METADATA],
                    AddressClass::Unusable => vec![NEVER],
                    AddressClass::Private if !self.permits_private(matches) => vec![PRIVATE],
                    AddressClass::Private | AddressClass::Public => Vec::new(),
                }
            }
            View::File(file) => {
                let workspace = &self.policy.parts.settings.workspace;
                let guarded = file
                    .request
                    .workspace_relative
                    .as_ref()
                    .is_some_and(|relative| {
                        let moved = file.request.access == Access::Rename;
                        workspace.protects(relative.as_bytes()).is_some()
                            || (moved && workspace.protects_below(relative.as_bytes()).is_some())
                    });
                let shown = file.request.content.is_some()
                    && file.request.workspace_relative.as_ref().is_some_and(|at| {
                        let below = at.as_bytes();
                        workspace.protects(below).is_some() && !workspace.is_held(below)
                    });
                // With a review the change lands in the overlay and is shown first.
                if guarded && workspace.mode.value == WorkspaceMode::Direct {
                    vec![if shown { CONTENT } else { PROTECTED }, VIEW]
                } else {
                    vec![VIEW]
                }
            }
            View::Exec(_) => Vec::new(),
        }
    }

    fn permits_private(&self, matches: &Matches) -> bool {
        matches
            .now
            .keys()
            .chain(matches.later.keys())
            .any(|number| {
                self.policy
                    .rules
                    .get(*number)
                    .is_some_and(|rule| rule.effect != Verdict::Deny && rule.is_private())
            })
    }

    /// Tells whether an allowed connection may carry only requests that can be judged one by one:
    /// it is open only for their sake, or some of them are asked about or denied.
    fn is_http_only(
        &self,
        kind: RequestKind,
        view: &View<'_>,
        matches: &Matches,
        findings: &Findings,
    ) -> bool {
        if matches.later.is_empty() {
            return false;
        }
        let strict = matches.later.keys().any(|number| {
            self.policy
                .rules
                .get(*number)
                .is_some_and(|rule| rule.effect != Verdict::Allow)
        });
        if strict {
            return true;
        }
        let plain = Matches {
            now: matches.now.clone(),
            later: BTreeMap::new(),
        };
        let without = Findings {
            approved: findings.approved.clone(),
            ..self.findings(view, &plain)
        };
        // An error cannot make the connection freer.
        !matches!(
            self.policy
                .engine
                .verdict(kind, &self.policy.rules, &without),
            Ok(Verdict::Allow)
        )
    }
}

/// Tells whether a matching allow rule is an exception to a matching ask.
fn is_excepted(rules: &[Rule], ask: usize, asked: &[usize], matches: &Matches) -> bool {
    let Some(ask) = rules.get(ask) else {
        return false;
    };
    matches
        .now
        .iter()
        .chain(&matches.later)
        .any(|(number, patterns)| {
            rules.get(*number).is_some_and(|allow| {
                allow.effect == Verdict::Allow
                    && patterns
                        .iter()
                        .any(|pattern| allow.answers(*pattern, ask, asked))
            })
        })
}

fn is_answered(rule: &Rule, answered: &[(&RuleId, Reach)]) -> bool {
    answered.iter().any(|(id, reach)| {
        **id == rule.id && (*reach == Reach::Request || rule.is_about_connections())
    })
}
