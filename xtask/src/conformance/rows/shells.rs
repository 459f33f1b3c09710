//! Shells, as people and agents start them.

use crate::conformance::row::{Group::Shells, Need::System, Row, row};

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Shells, "bash-login", "`bash -lc` finds a tool of `~/.local/bin`")
        .needs(&[System("bash", "bash")])
        .versions("bash --version | head -1")
        .setup("mkdir -p ~/.local/bin; printf '#!/bin/sh\\necho mytool\\n' > ~/.local/bin/mytool; chmod +x ~/.local/bin/mytool; printf 'PATH=\"$HOME/.local/bin:$PATH\"\\n' > ~/.profile")
        .run("bash -lc mytool | grep -q mytool"),
    row(Shells, "zsh-login", "`zsh -lc` finds a tool of `~/.local/bin`")
        .needs(&[System("zsh", "zsh")])
        .versions("zsh --version")
        .setup("mkdir -p ~/.local/bin; printf '#!/bin/sh\\necho mytool\\n' > ~/.local/bin/mytool; chmod +x ~/.local/bin/mytool; printf 'path=(~/.local/bin $path)\\n' > ~/.zprofile")
        .run("zsh -lc mytool | grep -q mytool"),
    row(Shells, "fish", "fish runs, and keeps its own state")
        .needs(&[System("fish", "fish")])
        .versions("fish --version")
        .run("fish -c 'set -U x 42; echo $x' | grep -q 42"),
    row(Shells, "bash-jobs", "job control, here documents, process substitution, traps")
        .needs(&[System("bash", "bash")])
        .run("set -m; sleep 5 & kill %1; wait %1 || true; cat <(echo a) - <<< b | grep -q b; (trap 'exit 0' TERM; kill $BASHPID; sleep 1)"),
];
