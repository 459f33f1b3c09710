//! Package sources in the owner's settings.

use std::path::Path;

use super::{address, trust::Owner};

/// The addresses of one set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Configured {
    pub(super) addresses: Vec<String>,
    /// Some client has a replacement for its default. The default then allows no host, because
    /// strangers may publish packages of the same names there.
    pub(super) replaces: bool,
}

impl Configured {
    fn replace(&mut self, address: &str) {
        if address::parse(address).is_some() {
            self.replaces = true;
        }
        self.add(address);
    }

    fn add(&mut self, address: &str) {
        self.addresses.push(address.trim().to_owned());
    }
}

/// The caller's environment.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> String;

/// npm, pnpm, yarn and bun.
pub(super) fn npm(owner: &Owner, variable: Variable<'_>) -> Configured {
    let mut found = Configured::default();
    let home = |name: &str| owner.text(&owner.home.join(name));
    let machine = ["/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc"];
    let machine = machine.map(|path| owner.text(Path::new(path)));
    for text in machine.iter().chain([&home(".npmrc")]) {
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            scoped(&mut found, key, value);
        }
    }
    for line in home(".yarnrc").lines() {
        if let Some((key, value)) = line.trim().split_once(char::is_whitespace) {
            scoped(&mut found, key, value);
        }
    }
    for line in home(".yarnrc.yml").lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        match key.trim_matches([' ', '"', '\'']) {
            "npmRegistryServer" if !key.starts_with(' ') => found.replace(unquoted(value)),
            "npmRegistryServer" => found.add(unquoted(value)),
            _ => {}
        }
    }
    let bun = home(".bunfig.toml")
        .parse::<toml::Table>()
        .unwrap_or_default();
    let install = bun.get("install").and_then(toml::Value::as_table);
    let url = |value: &toml::Value| {
        let text = value.as_str().or_else(|| value.get("url")?.as_str());
        text.map(str::to_owned)
    };
    if let Some(address) = install.and_then(|table| url(table.get("registry")?)) {
        found.replace(&address);
    }
    let scopes = install.and_then(|table| table.get("scopes")?.as_table());
    for address in scopes
        .into_iter()
        .flat_map(|table| table.values())
        .filter_map(url)
    {
        found.add(&address);
    }
    for name in [
        "npm_config_registry",
        "NPM_CONFIG_REGISTRY",
        "YARN_REGISTRY",
        "YARN_NPM_REGISTRY_SERVER",
        "BUN_CONFIG_REGISTRY",
        "COREPACK_NPM_REGISTRY",
    ] {
        found.replace(&variable(name));
    }
    found
}

/// `registry` replaces the default, `@scope:registry` does not.
fn scoped(found: &mut Configured, key: &str, value: &str) {
    match key.trim_matches([' ', '\t', '"']) {
        "registry" => found.replace(unquoted(value)),
        key if key.starts_with('@') && key.ends_with(":registry") => found.add(unquoted(value)),
        _ => {}
    }
}

fn unquoted(value: &str) -> &str {
    value.trim().trim_matches(['"', '\''])
}

/// pip and uv.
pub(super) fn pip(owner: &Owner, variable: Variable<'_>) -> Configured {
    let mut found = Configured::default();
    let files = [".config/pip/pip.conf", ".pip/pip.conf"].map(|name| owner.home.join(name));
    let machine = Path::new("/etc/pip.conf");
    for path in files.iter().map(AsRef::as_ref).chain([machine]) {
        pip_settings(&mut found, &owner.text(path));
    }
    let uv = owner.text(&owner.home.join(".config/uv/uv.toml"));
    let uv = uv.parse::<toml::Table>().unwrap_or_default();
    uv_settings(&mut found, &uv);
    if let Some(below) = uv.get("pip").and_then(toml::Value::as_table) {
        uv_settings(&mut found, below);
    }
    for name in ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"] {
        found.replace(&variable(name));
    }
    for name in ["PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX"] {
        for address in variable(name).split_whitespace() {
            found.add(address);
        }
    }
    found
}

