//! The file view of a session: what exists inside, and what of it can be changed.

use stockade_types::{AbsPath, RawText};

use crate::{
    CacheFact, CacheKind, EntryKind, HostFacts, Owner, PathRule, Rights, RunSpec, ShownFact, Step,
    Upper, covers, environment,
    share::{SharedBind, Sharing, overlays},
};

/// Devices that programs need and that give nothing away.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links of `/dev` that programs expect.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];
/// Parts of `/proc` that tell of or act on the whole machine: covered.
const PROC_MASKED: [&str; 22] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/vmallocinfo",
    "/proc/vmcore",
];
/// Parts of `/proc` that programs read and nobody inside may write.
const PROC_READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Files of `/etc` that hold secrets of the machine. An ordinary user cannot read them anyway; in
/// a session of root the file owner's rights would still let it.
const ETC_MASKED: [&str; 10] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/krb5.keytab",
    "/etc/stockade",
];

/// Where ssh of the session has its settings, below the directory of what it is told.
pub const SSH_DIRECTORY: &str = "ssh";
/// Its file of host keys there.
pub const SSH_KNOWN_HOSTS: &str = "ssh_known_hosts";
/// Its settings there.
pub const SSH_CONFIG: &str = "ssh_config";

fn inside(path: &str) -> AbsPath {
    // Every caller passes a literal from the tables above or below; the root is harmless.
    AbsPath::new(path).unwrap_or_else(|_| root())
}

fn root() -> AbsPath {
    AbsPath::new("/").unwrap_or_else(|_| unreachable!("the root is an absolute path"))
}

/// Returns the steps from an empty tmpfs to the finished view, before it is entered.
pub(crate) fn steps(spec: &RunSpec, facts: &HostFacts) -> Vec<Step> {
    let mount_point = spec
        .session_dir
        .join("root")
        .unwrap_or_else(|_| spec.session_dir.clone());
    let mut steps = vec![Step::PrivateMounts, Step::NewRoot { at: mount_point }];
    steps.extend(system(facts));
    steps.extend(devices());
    steps.extend(processes());
    steps.extend(private_directories(facts));
    steps.extend(own_files(spec, facts));
    let shared = shared(spec, facts);
    steps.extend(overlays(&facts.caches));
    steps.extend(shared.iter().cloned().map(SharedBind::into_step));
    steps.extend(workspace(spec, facts));
    // These come after every bind: a bind could show again what is covered or replaced.
    steps.extend(links(spec, facts, &shared));
    steps.extend(filtered(spec, facts, &shared));
    // Where packages come from, what only has to be there, and what login shells read.
    for files in [&facts.sources, &facts.stand_ins, &login_files(facts)] {
        steps.extend(own_where_absent(files, spec, facts, &shared));
    }
    steps.extend(known_hosts(spec, facts, &shared));
    steps.extend(covers::steps(spec, facts, &shared));
    steps.push(Step::SealRoot);
    steps
}

fn bind(from: AbsPath, path: AbsPath) -> Step {
    Step::Bind {
        from,
        path,
        read_only: true,
        devices: false,
    }
}

fn system(facts: &HostFacts) -> Vec<Step> {
    let mut steps = Vec::new();
    for entry in &facts.system {
        match &entry.kind {
            EntryKind::Link(target) => {
                steps.push(Step::Symlink {
                    path: entry.path.clone(),
                    target: target.as_str().into(),
                });
            }
            EntryKind::Directory | EntryKind::File => {
                steps.push(bind(entry.path.clone(), entry.path.clone()));
            }
        }
    }
    // What the session's own settings of ssh stand in place of needs no cover.
    let replaced = facts.ssh.iter().filter_map(|ssh| ssh.replaces.as_ref());
    let replaced: Vec<&AbsPath> = replaced.collect();
    let masked = ETC_MASKED.iter().map(|path| inside(path));
    let masked = masked.filter(|path| !replaced.contains(&path));
    steps.extend(masked.map(|path| Step::Mask { path }));
    steps
}

fn devices() -> Vec<Step> {
    let tmpfs = |path: &str, mode| Step::Tmpfs {
        path: inside(path),
        mode,
        executable: false,
        owner: Owner::Setup,
    };
    let mut steps = vec![tmpfs("/dev", 0o755)];
    steps.extend(DEVICES.map(|name| {
        let path = inside(&format!("/dev/{name}"));
        // Read-only: a device is written all the same, and root's own inode keeps its mode and owner.
        Step::Bind {
            from: path.clone(),
            path,
            read_only: true,
            devices: true,
        }
    }));
    steps.extend(DEVICE_LINKS.map(|(path, target)| Step::Symlink {
        path: inside(path),
        target: target.into(),
    }));
    steps.push(Step::Terminals {
        path: inside("/dev/pts"),
    });
    steps.push(tmpfs("/dev/shm", 0o1777));
    steps.push(Step::ReadOnly {
        path: inside("/dev"),
    });
    steps
}

