//! Changes of paths: judged, recorded, and done on the caller's behalf.
//!
//! A call is read once and its paths are resolved once, to descriptors. The supervisor acts on
//! exactly these, so no program can substitute another path for the allowed one. Calls are handled
//! one after the other: between the resolution of a path and the change no process inside can move
//! a directory or make a link, since that would be a change too. A process outside can, on its own
//! responsibility, and the change still applies to the same descriptors.

use std::{io, os::fd::AsFd as _, path::Path, sync::atomic::Ordering};

use rustix::{fs::FileType, io::Errno};
use stockade_event::{Durability, Event};
use stockade_policy::{
    Access, Approvals, Control, Decision, FileRequest, Request, WorkspaceSettings,
};
use stockade_sandbox::Meaning;
use stockade_sys::notifier::Notification;
use stockade_types::{RawText, Verdict};

use super::{
    Answer, ERRNO_DENIED, ERRNO_NOT_JUDGED, Hands, Reply, Supervision,
    act::{self, Done, GuardedFile},
    changes::{self, Call, Change, Deed, Named, Part},
    judged::{Found, Judged, errno, in_view},
    state,
};
use crate::{
    Caller,
    areas::Area,
    later,
    locate::Place,
    moved::{TooLarge, Walks},
    procfs,
    recorder::lock,
    resolve::Resolver,
};

/// Opens of pipes that wait for the other end at a time: each is polled some ten times a second,
/// and programs that communicate through pipes need a few.
const PIPES_MAX: usize = 256;
/// `EAGAIN`.
const ERRNO_AGAIN: i32 = 11;

impl Supervision {
    pub(super) fn judge_change(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        call: &Notification,
        name: &str,
    ) -> Reply {
        let read = match changes::read(call, name) {
            Ok(read) => read,
            Err(errno) => return Reply::Refuse(errno),
        };
        if read.deed == Deed::Nothing {
            return Reply::Proceed;
        }
        self.judge_read(hands, resolver, call, read, &mut Walks::Small)
    }

    /// Judges a call as it was read and does it; the caller of this has the turn.
    fn judge_read(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        call: &Notification,
        read: Call,
        walks: &mut Walks<'_>,
    ) -> Reply {
        self.turns.changes_at(&[]);
        let mut found = match self.found(hands, resolver, read, walks) {
            Ok(Ok(found)) => found,
            Ok(Err(read)) => {
                let tid = resolver.tid();
                return later(move |caller| async move {
                    let changed = Supervision::change_after_walk(read, &caller, tid);
                    match changed.await {
                        Ok(reply) => reply.answer(caller).await,
                        Err(errno) => Answer::Fails(errno),
                    }
                });
            }
            Err(errno) => return Reply::Refuse(errno),
        };
        if found.has(Verdict::Deny) || !state(self).has_only_plain_changes() {
            self.turns.changes_anywhere();
        }
        if let Some(reply) = self.draft(hands, resolver, &mut found) {
            return reply;
        }
        self.hold_checkout(hands, resolver, &mut found);
        let tid = resolver.tid();
        let denied = |one: &&mut Judged| one.decision.verdict == Verdict::Deny;
        if let Some(one) = found.judged.iter_mut().find(denied) {
            one.request.subject = self.subject(tid);
            let id = self.recorder.new_decision();
            let record = self.recorder.record(id, &one.request(), &one.decision);
            let written = self.write(&one.denied(record), Durability::Written);
            let errno = written.map_or(ERRNO_NOT_JUDGED, |()| ERRNO_DENIED);
            return Reply::Refuse(errno);
        }
        if found.has(Verdict::Ask) {
            return later(move |caller| async move {
                let asked = Supervision::ask_changes(found, caller, tid);
                asked.await.unwrap_or_else(Answer::Fails)
            });
        }
        // Before acting on what was read: it must have been the caller's, since another process may
        // have its id after its death (seccomp_unotify(2), "Design goals").
        if !self.notifier.is_waiting(call) {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        }
        self.carry_out(hands, resolver, call, found)
    }

