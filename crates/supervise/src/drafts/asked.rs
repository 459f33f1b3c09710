//! The question about drafts, and its effect once it is answered.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, FileType, SealFlags},
    io::Errno,
};
use stockade_event::{Durability, Event};
use stockade_policy::{
    Access, Approvals, Control, Decision, Effect, EffectBound, FileContent, FileRequest, Request,
};
use stockade_types::{DecisionRecord, RawText, Verdict, ignored};

use super::{
    Draft, FILE_BYTES_MAX, What, difference, drop_drafts,
    outside::{same_file, writable},
};
use crate::{
    Caller, ERRNO_DENIED, ERRNO_NOT_JUDGED, Hands, Supervision,
    areas::Area,
    git::{REMEDY, REMEDY_CHECKOUT, open_straight, read_at, replace},
    judged::{GitFile, Judged},
    locate::Place,
    resolve::Resolver,
    state,
};
use stockade_types::AskMode;

/// Lines that one question shows; a person would not read more, so more is refused.
const LINES_MAX: usize = 400;
/// A file is shown by its differences from another one if at most one line in this many differs.
const ALIKE: usize = 4;
/// Bytes that one question shows.
const SHOWN_BYTES_MAX: usize = 32 << 10;

/// The content of protected files before the session replaced them, by path; `None` if there was no
/// file.
pub(crate) type Firsts = HashMap<PathBuf, Option<Vec<u8>>>;

/// A draft with the current and the new content.
struct Asked {
    draft: Draft,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
    mode: u32,
}

/// A draft that cannot be shown, and why.
struct Unread {
    judged: Box<Judged>,
    reason: String,
}

/// An allowed question.
struct Answered {
    record: DecisionRecord,
    request: Request,
    decision: Decision,
}

impl Supervision {
    /// Asks about drafts, and makes them.
    ///
    /// # Errors
    /// With the error number for the call that waits, if they may not be made; then none of them
    /// is.
    pub(super) async fn settle_drafts(
        &self,
        drafts: Vec<Draft>,
        tid: u32,
        caller: &Caller,
    ) -> Result<(), i32> {
        let (directories, drafts): (Vec<Draft>, Vec<Draft>) = drafts
            .into_iter()
            .partition(|one| matches!(one.what, What::Directory));
        // A file that the owner puts in a draft's place while the question is open stays the
        // owner's.
        let placeholders: Vec<Placeholder> = drafts
            .iter()
            .filter(|one| one.placeholder)
            .filter_map(|one| Placeholder::at(&one.place))
            .collect();
        let settled = self.settle_files(drafts, tid, caller).await;
        if settled.is_err() {
            let remove = || placeholders.iter().for_each(Placeholder::remove);
            Hands::with(|hands| {
                ignored(
                    hands.identity.act(remove),
                    "a placeholder that stays is an empty file that nobody may execute",
                );
                drop_drafts(hands, &directories);
            });
        }
        settled
    }

    async fn settle_files(&self, drafts: Vec<Draft>, tid: u32, caller: &Caller) -> Result<(), i32> {
        let prepare = || drafts.into_iter().map(prepare).collect();
        let prepared = Hands::with(|hands| hands.identity.act(prepare));
        let Some(Ok(all)): Option<Result<Vec<Result<Asked, Unread>>, _>> = prepared else {
            return Err(ERRNO_NOT_JUDGED);
        };
        let (read, unread): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        if let Some(one) = unread.into_iter().find_map(Result::err) {
            let decision = Control::Protected.denies(one.reason, REMEDY);
            return self.refuse_drafts([&*one.judged], &decision);
        }
        let mut all: Vec<Asked> = read.into_iter().flatten().collect();
        all.retain(|one| one.old != one.new);
        self.ask_and_make(all, tid, caller).await
    }

