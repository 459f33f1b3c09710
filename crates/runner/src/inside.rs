//! What the agent may read of its boundary, below `/run/stockade`.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use stockade_plan::{
    HostFacts, LaunchPlan, SSH_CONFIG, SSH_DIRECTORY, SSH_KNOWN_HOSTS, SshFact, Step,
};
use stockade_policy::{Origin, Policy};
use stockade_types::{AbsPath, Verdict};

use crate::approvals::AskMode;

/// Name of the denials file, which the agent reads and `why` prints from.
pub const DENIALS_FILE: &str = "denials.jsonl";

/// Makes the directory with its files; returns the denials file, open for appending.
pub(crate) fn prepare(directory: &Path, told: &str, ssh: Option<&SshFact>) -> io::Result<File> {
    fs::DirBuilder::new().mode(0o755).create(directory)?;
    let create = |name: &str| {
        fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o644)
            .open(directory.join(name))
    };
    // The name is only a mount point for our own executable.
    create("why")?;
    let denials = create(DENIALS_FILE)?;
    fs::write(directory.join("boundary.md"), told)?;
    if let Some(ssh) = ssh {
        let own = directory.join(SSH_DIRECTORY);
        fs::DirBuilder::new().mode(0o755).create(&own)?;
        fs::write(own.join(SSH_CONFIG), &ssh.config)?;
        fs::write(own.join(SSH_KNOWN_HOSTS), &ssh.known_hosts)?;
    }
    Ok(denials)
}

/// Characters of a rule's conditions that are told; `why` names the rule with all of them.
const CONDITIONS_CHARS_MAX: usize = 100;

/// What a session is told of itself.
pub(crate) struct Told<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) plan: &'a LaunchPlan,
    pub(crate) facts: &'a HostFacts,
    pub(crate) workspace: &'a AbsPath,
    pub(crate) ask: AskMode,
    pub(crate) offline: bool,
}

impl Told<'_> {
    /// Tells the agent, in plain words, what it may do and how to ask.
    pub(crate) fn text(&self) -> String {
        let session = self.plan.session.short();
        let mut text = format!(
            "# Your boundary\n\n\
             You run inside a Stockade session ({session}). A refusal is no fault of the machine; it is the\n\
             owner's decision. Do not try to work around it: read why, and say what you need.\n\n"
        );
        self.files(&mut text);
        text.push_str(
            "## Programs\n\
             - Any program that exists here may run, except where a rule below says otherwise.\n\
             - All ends with the session: no program of it goes on after it.\n\n\
             ## Network\n",
        );
        text.push_str(if self.offline {
            "- There is none in this session but localhost.\n"
        } else {
            "- Hosts are allowed, asked about or refused one by one. A refused name does not resolve; a\n  \
             refused connection ends in a TLS alert, or in HTTP status 403 with the decision as JSON.\n"
        });
        text.push_str(
            "- `localhost` is the session's own: servers that you start are reached there by you, and by\n  \
             nobody outside. Servers of the machine are not at `localhost`.\n\
             - ssh knows the hosts that the owner's known_hosts has, and no other. The owner's keys and agent\n  \
             are not here: a login needs a key of yours.\n\n\
             ## Rules\n",
        );
        self.rules(&mut text);
        text.push_str("\n## Refused?\n- `/run/stockade/why` prints the last refusal, its reason and what would change it;\n  `/run/stockade/denials.jsonl` has the newest, one JSON object a line.\n");
        text.push_str(match self.ask {
            AskMode::Tty | AskMode::Inbox => {
                "- What is to be asked is put to the owner, and the call waits for the answer, minutes if need be.\n  \
                 Wait with it, and do not start it again meanwhile.\n"
            }
            AskMode::Deny => {
                "- Nobody can be asked in this session: what would be asked about is refused at once. Tell the\n  \
                 owner at the end what you could not do.\n"
            }
        });
        text
    }

    fn files(&self, text: &mut String) {
        let Self {
            workspace,
            policy,
            facts,
            ..
        } = self;
        let list = |paths: &[&AbsPath]| -> String {
            let paths = paths.iter().map(|path| format!("`{path}`"));
            paths.collect::<Vec<_>>().join(", ")
        };
        let read_only: Vec<&AbsPath> = self
            .plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Bind {
                    path,
                    read_only: true,
                    ..
                } if path.is_within(&facts.home) => Some(path),
                _ => None,
            })
            .collect();
        let kept: Vec<&AbsPath> = facts.state.iter().map(|state| &state.path).collect();
        let shared: Vec<&AbsPath> = facts.writable.iter().map(|share| &share.path).collect();
        let home = &facts.home;
        let begin = format!(
            "## Files\n\
             - You can change `{workspace}`, `/tmp` and your home `{home}`, which is private: what you write\n  \
             there is gone at the end"
        );
        text.push_str(&begin);
        for (before, paths) in [
            (", but for ", kept),
            (".\n- Shared with the machine: ", shared),
            (".\n- In your home and read-only: ", read_only),
        ] {
            if !paths.is_empty() {
                text.extend([before, &list(&paths)]);
            }
        }
        text.push_str(
            ".\n- System directories can be read. Other files of the machine do not exist here.\n\
             - Files that run by themselves outside are protected in the workspace at any depth (settings and\n  \
             hooks of git, of editors, agents, hook and version managers)",
        );
        let own: Vec<String> = policy
            .settings()
            .workspace
            .protect
            .iter()
            .filter(|pattern| pattern.origin != Origin::Builtin)
            .map(|pattern| format!("`{}`", pattern.value))
            .collect();
        if !own.is_empty() {
            text.extend(["; so are ", &own.join(", ")]);
        }
        text.push_str(".\n\n");
    }

    fn rules(&self, text: &mut String) {
        let asked = self.policy.rules();
        for rule in asked
            .iter()
            .filter(|rule| rule.verdict != Verdict::Allow && !rule.quiet)
        {
            let conditions: String = rule.conditions.chars().take(CONDITIONS_CHARS_MAX).collect();
            let more = if conditions.len() < rule.conditions.len() {
                " …"
            } else {
                ""
            };
            text.extend([
                "- ",
                rule.verdict.as_str(),
                " `",
                rule.id.as_str(),
                "`: ",
                &rule.reason,
                " (",
                &conditions,
                more,
                ")\n",
            ]);
        }
    }
}
