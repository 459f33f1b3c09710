//! Coding agents as their packages bring them.

use crate::conformance::row::{Group::Agents, Need::Agent, Row, row};

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Agents, "codex-version", "codex starts and says what it is")
        .needs(&[Agent("codex")])
        .versions("codex --version")
        .run("codex --version"),
    row(
        Agents,
        "claude-version",
        "claude starts and says what it is",
    )
    .needs(&[Agent("claude")])
    .versions("claude --version")
    .run("claude --version"),
];