    async fn ask_and_make(&self, all: Vec<Asked>, tid: u32, caller: &Caller) -> Result<(), i32> {
        let resolver = self.resolver(tid).map_err(|_| ERRNO_NOT_JUDGED)?;
        let sort = |hands: &mut Hands| {
            all.into_iter()
                .partition(|one| self.is_as_before(one) || self.is_copy(hands, &resolver, one))
        };
        let (free, asked): (Vec<Asked>, Vec<Asked>) = Hands::with(sort).ok_or(ERRNO_NOT_JUDGED)?;
        let answer = if asked.is_empty() {
            None
        } else {
            Some(self.ask_about(&asked, caller).await?)
        };
        // From here on no other change is made in the session.
        let turn = self.turns.taken().await;
        let make =
            |hands: &mut Hands| self.make_all(hands, &resolver, (&free, &asked), answer.as_ref());
        let made = Hands::with(make).unwrap_or(Err(ERRNO_NOT_JUDGED));
        drop(turn);
        made
    }

    /// Makes drafts, if all is as the question showed it; the caller has the turn.
    fn make_all(
        &self,
        hands: &Hands,
        resolver: &Resolver,
        (free, asked): (&[Asked], &[Asked]),
        answer: Option<&Answered>,
    ) -> Result<(), i32> {
        let all: Vec<&Asked> = free.iter().chain(asked).collect();
        let same = || all.iter().all(|one| is_unchanged(resolver, one));
        if !matches!(hands.identity.act(same), Ok(true)) {
            if let (Some(one), Some(answer)) = (asked.first(), answer) {
                let changed = self.changed_since(&answer.request, &answer.decision);
                self.write(&one.draft.judged.denied(changed), Durability::Synced)
                    .ok_or(ERRNO_NOT_JUDGED)?;
            }
            return Err(ERRNO_DENIED);
        }
        self.note_remotes(&all)?;
        self.note_drafts(&all, answer.map(|answer| &answer.record))?;
        let make = || all.iter().try_for_each(|one| self.make_draft(one));
        match hands.identity.act(make) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.raw_os_error().unwrap_or(ERRNO_NOT_JUDGED)),
            Err(_) => Err(ERRNO_NOT_JUDGED),
        }
    }

    /// Asks one question about all of these.
    ///
    /// # Errors
    /// With the error number for the call that waits, after the refusal was recorded.
    async fn ask_about(&self, asked: &[Asked], caller: &Caller) -> Result<Answered, i32> {
        let refuse = |decision: &Decision, all: &[Asked]| {
            let refused = self.refuse_drafts(all.iter().map(|one| &one.draft.judged), decision);
            refused.err().unwrap_or(ERRNO_DENIED)
        };
        let (request, decision) = match self.request(asked) {
            Ok(found) => found,
            Err(decision) => return Err(refuse(&decision, asked.get(..1).unwrap_or_default())),
        };
        let (record, _) = self.ask(&request, &decision, caller).await;
        if record.verdict == Verdict::Allow {
            return Ok(Answered {
                record,
                request,
                decision,
            });
        }
        let denied = |one: &Asked| {
            let mut record = record.clone();
            record.target.path = Some(one.draft.judged.request.path.clone());
            one.draft.judged.denied(record)
        };
        let events: Vec<Event> = asked.iter().map(denied).collect();
        self.write_all(&events, Durability::Synced)
            .ok_or(ERRNO_NOT_JUDGED)?;
        Err(ERRNO_DENIED)
    }

    /// Records the addresses of remotes that the settings of git would add: they are the session's,
    /// whoever permitted them.
    fn note_remotes(&self, all: &[&Asked]) -> Result<(), i32> {
        for one in all {
            if self.git_file(&one.draft.place.path) == Some(GitFile::Settings) {
                let bytes = |text: &Option<Vec<u8>>| text.clone().unwrap_or_default();
                let noted = self.remotes.note(&bytes(&one.old), &bytes(&one.new));
                noted.map_err(|_| ERRNO_NOT_JUDGED)?;
            }
        }
        Ok(())
    }

    /// Records the drafts that are about to be made: before the effect, and on disk, since an
    /// approval must not be lost.
    fn note_drafts(&self, all: &[&Asked], record: Option<&DecisionRecord>) -> Result<(), i32> {
        let changed = |one: &&Asked| Event::FileChanged {
            path: one.draft.judged.request.path.clone(),
            access: one.draft.judged.noted,
            by: one.draft.subject.clone(),
            decision: record.cloned(),
        };
        let events: Vec<Event> = all.iter().map(changed).collect();
        self.write_all(&events, Durability::Synced)
            .ok_or(ERRNO_NOT_JUDGED)?;
        for one in all {
            let id = one.draft.subject.id;
            let era = id.map_or(0, |id| self.recorder.origins().era(id.pid));
            let judged = &one.draft.judged;
            state(self).note_change(&judged.request.path, judged.noted, era);
        }
        Ok(())
    }

    /// Whether a draft restores the content from before the session's change, with no other change
    /// since.
    fn is_as_before(&self, one: &Asked) -> bool {
        let place = &one.draft.place;
        let first = state(self).firsts.get(&place.path).cloned();
        first.is_some_and(|first| first == one.new) && (one.old.is_none() || self.is_made(place))
    }

    /// Whether the owner had a file at a place before the session changed it.
    pub(crate) fn had_first(&self, place: &Place) -> bool {
        matches!(state(self).firsts.get(&place.path), Some(Some(_)))
    }

    /// Whether a new file of another working tree equals that of the workspace itself: a program
    /// that runs it there would run it here.
    fn is_copy(&self, hands: &Hands, resolver: &Resolver, one: &Asked) -> bool {
        let path = &one.draft.place.path;
        let Some((Area::Workspace, relative)) = self.areas.of(path) else {
            return false;
        };
        let (true, None, Some(new)) = (one.draft.checkout, &one.old, &one.new) else {
            return false;
        };
        let settings = self.protection(Area::Workspace);
        let top: PathBuf = path
            .components()
            .take(path.components().count() - relative.components().count())
            .collect();
        let mut rest = relative.components();
        while rest.next().is_some() {
            let below = rest.as_path();
            let protected = settings.protects(below.as_os_str().as_encoded_bytes());
            let (Some(name), true) = (below.file_name(), protected.is_some()) else {
                continue;
            };
            let read = || {
                let directory = open_straight(resolver, top.join(below).parent()?).ok()?;
                read_at(directory.as_fd(), name, FILE_BYTES_MAX).ok()
            };
            if hands.identity.act(read).ok().flatten().as_ref() == Some(new) {
                return true;
            }
        }
        false
    }

    /// Makes the request of the question, which names the first file and carries the new content of
    /// all of them, and the decision that asks.
    ///
    /// # Errors
    /// The decision, if one of them may not even be asked about.
    fn request(&self, asked: &[Asked]) -> Result<(Request, Decision), Box<Decision>> {
        let refused = |reason: String, remedy| Box::new(Control::Protected.denies(reason, remedy));
        let nothing = || refused("there is nothing to ask".to_owned(), REMEDY);
        let first = asked.first().ok_or_else(nothing)?;
        if self.desk.mode() == AskMode::Deny {
            let reason = format!(
                "git would change `{}`, which is protected, so nothing of this change of the working \
                 tree is made",
                self.relative(&first.draft.place).display()
            );
            return Err(refused(reason, REMEDY_CHECKOUT));
        }
        let Some(effects) = effects(asked, &|one| self.relative(&one.draft.place)) else {
            let reason = format!(
                "the change is too long to be shown: more than {LINES_MAX} lines or {SHOWN_BYTES_MAX} bytes"
            );
            return Err(refused(reason, REMEDY));
        };
        let files = asked
            .iter()
            .map(|one| (&one.draft.judged.request.path, one.new.as_deref()));
        let content = FileContent::new(files, effects);
        let request = |one: &Asked| {
            Request::File(FileRequest {
                content: Some(content.clone()),
                subject: one.draft.subject.clone(),
                access: access(one),
                ..one.draft.judged.request.clone()
            })
        };
        let decide = |one: &Asked| self.policy.decide(&request(one), &Approvals::none());
        let decision = decide(first);
        for one in asked {
            let own = decide(one);
            if own.verdict != Verdict::Ask {
                return Err(Box::new(own));
            }
            if own.rules != decision.rules {
                let reason = "rules of policy ask about some of these files by themselves";
                return Err(refused(reason.to_owned(), REMEDY));
            }
        }
        Ok((request(first), decision))
    }

    fn relative(&self, place: &Place) -> RawText {
        let path = match self.areas.of(&place.path) {
            Some((Area::Workspace, relative)) => relative.into_owned(),
            Some(_) | None => place.path.clone(),
        };
        RawText::from_os(path.as_os_str())
    }

    fn refuse_drafts<'j>(
        &self,
        all: impl IntoIterator<Item = &'j Judged>,
        decision: &Decision,
    ) -> Result<(), i32> {
        for one in all {
            let id = self.recorder.new_decision();
            let denied = Decision {
                verdict: Verdict::Deny,
                ..decision.clone()
            };
            let record = self.recorder.record(id, &one.request(), &denied);
            self.write(&one.denied(record), Durability::Written)
                .ok_or(ERRNO_NOT_JUDGED)?;
        }
        Err(ERRNO_DENIED)
    }

    fn make_draft(&self, one: &Asked) -> io::Result<()> {
        let place = &one.draft.place;
        let name = place.name();
        let parent = writable(place)?;
        if !self.is_made(place) {
            let mut state = state(self);
            if one.old.is_some() || !state.firsts.contains_key(&place.path) {
                state.firsts.insert(place.path.clone(), one.old.clone());
            }
        }
        self.note_replaced(place);
        let Some(bytes) = &one.new else {
            rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?;
            if one.draft.checkout {
                self.remove_empty(place);
            }
            return Ok(());
        };
        replace(parent.as_fd(), &name, bytes, one.mode)?;
        self.note_made(place);
        Ok(())
    }

    /// Removes the protected directories above a file that git has removed, as git does.
    fn remove_empty(&self, place: &Place) {
        let settings = self.protection(Area::Workspace);
        for path in place.path.ancestors().skip(1) {
            let Some((Area::Workspace, relative)) = self.areas.of(path) else {
                return;
            };
            let below = relative.as_os_str().as_encoded_bytes();
            if below.is_empty() || settings.protects(below).is_none() {
                return;
            }
            self.replaced.note(path);
            let how = AtFlags::REMOVEDIR;
            if rustix::fs::unlinkat(rustix::fs::CWD, path, how).is_err() {
                self.replaced.takes(path);
                return;
            }
        }
    }
}

