//! The presets that are part of the program.

/// Name, text, and the file names of commands it is for.
struct Preset {
    name: &'static str,
    text: &'static str,
    commands: &'static [&'static str],
}

/// Commands repeat what each file says under `[preset]`; a test keeps them equal.
const PRESETS: &[Preset] = &[
    Preset {
        name: "aider",
        text: include_str!("../../../policies/aider.toml"),
        commands: &["aider"],
    },
    Preset {
        name: "claude",
        text: include_str!("../../../policies/claude.toml"),
        commands: &["claude"],
    },
    Preset {
        name: "codex",
        text: include_str!("../../../policies/codex.toml"),
        commands: &["codex"],
    },
    Preset {
        name: "coding-agent",
        text: include_str!("../../../policies/coding-agent.toml"),
        commands: &[],
    },
    Preset {
        name: "gemini",
        text: include_str!("../../../policies/gemini.toml"),
        commands: &["gemini"],
    },
    Preset {
        name: "generic",
        text: include_str!("../../../policies/generic.toml"),
        commands: &[],
    },
];

const NAMES: [&str; 6] = [
    "aider",
    "claude",
    "codex",
    "coding-agent",
    "gemini",
    "generic",
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

/// Returns the preset for the file name of a command; `generic` where none is known.
pub fn preset_for_command(file_name: &str) -> &'static str {
    PRESETS
        .iter()
        .find(|preset| preset.commands.contains(&file_name))
        .map_or("generic", |preset| preset.name)
}

#[cfg(test)]
mod tests {
    use super::{NAMES, PRESETS, preset_for_command};
    use crate::{HostSets, Origin, Source, load};

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
            assert_eq!(
                policy.settings().preset.commands,
                preset.commands,
                "{}",
                preset.name
            );
        }
        assert_eq!(preset_for_command("codex"), "codex");
        assert_eq!(preset_for_command("vim"), "generic");
    }
    #[test]
    fn every_preset_passes_its_own_tests() {
        // A builtin's tests are not run at load, since other layers may tighten it; as a file of
        // the user they are.
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