    /// Finds the paths of a call, in the session's identity, and judges every one of them.
    ///
    /// # Errors
    /// With the error number for the caller; returns the call if `walks` permits fewer entries than
    /// there are to walk through.
    fn found(
        &self,
        hands: &Hands,
        resolver: &Resolver,
        call: Call,
        walks: &mut Walks<'_>,
    ) -> Result<Result<Found, Call>, i32> {
        let places = located(hands, resolver, &call)?;
        let judged = match self.judged(&call, &places, walks) {
            Ok(judged) => judged,
            Err(TooLarge) => return Ok(Err(call)),
        };
        let mut found = Found {
            call,
            places,
            judged,
            harmless: None,
        };
        if found.has(Verdict::Deny) {
            let Found {
                call,
                places,
                judged,
                ..
            } = &mut found;
            found.harmless = self.harmless(hands, resolver, call, places, judged);
        }
        Ok(Ok(found))
    }

    /// Walks through the directories that a call moves, and then makes the change when it has its
    /// turn.
    async fn change_after_walk(read: Call, caller: &Caller, tid: u32) -> Result<Reply, i32> {
        let shared = &caller.shared;
        let resolver = shared.resolver(tid).map_err(|_| ERRNO_NOT_JUDGED)?;
        let locate = |hands: &mut Hands| located(hands, &resolver, &read);
        let places = Hands::with(locate).ok_or(ERRNO_NOT_JUDGED)??;
        let mut walks = Walks::Ahead(shared.walk_ahead(&read, &places));
        let turn = shared.turns.taken().await;
        let judge =
            |hands: &mut Hands| shared.judge_read(hands, &resolver, &caller.call, read, &mut walks);
        let reply = Hands::with(judge);
        drop(turn);
        reply.ok_or(ERRNO_NOT_JUDGED)
    }

    /// Judges every path that a call changes; leaves out paths outside the watched places, and
    /// paths at which nothing would change.
    fn judged(
        &self,
        call: &Call,
        places: &[Place],
        walks: &mut Walks<'_>,
    ) -> Result<Vec<Judged>, TooLarge> {
        let found = || call.changes.iter().zip(places);
        // A plain file has no entries that its new name could make protected.
        let plain = found().next().is_some_and(|(change, at)| {
            change.leaves() && !call.exchanges() && at.kind() == Some(FileType::RegularFile)
        });
        let carried = self.carried(call, places, walks)?;
        let judged = found().filter_map(|(change, at)| {
            let mut change = change.clone();
            if plain {
                change.access = if change.leaves() {
                    Access::Remove
                } else {
                    Access::Create
                };
                change.file = true;
            }
            self.judge_one(at, &change)
        });
        Ok(judged.chain(carried).collect())
    }

    fn judge_one(&self, at: &Place, change: &Change) -> Option<Judged> {
        let (area, relative) = self.areas.of(&at.path)?;
        let existed = at.stat.is_some();
        let access = match (change.access, existed) {
            (Access::Create, true) => Access::Write,
            // The kernel will report that it does not exist; nothing changes, protected or not.
            (Access::Remove | Access::Write | Access::Mode, false) => return None,
            (access, _) => access,
        };
        let settings = self.protection(area);
        let below = relative.as_os_str().as_encoded_bytes();
        // A file named `.git` stands for the directory that it points to, with its hooks.
        let pointer = change.file
            && self.could_be_protected(below)
            && (settings.stands_for(below).is_some() || self.places.leads_from(settings, below));
        let access = if pointer { Access::Rename } else { access };
        let noted = match (change.access, existed) {
            (Access::Mode | Access::Remove, _) => change.access,
            _ if change.leaves() => Access::Remove,
            (_, true) => Access::Write,
            (_, false) => Access::Create,
        };
        let (request, decision) = self.decide_file(&at.path, area, &relative, access);
        Some(Judged {
            raw: match &change.at {
                Named::Path { path, .. } => path.clone(),
                Named::Descriptor(_) => Vec::new(),
            },
            request,
            decision,
            noted,
            implied: change.part == Part::Shared,
        })
    }

