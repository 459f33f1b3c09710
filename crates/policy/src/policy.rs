//! A checked policy, and questions to it other than decisions.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use stockade_types::{Digest, RawText, RequestKind, RuleId, Verdict};

use crate::{
    Credential, Decision, HostSets, ListedCredential, Origin, Outside, OwnQuestionsOff,
    RecordContent, Review, Settings, Source, SshKey, Warning,
    controls::COUNT,
    credential::Unused,
    engine::{self, Engine, EngineError},
    kinds::{
        Body,
        cedar::{CedarBody, CedarRules},
        index::Index,
        net::NetBody,
    },
    pattern::{ProgramPattern, command::CommandPattern},
    rule::Rule,
    settings::Sourced,
};

/// A checked policy: all layers, compiled. It cannot change: a new one replaces it, or denies beside it.
#[derive(Debug)]
pub struct Policy {
    pub(crate) parts: PolicyParts,
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: Index,
    /// `None` if no rule is in Cedar.
    pub(crate) cedar: Option<CedarRules>,
    pub(crate) engine: Engine,
    /// A policy that was published since, which can deny beside this one.
    pub(crate) newer: Newer,
    /// The names of programs in asks and denies, once they were needed.
    pub(crate) names: OnceLock<Vec<String>>,
}

/// The newer policy, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Newer(RwLock<Option<Arc<Policy>>>);

impl Newer {
    pub(crate) fn get(&self) -> Option<Arc<Policy>> {
        let newer = self.0.read().unwrap_or_else(PoisonError::into_inner);
        newer.clone()
    }

    pub(crate) fn set(&self, policy: Option<Policy>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policy.map(Arc::new);
    }
}

/// The parts of a policy other than its rules.
#[derive(Debug)]
pub(crate) struct PolicyParts {
    pub(crate) settings: Settings,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) ssh_keys: Vec<SshKey>,
    pub(crate) sources: Vec<Source>,
    pub(crate) host_sets: HostSets,
    pub(crate) revision: Digest,
    /// Warnings from reading the files.
    pub(crate) warnings: Vec<Warning>,
}

/// One rule as `policy show` prints it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedRule {
    /// Its id.
    pub id: RuleId,
    /// What it does.
    pub verdict: Verdict,
    /// Its layer.
    pub origin: Origin,
    /// Its place, as `file:line`.
    pub source: String,
    /// Its conditions in words.
    pub conditions: String,
    /// The reason for it.
    pub reason: String,
    /// Its refusals are counted in one line, not reported one by one.
    pub quiet: bool,
    /// Which people in roles it asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
}

impl Policy {
    pub(crate) fn new(parts: PolicyParts, rules: Vec<Rule>) -> Result<Self, EngineError> {
        let index = Index::new(rules.iter().map(|rule| &rule.body));
        let bodies = || rules.iter().map(|rule| &rule.body);
        let cedar = CedarRules::new(bodies(), agent(&parts.sources))?;
        Ok(Self {
            cedar,
            parts,
            index,
            rules,
            engine: Engine::new()?,
            newer: Newer::default(),
            names: OnceLock::new(),
        })
    }

    /// Returns all settings other than the rules.
    pub const fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Protects one more path of the workspace for this run; `what` describes it. No policy lifts
    /// that.
    pub fn protect(&mut self, pattern: String, what: &str) {
        self.parts.settings.workspace.protect.push(Sourced {
            value: pattern.into(),
            // No layer lifts it.
            origin: Origin::Organisation,
            source: what.to_owned(),
        });
    }

    /// Leaves the agent's own questions on.
    pub fn keep_own_questions(&mut self) {
        self.parts.settings.preset.own_questions_off = OwnQuestionsOff::default();
    }

