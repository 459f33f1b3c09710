//! What a launch can fail at.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! step_names {
    ($($name:ident => $word:literal,)*) => {
        /// The name of a step, as in the JSON of the plan.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum StepName {
            $(
                #[doc = concat!("`", $word, "`")]
                #[serde(rename = $word)]
                $name,
            )*
        }

        impl StepName {
            /// Returns the word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

step_names! {
    ReadPlan => "read-plan",
    JoinGroup => "join-group",
    EnterNamespaces => "enter-namespaces",
    MapIdentity => "map-identity",
    StartFirstProcess => "start-first-process",
    DieWithSupervisor => "die-with-supervisor",
    HostName => "host-name",
    SharedCount => "shared-count",
    PrivateMounts => "private-mounts",
    NewRoot => "new-root",
    Symlink => "symlink",
    File => "file",
    Bind => "bind",
    Overlay => "overlay",
    OverlayPart => "overlay-part",
    Tmpfs => "tmpfs",
    Processes => "processes",
    Terminals => "terminals",
    ReadOnly => "read-only",
    Protect => "protect",
    Mask => "mask",
    Cover => "cover",
    SealRoot => "seal-root",
    EnterRoot => "enter-root",
    Loopback => "loopback",
    RouteEverything => "route-everything",
    Listen => "listen",
    Redirect => "redirect",
    Hold => "hold",
    Terminal => "terminal",
    HandOver => "hand-over",
    BecomeUser => "become-user",
    StartCommand => "start-command",
    NewSession => "new-session",
    ForegroundGroup => "foreground-group",
    ResourceLimit => "resource-limit",
    DropCapabilities => "drop-capabilities",
    NoNewPrivileges => "no-new-privileges",
    RestrictPaths => "restrict-paths",
    FilterCalls => "filter-calls",
    CloseDescriptors => "close-descriptors",
    Execute => "execute",
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
