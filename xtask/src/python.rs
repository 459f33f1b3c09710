//! Programs and libraries of Python that the tests use, installed from the package index at fixed
//! versions.

use std::{env, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{agents, out, process};

/// The folder beside the agents in which they are.
const FOLDER: &str = "python";

/// Each package and its version.
const PACKAGES: [(&str, &str); 4] = [
    ("uv", "0.13.9"),
    ("grpcio", "1.84.0"),
    ("websockets", "17.0"),
    ("schemathesis", "4.32.5"),
];

/// Installs what is missing into the folder of the agents.
pub(crate) fn ensure(agents: &Path) -> Result<()> {
    let folder = agents.join(FOLDER);
    let is_here = |(name, version): &(&str, &str)| {
        folder.join(format!("{name}-{version}.dist-info")).is_dir()
    };
    if PACKAGES.iter().all(is_here) {
        return Ok(());
    }
    let names = PACKAGES.map(|(name, version)| format!("{name}=={version}"));
    if env::var_os(agents::VARIABLE).is_some() {
        bail!(
            "`{}` does not hold {}; install them there with `pip install --target`, or unset `{}`",
            folder.display(),
            names.join(" "),
            agents::VARIABLE
        );
    }
    out::note(format_args!(
        "python: installing {} (once, about 130 MB)",
        names.join(" ")
    ));
    let mut install = Command::new("/usr/bin/python3");
    install
        .args(["-m", "pip", "install", "--quiet", "--upgrade"])
        .args(["--root-user-action", "ignore", "--target"])
        .arg(&folder)
        .args(&names);
    process::stdout(&mut install).map(drop).with_context(|| {
        format!(
            "the packages of Python could not be installed; where no index is reached, install {} \
             elsewhere with `pip install --target DIR/{FOLDER}`, with the agents in `DIR`, and name it \
             in `{}`",
            names.join(" "),
            agents::VARIABLE
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{FOLDER, PACKAGES, ensure};

    #[test]
    fn what_is_installed_at_its_version_is_left_alone() {
        let agents = tempfile::tempdir().unwrap();
        for (name, version) in PACKAGES {
            let info = format!("{FOLDER}/{name}-{version}.dist-info");
            std::fs::create_dir_all(agents.path().join(info)).unwrap();
        }
        ensure(agents.path()).unwrap();
    }
}