fn processes() -> Vec<Step> {
    let mut steps = vec![Step::Processes {
        path: inside("/proc"),
    }];
    steps.extend(PROC_MASKED.map(|path| Step::Mask { path: inside(path) }));
    steps.extend(PROC_READ_ONLY.map(|path| Step::Protect {
        path: inside(path),
        read_only: true,
    }));
    steps
}

fn private_directories(facts: &HostFacts) -> Vec<Step> {
    let tmpfs = |path: AbsPath, mode, owner| Step::Tmpfs {
        path,
        mode,
        executable: true,
        owner,
    };
    let mut steps = vec![
        tmpfs(inside("/tmp"), 0o1777, Owner::Setup),
        tmpfs(inside("/var/tmp"), 0o1777, Owner::Setup),
        Step::Symlink {
            path: inside("/var/run"),
            target: "/run".into(),
        },
        tmpfs(facts.home.clone(), 0o700, Owner::Command),
    ];
    let private = facts.private.iter().cloned();
    steps.extend(private.map(|path| tmpfs(path, 0o700, Owner::Command)));
    steps
}

fn own_files(spec: &RunSpec, facts: &HostFacts) -> Vec<Step> {
    let told = spec
        .session_dir
        .join("inside")
        .unwrap_or_else(|_| spec.session_dir.clone());
    let ssh = told.join(SSH_DIRECTORY);
    let mut steps = vec![
        bind(told, inside("/run/stockade")),
        bind(facts.own_executable.clone(), inside("/run/stockade/why")),
    ];
    let machine = facts.ssh.iter().filter_map(|ssh| ssh.replaces.clone());
    steps.extend(machine.zip(ssh).map(|(path, from)| bind(from, path)));
    let sockets = facts.sockets.iter();
    steps.extend(sockets.map(|share| bind(share.from.clone(), share.path.clone())));
    let names = if spec.offline {
        ""
    } else {
        "nameserver 127.0.0.1\n"
    };
    let hosts = "127.0.0.1 localhost stockade\n::1 localhost ip6-localhost\n";
    if let Some(path) = &facts.resolv_conf {
        steps.push(Step::File {
            path: path.clone(),
            contents: names.to_owned(),
        });
    }
    steps.push(Step::File {
        path: inside("/etc/hosts"),
        contents: hosts.to_owned(),
    });
    steps
}

/// What policy and the command itself need of the host, shallow paths first so that none covers
/// another.
fn shared(spec: &RunSpec, facts: &HostFacts) -> Vec<SharedBind> {
    let known = |path: &AbsPath| {
        facts.system.iter().any(|entry| path.is_within(&entry.path))
            || path.is_within(&spec.workspace)
    };
    let new = |from: &AbsPath, path: &AbsPath, sharing| SharedBind {
        from: from.clone(),
        path: path.clone(),
        sharing,
    };
    let read = |from, path| new(from, path, Sharing::ReadOnly);
    let write = |from, path| new(from, path, Sharing::Writable);
    let mut binds: Vec<SharedBind> = Vec::new();
    let (readable, writable) = (facts.readable.iter(), facts.writable.iter());
    binds.extend(readable.map(|share| read(&share.from, &share.path)));
    binds.extend(facts.program.roots.iter().map(|root| read(root, root)));
    binds.extend(writable.map(|share| write(&share.from, &share.path)));
    let state = facts.state.iter();
    binds.extend(state.map(|state| write(&state.from, &state.path)));
    binds.extend(facts.caches.iter().filter_map(SharedBind::of_cache));
    binds.retain(|bind| bind.sharing != Sharing::ReadOnly || !known(&bind.path));
    binds.sort_by_key(|bind| bind.path.as_path().components().count());
    binds.dedup_by(|later, earlier| later.path == earlier.path);
    // A read-only bind below a read-only bind of the same tree adds nothing, nor does it below a
    // overlay over that tree.
    let mut covered: Vec<AbsPath> = Vec::new();
    binds.retain(|bind| {
        let read_only = bind.sharing == Sharing::ReadOnly;
        let redundant = read_only && covered.iter().any(|above| bind.path.is_within(above));
        if read_only || matches!(bind.sharing, Sharing::Overlaid(_)) {
            covered.push(bind.path.clone());
        }
        !redundant
    });
    binds
}

/// Whether the host's own entry is seen at `path`.
fn is_shown(path: &AbsPath, spec: &RunSpec, facts: &HostFacts, shared: &[SharedBind]) -> bool {
    let system = facts.system.iter().map(|entry| &entry.path);
    let shared = shared.iter().map(|bind| &bind.path);
    let mut shown = system.chain(shared).chain([&spec.workspace]);
    shown.any(|above| path.is_within(above))
}

/// The links that lead to the command, where nothing shows the host's own: a program finds its
/// files by where its links lead.
fn links(spec: &RunSpec, facts: &HostFacts, shared: &[SharedBind]) -> Vec<Step> {
    let links = facts.program.links.iter();
    links
        .filter(|link| !is_shown(&link.path, spec, facts, shared))
        .map(|link| Step::Symlink {
            path: link.path.clone(),
            target: link.target.clone(),
        })
        .collect()
}

