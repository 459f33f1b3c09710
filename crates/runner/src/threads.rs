//! The threads of a running session, which answer the notifier, the egress process and people.

use std::{
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use serde_json::Value;
use stockade_event::{Durability, Event};
use stockade_plan::{CallSet, Debuggers, LaunchPlan, Protection, Refusals, Step};

use stockade_types::{ApprovalId, RawText, chain, ignored};

use crate::{
    RunError,
    controller::Controller,
    enrolment::verifier,
    holding,
    hooks::Answers,
    inside_socket::Serving,
    network::{self, NetworkSupervision},
    parts::Parts,
    pins::{self, Comparing},
    publish::Doors,
    reviewing,
    ssh::agent::Agent,
};
use stockade_approval::{Desk, DeskEvent};
use stockade_sandbox::Gauge;
use stockade_supervise::{
    Areas, GroupUse, Lives, MountWatch, Owners, Processes, Recorder, Remotes, Search,
    StartEnvironment, lock, now, protected,
};
use stockade_trust::Envelope;

pub(crate) type EgressReplies = Arc<Mutex<Option<Arc<stockade_egress::wire::Replies>>>>;

/// Opens the desk; everything that happens at it is on disk before it takes effect.
pub(crate) fn desk(
    parts: &Parts,
    recorder: &Arc<Recorder>,
    egress: &EgressReplies,
) -> Result<Arc<Desk>, RunError> {
    let reviewer = reviewing::prepare(&parts.policy, parts.reviewer_key.clone())?;
    let verifier = parts
        .enrolment
        .clone()
        .map(|enrolment| verifier(enrolment, parts.id.clone()));
    let (recorder, egress) = (Arc::clone(recorder), Arc::clone(egress));
    let observer = move |event: &DeskEvent<'_>| {
        let event = event_of(event, &recorder, &egress)?;
        recorder
            .write(&event, Durability::Synced)
            .map(drop)
            .map_err(|error| chain(&error))
    };
    let desk = Desk::new(
        parts.ask,
        parts.agent.clone(),
        Arc::new(now),
        Box::new(observer),
    )
    .in_workspace(parts.workspace.to_string());
    let desk = match verifier {
        Some(verify) => desk.with_people(verify),
        None => desk,
    };
    let Some((hand, waiting)) = reviewer else {
        return Ok(Arc::new(desk));
    };
    let desk = Arc::new(desk.with_reviewer(hand));
    reviewing::start(&desk, waiting)?;
    Ok(desk)
}

/// Makes the event of what happened at the desk; a revoked approval also closes what it opened.
fn event_of(
    event: &DeskEvent<'_>,
    recorder: &Recorder,
    egress: &EgressReplies,
) -> Result<Event, String> {
    Ok(match event {
        DeskEvent::Requested { question } => Event::ApprovalRequested {
            approval: question.id.clone(),
            decision: recorder.record(question.decision_id, &question.request, &question.decision),
            shown: question.matter().shown().to_string(),
            request_digest: question.request.digest(),
            expires: question.expires,
        },
        DeskEvent::Decided {
            question,
            verdict,
            scope,
            by,
            reason,
            statement,
        } => Event::ApprovalDecided {
            approval: question.id.clone(),
            verdict: *verdict,
            scope: scope.map(|scope| scope.to_string()),
            by: (*by).clone(),
            reason: reason.map(str::to_owned),
            statement: written(*statement)?,
        },
        DeskEvent::GrantRefused { approval, by, why } => Event::OperatorActed {
            action: "refused-grant".to_owned(),
            by: by.to_string(),
            detail: format!("{approval}: {why}"),
        },
        DeskEvent::Reviewed {
            question,
            opinion,
            verdict,
        } => Event::ApprovalReviewed {
            approval: question.id.clone(),
            verdict: *verdict,
            said: opinion.verdict,
            risk: opinion.risk,
            authorisation: opinion.authorisation,
            reviewer: opinion.reviewer.clone(),
            rationale: RawText::from(opinion.rationale.as_str()),
        },
        DeskEvent::ReviewerOff { denials } => Event::OperatorActed {
            action: "reviewer-off".to_owned(),
            by: "supervisor".to_owned(),
            detail: format!(
                "the automatic reviewer has denied {denials} questions in a row; people answer until one \
                 of them allows something"
            ),
        },
        DeskEvent::Used { approval, decision } => Event::ApprovalUsed {
            approval: (*approval).clone(),
            decision: *decision,
        },
        DeskEvent::Revoked { approval, by } => {
            close_granted(egress, approval);
            Event::OperatorActed {
                action: "revoke".to_owned(),
                by: by.to_string(),
                detail: approval.to_string(),
            }
        }
    })
}

