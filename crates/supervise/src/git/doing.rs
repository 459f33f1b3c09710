//! Carries out harmless changes: with copies of the judged content, to which no program has a
//! descriptor.

use std::{io, os::fd::OwnedFd};

use rustix::{
    fs::{Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};
use stockade_event::Durability;
use stockade_policy::Control;
use stockade_sys::notifier::Notification;

use super::{REMEDY_HOOK, mode_at, replace, samples};
use crate::{
    Answer, ERRNO_NOT_JUDGED, Hands, Reply, Supervision, act,
    changes::Deed,
    judged::{Found, GitFile, Harmless, errno},
    locate::Place,
    resolve::Resolver,
    state,
};

impl Supervision {
    /// Carries out a harmless change, and records it.
    pub(crate) fn carry_out_harmless(
        &self,
        hands: &mut Hands,
        resolver: &Resolver,
        notification: &Notification,
        mut found: Found,
        harmless: Harmless,
    ) -> Reply {
        let opened = |file, flags: u32| Answer::Opened {
            file,
            close_on_exec: act::closes_on_exec(flags),
        };
        let (deed, places) = (&found.call.deed, &found.places);
        let done = match (harmless, deed, places.as_slice()) {
            (Harmless::Settings(text), _, [from, to]) => {
                let done = self.put_settings(hands, from, to, &text);
                Ok(done.map(|()| Answer::Returns))
            }
            (Harmless::Mode(text, mode), _, [place]) => hands.identity.act(|| {
                self.note_replaced(place);
                replace(place.parent(), &place.name(), &text, mode)?;
                Ok(Answer::Returns)
            }),
            (Harmless::Sample(text), Deed::Open { flags, .. }, [place]) => hands
                .identity
                .act(|| self.make_sample(resolver, place, &text))
                .map(|done| done.map(|file| opened(file, *flags))),
            (Harmless::Exists, ..) => return Reply::Refuse(Errno::EXIST.raw_os_error()),
            (Harmless::Nowhere, &Deed::Open { flags, .. }, _) => {
                return self.pass_over(resolver, found, flags);
            }
            (Harmless::Pointer(file), Deed::Open { flags, mode }, [_]) => {
                let (flags, mode) = (*flags, mode & 0o777 & !hands.mask());
                let (Some(place), Some(judged)) = (found.places.pop(), found.judged.pop()) else {
                    return Reply::Refuse(ERRNO_NOT_JUDGED);
                };
                if file == GitFile::Settings {
                    let made = hands.identity.act(|| self.make_empty(&place, mode));
                    match made {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return Reply::Refuse(errno(&error)),
                        Err(_) => return Reply::Refuse(ERRNO_NOT_JUDGED),
                    }
                }
                return match self.open_pointer(file, place, judged, mode) {
                    Ok(file) => Reply::Now(opened(file, flags)),
                    Err(error) => Reply::Refuse(errno(&error)),
                };
            }
            (Harmless::Itself, deed, [place]) => hands.identity.act(|| {
                if !self.change_in_read_only(deed, place)? {
                    act::carry_out(deed, places, resolver, notification.thread)?;
                }
                self.note_made(place);
                Ok(Answer::Returns)
            }),
            (
                Harmless::Settings(_)
                | Harmless::Mode(..)
                | Harmless::Sample(_)
                | Harmless::Nowhere
                | Harmless::Pointer(_)
                | Harmless::Itself,
                _,
                _,
            ) => return Reply::Refuse(ERRNO_NOT_JUDGED),
        };
        let answer = match done {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Reply::Refuse(errno(&error)),
            Err(_) => return Reply::Refuse(ERRNO_NOT_JUDGED),
        };
        match self.note_changes(found.judged, resolver.tid()) {
            Some(()) => Reply::Now(answer),
            None => Reply::Refuse(ERRNO_NOT_JUDGED),
        }
    }

    /// Replaces settings, through git's own lock.
    pub(super) fn replace_settings(&self, from: &Place, to: &Place, text: &[u8]) -> io::Result<()> {
        self.note_replaced(to);
        let made = to.stat.is_none() || self.is_made(to);
        let directory = to.parent();
        let mode = mode_at(directory, &from.name())?;
        replace(directory, &from.name(), text, mode)?;
        let flags = RenameFlags::empty();
        rustix::fs::renameat_with(directory, from.name(), directory, to.name(), flags)?;
        if made {
            self.note_made(to);
        }
        Ok(())
    }

    /// Notes that a protected file is replaced: the kernel removes its mount, and that is not a
    /// change from outside.
    pub(crate) fn note_replaced(&self, place: &Place) {
        if place.is_mount_point() {
            self.replaced.note(&place.path);
        }
    }

    /// Lets git write a hook of a template to nowhere, and records that.
    fn pass_over(&self, resolver: &Resolver, mut found: Found, flags: u32) -> Reply {
        let reason =
            "a hook of git's template would run outside, so the repository is made without it";
        let subject = self.caller(resolver.tid());
        if let Some(mut one) = found.judged.pop() {
            one.request.subject = subject;
            let decision = Control::Protected.denies(reason, REMEDY_HOOK);
            let id = self.recorder.new_decision();
            let record = self.recorder.record(id, &one.request(), &decision);
            if self
                .write(&one.denied(record), Durability::Written)
                .is_none()
            {
                return Reply::Refuse(ERRNO_NOT_JUDGED);
            }
        }
        match nothing(resolver) {
            Ok(file) => Reply::Now(Answer::Opened {
                file,
                close_on_exec: act::closes_on_exec(flags),
            }),
            Err(error) => Reply::Refuse(errno(&error)),
        }
    }

    /// Makes the sample of a hook; its text is complete before the caller writes the same text.
    fn make_sample(&self, resolver: &Resolver, place: &Place, text: &[u8]) -> io::Result<OwnedFd> {
        replace(place.parent(), &place.name(), text, samples::MODE)?;
        self.note_made(place);
        nothing(resolver)
    }

    /// Makes settings that set nothing: libraries begin with such a file and write to another one,
    /// whose content is judged once it is complete.
    fn make_empty(&self, place: &Place, mode: u32) -> io::Result<()> {
        replace(place.parent(), &place.name(), b"", mode)?;
        self.note_made(place);
        state(self).first_settings.insert(place.path.clone(), None);
        Ok(())
    }
}

/// Opens a file that accepts all data and keeps none.
fn nothing(resolver: &Resolver) -> io::Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(resolver.root(), "dev/null", flags, Mode::empty(), how);
    Ok(opened?)
}