    /// Returns the protected names of an area.
    pub(super) fn protection(&self, area: Area) -> &WorkspaceSettings {
        match area {
            Area::Workspace | Area::Share | Area::Git => &self.policy.settings().workspace,
            Area::Packages => &self.in_packages,
        }
    }

    /// Whether a protected name, or a place that one leads to, can be in a path: for nearly all of
    /// a workspace the names of its directories exclude it.
    fn could_be_protected(&self, below: &[u8]) -> bool {
        !self.places.is_empty()
            || below
                .split(|byte| *byte == b'/')
                .any(|part| self.beginnings.include(part))
    }

    /// Decides about a change of `path`, which lies at `relative` in an area.
    pub(super) fn decide_file(
        &self,
        path: &Path,
        area: Area,
        relative: &Path,
        access: Access,
    ) -> (FileRequest, Decision) {
        let named = |below: Option<RawText>| FileRequest {
            path: RawText::from_os(path.as_os_str()),
            workspace_relative: below,
            access,
            content: None,
            // Read only for a record: most changes are noted already.
            subject: stockade_types::Subject::default(),
        };
        let decide = |file: &FileRequest| {
            let request = Request::File(file.clone());
            self.policy.decide(&request, &Approvals::none())
        };
        let below = relative.as_os_str().as_encoded_bytes();
        let own = RawText::from_os(relative.as_os_str());
        if self.areas.is_elsewhere(path) {
            let reason = "this file of git belongs to the repository's other working trees";
            let decision = Control::Protected.denies(reason, "make this change there");
            return (named(Some(own)), decision);
        }
        let suspected = self.could_be_protected(below);
        let own_rules = match area {
            Area::Workspace => self.restricts_files(),
            Area::Share | Area::Packages | Area::Git => false,
        };
        if !suspected && !own_rules {
            return (named(Some(own)), in_view());
        }
        let settings = self.protection(area);
        let moved = access == Access::Rename;
        let name = match area {
            Area::Workspace => self.places.protected_name(settings, below, moved),
            Area::Share | Area::Packages | Area::Git => None,
        };
        if let Some(name) = name {
            let name = RawText::from_bytes(name);
            let decision = decide(&named(Some(name.clone())));
            let reason = format!(
                "{}; a link or pointer leads from `{name}` here",
                decision.reason
            );
            return (named(Some(own)), Decision { reason, ..decision });
        }
        // Rules of policy name paths of the workspace; only protection holds in a share.
        let protected = settings.protects(below).is_some()
            || (moved && settings.protects_below(below).is_some());
        let file = match area {
            Area::Share | Area::Packages | Area::Git if !protected => named(None),
            Area::Share | Area::Packages | Area::Git | Area::Workspace => named(Some(own)),
        };
        let decision = decide(&file);
        (file, decision)
    }

    /// Does what was judged and records it; the call is answered last.
    fn carry_out(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        notification: &Notification,
        found: Found,
    ) -> Reply {
        if act::uses_mask(&found.call.deed) {
            hands.take_mask(self, resolver.tid());
        }
        if let Some(harmless) = &found.harmless {
            let harmless = harmless.clone();
            return self.carry_out_harmless(hands, resolver, notification, found, harmless);
        }
        let Found {
            call,
            places,
            judged,
            ..
        } = found;
        let deed = &call.deed;
        self.turns.changes_at(&places);
        let ahead = self.ahead(hands, resolver.tid(), &call, &places);
        let guarded = || act::guarded_file(deed, places.first()?);
        let work = || match deed {
            Deed::Bind { socket, address } => self
                .bind(hands, resolver, *socket, address, places.first())
                .map(|()| Done::Finished),
            _ if let Some(file) = guarded() => self.open_guarded(resolver, &file, &places),
            _ => act::carry_out(deed, &places, resolver, notification.thread),
        };
        let Ok(done) = hands.identity.act(work) else {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        };
        let answer = match done {
            Err(error) => {
                let told = self.tell_view(hands, resolver.tid(), &error, &call, &places);
                return Reply::Refuse(told.map_or(ERRNO_NOT_JUDGED, |()| errno(&error)));
            }
            Ok(Done::Waits) => return self.wait_for_pipe(&call.deed, places),
            Ok(Done::Finished) => Answer::Returns,
            Ok(Done::Opened {
                file,
                close_on_exec,
            }) => Answer::Opened {
                file,
                close_on_exec,
            },
        };
        self.behind(hands, resolver.tid(), ahead, &places);
        match self.note_changes(judged, resolver.tid()) {
            Some(()) => Reply::Now(answer),
            None => Reply::Refuse(ERRNO_NOT_JUDGED),
        }
    }

