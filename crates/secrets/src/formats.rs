//! Which texts are secrets by their form alone: a table, one line for each format.

/// Which characters a token has behind its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// `A` to `Z` and `2` to `7`.
    Base32,
    /// Letters and digits.
    Alnum,
    /// Letters, digits and `_`.
    Word,
    /// Letters, digits, `_` and `-`.
    Dash,
    /// Letters, digits, `_`, `-` and `.`.
    Dotted,
    /// Lower-case hexadecimal digits.
    Hex,
    /// What base64 has, with its padding.
    Base64,
}

impl Charset {
    pub(super) const fn has(self, byte: u8) -> bool {
        match self {
            Self::Base32 => matches!(byte, b'A'..=b'Z' | b'2'..=b'7'),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Dash => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
        }
    }
}

/// A format of tokens.
#[derive(Debug)]
pub(super) struct Format {
    /// What is found, as events name it.
    pub(super) kind: &'static str,
    /// How such a token begins; at least three bytes.
    pub(super) begins: &'static [&'static str],
    /// What follows.
    pub(super) tail: Charset,
    /// At least so many of it; fewer are something else.
    pub(super) min: usize,
    /// At most so many of it; more are something else.
    pub(super) max: usize,
}

const fn format(
    kind: &'static str,
    begins: &'static [&'static str],
    tail: Charset,
    (min, max): (usize, usize),
) -> Format {
    Format {
        kind,
        begins,
        tail,
        min,
        max,
    }
}

/// Longest tail of a format.
pub(super) const TAIL_BYTES_MAX: usize = 512;

/// The formats that issuers publish: the comment at each says where. Those without a beginning of their
/// own (thirty-two hexadecimal digits) are found by the word before them or not at all.
pub(super) const FORMATS: &[Format] = &[
    // AWS, IAM user guide, "IAM identifiers": unique id prefixes.
    format(
        "aws-access-key-id",
        &["AKIA", "ASIA"],
        Charset::Base32,
        (16, 16),
    ),
    // Azure, "Configure Azure Storage connection strings".
    format(
        "azure-storage-key",
        &["AccountKey="],
        Charset::Base64,
        (86, 88),
    ),
    // Google Cloud, "Manage API keys"; the length is that of every key that it makes.
    format("google-api-key", &["AIza"], Charset::Dash, (35, 35)),
    // Google identity, "OAuth 2.0 client secrets" and access tokens.
    format(
        "google-client-secret",
        &["GOCSPX-"],
        Charset::Dash,
        (28, 28),
    ),
    format(
        "google-access-token",
        &["ya29."],
        Charset::Dotted,
        (50, TAIL_BYTES_MAX),
    ),
    // GitHub, "About authentication to GitHub": token formats.
    format(
        "github-token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        Charset::Alnum,
        (36, 251),
    ),
    format("github-token", &["github_pat_"], Charset::Word, (82, 82)),
    // GitLab, "Token overview": token prefixes.
    format(
        "gitlab-token",
        &[
            "glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glsoat-", "glagent-", "gloas-",
        ],
        Charset::Dotted,
        (20, 300),
    ),
    // Anthropic, "Getting started": API keys.
    format("anthropic-key", &["sk-ant-"], Charset::Dash, (80, 200)),
    // OpenAI, "API keys": of projects, service accounts and administrators; and those before them.
    format(
        "openai-key",
        &["sk-proj-", "sk-svcacct-", "sk-admin-"],
        Charset::Dash,
        (40, 250),
    ),
    format("openai-key", &["sk-"], Charset::Alnum, (48, 48)),
    // OpenRouter, Groq, xAI, Replicate, Hugging Face: "Authentication" or "API keys" of each.
    format("openrouter-key", &["sk-or-v1-"], Charset::Hex, (64, 64)),
    format("groq-key", &["gsk_"], Charset::Alnum, (52, 52)),
    format("xai-key", &["xai-"], Charset::Alnum, (80, 80)),
    format("replicate-token", &["r8_"], Charset::Alnum, (37, 37)),
    format("huggingface-token", &["hf_"], Charset::Alnum, (34, 34)),
    // Slack, "Token types".
    format(
        "slack-token",
        &[
            "xoxb-", "xoxp-", "xoxa-", "xoxe-", "xoxr-", "xoxs-", "xapp-1-",
        ],
        Charset::Dash,
        (30, 250),
    ),
    // Stripe, "API keys": live ones alone.
    format(
        "stripe-key",
        &["sk_live_", "rk_live_"],
        Charset::Alnum,
        (24, 247),
    ),
    // npm, "About access tokens"; the Python index and its "API tokens".
    format("npm-token", &["npm_"], Charset::Alnum, (36, 36)),
    format(
        "python-index-token",
        &["pypi-AgE"],
        Charset::Dash,
        (80, 400),
    ),
    // Docker, "Personal access tokens".
    format(
        "docker-token",
        &["dckr_pat_", "dckr_oat_"],
        Charset::Dash,
        (27, 64),
    ),
    // DigitalOcean, "How to create a personal access token".
    format(
        "digitalocean-token",
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        Charset::Hex,
        (64, 64),
    ),
    // SendGrid, "API keys".
    format("sendgrid-key", &["SG."], Charset::Dotted, (66, 66)),
    // HashiCorp Vault, "Tokens": prefixes; Terraform, "API tokens".
    format(
        "vault-token",
        &["hvs.", "hvb.", "hvr."],
        Charset::Dash,
        (90, 300),
    ),
    format("terraform-token", &["atlasv1."], Charset::Dash, (60, 70)),
    // Databricks, "Personal access tokens".
    format("databricks-token", &["dapi"], Charset::Hex, (32, 32)),
    // Grafana, "Service accounts"; Doppler, "Service tokens"; New Relic, "API keys".
    format(
        "grafana-token",
        &["glsa_", "glc_"],
        Charset::Word,
        (41, 400),
    ),
    format(
        "doppler-token",
        &["dp.pt.", "dp.st.", "dp.sa."],
        Charset::Dotted,
        (40, 80),
    ),
    format("newrelic-key", &["NRAK-"], Charset::Alnum, (27, 27)),
    // Linear, Postman, Shopify, Supabase, Notion: "API keys" or "Authentication" of each.
    format("linear-key", &["lin_api_"], Charset::Alnum, (40, 40)),
    format("postman-key", &["PMAK-"], Charset::Dash, (59, 59)),
    format(
        "shopify-token",
        &["shpat_", "shpca_", "shppa_"],
        Charset::Hex,
        (32, 32),
    ),
    format("supabase-key", &["sbp_"], Charset::Hex, (40, 40)),
    format("notion-token", &["ntn_"], Charset::Alnum, (43, 50)),
    // age, "age(1)": identities.
    format("age-key", &["AGE-SECRET-KEY-1"], Charset::Alnum, (58, 58)),
];

/// How a private key begins (RFC 7468), and what follows the label.
pub(super) const KEY_BLOCK: &str = "-----BEGIN";

/// Words of settings whose values are secrets, as they begin; in three spellings of their case.
pub(super) const WORDS: &[&str] = &[
    "passw",
    "Passw",
    "PASSW",
    "secret",
    "Secret",
    "SECRET",
    "token",
    "Token",
    "TOKEN",
    "api_key",
    "API_KEY",
    "apikey",
    "apiKey",
    "ApiKey",
    "APIKEY",
    "api-key",
    "Api-Key",
    "access_key",
    "accessKey",
    "ACCESS_KEY",
    "private_key",
    "privateKey",
    "PRIVATE_KEY",
];
