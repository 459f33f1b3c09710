//! `what = "forge"`: the interfaces of code hosts.

use std::fmt;

use serde::{Deserialize, Serialize};
use stockade_types::Verdict;

use super::words::{Choice, Globs, Names};
use crate::{
    fields::{Fields, File},
    kinds::{Fit, is_allow},
    request_path::RequestPath,
};

/// The fields of such a rule beside those of a rule about hosts.
pub(crate) const FIELDS: [&str; 3] = ["operations", "repositories", "actions"];

/// Fields of a mutation that the words name one by one.
const ACTIONS_SHOWN: usize = 8;

/// What a request asks of a code host.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Forge {
    /// What is done; `None` if it is not known.
    pub operation: Option<ForgeOperation>,
    /// `owner/name`; `None` if the address does not name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// What is changed: a word of this program for an address (`merge`, `release`, …), the fields of a
    /// mutation for GraphQL; `None` if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// It is a query in GraphQL, whose body says the rest.
    pub is_graphql: bool,
}

/// What is done at a code host.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ForgeOperation {
    /// Nothing is changed.
    Read,
    /// Something is.
    Mutation,
}

const OPERATIONS: [(&str, ForgeOperation); 2] = [
    ("read", ForgeOperation::Read),
    ("mutation", ForgeOperation::Mutation),
];

/// Segments of addresses, with what a change there does.
const ACTIONS: [(&str, &str); 22] = [
    ("merge", "merge"),
    ("merges", "merge"),
    ("releases", "release"),
    ("dispatches", "workflow"),
    ("workflows", "workflow"),
    ("pipeline", "workflow"),
    ("pipelines", "workflow"),
    ("rerun", "workflow"),
    ("collaborators", "access"),
    ("members", "access"),
    ("invitations", "access"),
    ("transfer", "access"),
    ("keys", "keys"),
    ("deploy_keys", "keys"),
    ("secrets", "secrets"),
    ("variables", "secrets"),
    ("hooks", "hooks"),
    ("protection", "protection"),
    ("protected_branches", "protection"),
    ("rulesets", "protection"),
    ("refs", "push"),
    ("contents", "push"),
];

impl Forge {
    /// Reads the head of a request to a code host.
    pub(crate) fn of_head(method: &str, path: &RequestPath<'_>) -> Self {
        let unknown = |is_graphql| Self {
            operation: None,
            repository: None,
            actions: None,
            is_graphql,
        };
        let plain = match path.ambiguity() {
            None => std::str::from_utf8(path.plain()).ok().map(str::to_owned),
            Some(_) => project(path.whole()),
        };
        let Some(plain) = plain else {
            return unknown(false);
        };
        if path.folded().contains("graphql") {
            return unknown(method == "POST" && plain.ends_with("/graphql"));
        }
        let parts: Vec<&str> = plain.split('/').filter(|part| !part.is_empty()).collect();
        let repository = repository(&parts);
        if matches!(method, "GET" | "HEAD") {
            return Self {
                operation: Some(ForgeOperation::Read),
                repository,
                actions: Some(Vec::new()),
                is_graphql: false,
            };
        }
        Self {
            operation: Some(ForgeOperation::Mutation),
            repository,
            actions: Some(actions(method, &parts)),
            is_graphql: false,
        }
    }

    pub(crate) fn in_words(&self) -> String {
        let place = match &self.repository {
            Some(name) => format!(" at {name}"),
            None => String::new(),
        };
        match (self.operation, &self.actions) {
            (Some(ForgeOperation::Read), _) => format!("read{place}"),
            (Some(ForgeOperation::Mutation), Some(actions)) => {
                let mut names: Vec<&str> = actions
                    .iter()
                    .take(ACTIONS_SHOWN)
                    .map(String::as_str)
                    .collect();
                if actions.len() > ACTIONS_SHOWN {
                    names.push("and more");
                }
                format!("change{place}: {}", names.join(", "))
            }
            (Some(ForgeOperation::Mutation), None) => format!("change{place}: what is not known"),
            (None, _) => format!("read or change{place}: which is not known"),
        }
    }