/// An empty file at the place of a draft.
struct Placeholder {
    parent: OwnedFd,
    name: OsString,
    state: (u64, u64, i64, u64),
}

impl Placeholder {
    fn at(place: &Place) -> Option<Self> {
        let (parent, name) = (writable(place).ok()?, place.name());
        let state = Self::state(&parent, &name)?;
        Some(Self {
            parent,
            name,
            state,
        })
    }

    /// The identity of the file and its last change, if it is an empty one.
    fn state(parent: &OwnedFd, name: &OsString) -> Option<(u64, u64, i64, u64)> {
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let state = (stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
        (stat.st_size == 0).then_some(state)
    }

    /// Removes it, unless it was changed.
    fn remove(&self) {
        if Self::state(&self.parent, &self.name) == Some(self.state) {
            rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty()).unwrap_or_default();
        }
    }
}

fn access(one: &Asked) -> Access {
    match (&one.old, &one.new) {
        (_, None) => Access::Remove,
        (None, Some(_)) => Access::Create,
        (Some(_), Some(_)) => Access::Write,
    }
}

/// Reads the final content of a draft, which can no longer change, and the current content.
fn prepare(draft: Draft) -> Result<Asked, Unread> {
    let read = || -> io::Result<_> {
        let old = there(&draft)?;
        Ok(match &draft.what {
            What::Text(text) => {
                let (new, mode) = whole(text)?;
                (old, Some(new), mode)
            }
            What::Gone | What::Directory => (old, None, 0),
        })
    };
    match read() {
        Ok((old, new, mode)) => Ok(Asked {
            draft,
            old,
            new,
            mode,
        }),
        Err(error) => {
            let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::FBIG) => {
                    format!("it has more than {FILE_BYTES_MAX} bytes, too many to be shown")
                }
                Some(Errno::BUSY) => "a program can still write to it".to_owned(),
                _ => format!("it cannot be read: {error}"),
            };
            Err(Unread {
                judged: Box::new(draft.judged),
                reason,
            })
        }
    }
}

