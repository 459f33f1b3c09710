//! Commits that would be signed although no key is inside.

use std::path::Path;

use stockade_plan::HostFacts;
use stockade_types::AbsPath;

use stockade_supervise::{places, repository::GitShare};

/// Settings that make git sign; without a key, each makes a command fail.
const SIGNS: [&str; 3] = ["commit.gpgsign", "push.gpgsign", "tag.gpgsign"];
/// Places of keys, below the home.
const KEYS: [&str; 2] = [".gnupg", ".ssh"];
/// Settings of the user and of the machine.
const OF_USER: [&str; 2] = [".gitconfig", ".config/git/config"];
const OF_MACHINE: &str = "/etc/gitconfig";

/// Switches signing off if git is set up to sign and no policy shows the keys; says so once.
pub(crate) fn leave_off(workspace: &AbsPath, git: &[GitShare], facts: &mut HostFacts) {
    let home = facts.home.as_path();
    let shares = facts.readable.iter().chain(&facts.writable);
    let shows_keys = KEYS.iter().any(|keys| {
        let keys = home.join(keys);
        let mut shares = shares.clone();
        shares.any(|share| {
            keys.starts_with(share.path.as_path()) || share.path.as_path().starts_with(&keys)
        })
    });
    let of_user = OF_USER.iter().map(|file| home.join(file));
    let shared = git.iter().map(|git| git.path.as_path().join("config"));
    let own = workspace.as_path().join(".git/config");
    let mut files = of_user.chain(shared).chain([own, OF_MACHINE.into()]);
    if shows_keys || !files.any(|file| signs(&file)) {
        return;
    }
    let off = SIGNS
        .iter()
        .map(|name| ((*name).to_owned(), "false".to_owned()));
    facts.git_settings.extend(off);
    facts
        .notes
        .push("git: commits are made unsigned; your keys are not inside".to_owned());
}

/// Whether a settings file turns signing on, anywhere in it.
fn signs(path: &Path) -> bool {
    let text = places::read_small(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).to_ascii_lowercase();
    text.lines().any(|line| {
        let (key, value) = line.split_once('=').unwrap_or((line, "true"));
        let key = key.rsplit(']').next().unwrap_or(key).trim();
        let off = ["false", "no", "off", "0"].contains(&value.trim().trim_matches('"'));
        (key == "gpgsign" || key == "forcesignannotated") && !off
    })
}
