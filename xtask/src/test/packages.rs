//! Programs that the tests use, and the packages that contain them.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{out, process, user};

/// A program that every user must find, or a file, and its Debian package.
const PROGRAMS: &[(&str, &str)] = &[
    ("git", "git"),
    ("curl", "curl"),
    ("tmux", "tmux"),
    ("vim", "vim"),
    ("less", "less"),
    ("htop", "htop"),
    ("python3", "python3"),
    ("/usr/lib/python3/dist-packages/pip", "python3-pip"),
    (
        "/usr/lib/python3/dist-packages/requests",
        "python3-requests",
    ),
    ("/usr/lib/python3/dist-packages/httpx", "python3-httpx"),
    ("gcc", "gcc"),
    ("make", "make"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("go", "golang-go"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ps", "procps"),
    ("setpriv", "util-linux"),
    ("useradd", "passwd"),
    ("bwrap", "bubblewrap"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("Xvfb", "xvfb"),
    ("xdotool", "xdotool"),
    ("xterm", "xterm"),
    ("urxvt", "rxvt-unicode"),
    ("stterm", "stterm"),
    ("strace", "strace"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("dig", "bind9-dnsutils"),
    ("host", "bind9-host"),
    ("zstd", "zstd"),
    ("chromium", "chromium"),
];

/// Prevents servers in packages from being started, now or with the machine: tests start their own.
const NO_SERVICES: [&str; 2] = [
    "--option=Dpkg::Options::=--path-exclude=/lib/systemd/system/*",
    "--option=Dpkg::Options::=--path-exclude=/etc/init.d/*",
];

/// Programs that only the comparison with other sandboxes needs.
pub(crate) const RIVALS: &[(&str, &str)] = &[
    ("bwrap", "bubblewrap"),
    ("socat", "socat"),
    ("rg", "ripgrep"),
    ("make", "make"),
    ("gcc", "gcc"),
];

/// Returns the packages whose programs are missing.
fn missing(
    programs: &[(&'static str, &'static str)],
    find: impl Fn(&str) -> bool,
) -> Vec<&'static str> {
    programs
        .iter()
        .filter(|(program, _)| !find(program))
        .map(|(_, package)| *package)
        .collect()
}

/// Installs what is missing if we are root; otherwise returns the names of the missing packages.
pub(crate) fn ensure(programs: &[(&'static str, &'static str)]) -> Result<Vec<&'static str>> {
    let packages = missing(programs, is_here);
    if packages.is_empty() || !user::is_root() {
        return Ok(packages);
    }
    out::note(format_args!("packages: installing {}", packages.join(" ")));
    let advice = || {
        format!(
            "install {} by hand, then run this again",
            packages.join(" ")
        )
    };
    process::stdout(apt().arg("update")).with_context(advice)?;
    process::stdout(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(NO_SERVICES)
            .args(&packages),
    )
    .with_context(advice)?;
    Ok(missing(programs, is_here))
}

fn is_here(program: &str) -> bool {
    let file = Path::new(program);
    user::find_for_all(program).is_some() || (file.is_absolute() && file.exists())
}

/// The programs of the test suite.
pub(crate) fn ensure_for_tests() -> Result<Vec<&'static str>> {
    ensure(PROGRAMS)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command
        .arg("--quiet=2")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_named_by_package() {
        assert_eq!(
            missing(PROGRAMS, |program| program != "ip" && program != "bwrap"),
            ["iproute2", "bubblewrap"]
        );
        assert!(missing(PROGRAMS, |_| true).is_empty());
    }
}
