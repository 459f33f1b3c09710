//! What the agent may read about its boundary, below `/run/stockade`.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    path::Path,
};

use stockade_plan::{
    HostFacts, Interfaces, LaunchPlan, Network, Root, SSH_CONFIG, SSH_DIRECTORY, SSH_KNOWN_HOSTS,
    SshFact, Step,
};
use stockade_policy::{Origin, Policy};
use stockade_types::{AbsPath, Verdict};

use stockade_types::AskMode;

use crate::{hooks, mcp};

/// Name of the denials file, which the agent reads and which `why` prints.
pub const DENIALS_FILE: &str = "denials.jsonl";

/// Name of our own executable there.
const OWN_PROGRAM: &str = "why";
/// Name of the file that tells an agent of its hooks ([`PresetHooks::HOOKS_FILE`]).
///
/// [`PresetHooks::HOOKS_FILE`]: stockade_policy::PresetHooks::HOOKS_FILE
const HOOKS_FILE: &str = "hooks.json";

/// Name of the file that tells an agent of its servers ([`ServerFacts::FILE`]).
///
/// [`ServerFacts::FILE`]: stockade_plan::ServerFacts::FILE
const SERVERS_FILE: &str = "servers.json";

/// Makes the directory with its files; returns the denials file, open for appending.
pub(crate) fn prepare(
    directory: &Path,
    told: &Told<'_>,
    ssh: Option<&SshFact>,
) -> io::Result<File> {
    fs::DirBuilder::new().mode(0o755).create(directory)?;
    let create = |name: &str| {
        fs::OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o644)
            .open(directory.join(name))
    };
    // The name is only a mount point for our own executable.
    create(OWN_PROGRAM)?;
    if hooks::is_wanted(told.policy) {
        // The same program, which sees by this name what it is to do.
        symlink(OWN_PROGRAM, directory.join("hook"))?;
        symlink(OWN_PROGRAM, directory.join(mcp::PROGRAM))?;
        if let Some(file) = &told.facts.servers.file {
            // It can have what the person's own file has, which is the person's alone.
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(directory.join(SERVERS_FILE))?
                .write_all(file.as_bytes())?;
        }
        let hooks = told.policy.settings().preset.hooks.as_ref();
        if let Some(file) = hooks.and_then(|hooks| hooks.file.as_ref()) {
            fs::write(directory.join(HOOKS_FILE), file)?;
        }
    }
    let denials = create(DENIALS_FILE)?;
    fs::write(directory.join("boundary.md"), told.text())?;
    fs::write(directory.join(DETAILS_FILE), told.details())?;
    if let Some(ssh) = ssh {
        let own = directory.join(SSH_DIRECTORY);
        fs::DirBuilder::new().mode(0o755).create(&own)?;
        fs::write(own.join(SSH_CONFIG), &ssh.config)?;
        fs::write(own.join(SSH_KNOWN_HOSTS), &ssh.known_hosts)?;
    }
    Ok(denials)
}

/// Name of the file with the details that few agents need in advance.
const DETAILS_FILE: &str = "boundary-details.md";
/// Paths and rules of one kind that are listed at once; the file of details has all.
const NAMED_MAX: usize = 8;
/// Characters of a rule's reason that are shown at once; the file of details has all of it.
const REASON_CHARS_MAX: usize = 60;

/// The facts for a session about itself.
pub(crate) struct Told<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) plan: &'a LaunchPlan,
    pub(crate) facts: &'a HostFacts,
    pub(crate) workspace: &'a AbsPath,
    pub(crate) ask: AskMode,
    pub(crate) network: Network,
}

