//! How one request is decided.
//!
//! 1. The decider takes the request apart, and the index names the rules that could match it.
//! 2. It compares each of them: the rule matches now, may match requests on this connection later,
//!    or does not match.
//! 3. It adds the controls that apply, and finds out for each question whether an allow is an
//!    exception to it and whether it was approved. The result is the tally.
//! 4. The engine gives the verdict on the tally, and the verdict gets its words.

use std::collections::{BTreeMap, BTreeSet};

use stockade_types::{Host, RequestKind, Verdict, WorkspaceMode};

use crate::{
    Access, Approvals, AsRequest, Decision, NameRequest, Origin, Permitted, Policy, Request,
    RuleName,
    address::{AddressClass, classify, is_metadata_name},
    controls::{CONTENT, METADATA, NEVER, PRIVATE, PROTECTED, TOOL, VIEW},
    engine::{EngineError, Tally},
    explain::{Explain, Outcome},
    grant::Reach,
    kinds::{
        Features, Fit,
        exec::ExecFeatures,
        file::FileFeatures,
        net::{HttpFeatures, NetBody, NetFeatures, Programs, WEB_PORTS},
        tool::ToolFeatures,
    },
    rule::Rule,
};

/// Rules that match, each with the patterns that do.
#[derive(Debug, Default)]
struct Matches {
    now: BTreeMap<usize, Vec<usize>>,
    later: BTreeMap<usize, Vec<usize>>,
}

impl Policy {
    /// Decides one request, with the approvals given so far.
    ///
    /// The answer depends only on the arguments and the policy. A request that cannot be evaluated
    /// is denied.
    pub fn decide(&self, request: &Request, approvals: &Approvals) -> Decision {
        self.decide_by_both(request, approvals)
    }

    /// Returns the deny of the rules about connections that match a request, whatever controls say of it.
    pub(crate) fn denied_by_rule(&self, request: &Request) -> Option<Decision> {
        let decider = Decider {
            policy: self,
            request,
            approvals: &Approvals::none(),
            floor: Origin::Builtin,
        };
        decider.denied_by_rule(&features(request)?)
    }

    /// Decides as if there were no layer below `floor` in trust; `Builtin` is not a floor.
    pub(crate) fn decide_above(
        &self,
        request: &Request,
        approvals: &Approvals,
        floor: Origin,
    ) -> Decision {
        let decider = Decider {
            policy: self,
            request,
            approvals,
            floor,
        };
        match request {
            Request::Name(name) => decider.name(name),
            Request::Port(port) => self.listening(port, request, approvals),
            Request::Definition(wanted) => self.defining(wanted, request, approvals),
            Request::Net(_)
            | Request::Http(_)
            | Request::Exec(_)
            | Request::File(_)
            | Request::Tool(_) => match features(request) {
                Some(features) => decider.one(&features),
                None => Explain::error(&EngineError::Request("it has no features".to_owned())),
            },
        }
    }

    /// Returns the best that a connection to a name could come to: an allow, on some port and for some
    /// program, a question, or a deny. [`Self::decide`] lets a name be known for a question too.
    pub fn prospect(&self, name: &NameRequest) -> Decision {
        let request = Request::Name(name.clone());
        let decider = Decider {
            policy: self,
            request: &request,
            approvals: &Approvals::none(),
            floor: Origin::Builtin,
        };
        decider.prospect(name)
    }

    /// Decides, and returns the proof. This is the only way to get a [`Permitted`].
    ///
    /// # Errors
    /// The decision, if it is not an allow.
    #[expect(
        clippy::result_large_err,
        reason = "a denial is as much an answer as an allow"
    )]
    pub fn permit<T: AsRequest>(
        &self,
        value: T,
        approvals: &Approvals,
    ) -> Result<(Permitted<T>, Decision), Decision> {
        let decision = self.decide(&value.as_request(), approvals);
        if decision.verdict == Verdict::Allow {
            return Ok((Permitted::new(value), decision));
        }
        Err(decision)
    }
}

