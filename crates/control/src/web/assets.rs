//! Files that pages need. They are part of the program, and nothing is loaded from anywhere else.

/// A file.
pub(crate) struct Asset {
    /// Its name below `/assets/`.
    pub(crate) name: &'static str,
    /// Its media type.
    pub(crate) kind: &'static str,
    /// Its content.
    pub(crate) text: &'static str,
}

/// All of them.
pub(crate) const ASSETS: [Asset; 6] = [
    Asset {
        name: "icon.svg",
        kind: "image/svg+xml",
        text: include_str!("../../assets/icon.svg"),
    },
    Asset {
        name: "page.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("../../assets/page.css"),
    },
    Asset {
        name: "htmx.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/htmx.min.js"),
    },
    Asset {
        name: "hx-csp.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/hx-csp.min.js"),
    },
    Asset {
        name: "page.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/page.js"),
    },
    Asset {
        name: "passkey.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../assets/passkey.js"),
    },
];

/// Returns a file by its name.
pub(crate) fn asset(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}