fn whole(text: &OwnedFd) -> io::Result<(Vec<u8>, u32)> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    match rustix::fs::fcntl_add_seals(text, seals) {
        // It is sealed already: an earlier question about it was withdrawn.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let stat = rustix::fs::fstat(text)?;
    if u64::try_from(stat.st_size).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(Errno::FBIG.into());
    }
    let mut file = File::from(text.try_clone()?);
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, stat.st_mode & 0o777))
}

/// Returns the content at a place, if that is a file or nothing.
fn there(draft: &Draft) -> io::Result<Option<Vec<u8>>> {
    let place = &draft.place;
    match rustix::fs::statat(place.parent(), place.name(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            let bytes = read_at(place.parent(), &place.name(), FILE_BYTES_MAX)?;
            let ours = draft.placeholder && bytes.is_empty();
            Ok((!ours).then_some(bytes))
        }
        Ok(_) => Err(Errno::ISDIR.into()),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether the place of a draft is unchanged, with the content that the question showed.
fn is_unchanged(resolver: &Resolver, one: &Asked) -> bool {
    let place = &one.draft.place;
    let at = || {
        let parent = open_straight(resolver, place.path.parent()?).ok()?;
        let same = same_file(&parent, &place.parent()).ok()?;
        (same && there(&one.draft).ok()? == one.old).then_some(())
    };
    at().is_some()
}

/// Returns the text to show: each file with the lines that differ; `None` if that is too much.
fn effects(asked: &[Asked], relative: &dyn Fn(&Asked) -> RawText) -> Option<Vec<Effect>> {
    let mut effects = Vec::new();
    let mut bytes = 0;
    let mut push = |label: &str, text: RawText| {
        bytes += text.as_bytes().len();
        effects.push(Effect {
            label: label.to_owned(),
            text,
            bound: EffectBound::Always,
        });
        (effects.len() <= LINES_MAX && bytes <= SHOWN_BYTES_MAX).then_some(())
    };
    for (index, one) in asked.iter().enumerate() {
        let before = asked.get(..index).unwrap_or_default();
        let (mut old, new) = (one.old.as_deref(), one.new.as_deref());
        let mut name = relative(one);
        // Hook managers write the same text to many files.
        if let Some(other) = before.iter().find(|other| is_alike(other, one)) {
            old = other.new.as_deref();
            let like = if old == new {
                ", the same as "
            } else {
                ", as "
            };
            let but: &[u8] = if old == new { b"" } else { b" but for" };
            let other = relative(other);
            let parts = [name.as_bytes(), like.as_bytes(), other.as_bytes(), but];
            name = RawText::from_bytes(parts.concat());
        }
        if index > 0 {
            push(access(one).as_str(), name)?;
        }
        let lines = difference::lines(old.unwrap_or_default(), new.unwrap_or_default());
        for line in lines {
            let text = line.map_or_else(|| b"  \xe2\x80\xa6".to_vec(), difference::Line::text);
            push("", RawText::from_bytes(text))?;
        }
    }
    Some(effects)
}

/// Whether a new file has most of its lines in common with another new one.
fn is_alike(other: &Asked, one: &Asked) -> bool {
    let (None, Some(text), None, Some(new)) = (&other.old, &other.new, &one.old, &one.new) else {
        return false;
    };
    let lines = difference::lines(text, new).into_iter().flatten();
    let changed = lines.filter(|line| !matches!(line, difference::Line::Same(_)));
    let all = new.split(|byte| *byte == b'\n').count();
    changed.count() * ALIKE <= all
}
