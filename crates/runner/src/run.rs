//! One session's life: find out, plan, start egress and sandbox, follow, end, clean up.

use std::{fs::File, os::unix::net::UnixStream, path::PathBuf, sync::Arc};

use stockade_egress::{HeldCredential, Withheld};
use stockade_event::{Durability, Event, SessionOutcome, Stamp};
use stockade_journal::{Journal, SharedJournal, SigningKey, layout};
use stockade_plan::{
    HostFacts, LaunchPlan, Network, RunSpec, StepName, Streams, check_workspace, compile,
};
use stockade_policy::{Policy, Settings};
use stockade_sandbox::{Building, HandedOver, LaunchError, Launching, launch};
use stockade_types::{AbsPath, AskMode, GuaranteeName, RawText, SessionId, Tier, ignored};

use crate::{
    RunError, agent_config,
    agent_sockets::AgentSockets,
    agent_state::{self, Made},
    authorities, caches,
    caller::Caller,
    credentials::{self, HeldLogins},
    effects::Effects,
    egress_process::{EgressProcess, kinds},
    enrolment::Enrolment,
    facts::{self, Launch},
    helpers::{Helpers, Sandbox, refuse_nesting},
    in_use::InUse,
    inside, loaded,
    names::Mounts,
    own_program::{self, OwnProgram},
    parts::{Parts, PipeEnds},
    policies::{self, Policies, PolicyPlace},
    proxy_variables,
    publish::{self, Published},
    registries,
    relocated::Relocated,
    reviewing,
    running::Running,
    session_dir::{Clean, INSIDE, SessionDir, clear_leftovers, groups},
    signing, sockets,
    ssh::{self, agent::Agent},
    start_place::{readable_workspace, start_directory},
    trust, withheld,
};
use stockade_supervise::{
    Bounds, Newspaper, Notices, Recorder, SUPERVISOR,
    places::Places,
    protected,
    repository::{self, GitShare},
    shown_words,
};

/// What the caller wants to run, and how.
#[derive(Debug)]
pub struct Options {
    /// Our state directory.
    pub state_dir: PathBuf,
    /// Workspace as given.
    pub workspace: PathBuf,
    /// Directory that the command starts in; must lie in the workspace, else the workspace is used.
    pub cwd: PathBuf,
    /// Command line.
    pub argv: Vec<RawText>,
    /// The policy.
    pub policy: Policy,
    /// Where its layers come from, and where they are looked for.
    pub policy_places: Vec<PolicyPlace>,
    /// How strong the isolation is.
    pub tier: Tier,
    /// Who is asked.
    pub ask: AskMode,
    /// What of the network it gets.
    pub network: Network,
    /// Rows and columns of the session's terminal, where it gets one.
    pub terminal: Option<(u16, u16)>,
    /// What the command's standard streams are; without a terminal none is one.
    pub streams: Streams,
    /// Name for people.
    pub name: Option<String>,
    /// Guarantees that must hold.
    pub require: Vec<GuaranteeName>,
    /// Guarantees that may be missing, each with a reason.
    pub waive: Vec<(GuaranteeName, String)>,
    /// Environment of the caller.
    pub environment: Vec<(RawText, RawText)>,
    /// Index of a step that fails instead of being done, for tests of the launch.
    pub fault: Option<usize>,
    /// What this machine knows of its organisation, if it belongs to one.
    pub enrolment: Option<Enrolment>,
    /// Version of this program.
    pub version: &'static str,
}

/// Everything that is known before anything is done.
struct Prepared {
    options: Options,
    spec: RunSpec,
    facts: HostFacts,
    places: Arc<Places>,
    git: Vec<GitShare>,
    /// Held while the overlays over caches are in use.
    caches: Option<File>,
    plan: LaunchPlan,
    in_use: Option<InUse>,
    caller: Caller,
    /// With their values, for the egress process alone.
    secrets: (Vec<HeldCredential>, Vec<Withheld>),
    logins: HeldLogins,
}

/// Makes the plan of a run, and does nothing else.
///
/// # Errors
/// When the command or the workspace cannot be used, or there is no plan.
pub fn plan(options: Options) -> Result<LaunchPlan, RunError> {
    refuse_nesting(&options.environment)?;
    let session = new_session()?;
    prepare(options, session, Effects::None).map(|prepared| prepared.plan)
}

