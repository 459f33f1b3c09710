//! What the agent may read of its boundary, below `/run/stockade`.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use stockade_plan::LaunchPlan;
use stockade_policy::Policy;
use stockade_types::{AbsPath, Verdict};

/// Name of the denials file, which the agent reads and `why` prints from.
pub const DENIALS_FILE: &str = "denials.jsonl";

/// Makes the directory with its files; returns the denials file, open for appending.
pub(crate) fn prepare(directory: &Path, told: &str) -> io::Result<File> {
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
    Ok(denials)
}

/// Tells the agent, in plain words, what it may do and how to ask.
pub(crate) fn boundary_text(
    policy: &Policy,
    plan: &LaunchPlan,
    workspace: &AbsPath,
    asks: &str,
    offline: bool,
) -> String {
    let settings = policy.settings();
    let mut text = format!(
        "# Your boundary\n\n\
         You run inside a Stockade session ({session}). Nothing here is a fault of the machine; it is\n\
         the owner's decision. Do not try to work around a refusal: read why, and say what you need.\n\n\
         ## Files\n\
         - You can change: `{workspace}`, `/tmp` and your home directory (private, empty at start).\n\
         - System directories can be read. Other files of the machine do not exist here.\n\
         - Protected in the workspace, at any depth: {protected}.\n\n\
         ## Programs\n\
         - Any program that exists here may run, except where a rule below says otherwise.\n\
         - Nothing survives the end of the session: daemons are ended with it.\n\n",
        session = plan.session.short(),
        protected = settings
            .workspace
            .protect
            .iter()
            .map(|pattern| format!("`{}`", pattern.value))
            .collect::<Vec<_>>()
            .join(", "),
    );
    text.push_str(if offline {
        "## Network\n- There is none in this session.\n\n"
    } else {
        "## Network\n\
         - Names and connections are decided per host. Unknown hosts are asked about or refused;\n\
           a refused HTTP request gets status 403 with the decision as JSON.\n\n"
    });
    text.push_str("## Rules\n");
    for rule in policy.rules() {
        if rule.verdict != Verdict::Allow {
            text.extend([
                "- ",
                rule.verdict.as_str(),
                " `",
                rule.id.as_str(),
                "`: ",
                &rule.reason,
                " (",
                &rule.conditions,
                ")\n",
            ]);
        }
    }
    text.push_str(
        "\n## Refused?\n\
         - `/run/stockade/why` prints the last refusal with its reason and remedy.\n\
         - `/run/stockade/denials.jsonl` has the newest, one JSON object a line.\n\
         - Questions to the owner in this session: ",
    );
    text.push_str(asks);
    text.push_str(".\n");
    text
}
