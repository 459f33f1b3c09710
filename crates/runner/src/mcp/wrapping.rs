//! Which servers an agent is made to start through the shim: those that its own configuration names.
//!
//! The files stay as they are: what is told to the agent beside them, by arguments, has precedence. Servers
//! that a file of the workspace names are left alone: agents ask a person about these, and what stands in an
//! argument they would start unasked.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;
use serde_json::{Map, Value, json};
use stockade_agents::mcp::SHIM_PROGRAM;
use stockade_plan::{ServerFacts, StateFact};
use stockade_policy::Policy;
use stockade_types::AbsPath;

use super::limits::{SERVER_BYTES_MAX, WRAPPED_MAX};
use crate::{agent_state, caller::Caller, hooks};

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// An agent whose servers are wrapped.
struct Agent {
    preset: &'static str,
    /// Its file in its private directory.
    file: &'static str,
    wrap: fn(&str, &AbsPath) -> Option<ServerFacts>,
}

const AGENTS: [Agent; 2] = [
    Agent {
        preset: "claude",
        file: ".claude.json",
        wrap: claude,
    },
    Agent {
        preset: "codex",
        file: "config.toml",
        wrap: codex,
    },
];

/// Returns what the agent is told of its servers.
pub(crate) fn find(
    policy: &Policy,
    caller: &Caller,
    state: &[StateFact],
    workspace: &AbsPath,
) -> ServerFacts {
    let none = ServerFacts::default();
    let preset = &policy.settings().preset.name;
    let Some(agent) = AGENTS.iter().find(|agent| agent.preset == preset) else {
        return none;
    };
    if !hooks::is_wanted(policy) {
        return none;
    }
    let dirs = policy.settings().filesystem.state.iter().zip(state);
    let mut texts = dirs.filter_map(|(dir, fact)| {
        // The copy, which the agent reads; before there is one, what it will be made of.
        read(&fact.from.as_path().join(agent.file)).or_else(|| {
            let mut seeds = agent_state::seeds(&dir.value);
            let seed = seeds.find(|seed| seed.strip_prefix("~/").unwrap_or(seed) == agent.file)?;
            read(&agent_state::original(seed, fact, caller).0)
        })
    });
    let text = texts.next();
    text.and_then(|text| (agent.wrap)(&text, workspace))
        .unwrap_or(none)
}

/// Reads a file that a session may have written: no link is followed, and nothing waits.
fn read(path: &Path) -> Option<String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).ok()?;
    let file: File = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// Tells whether a server can be named to the shim, and in an argument.
fn is_plain(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !name.is_empty() && name.len() <= SERVER_BYTES_MAX && name.bytes().all(is_letter)
}

/// Claude Code: a file with servers that precede those of the same names, of the person and of the person in
/// this workspace.
fn claude(text: &str, workspace: &AbsPath) -> Option<ServerFacts> {
    let config: Value = serde_json::from_str(text).ok()?;
    let here = workspace.as_path().to_str()?;
    let of_all = config.get("mcpServers");
    let of_here = config
        .get("projects")
        .and_then(|all| all.get(here))
        .and_then(|own| own.get("mcpServers"));
    let all = of_all
        .into_iter()
        .chain(of_here)
        .filter_map(Value::as_object);
    let mut wrapped = Map::new();
    for (name, server) in all.flatten() {
        let Some(command) = server.get("command").and_then(Value::as_str) else {
            // One with an address, which is seen where it passes.
            wrapped.remove(name);
            continue;
        };
        if name.len() > SERVER_BYTES_MAX || command == SHIM_PROGRAM {
            continue;
        }
        let mut words = vec![json!(name), json!(command)];
        let own = server.get("args").and_then(Value::as_array);
        words.extend(own.into_iter().flatten().cloned());
        let mut server = server.as_object().cloned().unwrap_or_default();
        server.insert("command".to_owned(), json!(SHIM_PROGRAM));
        server.insert("args".to_owned(), Value::Array(words));
        if wrapped.len() < WRAPPED_MAX {
            wrapped.insert(name.clone(), Value::Object(server));
        }
    }
    (!wrapped.is_empty()).then(|| ServerFacts {
        // Not as two words: the option takes all that come.
        arguments: vec![format!("--mcp-config={}", ServerFacts::FILE)],
        file: Some(json!({ "mcpServers": wrapped }).to_string()),
    })
}

