//! What the tools of known agents are for, by their names.

use stockade_types::ToolEffect;

/// Tools that look at something.
const READING: [&str; 27] = [
    "BashOutput",
    "FetchUrl",
    "Glob",
    "Grep",
    "LS",
    "ListMcpResourcesTool",
    "NotebookRead",
    "Read",
    "ReadMcpResourceTool",
    "TaskGet",
    "TaskList",
    "TaskOutput",
    "ToolSearch",
    "WebFetch",
    "WebSearch",
    "find_files",
    "glob",
    "google_web_search",
    "grep",
    "grep_search",
    "list_directory",
    "read",
    "read_file",
    "read_many_files",
    "search_file_content",
    "view_image",
    "web_fetch",
];
/// Tools that change something.
const WRITING: [&str; 17] = [
    "Edit",
    "MultiEdit",
    "NotebookEdit",
    "TaskCreate",
    "TaskUpdate",
    "TodoWrite",
    "Write",
    "apply_patch",
    "edit",
    "patch",
    "replace",
    "save_memory",
    "todowrite",
    "update_plan",
    "write",
    "write_file",
    "write_todos",
];
/// Tools that run commands, or other agents that can.
const EXECUTING: [&str; 16] = [
    "Agent",
    "Bash",
    "KillShell",
    "Skill",
    "SlashCommand",
    "Task",
    "bash",
    "exec_command",
    "local_shell",
    "run_shell_command",
    "shell",
    "shell_command",
    "spawn_agent",
    "task",
    "unified_exec",
    "write_stdin",
];

/// Returns what a tool of a known agent is for. A name that is not known, or that is spelled in another
/// way, is [`ToolEffect::Unknown`]; tools of MCP servers are not looked up.
pub fn tool_effect(tool: &[u8]) -> ToolEffect {
    let has = |names: &[&str]| names.iter().any(|name| name.as_bytes() == tool);
    if has(&EXECUTING) {
        ToolEffect::Execute
    } else if has(&WRITING) {
        ToolEffect::Write
    } else if has(&READING) {
        ToolEffect::Read
    } else {
        ToolEffect::Unknown
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{EXECUTING, READING, WRITING};

    #[test]
    fn every_tool_is_for_one_thing() {
        let all: Vec<&str> = [&READING[..], &WRITING[..], &EXECUTING[..]].concat();
        let names: BTreeSet<&&str> = all.iter().collect();
        assert_eq!(names.len(), all.len());
        for list in [&READING[..], &WRITING[..], &EXECUTING[..]] {
            assert!(list.is_sorted(), "{list:?}");
        }
    }
}