/// Closes the connections that a revoked approval opened.
fn close_granted(egress: &EgressReplies, approval: &ApprovalId) {
    if let Some(replies) = &*lock(egress) {
        let approval = approval.clone();
        ignored(
            replies.send(&stockade_egress::wire::FromSupervisor::Revoke { approval }),
            "the egress process is gone, and its connections with it",
        );
    }
}

/// Writes what people have signed as it came.
fn written(statement: Option<&Envelope>) -> Result<Option<Value>, String> {
    let value = statement.map(serde_json::to_value).transpose();
    value.map_err(|error| error.to_string())
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RunError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(RunError::Supervisor)
}

/// Returns a process id as in `/proc`.
pub(crate) fn process_number(pid: Option<rustix::process::Pid>) -> u32 {
    pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
        .unwrap_or_default()
}

/// Starts the thread that answers the egress process.
pub(crate) fn start_network(
    parts: &mut Parts,
    comparing: &Arc<Comparing>,
    recorder: &Arc<Recorder>,
    controller: &Controller,
    egress_replies: &EgressReplies,
    processes: &Arc<Processes>,
) -> Result<Option<JoinHandle<()>>, RunError> {
    let (Some((_, control)), Some(diagnosis)) = (&parts.egress, parts.diagnosis.take()) else {
        return Ok(None);
    };
    let control = control.try_clone().map_err(RunError::Supervisor)?;
    let (requests, replies) =
        stockade_egress::wire::server(control).map_err(RunError::Supervisor)?;
    let replies = Arc::new(replies);
    *lock(egress_replies) = Some(Arc::clone(&replies));
    let holding = parts.held.take().map(Arc::new);
    if let Some(held) = &holding {
        let (held, replies) = (Arc::clone(held), Arc::clone(&replies));
        // Ends with the session, because the queue belongs to its network.
        spawn("connecting", move || holding::serve(&held, &replies)).map(drop)?;
    }
    let controller = controller.clone();
    let shared = Arc::new(NetworkSupervision {
        holding,
        policy: Arc::clone(&parts.policy),
        desk: Arc::clone(&comparing.desk),
        recorder: Arc::clone(recorder),
        processes: Arc::clone(processes),
        abort: Arc::new(move |reason| controller.abort(reason)),
        proofs: parts.ssh.as_ref().map(Agent::proofs),
        asks: Mutex::default(),
        logins: Arc::clone(&parts.logins),
        comparing: Arc::clone(comparing),
    });
    let owners = Owners {
        diagnosis,
        first_process: process_number(parts.session.first_process()),
        processes: Arc::clone(processes),
        search: if parts.policy.names_programs_of_connections() {
            Search::All
        } else {
            Search::First
        },
        recent: Vec::new(),
    };
    spawn("network", move || {
        network::serve(&shared, requests, &replies, owners);
    })
    .map(Some)
}

/// Starts the threads of the agent of ssh.
pub(crate) fn start_ssh(
    parts: &mut Parts,
    recorder: &Arc<Recorder>,
    controller: &Controller,
    processes: &Arc<Processes>,
) -> Result<Option<Serving>, RunError> {
    let Some(agent) = parts.ssh.take() else {
        return Ok(None);
    };
    let controller = controller.clone();
    let abort = Box::new(move |reason: &str| controller.abort(reason));
    agent.start(recorder, processes, abort).map(Some)
}

/// Makes who compares the tools of servers with what is known of them.
pub(crate) fn comparing(
    parts: &Parts,
    desk: &Arc<Desk>,
    recorder: &Arc<Recorder>,
    controller: &Controller,
) -> Arc<Comparing> {
    let controller = controller.clone();
    Arc::new(Comparing {
        policy: Arc::clone(&parts.policy),
        desk: Arc::clone(desk),
        recorder: Arc::clone(recorder),
        pins: pins::of_workspace(parts.state_dir.as_path(), &parts.workspace),
        abort: Arc::new(move |reason| controller.abort(reason)),
    })
}