/// Codex: settings that precede those of its file.
fn codex(text: &str, _: &AbsPath) -> Option<ServerFacts> {
    let config: toml::Table = text.parse().ok()?;
    let servers = config.get("mcp_servers")?.as_table()?;
    let mut arguments = Vec::new();
    let plain = servers.iter().filter(|(name, _)| is_plain(name));
    for (name, server) in plain.take(WRAPPED_MAX) {
        let command = server.get("command").and_then(toml::Value::as_str);
        let Some(command) = command.filter(|command| *command != SHIM_PROGRAM) else {
            continue;
        };
        let own = server.get("args").and_then(toml::Value::as_array);
        let own = own.into_iter().flatten().filter_map(toml::Value::as_str);
        let words: Vec<toml::Value> = [name.as_str(), command]
            .into_iter()
            .chain(own)
            .map(toml::Value::from)
            .collect();
        for (key, value) in [
            ("command", toml::Value::from(SHIM_PROGRAM)),
            ("args", toml::Value::Array(words)),
        ] {
            arguments.push("-c".to_owned());
            arguments.push(format!("mcp_servers.{name}.{key}={value}"));
        }
    }
    (!arguments.is_empty()).then_some(ServerFacts {
        arguments,
        file: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use stockade_types::AbsPath;

    use super::{claude, codex};

    fn workspace() -> AbsPath {
        AbsPath::new("/w/shop").unwrap()
    }

    #[test]
    fn servers_of_the_person_are_started_through_the_shim() {
        let text = r#"{"mcpServers":{"notes":{"type":"stdio","command":"python3","args":["a b.py"],"env":{"K":"v"}},
            "far":{"type":"http","url":"https://far.test/mcp"}},
            "projects":{"/w/shop":{"mcpServers":{"here":{"command":"/w/here"}}},
            "/w/other":{"mcpServers":{"there":{"command":"x"}}}}}"#;
        let facts = claude(text, &workspace()).unwrap();
        assert_eq!(facts.arguments, ["--mcp-config=/run/stockade/servers.json"]);
        let file: Value = serde_json::from_str(facts.file.as_deref().unwrap()).unwrap();
        let expected: Value = serde_json::from_str(
            r#"{"mcpServers":{"notes":{"type":"stdio","command":"/run/stockade/mcp","args":["notes","python3","a b.py"],"env":{"K":"v"}},
            "here":{"command":"/run/stockade/mcp","args":["here","/w/here"]}}}"#,
        )
        .unwrap();
        assert_eq!(file, expected);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"mcpServers":{"far":{"url":"https://far.test"}}}"#,
        ] {
            assert_eq!(claude(text, &workspace()), None, "{text}");
        }
    }

    #[test]
    fn settings_of_codex_are_told_beside_its_file() {
        let text = "model = \"m\"\n[mcp_servers.notes]\ncommand = \"python3\"\nargs = [\"a \\\"b\\\".py\"]\n\
            [mcp_servers.far]\nurl = \"https://far.test\"\n[mcp_servers.\"a.b\"]\ncommand = \"x\"\n";
        let facts = codex(text, &workspace()).unwrap();
        let [_, command, _, words] = &facts.arguments[..] else {
            panic!("{facts:?}")
        };
        assert_eq!(command, "mcp_servers.notes.command=\"/run/stockade/mcp\"");
        let read: toml::Table = words.parse().unwrap();
        let words = read["mcp_servers"]["notes"]["args"].as_array().unwrap();
        let words: Vec<_> = words.iter().filter_map(toml::Value::as_str).collect();
        assert_eq!(words, ["notes", "python3", "a \"b\".py"]);
        assert_eq!(codex("x", &workspace()), None);
    }
}
