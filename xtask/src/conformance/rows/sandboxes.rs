//! Programs that build a sandbox of their own.

use crate::conformance::row::{Group::Sandboxes, Need::System, Row, row};

/// What is said where a namespace is refused.
const SWITCH: &str = "process.namespaces";

pub(in crate::conformance) const ROWS: &[Row] = &[row(
    Sandboxes,
    "unshare",
    "`unshare -Ur`: root of a namespace of its own",
)
.needs(&[System("unshare", "util-linux")])
.versions("unshare --version")
.run("unshare -Ur id -u | grep -q '^0'")
.closed_because(
    "a new user namespace opens parts of the kernel that otherwise only root reaches",
    SWITCH,
)];