    /// Does work of the first decision ahead of time. Decisions are the same without it.
    pub fn make_ready(&self) {
        self.engine.make_ready();
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

    /// Returns the program names in ask and deny rules; the caller looks for copies of these
    /// programs.
    pub fn command_names(&self) -> Vec<String> {
        let names: BTreeSet<String> = self
            .rules
            .iter()
            .filter(|rule| rule.effect != Verdict::Allow)
            .flat_map(|rule| match &rule.body {
                Body::Exec(body) => body.commands.as_slice(),
                Body::Net(_) | Body::File(_) | Body::Tool(_) | Body::Cedar(_) | Body::Control => {
                    &[]
                }
            })
            .filter_map(CommandPattern::program_names)
            .flatten()
            .filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned))
            .collect();
        names
            .into_iter()
            .chain(self.cedar_bodies().flat_map(CedarBody::command_names))
            .collect()
    }

    /// Returns whether only presets ask: no file of the organisation, the user or the session
    /// contributes to the question.
    pub fn asks_by_default(&self, decision: &Decision) -> bool {
        let asks = |rule: &&Rule| rule.effect == Verdict::Ask && rule.has_part(decision);
        decision.verdict == Verdict::Ask
            && self
                .rules
                .iter()
                .filter(asks)
                .all(|rule| rule.origin == Origin::Builtin)
    }

    /// Returns whether a question of the organisation is part of a decision.
    pub fn asks_for_organisation(&self, decision: &Decision) -> bool {
        let asks = |rule: &Rule| {
            rule.origin == Origin::Organisation
                && rule.effect == Verdict::Ask
                && rule.has_part(decision)
        };
        self.rules.iter().any(asks)
    }

    /// Says what the record keeps of what is said: what a file sets, or redacted texts; digests where the
    /// record is also an organisation's.
    pub fn record_content(&self) -> RecordContent {
        let set = self.parts.settings.record.content.as_ref();
        let mut sources = self.parts.sources.iter();
        let mut is_organisation = || sources.any(|source| source.origin == Origin::Organisation);
        match set {
            Some(set) => set.value,
            None if is_organisation() => RecordContent::Digest,
            None => RecordContent::Redacted,
        }
    }

    /// Returns whether any rule has the automatic reviewer see its questions.
    pub fn asks_reviewer(&self) -> bool {
        let stages = self.rules.iter().filter_map(|rule| rule.stage.as_ref());
        let mut reviewers = stages.map(|stage| stage.reviewer);
        reviewers.any(|reviewer| reviewer != crate::Reviewer::Human)
    }

    /// Returns whether any rule could cause a question.
    pub fn asks(&self) -> bool {
        let own = self.rules.iter().skip(COUNT);
        own.into_iter().any(|rule| rule.effect == Verdict::Ask)
    }

    /// Returns whether any rule could permit a connection to the outside.
    pub fn reaches_network(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.net().is_some() && rule.effect != Verdict::Deny)
    }

    /// Returns whether any rule about executions names programs by their content.
    pub fn names_digests(&self) -> bool {
        self.rules.iter().any(|rule| match &rule.body {
            Body::Exec(body) => body
                .programs
                .iter()
                .flatten()
                .any(|program| matches!(program, ProgramPattern::Digest(_))),
            Body::Net(_) | Body::File(_) | Body::Tool(_) | Body::Cedar(_) | Body::Control => false,
        }) || self.newer_has(Self::names_digests)
    }

    /// Tells whether something holds for the newer policy that denies beside this one.
    fn newer_has(&self, holds: impl FnOnce(&Self) -> bool) -> bool {
        self.newer.get().is_some_and(|newer| holds(&newer))
    }

    /// Returns whether any rule depends on the connecting program.
    pub fn names_programs_of_connections(&self) -> bool {
        self.rules
            .iter()
            .filter_map(Rule::net)
            .any(|body| body.programs.is_some() && !body.hosts.is_empty())
            || self
                .cedar_bodies()
                .any(CedarBody::names_programs_of_connections)
    }

    /// Returns whether a rule permits connections, or asks about them, because this program makes
    /// them.
    pub fn trusts_program(&self, program: &RawText) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.effect != Verdict::Deny)
            .filter_map(Rule::net)
            .flat_map(|body| body.programs.iter().flatten())
            .any(|own| own.matches(program, None))
            || self
                .cedar_bodies()
                .any(|body| body.names_programs_of_connections() && body.could_name(program))
    }

    /// Returns whether any rule asks about changes of files or denies them.
    pub fn restricts_files(&self) -> bool {
        let is_about = |rule: &Rule| match &rule.body {
            Body::File(_) => rule.effect != Verdict::Allow,
            Body::Cedar(body) => body.is_about(RequestKind::File),
            Body::Net(_) | Body::Exec(_) | Body::Tool(_) | Body::Control => false,
        };
        self.rules.iter().any(is_about) || self.newer_has(Self::restricts_files)
    }

    /// Returns whether any rule asks about tool calls or denies them. Without one no call waits for a
    /// decision.
    pub fn restricts_tools(&self) -> bool {
        self.rules.iter().any(Rule::restricts_tools) || self.newer_has(Self::restricts_tools)
    }

    /// Lists the rules of the files, in the order of the layers.
    pub fn rules(&self) -> Vec<ListedRule> {
        let listed = |rule: &Rule| ListedRule {
            id: rule.id.clone(),
            verdict: rule.effect,
            origin: rule.origin,
            source: rule.place.clone(),
            conditions: rule.to_string(),
            reason: rule.reason.clone(),
            quiet: rule.quiet,
            review: rule.stage.as_ref().and_then(|stage| stage.review.clone()),
        };
        self.rules.iter().skip(COUNT).map(listed).collect()
    }

    /// Returns the quiet denies whose id no other rule has: a decision identifies its rule only by
    /// the id.
    pub fn quiet_rules(&self) -> Vec<RuleId> {
        let is_only = |rule: &&Rule| self.rules.iter().filter(|r| r.id == rule.id).count() == 1;
        let quiet = self.rules.iter().filter(|rule| rule.quiet);
        quiet.filter(is_only).map(|rule| rule.id.clone()).collect()
    }

    /// Returns its keys of ssh, with which programs inside log in and which they do not have.
    pub fn ssh_keys(&self) -> &[SshKey] {
        &self.parts.ssh_keys
    }

    /// Returns its credentials.
    pub fn credentials(&self) -> &[Credential] {
        &self.parts.credentials
    }

    /// Leaves only the credentials that a session has. Returns what its owner should know, one line
    /// each.
    ///
    /// The same facts leave the same credentials in each process that loads the policy.
    pub fn settle_credentials(&mut self, outside: &Outside) -> Vec<String> {
        let PolicyParts {
            settings,
            credentials,
            ..
        } = &mut self.parts;
        let mut notes = Vec::new();
        credentials.retain(|own| {
            let unused = own.unused(settings, outside);
            notes.extend(unused.as_ref().and_then(Unused::note));
            unused.is_none()
        });
        notes
    }

    /// Lists the credentials, in the order of the layers.
    pub fn listed_credentials(&self) -> Vec<ListedCredential> {
        let requests = self.parts.credentials.iter().map(Into::into);
        let keys = self.parts.ssh_keys.iter().map(Into::into);
        requests.chain(keys).collect()
    }

    /// Returns the Cedar text that decides; comments say what each rule matches.
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

    /// Returns the warnings from reading the files.
    pub(crate) fn noted(&self) -> &[Warning] {
        &self.parts.warnings
    }

    pub(crate) fn cedar_bodies(&self) -> impl Iterator<Item = &CedarBody> {
        self.rules.iter().filter_map(|rule| match &rule.body {
            Body::Cedar(body) => Some(body.as_ref()),
            Body::Net(_) | Body::Exec(_) | Body::File(_) | Body::Tool(_) | Body::Control => None,
        })
    }

    pub(crate) fn rule_list(&self) -> &[Rule] {
        &self.rules
    }
}

/// Returns the preset that the session is for: the one that is loaded by itself.
fn agent(sources: &[Source]) -> &str {
    let preset = sources
        .iter()
        .find(|source| source.origin == Origin::Builtin);
    preset.map_or("none", |preset| preset.name.as_str())
}
