//! The presets that are part of the program.

use stockade_types::RawText;

use crate::agent_command::{self, Names};

/// Name, text, and the commands (file names) and packages that it is for.
struct Preset {
    name: &'static str,
    text: &'static str,
    commands: &'static [&'static str],
    packages: &'static [&'static str],
}

/// Commands and packages repeat the `[preset]` of each file; a test keeps them equal.
const PRESETS: &[Preset] = &[
    Preset {
        name: "aider",
        text: include_str!("../../../policies/aider.toml"),
        commands: &["aider"],
        packages: &["aider-chat"],
    },
    Preset {
        name: "amp",
        text: include_str!("../../../policies/amp.toml"),
        commands: &["amp"],
        packages: &["@ampcode/cli", "@sourcegraph/amp"],
    },
    Preset {
        name: "antigravity",
        text: include_str!("../../../policies/antigravity.toml"),
        commands: &["agy", "antigravity"],
        packages: &[],
    },
    Preset {
        name: "claude",
        text: include_str!("../../../policies/claude.toml"),
        commands: &["claude"],
        packages: &["@anthropic-ai/claude-code"],
    },
    Preset {
        name: "codex",
        text: include_str!("../../../policies/codex.toml"),
        commands: &["codex"],
        packages: &["@openai/codex"],
    },
    Preset {
        name: "coding-agent",
        text: include_str!("../../../policies/coding-agent.toml"),
        commands: &[],
        packages: &[],
    },
    Preset {
        name: "copilot",
        text: include_str!("../../../policies/copilot.toml"),
        commands: &["copilot"],
        packages: &["@github/copilot"],
    },
    Preset {
        name: "crush",
        text: include_str!("../../../policies/crush.toml"),
        commands: &["crush"],
        packages: &["@charmland/crush"],
    },
    Preset {
        name: "cursor",
        text: include_str!("../../../policies/cursor.toml"),
        commands: &["cursor-agent"],
        packages: &[],
    },
    Preset {
        name: "gemini",
        text: include_str!("../../../policies/gemini.toml"),
        commands: &["gemini"],
        packages: &["@google/gemini-cli"],
    },
    Preset {
        name: "generic",
        text: include_str!("../../../policies/generic.toml"),
        commands: &[],
        packages: &[],
    },
    Preset {
        name: "goose",
        text: include_str!("../../../policies/goose.toml"),
        commands: &["goose"],
        packages: &[],
    },
    Preset {
        name: "opencode",
        text: include_str!("../../../policies/opencode.toml"),
        commands: &["opencode"],
        packages: &["opencode-ai"],
    },
    Preset {
        name: "qwen",
        text: include_str!("../../../policies/qwen.toml"),
        commands: &["qwen"],
        packages: &["@qwen-code/qwen-code"],
    },
];

const NAMES: [&str; 14] = [
    "aider",
    "amp",
    "antigravity",
    "claude",
    "codex",
    "coding-agent",
    "copilot",
    "crush",
    "cursor",
    "gemini",
    "generic",
    "goose",
    "opencode",
    "qwen",
];

/// Returns the text of a preset.
pub fn builtin(name: &str) -> Option<&'static str> {
    PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .map(|preset| preset.text)
}

/// Returns the names of all presets.
pub fn builtin_names() -> &'static [&'static str] {
    &NAMES
}

/// Returns the preset for a command line whose program is an agent's, also after `env`, `npx`,
/// `node` or `sh -c`; `generic` if the program is not a known agent's.
pub fn preset_for_command(argv: &[RawText]) -> &'static str {
    let is_meant = |preset: &&Preset| {
        let names = Names {
            commands: preset.commands,
            packages: preset.packages,
        };
        agent_command::find(argv, names).is_some()
    };
    PRESETS
        .iter()
        .find(is_meant)
        .map_or("generic", |preset| preset.name)
}

#[cfg(test)]
mod tests {
    use stockade_types::RawText;

    use super::{NAMES, PRESETS, preset_for_command};
    use crate::{HostSets, Origin, Source, TELEMETRY_ADDRESS, load};

    #[test]
    fn every_preset_loads_and_says_what_it_is_for() {
        assert!(NAMES.iter().eq(PRESETS.iter().map(|preset| &preset.name)));
        for preset in PRESETS {
            let source = Source {
                origin: Origin::Builtin,
                name: preset.name.to_owned(),
                text: preset.text.to_owned(),
            };
            let policy = load(&[source], &HostSets::default())
                .unwrap_or_else(|problems| panic!("{problems}"));
            let settings = &policy.settings().preset;
            let named = (&settings.commands[..], &settings.packages[..]);
            assert_eq!(named.0, preset.commands, "{}", preset.name);
            assert_eq!(named.1, preset.packages, "{}", preset.name);
        }
    }

    /// Presets lead exports to the receiver, and nowhere else, and know when the owner leads them
    /// elsewhere.
    #[test]
    fn presets_lead_exports_to_the_receiver() {
        let ours = format!("http://{TELEMETRY_ADDRESS}:4318");
        let mut count = 0;
        for preset in PRESETS {
            let source = Source {
                origin: Origin::Builtin,
                name: preset.name.to_owned(),
                text: preset.text.to_owned(),
            };
            let policy = load(&[source], &HostSets::default()).unwrap();
            let telemetry = &policy.settings().preset.telemetry;
            let values = telemetry.environment.values().chain(&telemetry.arguments);
            let addresses: Vec<_> = values.filter(|value| value.contains("://")).collect();
            count += addresses.len();
            for value in addresses {
                assert!(value.contains(&ours), "{}: {value}", preset.name);
                assert!(!telemetry.configured_by.is_empty(), "{}", preset.name);
            }
        }
        assert_eq!(count, 4);
    }

    #[test]
    fn a_preset_chooses_itself_by_the_agents_program() {
        let chosen = |line: &str| {
            let argv: Vec<RawText> = line.split(' ').map(RawText::from).collect();
            preset_for_command(&argv)
        };
        for (line, name) in [
            ("codex exec hi", "codex"),
            ("/usr/bin/claude", "claude"),
            ("npx -y @google/gemini-cli@latest", "gemini"),
            ("env A=b uvx aider-chat", "aider"),
            ("vim codex", "generic"),
            ("", "generic"),
        ] {
            assert_eq!(chosen(line), name, "{line}");
        }
    }

    #[test]
    fn every_preset_passes_its_own_tests() {
        // Loading does not run the tests of a builtin, because other layers may tighten it; it runs
        // them if the same text is a file of the user.
        for preset in PRESETS {
            let text = preset.text.to_owned();
            let tests = text.find("\n[tests").and_then(|at| text.get(at..)).unwrap();
            let source = Source {
                origin: Origin::User,
                name: format!("{}.toml", preset.name),
                text: format!(
                    "schema = 1\nextends = [\"builtin:{}\"]\n{tests}",
                    preset.name
                ),
            };
            if let Err(problems) = load(&[source], &HostSets::default()) {
                panic!("{problems}");
            }
        }
    }
}