    pub(crate) fn bound(&self) -> Option<String> {
        let actions = self.actions.as_ref().filter(|_| self.is_graphql)?;
        Some(serde_json::json!(["forge", self.operation?, actions]).to_string())
    }
}

/// Reads the address of a project whose path has its slashes encoded, as GitLab has it.
fn project(whole: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(whole).ok()?;
    let rest = text.strip_prefix("/api/v4/projects/")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (id, after) = rest.split_at(end);
    let plain = format!(
        "/api/v4/projects/{}{after}",
        id.replace("%2F", ":").replace("%2f", ":")
    );
    let read = RequestPath::new(plain.as_bytes());
    if read.ambiguity().is_some() {
        return None;
    }
    std::str::from_utf8(read.plain()).ok().map(str::to_owned)
}

fn repository(parts: &[&str]) -> Option<String> {
    match parts {
        [.., "projects", id, _] | [.., "projects", id] if parts.contains(&"v4") => {
            Some(id.replace(':', "/"))
        }
        _ => {
            let at = parts
                .iter()
                .position(|part| *part == "repos" || *part == "projects")?;
            match (parts.get(at)?, parts.get(at + 1), parts.get(at + 2)) {
                (&"repos", Some(owner), Some(name)) => Some(format!("{owner}/{name}")),
                (&"projects", Some(id), _) => Some(id.replace(':', "/")),
                _ => None,
            }
        }
    }
}

fn actions(method: &str, parts: &[&str]) -> Vec<String> {
    let known = parts.iter().rev().find_map(|part| {
        let part = part.to_ascii_lowercase();
        ACTIONS.iter().find(|(segment, _)| *segment == part)
    });
    let removed = method.eq_ignore_ascii_case("DELETE").then_some("delete");
    let mut actions: Vec<String> = known
        .map(|(_, action)| (*action).to_owned())
        .into_iter()
        .collect();
    actions.extend(removed.map(str::to_owned));
    if actions.is_empty() {
        actions.push("other".to_owned());
    }
    actions
}

/// The conditions of a rule.
#[derive(Clone, Debug)]
pub(crate) struct ForgeCondition {
    operations: Choice<ForgeOperation>,
    repositories: Names,
    actions: Globs,
}

impl ForgeCondition {
    pub(crate) fn read(file: &mut File<'_>, fields: &Fields<'_>) -> Self {
        Self {
            operations: Choice::read(file, fields, "operations", &OPERATIONS),
            repositories: Names::read(file, fields, "repositories"),
            actions: Globs::read(file, fields, "actions", str::to_owned),
        }
    }

    pub(crate) fn fit(&self, effect: Verdict, forge: &Forge) -> Option<Fit> {
        let by_operation = match forge.operation {
            Some(operation) => self.operations.has(operation),
            None => !is_allow(effect) || self.operations.is_any(),
        };
        let by_place = self.repositories.fit(effect, forge.repository.as_deref());
        (by_operation && by_place && self.fit_actions(effect, forge)).then_some(Fit::Now)
    }

    fn fit_actions(&self, effect: Verdict, forge: &Forge) -> bool {
        if self.actions.is_any() {
            return true;
        }
        let Some(actions) = &forge.actions else {
            return !is_allow(effect);
        };
        let named = |action: &String| self.actions.fit(effect, Some(action.as_bytes()));
        if is_allow(effect) {
            !actions.is_empty() && actions.iter().all(named)
        } else {
            actions.iter().any(named)
        }
    }

    pub(crate) fn lies_within(&self, outer: &Self) -> bool {
        self.operations.lie_within(&outer.operations)
            && self.repositories.lie_within(&outer.repositories)
            && self.actions.lie_within(&outer.actions)
    }
}

impl fmt::Display for ForgeCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operations.write(f, "operations", |one| match one {
            ForgeOperation::Read => "read",
            ForgeOperation::Mutation => "mutation",
        })?;
        self.repositories.write(f, "repositories")?;
        self.actions.write(f, "actions")
    }
}