    /// Has the session's first process give a socket of the caller its address.
    fn bind(
        &self,
        hands: &Hands,
        resolver: &Resolver,
        socket: i32,
        address: &[u8],
        place: Option<&Place>,
    ) -> io::Result<()> {
        if place.is_some_and(|place| place.object().is_some()) {
            return Err(Errno::ADDRINUSE.into());
        }
        let socket = procfs::copy_of(resolver.tid(), socket)?;
        let directory = resolver.working_directory()?;
        let meaning = Meaning {
            directory: directory.as_fd(),
            parent: place.map(Place::parent),
            mask: hands.mask(),
        };
        lock(&self.binder).bind(socket.as_fd(), address, meaning)
    }

    /// Makes the call wait until the other end of a pipe is opened.
    fn wait_for_pipe(&self, deed: &Deed, mut places: Vec<Place>) -> Reply {
        let (Deed::Open { flags, .. }, Some(place)) = (deed, places.pop()) else {
            return Reply::Refuse(ERRNO_NOT_JUDGED);
        };
        if self.pipes.fetch_add(1, Ordering::AcqRel) >= PIPES_MAX {
            self.pipes.fetch_sub(1, Ordering::AcqRel);
            return Reply::Refuse(ERRNO_AGAIN);
        }
        let flags = *flags;
        later(move |caller| async move {
            let opened = act::wait_for_other_end(&place, flags, &caller).await;
            caller.shared.pipes.fetch_sub(1, Ordering::AcqRel);
            match opened {
                Ok(file) => Answer::Opened {
                    file,
                    close_on_exec: act::closes_on_exec(flags),
                },
                Err(error) => Answer::Fails(errno(&error)),
            }
        })
    }

    /// Has the session's first process open a file of a process, as the caller could have. The
    /// first process may inspect itself and all others, its descendants: so of memory it opens only
    /// the caller's own, and that of a process which the caller debugs.
    fn open_guarded(
        &self,
        resolver: &Resolver,
        file: &GuardedFile,
        places: &[Place],
    ) -> io::Result<Done> {
        let foreign = file.memory && file.process != resolver.inner_process()?;
        let place = places.first().filter(|place| place.object().is_none());
        let may = || !foreign || self.may_write_memory(resolver.tid(), &file.process);
        let Some(place) = place.filter(|_| file.process != "1" && may()) else {
            return Err(Errno::ACCESS.into());
        };
        let opened = lock(&self.binder).open(place.parent(), file.name, file.flags)?;
        Ok(Done::Opened {
            file: opened,
            close_on_exec: act::closes_on_exec(file.flags),
        })
    }

    /// Asks about each path that a rule asks about, one after the other, and makes the allowed
    /// changes.
    async fn ask_changes(mut found: Found, caller: Caller, tid: u32) -> Result<Answer, i32> {
        let shared = &caller.shared;
        shared.ask_each(&mut found, &caller, tid).await?;
        let reply = {
            // From here on no other change is made in the session.
            let turn = shared.turns.taken().await;
            let change = |hands: &mut Hands| shared.change_as_asked(hands, &found, &caller, tid);
            let reply = Hands::with(change).ok_or(ERRNO_NOT_JUDGED)??;
            drop(turn);
            reply
        };
        Ok(reply.answer(caller).await)
    }