fn new_session() -> Result<SessionId, RunError> {
    getrandom::u64()
        .map(SessionId::from_random)
        .map_err(|e| RunError::Random(e.to_string()))
}

fn prepare(
    mut options: Options,
    session: SessionId,
    effects: Effects,
) -> Result<Prepared, RunError> {
    let workspace = readable_workspace(&options.workspace)?;
    let cwd = start_directory(&options.cwd, &workspace);
    let state_dir =
        AbsPath::new(&options.state_dir).map_err(|_| RunError::Path(options.state_dir.clone()))?;
    let mut caller = Caller::of(workspace.as_path(), options.environment.clone())?;
    let find = effects.find(options.network);
    let (policy, argv) = (&mut options.policy, &mut options.argv);
    let credentials = credentials::hold(policy, argv, &mut caller, find, state_dir.as_path())?;
    let state = agent_state::places(&options.policy, &caller, state_dir.as_path(), &workspace)?;
    let made = match effects {
        Effects::None => Made::default(),
        Effects::State => {
            let places = (&state_dir, &workspace);
            agent_state::make(
                &options.policy,
                &caller,
                places,
                &state,
                &credentials.logins,
            )?
        }
    };
    let mounts = Mounts::read().map_err(RunError::Names)?;
    let places = (&state_dir, &workspace);
    let take = effects == Effects::State;
    let (relocated, caches) = caches::gather(&options.policy, &caller, places, &mounts, take);
    let (policies, own_program) = protect_own(&mut options, &caller, &workspace, &mounts)?;
    let mut facts = facts::gather(Launch {
        policy: &options.policy,
        policies,
        caller: &caller,
        state_dir: &state_dir,
        workspace: &workspace,
        cwd: &cwd,
        argv: &options.argv,
        state,
        caches: caches.facts,
        relocated: &relocated,
        mounts: &mounts,
        credentials: credentials.tell(&options.policy),
    })?;
    facts
        .notes
        .extend(caches.note.into_iter().chain(credentials.notes));
    own_program.tell(&mut facts);
    tell_clients(options.policy.settings(), &caller, relocated, &mut facts);
    sockets::tell(options.policy.settings(), &state_dir, &mut facts)?;
    ssh::agent::tell(&options.policy, options.network, &mut facts);
    let spec = run_spec(&options, session, (state_dir, workspace, cwd))?;
    // What is refused need not be searched first: `/` has millions of entries.
    check_workspace(&spec, &facts)?;
    let git = share_repository(&options.policy, &caller, &spec.workspace, &mut facts);
    facts::hide_twins(&mut facts, &spec.workspace)?;
    let places = find_protected(&options.policy, &spec.workspace, &mut facts, &git)?;
    let mut plan = compile(&options.policy, &spec, &facts)?;
    plan.fault = options.fault;
    let told = agent_config::notes(&options.policy, &caller, &facts.state, &spec, &plan);
    plan.notes.extend(told.into_iter().chain(made.notes));
    Ok(Prepared {
        secrets: (credentials.values, withheld::find(find, &facts, &plan)),
        options,
        spec,
        facts,
        places: Arc::new(places),
        git,
        caches: caches.lock,
        plan,
        in_use: made.in_use,
        caller,
        logins: credentials.logins,
    })
}

/// Says what is to run, and where.
fn run_spec(
    options: &Options,
    session: SessionId,
    (state_dir, workspace, cwd): (AbsPath, AbsPath, AbsPath),
) -> Result<RunSpec, RunError> {
    let session_dir = layout::session_dir(state_dir.as_path(), &session);
    let session_dir = AbsPath::new(&session_dir).map_err(|_| RunError::Path(session_dir))?;
    Ok(RunSpec {
        session,
        tier: options.tier,
        session_dir,
        state_dir,
        workspace,
        cwd,
        argv: options.argv.clone(),
        network: options.network,
        terminal: options.terminal,
        streams: options.streams,
        require: options.require.clone(),
        waive: options.waive.clone(),
    })
}

/// Finds the git directories that belong to the workspace; tells git and ssh inside how to do without
/// the caller's keys.
fn share_repository(
    policy: &Policy,
    caller: &Caller,
    workspace: &AbsPath,
    facts: &mut HostFacts,
) -> Vec<GitShare> {
    let git = repository::share(workspace, facts);
    signing::leave_off(workspace, &git, facts);
    ssh::tell(policy.settings(), caller, workspace, &git, facts);
    git
}

