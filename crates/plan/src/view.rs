//! The file view of a session: what exists inside, and what of it can be changed.

use stockade_types::{AbsPath, FixedPath, RawText};

use crate::{
    CacheFact, CacheKind, EntryKind, HostFacts, Network, Owner, PathRule, Rights, RunSpec,
    ShownFact, Step, Upper, covers, environment,
    share::{SharedBind, Sharing, overlays},
};

/// Devices that programs need and that give nothing away.
const DEVICES: [FixedPath; 6] = [
    fixed("/dev/null"),
    fixed("/dev/zero"),
    fixed("/dev/full"),
    fixed("/dev/random"),
    fixed("/dev/urandom"),
    fixed("/dev/tty"),
];
/// Links of `/dev` that programs expect.
const DEVICE_LINKS: [(FixedPath, &str); 5] = [
    (fixed("/dev/fd"), "/proc/self/fd"),
    (fixed("/dev/stdin"), "/proc/self/fd/0"),
    (fixed("/dev/stdout"), "/proc/self/fd/1"),
    (fixed("/dev/stderr"), "/proc/self/fd/2"),
    (fixed("/dev/ptmx"), "pts/ptmx"),
];
/// Parts of `/proc` that tell of or act on the whole machine: covered.
const PROC_MASKED: [FixedPath; 22] = [
    fixed("/proc/acpi"),
    fixed("/proc/asound"),
    fixed("/proc/cmdline"),
    fixed("/proc/interrupts"),
    fixed("/proc/iomem"),
    fixed("/proc/ioports"),
    fixed("/proc/kallsyms"),
    fixed("/proc/kcore"),
    fixed("/proc/keys"),
    fixed("/proc/key-users"),
    fixed("/proc/kmsg"),
    fixed("/proc/kpagecgroup"),
    fixed("/proc/kpagecount"),
    fixed("/proc/kpageflags"),
    fixed("/proc/latency_stats"),
    fixed("/proc/pagetypeinfo"),
    fixed("/proc/sched_debug"),
    fixed("/proc/scsi"),
    fixed("/proc/slabinfo"),
    fixed("/proc/timer_list"),
    fixed("/proc/vmallocinfo"),
    fixed("/proc/vmcore"),
];
/// Parts of `/proc` that programs read and nobody inside may write.
const PROC_READ_ONLY: [FixedPath; 5] = [
    fixed("/proc/bus"),
    fixed("/proc/fs"),
    fixed("/proc/irq"),
    fixed("/proc/sys"),
    fixed("/proc/sysrq-trigger"),
];
/// Files of `/etc` that hold secrets of the machine. An ordinary user cannot read them anyway; in
/// a session of root the file owner's rights would still let it.
const ETC_MASKED: [FixedPath; 10] = [
    fixed("/etc/shadow"),
    fixed("/etc/shadow-"),
    fixed("/etc/gshadow"),
    fixed("/etc/gshadow-"),
    fixed("/etc/sudoers"),
    fixed("/etc/sudoers.d"),
    fixed("/etc/ssh"),
    fixed("/etc/ssl/private"),
    fixed("/etc/krb5.keytab"),
    fixed("/etc/stockade"),
];

/// Directories that are the session's own, and writable.
const OWN_WRITABLE: [FixedPath; 4] = [DEV, PROC, TMP, VAR_TMP];
const DEV: FixedPath = fixed("/dev");
const DEV_PTS: FixedPath = fixed("/dev/pts");
const DEV_SHM: FixedPath = fixed("/dev/shm");
const PROC: FixedPath = fixed("/proc");
const TMP: FixedPath = fixed("/tmp");
const VAR_TMP: FixedPath = fixed("/var/tmp");
const VAR_RUN: FixedPath = fixed("/var/run");
const RUN_STOCKADE: FixedPath = fixed("/run/stockade");
const RUN_WHY: FixedPath = fixed("/run/stockade/why");
const ETC_HOSTS: FixedPath = fixed("/etc/hosts");
/// Below the session's directory: where the root is mounted, and what the session is told.
const MOUNT_POINT: FixedPath = fixed("/root");
const TOLD: FixedPath = fixed("/inside");
/// The file there with the authorities that programs trust; inside it is [`CA_BUNDLE`](crate::CA_BUNDLE).
const BUNDLE: FixedPath = fixed("/ca-bundle.pem");
/// Below the home.
const KNOWN_HOSTS: FixedPath = fixed("/.ssh/known_hosts");

const fn fixed(text: &'static str) -> FixedPath {
    FixedPath::new(text)
}