impl Told<'_> {
    /// Tells the agent, in plain words, what it may do and how to ask.
    pub(crate) fn text(&self) -> String {
        let session = self.plan.session.short();
        let mut text = format!(
            "# Your boundary\n\n\
             You run inside a Stockade session ({session}). A refusal is not a fault of the machine; it is\n\
             the owner's decision. Do not try to work around it: read why, and say what you need.\n\n"
        );
        self.files(&mut text);
        text.push_str("## Programs and network\n- Any program that exists here may run. Everything ends with the session.\n");
        text.push_str(if self.network == Network::Isolated {
            "- There is no network but localhost.\n"
        } else {
            "- Hosts are allowed, asked about or refused one by one. A refused name does not resolve; a\n  \
             refused connection ends in a TLS alert, or in HTTP status 403 with the decision as JSON.\n"
        });
        text.push_str(match self.plan.boundary.interfaces {
            Interfaces::Own => {
                "- `localhost` is the session's own; servers of the machine are not there.\n"
            }
            Interfaces::Host => "- `localhost` is the machine's: its servers are there.\n",
        });
        for (verdict, begin) in [
            (Verdict::Ask, "- Needs the owner's answer first: "),
            (Verdict::Deny, "- Refused: "),
        ] {
            self.rules(verdict, begin, &mut text);
        }
        text.push_str(
            "\n## Refused?\n\
             It looks like `Permission denied`, `Read-only file system`, a name that does not resolve, a TLS\n\
             alert or status 403.\n\
             - `/run/stockade/why` prints the last refusal, its reason and what would change it;\n  \
             `/run/stockade/denials.jsonl` has the newest, one JSON object a line.\n",
        );
        text.push_str(match self.ask {
            AskMode::Tty | AskMode::Inbox | AskMode::Server => {
                "- To ask, just run it: Stockade puts the request to the owner, and the call waits for the answer,\n  \
                 for minutes if need be. Wait for it, and do not start it again meanwhile.\n"
            }
            AskMode::Deny => {
                "- No one can be asked in this session: a request that needs an answer is refused at once. Tell\n  \
                 the owner at the end what you could not do.\n"
            }
        });
        text.extend([
            "- All rules and read-only places: `/run/stockade/",
            DETAILS_FILE,
            "`.\n",
        ]);
        text
    }

    /// Writes the rest: each read-only place of the home, each pattern that the owner protects,
    /// each rule with its conditions.
    fn details(&self) -> String {
        let mut text = "# Your boundary, in detail\n\n## In your home and read-only\n".to_owned();
        let home = &self.facts.home;
        let read_only = self.plan.steps.iter().filter_map(|step| match step {
            Step::Bind {
                path,
                read_only: true,
                ..
            } if path.is_within(home) => Some(path),
            _ => None,
        });
        text.extend(read_only.map(|path| format!("- `{path}`\n")));
        text.push_str("\n## Protected in the workspace by the owner\n");
        let protect = self.policy.settings().workspace.protect.iter();
        let own = protect.filter(|pattern| pattern.origin != Origin::Builtin);
        text.extend(own.map(|pattern| format!("- `{}`\n", pattern.value)));
        text.push_str(
            "\n## ssh\n\
             - It knows only the hosts in the owner's known_hosts.\n",
        );
        text.push_str(&self.ssh_keys());
        text.push_str("\n## Rules that ask or refuse\n");
        let rules = self.policy.rules();
        let told = rules.iter().filter(|rule| rule.verdict != Verdict::Allow);
        text.extend(told.map(|rule| {
            format!(
                "- {} `{}`: {} ({})\n",
                rule.verdict, rule.id, rule.reason, rule.conditions
            )
        }));
        text
    }

    /// Says with which keys programs log in.
    fn ssh_keys(&self) -> String {
        let keys = self.policy.ssh_keys();
        if keys.is_empty() || self.network == Network::Isolated {
            return "- The owner's keys and agent are not here: a login needs a key of yours.\n"
                .to_owned();
        }
        let own = keys.iter().map(|key| {
            let conditions = key.conditions();
            format!(
                "- `SSH_AUTH_SOCK` leads to an agent that signs logins for {conditions} (`{}`)\n",
                key.id
            )
        });
        let only = "- It signs nothing else (no commits), for no host behind another one, and not with `ssh -A`.\n";
        own.chain([only.to_owned()]).collect()
    }

    fn files(&self, text: &mut String) {
        let Self {
            workspace, facts, ..
        } = self;
        let list = |paths: Vec<&AbsPath>| -> String {
            let more = paths.len().saturating_sub(NAMED_MAX);
            let named = paths.iter().take(NAMED_MAX);
            let mut list: Vec<String> = named.map(|path| format!("`{path}`")).collect();
            if more > 0 {
                list.push(format!("{more} more"));
            }
            list.join(", ")
        };
        let kept: Vec<&AbsPath> = facts.state.iter().map(|state| &state.path).collect();
        let shared: Vec<&AbsPath> = facts.writable.iter().map(|share| &share.path).collect();
        let sockets = facts.sockets.iter().map(|share| &share.path).collect();
        let home = &facts.home;
        let begin = format!(
            "## Files\n\
             - You can change `{workspace}`, `/tmp` and your home `{home}`, which is private: files that you\n  \
             write there are gone at the end"
        );
        text.push_str(&begin);
        for (before, paths) in [
            (", except for ", kept),
            (".\n- Shared with the machine: ", shared),
            (".\n- Sockets of services of the machine: ", sockets),
        ] {
            if !paths.is_empty() {
                text.extend([before, &list(paths)]);
            }
        }
        text.push_str(
            ".\n- System directories and tools in your home can be read. Other files of the machine ",
        );
        text.push_str(match self.plan.boundary.root {
            Root::Private => "do not\n  exist here.\n",
            Root::Host => "have\n  their names here, and cannot be opened.\n",
        });
        text.push_str(
            "- Files that run by themselves outside are protected in the workspace at any depth (settings and\n  \
             hooks of git, of editors, agents, hook and version managers).\n\n",
        );
    }

    /// Lists the rules of a verdict, except those whose refusals are not reported.
    fn rules(&self, verdict: Verdict, begin: &str, text: &mut String) {
        let rules = self.policy.rules();
        let rules: Vec<_> = rules
            .iter()
            .filter(|rule| rule.verdict == verdict && !rule.quiet)
            .collect();
        if rules.is_empty() {
            return;
        }
        let named = rules.iter().take(NAMED_MAX);
        let mut list: Vec<String> = named
            .map(|rule| {
                let reason: String = rule.reason.chars().take(REASON_CHARS_MAX).collect();
                let more = if reason == rule.reason { "" } else { "…" };
                format!("`{}` ({}{more})", rule.id, reason.trim_end())
            })
            .collect();
        let more = rules.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            list.push(format!("{more} more"));
        }
        text.extend([begin, &list.join(", "), ".\n"]);
    }
}