/// Adds what clients inside are told: sources of packages, whom to trust, where their directories are.
fn tell_clients(settings: &Settings, caller: &Caller, relocated: Relocated, facts: &mut HostFacts) {
    registries::tell(settings, caller, facts);
    trust::tell(settings, caller, facts);
    relocated.tell(settings, facts);
}

/// Finds the policies and our own program where a session could write them, and protects them.
fn protect_own(
    options: &mut Options,
    caller: &Caller,
    workspace: &AbsPath,
    mounts: &Mounts,
) -> Result<(Policies, OwnProgram), RunError> {
    options.policy_places.push(policies::own(caller));
    let policies = policies::gather(&options.policy_places, &mounts.names(workspace), mounts)?;
    let own_program = own_program::in_workspace(workspace, mounts)?;
    let policy_patterns = policies
        .patterns
        .iter()
        .map(|p| (p, "a policy of this run"));
    let own_patterns = own_program.patterns.iter().map(|p| (p, own_program::WHAT));
    for (pattern, what) in policy_patterns.chain(own_patterns) {
        options.policy.protect(pattern.clone(), what);
    }
    Ok((policies, own_program))
}

/// Finds the protected paths of the workspace and of what policy lets write beside it; returns what
/// those of the workspace lead to.
fn find_protected(
    policy: &Policy,
    workspace: &AbsPath,
    facts: &mut HostFacts,
    git: &[GitShare],
) -> Result<Places, RunError> {
    let settings = &policy.settings().workspace;
    let found = protected::find(workspace, settings)?;
    facts.protected = found.entries;
    for share in &facts.writable {
        let of_git = git.iter().find(|git| git.path == share.path);
        let new = match of_git {
            Some(git) => protected::in_git(git, settings)?,
            None => protected::in_share(share, settings)?,
        };
        let new: Vec<_> = new
            .into_iter()
            .filter(|entry| !facts.protected.contains(entry))
            .collect();
        facts.protected.extend(new);
    }
    Ok(found.places)
}

/// Starts a session up to the point where its command is about to be judged; `helpers` were started
/// with the sources of the options' policy, and for the same terminal.
///
/// Must be called from a thread that lives as long as the session, in a process that does nothing
/// else; the kernel ends the session when that thread ends.
///
/// # Errors
/// With one clear reason; then nothing has run and nothing is left behind but the record of the
/// attempt.
pub fn start(options: Options, helpers: Helpers) -> Result<Running, RunError> {
    let session = new_session()?;
    let mut prepared = prepare(options, session, Effects::State)?;
    let published = publish::take(&prepared.options.policy.settings().network)?;
    let key = SigningKey::load_or_create(&prepared.options.state_dir.join(layout::KEY_FILE))?;
    let directory = SessionDir::create(
        &prepared.options.state_dir,
        &prepared.spec.session,
        &groups(&prepared.plan),
    )?;
    let Helpers { sandbox, egress } = helpers;
    let Sandbox { process, pipes } = sandbox;
    let begun = tell_agent(&prepared, &directory).and_then(|denials| {
        let Prepared {
            options, caller, ..
        } = &prepared;
        let policy = (&options.policy, options.network);
        let ssh = Agent::open(policy, caller, &directory)?;
        let hooks = AgentSockets::open(&options.policy, &directory.join(INSIDE))?;
        let building = launch(process, &prepared.plan);
        // While the view is built we do what nothing of it waits for.
        clear_leftovers(&prepared.options.state_dir);
        let recorder = open_record(&prepared, &directory, key, denials)?;
        prepared.options.policy.make_ready();
        let building = building.and_then(Building::wait);
        Ok((Arc::new(recorder), building, (ssh, hooks)))
    });
    let (recorder, launching, (ssh, hooks)) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            directory.clean(Clean::Everything);
            return Err(error);
        }
    };
    let built = build(&mut prepared, launching, pipes);
    match built
        .and_then(|built| bring_up((prepared, &directory), built, egress, &recorder, published))
    {
        Ok(mut parts) => {
            (parts.ssh, parts.hooks) = (ssh, hooks);
            Running::new(parts, directory, recorder)
        }
        Err(error) => {
            give_up(&recorder, &directory, &error);
            Err(error)
        }
    }
}

