//! Every environment variable that Stockade itself reads, with its meaning.

/// One variable.
pub(crate) struct Variable {
    /// Name.
    pub(crate) name: &'static str,
    /// Meaning.
    pub(crate) meaning: &'static str,
}

/// All variables, for the reference; code names them by the constants of their modules.
pub(crate) const VARIABLES: &[Variable] = &[
    Variable {
        name: "STOCKADE_STATE_DIR",
        meaning: "state directory: key, journals, index, the agents' private state; an absolute path outside every workspace",
    },
    Variable {
        name: "XDG_STATE_HOME",
        meaning: "base of the state directory (`stockade` below it) if `STOCKADE_STATE_DIR` is not set",
    },
    Variable {
        name: "HOME",
        meaning: "base of the state directory (`.local/state/stockade`), of the user's policy and of `~` in policies; if it is not set, the home in `/etc/passwd`, except for the state directory",
    },
    Variable {
        name: "XDG_CONFIG_HOME",
        meaning: "base of the user's policy (`stockade/policy.toml` below it) instead of `~/.config`",
    },
    Variable {
        name: "STOCKADE_ORG_POLICY",
        meaning: "organisation policy, only if `/etc/stockade/policy.toml` does not exist",
    },
    Variable {
        name: "HTTPS_PROXY",
        meaning: "proxy through which hosts are reached once they are allowed, `http://[USER:PASSWORD@]HOST:PORT`; also `https_proxy`, `ALL_PROXY` and `all_proxy`. Not seen inside",
    },
    Variable {
        name: "HTTP_PROXY",
        meaning: "the same for plain HTTP; also `http_proxy`, `ALL_PROXY` and `all_proxy`",
    },
    Variable {
        name: "NO_PROXY",
        meaning: "hosts that are reached without a proxy, separated by commas; also `no_proxy`",
    },
    Variable {
        name: "STOCKADE_SESSION",
        meaning: "set inside a session to its id; `run` refuses to nest",
    },
    Variable {
        name: "PATH",
        meaning: "directories in which `run` searches its command; relative entries are ignored",
    },
    Variable {
        name: "NO_COLOR",
        meaning: "when not empty, no colour is used",
    },
    Variable {
        name: "TERM",
        meaning: "kind of terminal: whether a question can have a screen of its own",
    },
    Variable {
        name: "npm_config_registry",
        meaning: "host of `@npm` in policies, with `~/.npmrc`",
    },
    Variable {
        name: "NPM_CONFIG_REGISTRY",
        meaning: "as `npm_config_registry`",
    },
    Variable {
        name: "PIP_INDEX_URL",
        meaning: "host of `@pip` in policies, with the files of pip",
    },
    Variable {
        name: "PIP_EXTRA_INDEX_URL",
        meaning: "as `PIP_INDEX_URL`",
    },
    Variable {
        name: "UV_INDEX_URL",
        meaning: "as `PIP_INDEX_URL`",
    },
    Variable {
        name: "UV_DEFAULT_INDEX",
        meaning: "as `PIP_INDEX_URL`",
    },
    Variable {
        name: "UV_INDEX",
        meaning: "as `PIP_INDEX_URL`",
    },
    Variable {
        name: "CARGO_HOME",
        meaning: "directory of the configuration with the hosts of `@cargo` in policies",
    },
    Variable {
        name: "CARGO_REGISTRIES_*_INDEX",
        meaning: "hosts of `@cargo` in policies",
    },
    Variable {
        name: "OPENAI_BASE_URL",
        meaning: "host of `@model` in policies",
    },
    Variable {
        name: "OPENAI_API_BASE",
        meaning: "as `OPENAI_BASE_URL`",
    },
    Variable {
        name: "ANTHROPIC_BASE_URL",
        meaning: "as `OPENAI_BASE_URL`",
    },
    Variable {
        name: "GOOGLE_GEMINI_BASE_URL",
        meaning: "as `OPENAI_BASE_URL`",
    },
];
