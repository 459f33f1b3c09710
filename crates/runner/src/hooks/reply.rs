//! What the hook's program and the supervisor say to each other.

use serde::{Deserialize, Serialize};
use stockade_agents::HookAgent;

/// What stands in front of the agent's name in the first line; everything after that line is what the
/// agent told.
const HEAD: &str = "hook 1 ";

/// The answer, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Reply {
    /// Nothing speaks against the call.
    GoOn,
    /// The call does not happen.
    Deny {
        /// Why, for the model.
        reason: String,
    },
    /// It could not be decided.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Returns the first line.
pub(super) fn head(agent: HookAgent) -> String {
    format!("{HEAD}{agent}\n")
}

/// Reads the first line, without its end.
pub(super) fn agent(line: &[u8]) -> Option<HookAgent> {
    let name = line.strip_prefix(HEAD.as_bytes())?;
    HookAgent::named(std::str::from_utf8(name).ok()?)
}

#[cfg(test)]
mod tests {
    use stockade_agents::HookAgent;

    use super::{agent, head};

    #[test]
    fn the_first_line_names_the_agent() {
        for one in HookAgent::ALL {
            let line = head(one);
            assert_eq!(agent(line.trim_end().as_bytes()), Some(one));
        }
        for line in [
            "",
            "hook 1 ",
            "hook 2 claude",
            "hook 1 claude x",
            "hook 1 vi",
        ] {
            assert_eq!(agent(line.as_bytes()), None, "{line}");
        }
    }
}