/// Reads `index-url` and `extra-index-url`, whose values may continue in indented lines.
fn pip_settings(found: &mut Configured, text: &str) {
    let mut key = String::new();
    for line in text.lines() {
        let value = if line.starts_with([' ', '\t']) {
            line
        } else {
            let pair = line.split_once('=').or_else(|| line.split_once(": "));
            let (name, value) = pair.unwrap_or_default();
            name.trim().clone_into(&mut key);
            value
        };
        for address in value.split_whitespace() {
            match key.as_str() {
                "index-url" => found.replace(address),
                "extra-index-url" => found.add(address),
                _ => {}
            }
        }
    }
}

fn uv_settings(found: &mut Configured, table: &toml::Table) {
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
    if let Some(address) = text("index-url") {
        found.replace(address);
    }
    let list = |key: &str| {
        table
            .get(key)
            .and_then(toml::Value::as_array)
            .into_iter()
            .flatten()
    };
    for address in list("extra-index-url").filter_map(toml::Value::as_str) {
        found.add(address);
    }
    for index in list("index").filter_map(toml::Value::as_table) {
        let address = index
            .get("url")
            .and_then(toml::Value::as_str)
            .unwrap_or_default();
        match index.get("default").and_then(toml::Value::as_bool) {
            Some(true) => found.replace(address),
            Some(false) | None => found.add(address),
        }
    }
}

/// Reads `[source.*] registry` and `[registries.*] index`.
pub(super) fn cargo(owner: &Owner, cargo_home: &Path) -> Configured {
    let mut found = Configured::default();
    for name in ["config.toml", "config"] {
        let text = owner.text(&cargo_home.join(name));
        let table = text.parse::<toml::Table>().unwrap_or_default();
        for (section, key) in [("source", "registry"), ("registries", "index")] {
            let entries = table.get(section).and_then(toml::Value::as_table);
            for (name, entry) in entries.into_iter().flatten() {
                if let Some(address) = entry.get(key).and_then(toml::Value::as_str) {
                    found.add(address);
                }
                let default = section == "source" && name == "crates-io";
                found.replaces |= default && entry.get("replace-with").is_some();
            }
        }
    }
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_REGISTRIES_") && name.ends_with("_INDEX") {
            found.add(&value.to_string_lossy());
        }
    }
    found
}

/// `GOPROXY` and `GOSUMDB`.
pub(super) fn go(owner: &Owner, variable: Variable<'_>) -> Configured {
    let mut found = Configured::default();
    let file = owner.text(&owner.home.join(".config/go/env"));
    let of = |name: &str| {
        let mut lines = file.lines().filter_map(|line| line.split_once('='));
        let set =
            lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()));
        Some(variable(name))
            .filter(|value| !value.is_empty())
            .or(set)
    };
    if let Some(proxies) = of("GOPROXY") {
        found.replaces = true;
        for address in proxies.split([',', '|']) {
            found.add(address);
        }
    }
    // The value is a name with its key, followed by the address if it is not that of the name.
    let database = of("GOSUMDB")
        .filter(|value| value != "off")
        .unwrap_or_default();
    let mut words = database.split_whitespace();
    let name = words
        .next()
        .and_then(|name| name.split('+').next())
        .unwrap_or_default();
    match words.next() {
        Some(address) => found.add(address),
        None => found.add(&format!("https://{name}/")),
    }
    found
}

/// `:sources:` of `.gemrc`, as lines of a list.
pub(super) fn gem(owner: &Owner) -> Configured {
    let mut found = Configured::default();
    let own = owner.home.join(".gemrc");
    for path in [Path::new("/etc/gemrc"), &own] {
        for line in owner.text(path).lines() {
            if let Some(address) = line.trim().strip_prefix("- ") {
                found.replace(unquoted(address));
            }
        }
    }
    found
}