/// Takes a request apart for the rules; `None` for one that no rule is about by itself.
pub(crate) fn features(request: &Request) -> Option<Features<'_>> {
    Some(match request {
        Request::Net(net) => Features::Net(NetFeatures {
            host: &net.host,
            port: net.port.get(),
            program: Programs::of(&net.subject.exe),
            http: None,
        }),
        Request::Http(http) => Features::Net(NetFeatures {
            host: &http.host,
            port: http.port.get(),
            program: Programs::of(&http.subject.exe),
            http: Some(HttpFeatures::new(
                &http.method,
                http.path.as_bytes(),
                &http.meaning,
            )),
        }),
        Request::Exec(exec) => Features::Exec(ExecFeatures::new(exec)),
        Request::File(file) => Features::File(FileFeatures { request: file }),
        Request::Tool(tool) => Features::Tool(Box::new(ToolFeatures::new(tool))),
        Request::Name(_) | Request::Port(_) | Request::Definition(_) => return None,
    })
}

/// A decision in progress.
struct Decider<'p> {
    policy: &'p Policy,
    request: &'p Request,
    approvals: &'p Approvals,
    floor: Origin,
}

impl Decider<'_> {
    fn one(&self, features: &Features<'_>) -> Decision {
        let matches = match self.matches(features) {
            Ok(matches) => matches,
            Err(error) => return Explain::error(&error),
        };
        let tally = self.tally(features, &matches);
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
            features,
            tally: &tally,
        };
        let verdict = match self.policy.engine.verdict(kind, &self.policy.rules, &tally) {
            Ok(verdict) => verdict,
            Err(error) => return Explain::error(&error),
        };
        let http_only =
            verdict == Verdict::Allow && self.is_http_only(kind, features, &matches, &tally);
        let mut decision = explain.decision(&Outcome { verdict, http_only });
        if let Features::Net(net) = features {
            decision.terms.inspect |= self.opens_for_credential(net, &decision);
        }
        decision
    }

    /// Returns the deny of the rules about connections that match, whatever a control says of the same
    /// address: what an allow lifts of a control, it lifts of no rule.
    fn denied_by_rule(&self, features: &Features<'_>) -> Option<Decision> {
        let matches = match self.matches(features) {
            Ok(matches) => matches,
            Err(error) => return Some(Explain::error(&error)),
        };
        let rules = &self.policy.rules;
        let is_deny = |number: &usize| {
            let rule = rules.get(*number);
            rule.is_some_and(|rule| rule.effect == Verdict::Deny && rule.net().is_some())
        };
        let denies: Vec<usize> = matches.now.keys().copied().filter(is_deny).collect();
        if denies.is_empty() {
            return None;
        }
        let tally = Tally {
            matched: denies,
            later: Vec::new(),
            excepted: Vec::new(),
            approved: Vec::new(),
        };
        let explain = Explain {
            rules,
            index: &self.policy.index,
            workspace: &self.policy.parts.settings.workspace,
            request: self.request,
            features,
            tally: &tally,
        };
        let (verdict, http_only) = (Verdict::Deny, false);
        Some(explain.decision(&Outcome { verdict, http_only }))
    }

    /// Tells whether TLS of a connection is opened so that a credential can be put into its requests.
    fn opens_for_credential(&self, net: &NetFeatures<'_>, decision: &Decision) -> bool {
        let mut credentials = self.policy.credentials().iter();
        decision.verdict != Verdict::Deny
            && !decision.terms.splice
            && credentials.any(|own| own.opens(net.host, net.port))
    }

    /// A name is known if a connection to it on some port could be allowed or asked about.
    fn name(&self, request: &NameRequest) -> Decision {
        let best = self.prospect(request);
        if best.verdict == Verdict::Deny {
            return best;
        }
        Decision {
            verdict: Verdict::Allow,
            stage: None,
            http_only: false,
            remedy: String::new(),
            failed_condition: None,
            nearest_allow: None,
            ..best
        }
    }

    /// Returns the least strict decision on a connection to a name, on any port that a rule names.
    fn prospect(&self, request: &NameRequest) -> Decision {
        let host = Host::Name(request.name.clone());
        let at = |port| {
            Features::Net(NetFeatures {
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
        // Among equal decisions the one for a web port comes first, because the name is most likely
        // looked up for it.
        let (web, others): (Vec<u16>, Vec<u16>) =
            ports.into_iter().partition(|port| WEB_PORTS.contains(port));
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
        best.unwrap_or_else(|| self.one(&at(0)))
    }

    fn counts(&self, rule: &Rule) -> bool {
        self.floor == Origin::Builtin
            || rule.origin == Origin::Builtin
            || rule.origin.authority() >= self.floor.authority()
    }

    fn matches(&self, features: &Features<'_>) -> Result<Matches, EngineError> {
        let mut matches = Matches::default();
        for candidate in self.policy.index.candidates(features) {
            let Some(rule) = self.policy.rules.get(candidate.rule) else {
                continue;
            };
            if !self.counts(rule) {
                continue;
            }
            let list = match rule.fit(candidate.pattern, features) {
                Ok(Fit::Now) => &mut matches.now,
                Ok(Fit::Later) => &mut matches.later,
                Err(_) => continue,
            };
            list.entry(candidate.rule)
                .or_default()
                .push(candidate.pattern);
        }
        let cedar = self.policy.cedar.as_ref();
        let found = cedar.map_or(Ok(Vec::new()), |rules| rules.matching(features))?;
        for (number, fit) in found {
            let rule = self.policy.rules.get(number);
            if rule.is_some_and(|rule| self.counts(rule)) {
                let list = match fit {
                    Fit::Now => &mut matches.now,
                    Fit::Later => &mut matches.later,
                };
                // A Cedar rule has one pattern, which neither contains nor is contained in another.
                list.insert(number, vec![0]);
            }
        }
        Ok(matches)
    }

    fn tally(&self, features: &Features<'_>, matches: &Matches) -> Tally {
        let rules = &self.policy.rules;
        let effect = |number: &usize| rules.get(*number).map(|rule| rule.effect);
        let controls = self.controls(features, matches);
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
        let answered: Vec<(&RuleName, Reach)> = self
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
        Tally {
            matched,
            later,
            excepted,
            approved,
        }
    }

    /// Returns the controls that apply regardless of the files.
    fn controls(&self, features: &Features<'_>, matches: &Matches) -> Vec<usize> {
        match features {
            Features::Net(net) => {
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
            Features::File(file) => {
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
                // In review mode the change goes to the overlay, and is shown before it takes
                // effect.
                if guarded && workspace.mode.value == WorkspaceMode::Direct {
                    vec![if shown { CONTENT } else { PROTECTED }, VIEW]
                } else {
                    vec![VIEW]
                }
            }
            Features::Tool(_) => vec![TOOL],
            Features::Exec(_) => Vec::new(),
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

    /// Returns whether an allowed connection may carry only requests that can be judged one by one:
    /// it is open only for them, or some of them are asked about or denied.
    fn is_http_only(
        &self,
        kind: RequestKind,
        features: &Features<'_>,
        matches: &Matches,
        tally: &Tally,
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
        let without = Tally {
            approved: tally.approved.clone(),
            ..self.tally(features, &plain)
        };
        // An error must not make the connection less restricted.
        !matches!(
            self.policy
                .engine
                .verdict(kind, &self.policy.rules, &without),
            Ok(Verdict::Allow)
        )
    }
}

/// Returns whether a matching allow rule is an exception to a matching ask.
fn is_excepted(rules: &[Rule], ask: usize, asked: &[usize], matches: &Matches) -> bool {
    let Some(ask) = rules.get(ask).filter(|ask| !ask.only_tightens()) else {
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

fn is_answered(rule: &Rule, answered: &[(&RuleName, Reach)]) -> bool {
    answered.iter().any(|(name, reach)| {
        rule.has_name(name) && (*reach == Reach::Request || rule.is_about_connections())
    })
}