/// Writes what the agent is told of its boundary, and returns the file that its denials go to.
fn tell_agent(prepared: &Prepared, directory: &SessionDir) -> Result<File, RunError> {
    let told = inside::Told {
        policy: &prepared.options.policy,
        plan: &prepared.plan,
        facts: &prepared.facts,
        workspace: &prepared.spec.workspace,
        ask: prepared.options.ask,
        network: prepared.spec.network,
    };
    let path = directory.join(INSIDE);
    let made = inside::prepare(&path, &told, prepared.facts.ssh.as_ref()).and_then(|denials| {
        if prepared.options.policy.inspects() {
            authorities::announce(&path)?;
        }
        Ok(denials)
    });
    made.map_err(|source| RunError::SessionDirectory { path, source })
}

/// Opens the journal and writes what the session begins with.
fn open_record(
    prepared: &Prepared,
    directory: &SessionDir,
    key: SigningKey,
    denials: File,
) -> Result<Recorder, RunError> {
    let Prepared {
        options,
        spec,
        plan,
        ..
    } = prepared;
    let policy = &options.policy;
    let loaded = loaded::event(policy, options.enrolment.as_ref())?;
    let journal = Journal::create(directory.path().as_path(), spec.session.clone(), key)?;
    let journal = SharedJournal::new(journal, stockade_journal::now as fn() -> Stamp);
    let bounds = Bounds::from(policy);
    let notices = Notices::new(
        (denials, bounds.denials_bytes),
        Newspaper::new(&directory.join(INSIDE)),
        policy.quiet_rules(),
    );
    let recorder = Recorder::new(
        spec.session.clone(),
        policy.revision(),
        journal,
        notices,
        bounds,
    );
    let event = Event::SessionStarted {
        name: options.name.clone(),
        command: shown_words(&options.argv),
        workspace: spec.workspace.clone().into(),
        mode: policy.settings().workspace.mode.value,
        tier: plan.tier,
        preset: policy.settings().preset.name.clone(),
        ask: options.ask,
        uid: plan.identity.uid,
        version: options.version.to_owned(),
        policy_revision: policy.revision(),
    };
    recorder.write(&event, Durability::Written)?;
    recorder.write(&loaded, Durability::Written)?;
    Ok(recorder)
}

/// Returns what holds for a session, as events.
fn stated(plan: &LaunchPlan, published: &[Published]) -> Vec<Event> {
    let guarantees = plan.guarantees.iter();
    guarantees
        .map(|guarantee| Event::GuaranteeStated {
            guarantee: guarantee.name.as_str().to_owned(),
            holds: guarantee.holds,
            how: guarantee.how.clone(),
            missing: guarantee.missing.clone(),
            waiver: guarantee.waiver.clone(),
        })
        .chain(published.iter().map(Published::event))
        .collect()
}

/// Joins the sandbox with the egress process, and states what holds.
fn bring_up(
    (prepared, directory): (Prepared, &SessionDir),
    (mut launching, pipes): (Launching, PipeEnds),
    egress: Option<(EgressProcess, UnixStream)>,
    recorder: &Arc<Recorder>,
    published: Vec<Published>,
) -> Result<Parts, RunError> {
    let handed_over = std::mem::take(&mut launching.handed_over);
    let HandedOver {
        listeners,
        names,
        diagnosis,
        held,
        terminal,
    } = handed_over;
    let egress = match (egress, names) {
        (Some((process, control)), Some(names)) => {
            let policy = &prepared.options.policy;
            let (revision, network) = (policy.revision(), &policy.settings().network);
            let login = proxy_variables::login(network, &prepared.facts.home)?;
            let kinds = kinds(&prepared.plan, listeners);
            let ready = process.wait(revision)?;
            let own = ready.certificate.as_deref();
            let inside = directory.join(INSIDE);
            let roots = own.map(|own| authorities::trust(policy, &prepared.facts, &inside, own));
            let roots = roots.transpose()?;
            let given = (login.as_ref(), prepared.options.ask);
            let trusted = (roots.as_deref(), &prepared.secrets);
            let spool = directory.path().as_path();
            let spool = recorder.make_spool(spool).map_err(|source| {
                let path = spool.join(layout::SPOOL_FILE);
                RunError::SessionDirectory { path, source }
            })?;
            ready.hand_over(&kinds, &names, &spool, given, trusted)?;
            Some((process, control))
        }
        (Some(_), None) => {
            let reason = "the session has no socket on which names are asked";
            return Err(RunError::Egress(reason.to_owned()));
        }
        (None, _) => None,
    };
    let stated = stated(&prepared.plan, &published);
    recorder.write_all(SUPERVISOR, &stated, Durability::Written)?;
    let session = launching.proceed()?;
    Ok(Parts {
        ssh: None,
        hooks: None,
        session,
        egress,
        diagnosis,
        held,
        published,
        terminal,
        pipes,
        plan: prepared.plan,
        workspace: prepared.spec.workspace,
        state_dir: prepared.spec.state_dir,
        shares: prepared.facts.writable,
        places: prepared.places,
        replaced: Arc::default(),
        git: prepared.git,
        caches: prepared.caches,
        reviewer_key: reviewing::key(&prepared.options.policy, &prepared.caller),
        policy: Arc::new(prepared.options.policy),
        ask: prepared.options.ask,
        agent: agent_name(&prepared.spec.argv),
        in_use: prepared.in_use,
        logins: Arc::new(prepared.logins),
        enrolment: prepared.options.enrolment,
        id: prepared.spec.session,
    })
}

