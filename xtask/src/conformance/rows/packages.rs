//! Package managers: a new package is added, from the registry for which the client is configured.

use crate::conformance::row::{
    Group::Packages,
    Need::{Npm, Pip, Rust, System},
    Row, row,
};

pub(in crate::conformance) const ROWS: &[Row] = &[
    row(Packages, "npm", "`npm install` of a package, then `npm ci`")
        .needs(&[System("npm", "npm")])
        .versions("npm --version")
        .setup("echo '{\"private\":true}' > package.json")
        .run("npm install --no-audit --no-fund is-number; rm -rf node_modules; npm ci --no-audit --no-fund")
        .check("node -e 'require(\"is-number\")'"),
    row(Packages, "npx", "`npx` of a tool that is not installed")
        .needs(&[System("npm", "npm")])
        .run("npx --yes semver 1.2.3 | grep -q 1.2.3"),
    row(Packages, "npm-global", "`npm install -g` with a prefix in the home")
        .needs(&[System("npm", "npm")])
        .setup("mkdir -p ~/.local/lib/node_modules ~/.local/bin; npm config set prefix ~/.local")
        .run("npm install -g --no-audit --no-fund semver; ~/.local/bin/semver 1.2.3"),
    row(Packages, "pnpm", "`pnpm add`")
        .needs(&[System("node", "nodejs"), Npm(&["pnpm@9"])])
        .versions("pnpm --version")
        .setup("echo '{\"private\":true}' > package.json")
        .run("pnpm add is-number")
        .check("node -e 'require(\"is-number\")'"),
    row(Packages, "yarn", "`yarn add`")
        .needs(&[System("node", "nodejs"), Npm(&["yarn"])])
        .versions("yarn --version")
        .setup("echo '{\"private\":true}' > package.json")
        .run("yarn add is-number")
        .check("node -e 'require(\"is-number\")'"),
    row(Packages, "node_modules-with-vscode", "a package that ships `.vscode` is installed and removed")
        .needs(&[System("npm", "npm")])
        .setup("mkdir -p p/.vscode; echo '{\"name\":\"p\",\"version\":\"1.0.0\"}' > p/package.json; echo '{}' > p/.vscode/settings.json; (cd p; npm pack --silent >/dev/null; mv *.tgz ..); rm -r p; echo '{\"private\":true}' > package.json")
        .run("npm install --no-audit --no-fund ./p-1.0.0.tgz; [ -f node_modules/p/.vscode/settings.json ]; rm -rf node_modules; npm ci --no-audit --no-fund --offline")
        .check("[ -f node_modules/p/.vscode/settings.json ]"),
    row(Packages, "pip-venv", "a virtual environment, and `pip install` in it")
        .needs(&[System("python3", "python3"), System("python3", "python3-venv")])
        .versions("python3 --version; python3 -m pip --version | cut -d' ' -f1-2")
        .run("python3 -m venv .venv; . .venv/bin/activate; pip install -q six; python -c 'import six'")
        .check(". .venv/bin/activate; python -c 'import six'"),
    row(Packages, "pip-user", "`pip install --user`")
        .needs(&[System("python3", "python3"), System("pip3", "python3-pip")])
        .setup("mkdir -p ~/.local/lib")
        .run("python3 -m pip install -q --user --break-system-packages iniconfig; python3 -c 'import iniconfig'"),
    row(Packages, "uv", "`uv init`, `uv add`, `uv run`")
        .needs(&[System("python3", "python3"), Pip(&["uv"])])
        .versions("uv --version")
        .setup("mkdir -p ~/.local/share/uv")
        .run("uv init -q --no-workspace app; cd app; uv add -q six; uv run -q python -c 'import six'")
        .check("grep -q six app/pyproject.toml"),
    row(Packages, "poetry", "`poetry init`, `poetry add`")
        .needs(&[System("python3", "python3"), Pip(&["poetry"])])
        .versions("poetry --version")
        .run("poetry init -q -n --name app; poetry config virtualenvs.in-project true --local; poetry source add -q lab \"$(/usr/bin/python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)')\"; poetry add -q six; poetry run python -c 'import six'")
        .check("grep -q six pyproject.toml")
        .seconds(240),
    row(Packages, "cargo", "`cargo add` of a crate that is not cached, build")
        .needs(&[Rust, System("cc", "gcc")])
        .versions("cargo --version")
        .setup("mkdir -p ~/.cargo/registry; cargo init -q --vcs none --name app")
        .run("cargo add -q fnv; cargo build -q; cargo run -q")
        .check("grep -q fnv Cargo.lock")
        .seconds(240),
    row(Packages, "cargo-install", "`cargo install` of a program, which is found and runs")
        .needs(&[Rust, System("cc", "gcc")])
        .setup("cargo init -q --vcs none --name labtool app")
        .run("cargo install -q --path app; labtool | grep -q Hello; cargo install --list | grep -q labtool; cargo install -q --path app")
        .seconds(240),
    row(Packages, "uv-tool", "`uv tool install` of a program, which runs")
        .needs(&[System("python3", "python3"), Pip(&["uv"])])
        .setup("mkdir -p ~/.local/share/uv/tools")
        .run("uv tool install -q cowsay; cowsay -t hello | grep -q hello"),
    row(Packages, "cargo-new", "`cargo new` with its repository, test")
        .needs(&[Rust, System("cc", "gcc"), System("git", "git")])
        .run("cargo new -q app; cd app; cargo test -q")
        .check("[ -d app/.git ]; git -C app status -s | grep -q Cargo.toml")
        .seconds(240),
    row(Packages, "maven", "Maven builds with what is in the local repository")
        .needs(&[System("mvn", "maven"), System("javac", "default-jdk-headless")])
        .versions("mvn --version | head -1")
        .setup("mkdir -p ~/.m2/repository src")
        .run("mvn -q -o -version; mkdir -p ~/.m2/repository/lab; touch ~/.m2/repository/lab/x"),
];