/// Where ssh of the session has its settings, below the directory of what it is told.
pub const SSH_DIRECTORY: &str = "ssh";
/// Its file of host keys there.
pub const SSH_KNOWN_HOSTS: &str = "ssh_known_hosts";
/// Its settings there.
pub const SSH_CONFIG: &str = "ssh_config";

/// Returns the steps from an empty tmpfs to the finished view, before it is entered.
pub(crate) fn steps(spec: &RunSpec, facts: &HostFacts) -> Vec<Step> {
    let mount_point = spec.session_dir.below(MOUNT_POINT);
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
    let masked = ETC_MASKED.map(AbsPath::from).into_iter();
    let masked = masked.filter(|path| !replaced.contains(&path));
    steps.extend(masked.map(|path| Step::Mask { path }));
    steps
}

fn devices() -> Vec<Step> {
    let tmpfs = |path: FixedPath, mode| Step::Tmpfs {
        path: path.into(),
        mode,
        executable: false,
        owner: Owner::Setup,
    };
    let mut steps = vec![tmpfs(DEV, 0o755)];
    steps.extend(DEVICES.map(|path| {
        let path = AbsPath::from(path);
        // Read-only: a device is written all the same, and root's own inode keeps its mode and owner.
        Step::Bind {
            from: path.clone(),
            path,
            read_only: true,
            devices: true,
        }
    }));
    steps.extend(DEVICE_LINKS.map(|(path, target)| Step::Symlink {
        path: path.into(),
        target: target.into(),
    }));
    steps.push(Step::Terminals {
        path: DEV_PTS.into(),
    });
    steps.push(tmpfs(DEV_SHM, 0o1777));
    steps.push(Step::ReadOnly { path: DEV.into() });
    steps
}

fn processes() -> Vec<Step> {
    let mut steps = vec![Step::Processes { path: PROC.into() }];
    steps.extend(PROC_MASKED.map(|path| Step::Mask { path: path.into() }));
    steps.extend(PROC_READ_ONLY.map(|path| Step::Protect {
        path: path.into(),
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
        tmpfs(TMP.into(), 0o1777, Owner::Setup),
        tmpfs(VAR_TMP.into(), 0o1777, Owner::Setup),
        Step::Symlink {
            path: VAR_RUN.into(),
            target: "/run".into(),
        },
        tmpfs(facts.home.clone(), 0o700, Owner::Command),
    ];
    let private = facts.private.iter().cloned();
    steps.extend(private.map(|path| tmpfs(path, 0o700, Owner::Command)));
    steps
}

fn own_files(spec: &RunSpec, facts: &HostFacts) -> Vec<Step> {
    let told = spec.session_dir.below(TOLD);
    let ssh = told.join(SSH_DIRECTORY);
    let mut steps = vec![
        bind(told.clone(), RUN_STOCKADE.into()),
        bind(facts.own_executable.clone(), RUN_WHY.into()),
    ];
    let machine = facts.ssh.iter().filter_map(|ssh| ssh.replaces.clone());
    steps.extend(machine.zip(ssh).map(|(path, from)| bind(from, path)));
    let sockets = facts.sockets.iter();
    steps.extend(sockets.map(|share| bind(share.from.clone(), share.path.clone())));
    let trusted = facts.trust_files.iter();
    let trusted = trusted.map(|path| bind(told.below(BUNDLE), path.clone()));
    steps.extend(trusted);
    let names = match spec.network {
        Network::Isolated => "",
        Network::Proxied => "nameserver 127.0.0.1\n",
    };
    let hosts = "127.0.0.1 localhost stockade\n::1 localhost ip6-localhost\n";
    if let Some(path) = &facts.resolv_conf {
        steps.push(Step::File {
            path: path.clone(),
            contents: names.to_owned(),
        });
    }
    steps.push(Step::File {
        path: ETC_HOSTS.into(),
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
    let path = facts.home.below(KNOWN_HOSTS);
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

/// Below the home; see [`login_files`].
const LOGIN_FILES: [FixedPath; 2] = [fixed("/.profile"), fixed("/.zprofile")];

/// Files of the home that login shells read (`bash -l`, `zsh -l`): the machine's own in `/etc` set
/// the search path anew, and what the caller's home adds to it is not there.
fn login_files(facts: &HostFacts) -> Vec<ShownFact> {
    let path = environment::search_path(facts);
    let quoted = shell_word(&path);
    let contents = format!("# The search path of this session.\nPATH={quoted}\nexport PATH\n");
    LOGIN_FILES
        .map(|name| ShownFact {
            path: facts.home.below(name),
            contents: contents.clone(),
        })
        .into()
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
    let mut rules = vec![rule(FixedPath::ROOT.into(), Rights::Read)];
    rules.extend(OWN_WRITABLE.map(|path| rule(path.into(), Rights::Write)));
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