/// Starts to answer the hooks of agents and the shims of servers of tools, if the session has any.
pub(crate) fn start_hooks(
    parts: &mut Parts,
    recorder: &Arc<Recorder>,
    controller: &Controller,
    processes: &Arc<Processes>,
    comparing: Arc<Comparing>,
) -> Result<Vec<Serving>, RunError> {
    let Some(hooks) = parts.hooks.take() else {
        return Ok(Vec::new());
    };
    let controller = controller.clone();
    let answers = Answers {
        policy: Arc::clone(&parts.policy),
        desk: Arc::clone(&comparing.desk),
        recorder: Arc::clone(recorder),
        processes: Arc::clone(processes),
        workspace: RawText::from(parts.workspace.clone()),
        abort: Box::new(move |reason: &str| controller.abort(reason)),
    };
    hooks.start(answers, comparing).map(Vec::from)
}

/// Watches the mounts that protect files, if any do. If they cannot be watched, the supervisor
/// still protects those files; only the event about a lost mount is missing.
pub(crate) fn watch_mounts(parts: &Parts) -> Option<MountWatch> {
    match parts.plan.boundary.protection {
        Protection::Mounts => MountWatch::new(process_number(parts.session.first_process())).ok(),
        Protection::Calls => None,
    }
}

/// Opens the access to the session's network, and serves the ports that policy publishes.
pub(crate) fn open_doors(parts: &mut Parts) -> Result<Doors, RunError> {
    let binder = parts
        .session
        .take_binder()
        .ok_or_else(|| RunError::Supervisor(std::io::Error::other("the sandbox gave no binder")))?;
    let doors = Doors::new(binder);
    for published in std::mem::take(&mut parts.published) {
        // No revocable answer opened these.
        drop(published.serve(&doors).map_err(RunError::Supervisor)?);
    }
    Ok(doors)
}

/// Starts the thread that answers the notifier.
pub(crate) fn start_notifier(
    parts: &mut Parts,
    desk: &Arc<Desk>,
    recorder: &Arc<Recorder>,
    controller: &Controller,
    (processes, lives): (&Arc<Processes>, &Arc<Lives>),
    doors: &Doors,
) -> Result<JoinHandle<()>, RunError> {
    let notifier = parts.session.take_notifier().ok_or_else(|| {
        RunError::Supervisor(std::io::Error::other("the sandbox gave no notifier"))
    })?;
    let controller = controller.clone();
    let settings = parts.policy.settings();
    let supervision = stockade_supervise::Parts {
        policy: Arc::clone(&parts.policy),
        desk: Arc::clone(desk),
        recorder: Arc::clone(recorder),
        areas: Areas::new(
            parts.workspace.clone(),
            &parts.shares,
            &parts.git,
            |share| protected::in_packages(share, &settings.workspace),
        ),
        identity: parts.plan.identity,
        refusals: Refusals::of(call_set(&parts.plan)),
        binder: Arc::clone(&doors.binder),
        places: Arc::clone(&parts.places),
        replaced: Arc::clone(&parts.replaced),
        remotes: Remotes::new(parts.state_dir.as_path()),
        processes: Arc::clone(processes),
        lives: Arc::clone(lives),
        start: StartEnvironment::new(&parts.plan.command.environment),
        abort: Box::new(move |reason| controller.abort(reason)),
    };
    stockade_supervise::start(supervision, notifier).map_err(RunError::Supervisor)
}

/// Starts the thread that records how processes end and what they use.
pub(crate) fn start_lives(
    parts: &Parts,
    recorder: &Arc<Recorder>,
    controller: &Controller,
    lives: &Arc<Lives>,
) -> Result<JoinHandle<()>, RunError> {
    let controller = controller.clone();
    let gauge = parts.session.gauge();
    lives
        .start(
            Arc::clone(recorder),
            Box::new(move || group_use(&gauge)),
            Box::new(move |reason| controller.abort(reason)),
        )
        .map_err(RunError::Supervisor)
}

/// Returns what the session's control groups say, if it has any.
pub(crate) fn group_use(gauge: &Gauge) -> Option<GroupUse> {
    let reading = gauge.read()?;
    Some(GroupUse {
        memory_bytes: reading.memory_bytes,
        memory_peak_bytes: reading.memory_peak_bytes,
        cpu_user_us: reading.cpu_user_us,
        cpu_system_us: reading.cpu_system_us,
    })
}

/// Returns the call set from which the command's filter was made.
fn call_set(plan: &LaunchPlan) -> CallSet {
    let of = |step: &Step| match step {
        Step::FilterCalls { set } => Some(*set),
        _ => None,
    };
    // A plan has the step; without it no call would be reported, but none would be open either.
    plan.steps.iter().find_map(of).unwrap_or(CallSet {
        debuggers: Debuggers::None,
        namespaces: false,
        notify: true,
        root: plan.identity.uid == 0,
    })
}