/// The file of host keys that programs without ssh's own settings look for; the one file of all.
fn known_hosts(spec: &RunSpec, facts: &HostFacts, shared: &[SharedBind]) -> Option<Step> {
    let path = facts.home.join(".ssh/known_hosts").ok()?;
    let wanted = facts.ssh.is_some() && !is_shown(&path, spec, facts, shared);
    wanted.then(|| Step::Symlink {
        path,
        target: RawText::from(format!("/run/stockade/{SSH_DIRECTORY}/{SSH_KNOWN_HOSTS}").as_str()),
    })
}

fn write_file(file: &ShownFact) -> Step {
    Step::File {
        path: file.path.clone(),
        contents: file.contents.clone(),
    }
}

/// Files that are shown without the credentials in them, where a bind would show them whole.
fn filtered(spec: &RunSpec, facts: &HostFacts, shared: &[SharedBind]) -> Vec<Step> {
    let files = facts.shown.iter();
    files
        .filter(|file| is_shown(&file.path, spec, facts, shared))
        .map(write_file)
        .collect()
}

/// Files of the session's own, where nothing shows the host's.
fn own_where_absent(
    files: &[ShownFact],
    spec: &RunSpec,
    facts: &HostFacts,
    shared: &[SharedBind],
) -> Vec<Step> {
    let files = files.iter();
    files
        .filter(|file| !is_shown(&file.path, spec, facts, shared))
        .map(write_file)
        .collect()
}

/// Files of the home that login shells read (`bash -l`, `zsh -l`): the machine's own in `/etc` set
/// the search path anew, and what the caller's home adds to it is not there.
fn login_files(facts: &HostFacts) -> Vec<ShownFact> {
    let path = environment::search_path(facts);
    let quoted = shell_word(&path);
    let contents = format!("# The search path of this session.\nPATH={quoted}\nexport PATH\n");
    [".profile", ".zprofile"]
        .iter()
        .filter_map(|name| facts.home.join(name).ok())
        .map(|path| ShownFact {
            path,
            contents: contents.clone(),
        })
        .collect()
}

/// Writes bytes as one word of a shell, in text: what is no text as octal escapes of printf(1).
fn shell_word(bytes: &RawText) -> String {
    if let Ok(text) = std::str::from_utf8(bytes.as_bytes()) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let bytes = bytes.as_bytes().iter();
    let escaped: Vec<String> = bytes.map(|byte| format!("\\{byte:03o}")).collect();
    format!("\"$(printf '{}')\"", escaped.concat())
}

fn workspace(spec: &RunSpec, facts: &HostFacts) -> Vec<Step> {
    let mut steps = vec![Step::Bind {
        from: spec.workspace.clone(),
        path: spec.workspace.clone(),
        read_only: false,
        devices: false,
    }];
    let mut protected = facts.protected.clone();
    // Outer paths first: a later mount lies above an earlier one.
    protected.sort_by_key(|entry| (entry.path.as_path().components().count(), entry.read_only));
    steps.extend(protected.into_iter().map(|entry| Step::Protect {
        path: entry.path,
        read_only: entry.read_only,
    }));
    steps
}

/// Returns the same view as Landlock rules, over the entered root.
pub(crate) fn landlock(spec: &RunSpec, facts: &HostFacts) -> Vec<PathRule> {
    let rule = |path: AbsPath, rights| PathRule { path, rights };
    let mut rules = vec![rule(root(), Rights::Read)];
    for path in ["/dev", "/proc", "/tmp", "/var/tmp"] {
        rules.push(rule(inside(path), Rights::Write));
    }
    rules.push(rule(facts.home.clone(), Rights::Write));
    rules.push(rule(spec.workspace.clone(), Rights::Write));
    let private = facts.private.iter().cloned();
    rules.extend(private.map(|path| rule(path, Rights::Write)));
    rules.extend(
        facts
            .writable
            .iter()
            .map(|share| rule(share.path.clone(), Rights::Write)),
    );
    rules.extend(caches(facts).map(|path| rule(path.clone(), Rights::Write)));
    rules.extend(
        facts
            .state
            .iter()
            .map(|state| rule(state.path.clone(), Rights::Write)),
    );
    rules
}

/// Returns the caches that can be written and lie in nothing else that can. One that lies in another
/// may be missing, or be what an earlier session has made of it.
fn caches(facts: &HostFacts) -> impl Iterator<Item = &AbsPath> {
    let written =
        |cache: &&CacheFact| cache.upper != Upper::Nowhere && cache.kind == CacheKind::Directory;
    let caches = facts.caches.iter().filter(written).map(|cache| &cache.path);
    caches.clone().filter(move |path| {
        let around = facts.private.iter().chain([&facts.home]);
        let mut around = around.chain(caches.clone().filter(move |other| other != path));
        !around.any(|above| path.is_within(above))
    })
}