    /// Makes the allowed change, if it is the one asked about; the caller of this has the turn.
    fn change_as_asked(
        &self,
        hands: &mut Hands,
        found: &Found,
        caller: &Caller,
        tid: u32,
    ) -> Result<Reply, i32> {
        let resolver = self.resolver(tid).map_err(|_| ERRNO_NOT_JUDGED)?;
        let again = self.found(hands, &resolver, found.call.clone(), &mut Walks::Whole)?;
        let again = again.map_err(|_| ERRNO_NOT_JUDGED)?;
        // As in `judge_change`: the memory read now must have been the caller's.
        if !caller.is_waiting() {
            return Err(ERRNO_NOT_JUDGED);
        }
        let same = !again.has(Verdict::Deny)
            && again.judged.len() == found.judged.len()
            && again
                .judged
                .iter()
                .zip(&found.judged)
                .all(|(now, one)| now.is_same(one));
        let asked = |one: &&Judged| one.decision.verdict == Verdict::Ask;
        if let Some(one) = found.judged.iter().find(asked).filter(|_| !same) {
            let record = self.changed_since(&one.request(), &one.decision);
            let written = self.write(&one.denied(record), Durability::Synced);
            return Err(written.map_or(ERRNO_NOT_JUDGED, |()| ERRNO_DENIED));
        }
        let mut now = again;
        now.judged
            .retain(|one| one.decision.verdict == Verdict::Allow);
        Ok(self.carry_out(hands, &resolver, &caller.call, now))
    }

    async fn ask_each(&self, found: &mut Found, caller: &Caller, tid: u32) -> Result<(), i32> {
        let write = |events: &[Event]| {
            self.write_all(events, Durability::Synced)
                .ok_or(ERRNO_NOT_JUDGED)
        };
        let mut events = Vec::new();
        for one in &mut found.judged {
            if one.decision.verdict == Verdict::Allow {
                continue;
            }
            one.request.subject = self.subject(tid);
            let request = one.request();
            let (record, _) = self.ask(&request, &one.decision, caller).await;
            if record.verdict != Verdict::Allow {
                write(&[one.denied(record)])?;
                return Err(ERRNO_DENIED);
            }
            let era = self.recorder.origins().era(tid);
            state(self).note_change(&one.request.path, one.noted, era);
            events.push(Event::FileChanged {
                path: one.request.path.clone(),
                access: one.noted,
                by: one.request.subject.clone(),
                decision: Some(record),
            });
        }
        // Before the effect, and on disk: an approval must not be lost.
        write(&events)
    }

    /// Journals the changes of one call that no rule asked about, except known ones; `None` if that
    /// failed.
    pub(super) fn note_changes(&self, mut changes: Vec<Judged>, tid: u32) -> Option<()> {
        let era = self.recorder.origins().era(tid);
        changes.retain(|one| {
            !one.implied && state(self).note_change(&one.request.path, one.noted, era)
        });
        if changes.is_empty() {
            return Some(());
        }
        let by = self.caller(tid);
        let events: Vec<Event> = changes
            .into_iter()
            .map(|one| Event::FileChanged {
                path: one.request.path,
                access: one.noted,
                by: by.clone(),
                decision: None,
            })
            .collect();
        self.write_all(&events, Durability::Written)
    }
}

/// Finds the paths of a call, in the session's identity.
fn located(hands: &Hands, resolver: &Resolver, call: &Call) -> Result<Vec<Place>, i32> {
    let locate_all = || {
        let all = call.changes.iter().map(|change| locate(resolver, change));
        all.collect::<io::Result<Vec<Place>>>()
    };
    let places = hands
        .identity
        .act(locate_all)
        .map_err(|_| ERRNO_NOT_JUDGED)?;
    places.map_err(|error| errno(&act::flags_error(&call.deed, resolver).unwrap_or(error)))
}

/// Finds one path of a call.
fn locate(resolver: &Resolver, change: &Change) -> io::Result<Place> {
    let place = match &change.at {
        Named::Path { directory, path } => resolver.locate(*directory, path, change.last)?,
        Named::Descriptor(descriptor) => resolver.locate_descriptor(*descriptor)?,
    };
    // The file to be linked must exist before the kernel checks the new name.
    if change.part == Part::Shared && place.stat.is_none() {
        return Err(place.missing());
    }
    if change.part == Part::Shared && place.is_no_directory_with_slashes() {
        return Err(Errno::NOTDIR.into());
    }
    Ok(place)
}
