use super::{Change, Surroundings, judge};

struct Lab;

impl Surroundings for Lab {
    fn is_own_work_tree(&self, value: &[u8]) -> bool {
        value == b"../../../sub"
    }

    fn is_seen(&self, path: &[u8]) -> bool {
        path.starts_with(b"/w/")
    }

    fn is_new_hook_place(&self, value: &[u8]) -> bool {
        value == b".husky/_"
    }
}

const OLD: &str = "[core]\n\tbare = false\n\tpager = less\n[remote \"origin\"]\n\turl = https://good.test/a\n\
                   [branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n[alias]\n\tst = status\n";

/// Judges settings that have these lines as well, in the owner's repository and in a new one.
fn with(lines: &str) -> (bool, bool) {
    let new = format!("{OLD}{lines}");
    let owners = Change {
        first: Some(OLD.as_bytes()),
        old: Some(OLD.as_bytes()),
        new: new.as_bytes(),
    };
    let made = Change {
        first: None,
        old: None,
        new: lines.as_bytes(),
    };
    (judge(&owners, &Lab).is_ok(), judge(&made, &Lab).is_ok())
}

#[test]
fn what_runs_nothing_passes() {
    for lines in [
        "",
        "[user]\n\tname = A \"B\" C\n\temail = a@good.test\n",
        "[branch \"topic/x\"]\n\tremote = origin\n\tmerge = refs/heads/topic/x\n",
        "[branch \"y\"]\n\tremote = .\n\trebase = true\n\tdescription = one\\ntwo\n",
        "[remote \"fork\"]\n\turl = git@good.test:me/a.git\n\tfetch = +refs/heads/*:refs/remotes/fork/*\n",
        "[remote \"s\"]\n\turl = ssh://git@good.test:22/a\n\tpushurl = https://good.test/b\n",
        "[remote \"here\"]\n\turl = /w/lib\n[submodule \"a/b\"]\n\turl = file:///w/lib\n\tactive = true\n",
        "[core]\n\tsparseCheckout = true\n\tautocrlf = input\n[extensions]\n\tworktreeConfig = true\n",
        "[core]\n\tworktree = ../../../sub\n",
        "[advice]\n\tdetachedHead = false\n[gc]\n\tauto = 0\n",
        "# said by a tool\n",
        "[core]\n\thooksPath = .husky/_\n",
        "[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\
         \tprocess = git-lfs filter-process\n\trequired = true\n",
    ] {
        assert_eq!(with(lines), (true, true), "{lines}");
    }
    assert_eq!(with("[core]\n\tbare = true\n"), (false, true));
    let mirror =
        "[remote \"m\"]\n\turl = https://good.test/m\n\tfetch = +refs/*:refs/*\n\tmirror = true\n";
    assert_eq!(with(mirror), (false, true));
}