/// Builds the sandbox again, with less, where the machine lacks what is no guarantee.
fn build(
    prepared: &mut Prepared,
    mut built: Result<Launching, LaunchError>,
    mut pipes: PipeEnds,
) -> Result<(Launching, PipeEnds), RunError> {
    loop {
        match built {
            Err(LaunchError::Step(failure)) if lacks(prepared, &failure) => {
                prepared.facts.redirect &= failure.step != StepName::Redirect;
                prepared.facts.hold = false;
            }
            Err(LaunchError::Step(failure))
                if prepared.plan.fault.is_none()
                    && [StepName::Overlay, StepName::OverlayPart].contains(&failure.step)
                    && caches::step_down(&mut prepared.facts, &failure.reason) => {}
            other => return Ok((other?, pipes)),
        }
        let plan = compile(&prepared.options.policy, &prepared.spec, &prepared.facts)?;
        let before = std::mem::replace(&mut prepared.plan, plan);
        // What was said of the plan besides its facts.
        let known = prepared.plan.notes.clone();
        let told = before.notes.into_iter();
        let told = told.filter(|note| !known.contains(note) && !caches::is_note(note));
        prepared.plan.notes.extend(told);
        let again = Sandbox::start(prepared.spec.streams)?;
        pipes = again.pipes;
        built = launch(again.process, &prepared.plan).and_then(Building::wait);
    }
}

/// The command's file name, for people.
fn agent_name(argv: &[RawText]) -> String {
    let path = argv.first().map(RawText::display).unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Whether the launch failed only because the kernel has no redirect, or cannot hold connections. The
/// network then holds all the same: ports that have no listener are refused, or programs learn of
/// what cannot be reached after they are connected.
fn lacks(prepared: &Prepared, failure: &stockade_sandbox::LaunchFailure) -> bool {
    let missing = [
        rustix::io::Errno::OPNOTSUPP,
        rustix::io::Errno::PROTONOSUPPORT,
        rustix::io::Errno::NOENT,
    ];
    let is = |errno: i32| missing.iter().any(|m| m.raw_os_error() == errno);
    // What the kernel says of a kind of netlink messages that it does not have.
    let no_queue = |errno: i32| errno == rustix::io::Errno::INVAL.raw_os_error();
    let has = |step, reason: &dyn Fn(i32) -> bool| {
        failure.step == step && failure.errno.is_some_and(reason)
    };
    prepared.plan.fault.is_none()
        && (has(StepName::Redirect, &is)
            || has(StepName::Hold, &|errno| is(errno) || no_queue(errno)))
}

/// Records that a session did not start, and takes away what it had.
fn give_up(recorder: &Recorder, directory: &SessionDir, error: &RunError) {
    let step = match error {
        RunError::Launch(LaunchError::Step(failure)) => failure.step.to_string(),
        RunError::Egress(_) => "egress".to_owned(),
        _ => "start".to_owned(),
    };
    let outcome = SessionOutcome::NotStarted {
        step,
        reason: stockade_types::chain(error),
    };
    let event = Event::SessionEnded {
        outcome,
        duration_ms: 0,
        counts: recorder.counts(),
        own_usage: None,
    };
    ignored(
        recorder.write(&event, Durability::Synced),
        "the caller gets the error that kept the session from starting",
    );
    ignored(recorder.finish(), "no event follows that could be lost");
    directory.clean(Clean::MountPoint);
}
