//! Programs that build their own sandbox.

use crate::conformance::row::{
    Group::Sandboxes,
    Need::{Agent, System},
    Row, row,
};

/// Why namespaces are closed.
const SURFACE: &str =
    "a new user namespace opens parts of the kernel that otherwise only root reaches";

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(
        Sandboxes,
        "unshare",
        "`unshare -Ur`: root of a namespace of its own",
    )
    .needs(&[System("unshare", "util-linux")])
    .versions("unshare --version")
    .run("unshare -Ur id -u | grep -q '^0'")
    .closed_because(SURFACE, "process.namespaces"),
    row(Sandboxes, "bubblewrap", "`bwrap` with a root of its own")
        .needs(&[System("bwrap", "bubblewrap")])
        .versions("bwrap --version")
        .run("bwrap --ro-bind / / --dev /dev --proc /proc --unshare-pid true")
        .closed_because(SURFACE, "switch off"),
    row(
        Sandboxes,
        "buildah",
        "`buildah` makes an image from nothing",
    )
    .needs(&[System("buildah", "buildah"), System("newuidmap", "uidmap")])
    .versions("buildah --version")
    .run("c=$(buildah from scratch); buildah rm $c")
    .closed_because(SURFACE, "outside the session"),
    row(
        Sandboxes,
        "codex-sandbox",
        "codex's own sandbox around a command",
    )
    .needs(&[Agent("codex")])
    .run("codex sandbox -c 'sandbox_mode=\"workspace-write\"' -- sh -c 'echo in > inside'")
    .check("[ -f inside ]")
    .closed_because(SURFACE, "switch off"),
];