#[test]
fn what_runs_something_does_not() {
    for lines in [
        "[core]\n\thooksPath = x\n",
        "[core]\n\tfsmonitor = x\n",
        "[core]\n\tsshCommand = x\n",
        "[core]\n\teditor = x\n",
        "[core]\n\tpager = x\n",
        "[core]\n\tgitProxy = x\n",
        "[core]\n\talternateRefsCommand = x\n",
        "[core]\n\tattributesFile = x\n",
        "[core]\n\tworktree = /home\n",
        "[filter \"x\"]\n\tclean = x\n",
        "[filter \"x\"]\n\tclean = git-lfs clean -- %f\n",
        "[filter \"lfs\"]\n\tclean = \"git-lfs clean -- %f; x\"\n",
        "[filter \"lfs\"]\n\tclean = git-lfs smudge -- %f\n",
        "[filter \"lfs\"]\n\tprocess = ./git-lfs filter-process\n",
        "[filter \"LFS\"]\n\tprocess = git-lfs filter-process\n",
        "[diff \"x\"]\n\tcommand = x\n",
        "[diff]\n\texternal = x\n",
        "[merge \"x\"]\n\tdriver = x\n",
        "[mergetool \"x\"]\n\tcmd = x\n",
        "[alias]\n\tx = !x\n",
        "[include]\n\tpath = x\n",
        "[includeIf \"gitdir:/\"]\n\tpath = x\n",
        "[credential]\n\thelper = x\n",
        "[url \"ext::x\"]\n\tinsteadOf = https\n",
        "[http]\n\tproxy = http://bad.test\n",
        "[gpg]\n\tprogram = x\n",
        "[gc]\n\trecentObjectsHook = x\n",
        "[uploadpack]\n\tpackObjectsHook = x\n",
        "[receive]\n\tprocReceiveRefs = x\n",
        "[sequence]\n\teditor = x\n",
        "[trailer \"x\"]\n\tcommand = x\n",
        "[submodule \"x\"]\n\tupdate = !x\n",
        "[submodule \"../x\"]\n\turl = https://good.test/x\n",
        "[branch \"x\"]\n\tmergeOptions = -s x\n",
        "[branch \"x\"]\n\tremote = ext::x\n",
        "[branch \"x\"]\n\tremote = /w/evil\n",
        "[branch \"x\"]\n\tremote = -x\n",
        "[remote \"x\"]\n\turl = ext::sh -c x\n",
        "[remote \"x\"]\n\turl = x::y\n",
        "[remote \"x\"]\n\turl = -oProxyCommand=x\n",
        "[remote \"x\"]\n\turl = ssh://-oProxyCommand=x/y\n",
        "[remote \"x\"]\n\turl = ssh://-x@good.test/y\n",
        "[remote \"x\"]\n\turl = -x:y\n",
        "[remote \"x\"]\n\turl = https://good.test/a\\nb\n",
        "[remote \"x\"]\n\turl = /elsewhere\n",
        "[remote \"x\"]\n\turl = lib\n",
        "[remote \"x\"]\n\turl = fd://3\n",
        "[remote \"x\"]\n\tuploadpack = x\n",
        "[remote \"x\"]\n\treceivepack = x\n",
        "[remote \"x\"]\n\tvcs = x\n",
        "[remote \"x\"]\n\tproxy = x\n",
        "[remote \"-x\"]\n\turl = https://good.test/a\n",
        "[commit]\n\tgpgSign = false\n",
        "[user]\n\tname = a\\\nb\n",
        "[user]\n\tname = a\r\n",
        "[user] name = a\n",
        "[core]\n\tfilemode\n",
        "no section = 1\n[",
    ] {
        assert_eq!(with(lines), (false, false), "{lines}");
    }
}

#[test]
fn what_the_owner_has_stays_where_it_leads() {
    let change = |new: &str| {
        let change = Change {
            first: Some(OLD.as_bytes()),
            old: Some(OLD.as_bytes()),
            new: new.as_bytes(),
        };
        judge(&change, &Lab).is_ok()
    };
    assert!(!change(
        &OLD.replace("https://good.test/a", "https://bad.test/a")
    ));
    assert!(!change(&OLD.replace("remote = origin", "remote = bad")));
    let bad = "[remote \"bad\"]\n\turl = https://bad.test/a\n";
    assert!(change(&format!("{OLD}{bad}")), "beside");
    let upstream = OLD.replace("remote = origin", "remote = bad");
    assert!(!change(&format!("{upstream}{bad}")));
    // The same address under another name, as `git remote rename` writes it.
    let renamed = OLD
        .replace("\"origin\"", "\"up\"")
        .replace("= origin", "= up");
    assert!(change(&renamed));
    // In two steps: the first state counts, not the last one.
    let without = OLD.replace("\tremote = origin\n", "");
    assert!(change(&without));
    let second = Change {
        first: Some(OLD.as_bytes()),
        old: Some(without.as_bytes()),
        new: format!("{upstream}{bad}").leak().as_bytes(),
    };
    assert!(judge(&second, &Lab).is_err());
    // Removal, and the order of settings that are not on the list.
    assert!(change(&OLD.replace(
        "[remote \"origin\"]\n\turl = https://good.test/a\n",
        ""
    )));
    assert!(!change(&OLD.replace("\tpager = less\n", "")));
    assert!(!change(&OLD.replace("[alias]\n\tst = status\n", "")));
    assert!(!change(&OLD.replace("= less", "= less\\")));
}