/// The mirrors of Maven's settings.
pub(super) fn maven(owner: &Owner) -> Configured {
    let mut found = Configured::default();
    let text = owner.text(&owner.home.join(".m2/settings.xml"));
    let mirrors = text.split_once("<mirrors>");
    let mirrors = mirrors.and_then(|(_, rest)| rest.split_once("</mirrors>"));
    let mut rest = mirrors.map_or("", |(mirrors, _)| mirrors);
    // Text that is commented out may look like settings.
    if rest.contains("<!--") {
        rest = "";
    }
    while let Some((_, behind)) = rest.split_once("<url>") {
        let (address, after) = behind.split_once("</url>").unwrap_or((behind, ""));
        found.replace(address);
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Configured, Owner, cargo, gem, go, maven, npm, pip};

    fn nothing(_: &str) -> String {
        String::new()
    }

    fn hosts(found: &Configured) -> (String, bool) {
        let hosts = found.addresses.iter();
        let hosts: Vec<String> = hosts
            .filter_map(|address| super::address::parse(address))
            .map(|host| host.to_string())
            .collect();
        (hosts.join(", "), found.replaces)
    }

    fn read(set: &str, owner: &Owner) -> Configured {
        match set {
            "npm" => npm(owner, &nothing),
            "pip" => pip(owner, &nothing),
            "cargo" => cargo(owner, &owner.home.join(".cargo")),
            "go" => go(owner, &nothing),
            "gem" => gem(owner),
            _ => maven(owner),
        }
    }

    /// Set, file of the home, its text, hosts, and whether the default is replaced.
    const CASES: [(&str, &str, &str, &str, bool); 14] = [
        (
            "npm",
            ".npmrc",
            "; x\nregistry=https://r.test/x/\n@c:registry = http://c.test:4873\n//r.test/:_authToken=secret\n",
            "r.test, c.test 4873",
            true,
        ),
        (
            "npm",
            ".npmrc",
            "@c:registry=http://c.test:4873\n",
            "c.test 4873",
            false,
        ),
        (
            "npm",
            ".yarnrc",
            "registry \"https://y.test/\"\n",
            "y.test",
            true,
        ),
        (
            "npm",
            ".yarnrc.yml",
            "npmRegistryServer: \"https://y.test\"\nnpmScopes:\n  c:\n    npmRegistryServer: https://c.test\n",
            "y.test, c.test",
            true,
        ),
        (
            "npm",
            ".bunfig.toml",
            "[install]\nregistry = { url = \"https://b.test\", token = \"x\" }\n[install.scopes]\nc = \"https://c.test\"\n",
            "b.test, c.test",
            true,
        ),
        (
            "pip",
            ".config/pip/pip.conf",
            "[global]\nindex-url = https://u:secret@p.test/simple\nextra-index-url =\n    https://a.test/simple\n    https://b.test/simple\ntimeout = 10\n",
            "p.test, a.test, b.test",
            true,
        ),
        (
            "pip",
            ".pip/pip.conf",
            "[global]\nextra-index-url = https://a.test/simple\n",
            "a.test",
            false,
        ),
        (
            "pip",
            ".config/uv/uv.toml",
            "[[index]]\nurl = \"https://u.test/simple\"\ndefault = true\n[[index]]\nurl = \"https://e.test/\"\n",
            "u.test, e.test",
            true,
        ),
        (
            "cargo",
            ".cargo/config.toml",
            "[source.main]\nregistry = \"sparse+https://i.test/\"\n[registries.own]\nindex = \"git+https://o.test:8443/index\"\n",
            "i.test, o.test 8443",
            false,
        ),
        (
            "cargo",
            ".cargo/config.toml",
            "[source.crates-io]\nreplace-with = \"main\"\n",
            "",
            true,
        ),
        (
            "go",
            ".config/go/env",
            "GOPROXY=https://g.test|http://h.test:3000,direct\nGOSUMDB=s.test+key\n",
            "g.test, h.test 3000, s.test",
            true,
        ),
        ("go", ".config/go/env", "GOSUMDB=off\n", "", false),
        (
            "gem",
            ".gemrc",
            ":sources:\n- https://g.test/\n",
            "g.test",
            true,
        ),
        (
            "maven",
            ".m2/settings.xml",
            "<settings><mirrors><mirror><url>http://m.test:81/x</url></mirror></mirrors><x><url>http://n.test</url></x></settings>",
            "m.test 81",
            true,
        ),
    ];

    #[test]
    fn clients_say_where_their_packages_come_from() {
        for (set, file, text, expected, replaces) in CASES {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            let owner = Owner::new(home.path().to_owned(), Vec::new(), &[]);
            let own = hosts(&read(set, &owner)).0;
            // The machine's own settings contribute too.
            assert!(own.contains(expected), "{file}: {own}");
            assert!(read(set, &owner).replaces || !replaces, "{file}");
            let open = Owner::new(home.path().to_owned(), vec![home.path().to_owned()], &[]);
            assert!(
                !hosts(&read(set, &open)).0.contains(".test"),
                "{file} is the session's"
            );
        }
    }
}
