//! Sessions that nobody ran: requests with all of their facts, and the events that a session records of them.

use stockade_event::{Envelope, Event, Stamp};
use stockade_policy::{
    Access, Approvals, ExecRequest, FileRequest, HostSets, HttpRequest, NameRequest, NetRequest,
    Origin, Policy, Request, Source, builtin, load,
};
use stockade_types::{
    ApprovalId, AskMode, DecisionId, Digest, Host, Person, Port, ProcessId, RawText, SessionId,
    Subject, Tier, UnixMillis, Verdict, WorkspaceMode,
};

pub(crate) const WORKSPACE: &str = "/home/u/src/shop";

pub(crate) fn policy(text: &str) -> Policy {
    let source = |origin, name: &str, text: String| Source {
        origin,
        name: name.to_owned(),
        text,
    };
    let sources = [
        source(
            Origin::Builtin,
            "generic",
            builtin("generic").unwrap().to_owned(),
        ),
        source(Origin::User, "own.toml", format!("schema = 1\n{text}")),
    ];
    load(&sources, &HostSets::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

pub(crate) fn session() -> SessionId {
    SessionId::from_random(0x3f2a)
}

/// Numbers that are the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

fn subject(exe: &str, pid: u32) -> Subject {
    Subject {
        id: Some(ProcessId { pid, start: 7 }),
        exe: exe.into(),
        argv: vec![exe.into()].into(),
        ..Subject::default()
    }
}

const HOSTS: [&str; 9] = [
    "crates.test",
    "a.paste.test",
    "paste.test",
    "new.test",
    "files.test",
    "192.0.2.7",
    "10.0.0.5",
    "8.8.8.8",
    "169.254.169.254",
];
const PROGRAMS: [&str; 4] = ["/usr/bin/curl", "/usr/bin/git", "/opt/x/fetch", ""];
const COMMANDS: [&str; 10] = [
    "git push origin main",
    "git status",
    "git -c a=b push",
    "curl https://a.test/",
    "npm publish",
    "ls -l",
    "python3 setup.py upload",
    "make deploy",
    "cargo publish",
    "rm -rf target",
];

/// Returns a request as an enforcement point sees it, with facts that no record has.
pub(crate) fn request(numbers: &mut Numbers) -> Request {
    let pid = 100 + u32::try_from(numbers.below(1_000)).unwrap();
    let host: Host = numbers.of(&HOSTS).parse().unwrap();
    let port = Port::new(numbers.of(&[443, 80, 8443, 22])).unwrap();
    let by = subject(numbers.of(&PROGRAMS), pid);
    match numbers.below(6) {
        0 => Request::Net(NetRequest {
            host,
            port,
            subject: by,
        }),
        1 => Request::Http(HttpRequest {
            host,
            port,
            method: numbers.of(&["GET", "POST", "PUT"]).to_owned(),
            path: numbers
                .of(&["/", "/public/x", "/admin", "/a/[github-token:5f0c9a11]"])
                .into(),
            meaning: Vec::new(),
            shown: None,
            subject: by,
        }),
        2 => match host {
            Host::Name(name) => Request::Name(NameRequest { name, subject: by }),
            Host::Address(_) => Request::Net(NetRequest {
                host,
                port,
                subject: by,
            }),
        },
        3 => {
            let below = numbers.of(&[
                "src/a.rs",
                "deploy/prod.yaml",
                ".git/config",
                "secrets/key",
                "x",
            ]);
            Request::File(FileRequest {
                path: format!("{WORKSPACE}/{below}").as_str().into(),
                workspace_relative: Some(below.into()),
                access: numbers.of(&Access::ALL),
                content: None,
                subject: by,
            })
        }
        _ => exec(numbers, by),
    }
}

fn exec(numbers: &mut Numbers, by: Subject) -> Request {
    let line = numbers.of(&COMMANDS);
    let argv: Vec<RawText> = line.split(' ').map(RawText::from).collect();
    let name = argv[0].display();
    // A copy of a program is known by its content; its record has none of its other names.
    let (program, alias) = match numbers.below(5) {
        0 => ("/home/u/src/shop/tool".to_owned(), numbers.below(2) == 0),
        1 => (format!("/usr/bin/{name}3.11"), true),
        _ => (format!("/usr/bin/{name}"), false),
    };
    let variables = match numbers.below(4) {
        0 => vec![("CI".into(), "1".into())],
        _ => Vec::new(),
    };
    Request::Exec(ExecRequest {
        invoked_as: program.as_str().into(),
        program: program.as_str().into(),
        aliases: if alias { vec![name] } else { Vec::new() },
        digest: Some(Digest::of(program.as_bytes())),
        argv,
        cwd: WORKSPACE.into(),
        environment: variables,
        subject: by,
        ..ExecRequest::default()
    })
}

/// What a session records.
pub(crate) struct Recorder {
    pub(crate) events: Vec<Envelope>,
    decisions: u64,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let mut recorder = Self {
            events: Vec::new(),
            decisions: 0,
        };
        recorder.add(Event::SessionStarted {
            name: None,
            command: vec!["codex".into()],
            workspace: WORKSPACE.into(),
            mode: WorkspaceMode::Direct,
            tier: Tier::Native,
            preset: "generic".to_owned(),
            ask: AskMode::Tty,
            uid: 1_000,
            version: "0.1.0".to_owned(),
            policy_revision: Digest::of(b"p"),
        });
        recorder
    }

    pub(crate) fn add(&mut self, event: Event) {
        let stamp = Stamp::default();
        self.events.push(Envelope {
            v: stockade_event::SCHEMA_VERSION,
            session: session(),
            seq: u64::try_from(self.events.len()).unwrap() + 1,
            time_unix_ns: stamp.time_unix_ns,
            mono_ns: stamp.mono_ns,
            source: "supervisor".to_owned(),
            process: None,
            scope: None,
            cause: None,
            truncated: Vec::new(),
            event,
        });
    }

    /// Has the policy judge a request, and records that as a session does; a question gets this answer.
    pub(crate) fn record(&mut self, policy: &Policy, request: &Request, yes: bool) -> Verdict {
        self.decisions += 1;
        let id = DecisionId::new(self.decisions);
        let mut decision = policy.decide(request, &Approvals::none());
        let verdict = decision.verdict;
        let made = |decision: &stockade_policy::Decision| {
            decision.record(id, request, policy.revision(), session(), UnixMillis(0))
        };
        if verdict == Verdict::Ask {
            let approval = ApprovalId::from_random(u32::try_from(self.decisions).unwrap());
            self.add(Event::ApprovalRequested {
                approval: approval.clone(),
                decision: made(&decision),
                shown: String::new(),
                request_digest: request.digest(),
                expires: UnixMillis(0),
            });
            if yes {
                decision.verdict = Verdict::Allow;
                decision.reason = format!("approved: {}", decision.reason);
                self.add(Event::ApprovalUsed {
                    approval,
                    decision: id,
                });
            } else {
                decision.verdict = Verdict::Deny;
                decision.answered = Some(Person::Terminal.into());
            }
        }
        let record = made(&decision);
        let is_allowed = decision.verdict == Verdict::Allow;
        match request {
            Request::Exec(exec) => {
                self.add(Event::ExecDecided { decision: record });
                if is_allowed {
                    self.add(Event::ProcessStarted {
                        process: Subject {
                            exe: exec.program.clone(),
                            argv: exec.argv.clone().into(),
                            ..exec.subject.clone()
                        },
                        digest: None,
                        interpreter: None,
                    });
                }
            }
            Request::Net(_) => self.add(Event::ConnectionDecided {
                decision: record,
                address: None,
                sni: None,
                detail: None,
            }),
            Request::Http(_) => self.add(Event::HttpDecided { decision: record }),
            Request::Name(_) => self.add(Event::NameDecided { decision: record }),
            Request::File(file) if is_allowed => self.add(Event::FileChanged {
                path: file.path.clone(),
                access: file.access,
                by: file.subject.clone(),
                decision: (verdict == Verdict::Ask).then_some(record),
            }),
            Request::File(_) => self.add(Event::FileDenied { decision: record }),
            Request::Tool(_) => self.add(Event::ToolDecided {
                decision: record,
                id: None,
            }),
            Request::Port(_) | Request::Definition(_) => panic!("not invented here"),
        }
        verdict
    }
}
