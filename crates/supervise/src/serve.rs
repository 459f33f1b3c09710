//! The threads that answer the calls of a session.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    task::Wake as _,
    thread,
};

use stockade_sys::notifier::{Notification, Notifier};
use stockade_types::{chain, ignored};

use crate::{
    hands::Hands,
    lanes::{self, Next},
    supervision::{Answer, Caller, ERRNO_NOT_JUDGED, Later, Parts, Reply, Supervision},
    verify,
};

/// Starts the threads that judge the calls of a session: the ones that answer `notifier`, which end
/// when every process of the session has ended, and the one that verifies executions, which ends
/// with them.
///
/// # Errors
/// When a thread cannot be made.
pub fn start(parts: Parts, notifier: Notifier) -> io::Result<thread::JoinHandle<()>> {
    let supervision = Arc::new(Supervision::new(parts, notifier));
    let second_look = verify::start(&supervision)?;
    let more = Arc::downgrade(&supervision);
    supervision.lanes.open(Box::new(move || {
        let supervision = more.upgrade().ok_or(io::ErrorKind::NotFound)?;
        let serves = move || serve(&supervision);
        thread("notifier").spawn(serves).map(drop)
    }));
    thread("notifier").spawn(move || {
        serve(&supervision);
        supervision.lanes.wait_until_left();
        // This ends the thread that verifies executions.
        supervision.second_looks.close();
        ignored(
            second_look.join(),
            "a thread that panics aborts the whole process",
        );
    })
}

fn thread(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

/// Answers calls until every process of the session has ended.
fn serve(supervision: &Arc<Supervision>) {
    let _serving = Serving(supervision);
    match Hands::prepare(supervision) {
        Ok(()) => answer_all(supervision),
        Err(error) => (supervision.abort)(&format!(
            "the supervisor cannot act as the session: {}",
            chain(&error)
        )),
    }
}

fn answer_all(supervision: &Arc<Supervision>) {
    loop {
        match supervision.lanes.next() {
            Next::Lead => lead(supervision),
            Next::Run(task) => {
                if let Some(answer) = task.run() {
                    supervision.lanes.forget(&task);
                    supervision.answer(&task.call, answer);
                }
            }
            Next::Look => {
                for task in supervision.lanes.tasks() {
                    if !supervision.notifier.is_waiting(&task.call) {
                        task.wake();
                    }
                }
                supervision.desk.expire();
            }
            Next::End => return,
        }
    }
}

/// Receives calls and answers them, until the lead is passed on or there are no callers any more.
fn lead(supervision: &Arc<Supervision>) {
    let lanes = &supervision.lanes;
    loop {
        let call = match supervision.notifier.receive() {
            Ok(Some(call)) => call,
            Ok(None) => {
                // No process is left: the end of the session settles what is asked, before the
                // calls that waited for it look and find their callers gone.
                supervision.desk.close();
                return lanes.close();
            }
            Err(error) => {
                (supervision.abort)(&format!("the notifier failed: {error}"));
                return lanes.close();
            }
        };
        if lanes.defer(&call) {
            continue;
        }
        lanes::begin(lanes, call.tid());
        handle(supervision, &call);
        let Some(process) = lanes::end() else {
            continue;
        };
        while let Some(behind) = lanes.behind(process) {
            handle(supervision, &behind);
        }
        return;
    }
}

fn handle(supervision: &Arc<Supervision>, call: &Notification) {
    let judge = |hands: &mut Hands| supervision.judge(hands, call);
    let answer = match Hands::with(judge).unwrap_or(Reply::Refuse(ERRNO_NOT_JUDGED)) {
        Reply::Proceed => Answer::Proceeds,
        Reply::Refuse(errno) => Answer::Fails(errno),
        Reply::Now(answer) => answer,
        Reply::Later(begin) => return wait(supervision, call, begin),
        // It is judged again, from its beginning, when the turn is free.
        Reply::Busy => {
            return wait(
                supervision,
                call,
                Box::new(|caller| Box::pin(caller.resume())),
            );
        }
    };
    supervision.answer(call, answer);
}

/// Has a call answered later.
fn wait(supervision: &Arc<Supervision>, call: &Notification, begin: Later) {
    let work = begin(Caller {
        shared: Arc::clone(supervision),
        call: *call,
    });
    if !supervision.lanes.spawn(call, work) {
        supervision.answer(call, Answer::Fails(ERRNO_NOT_JUDGED));
    }
}

/// A serving thread, as long as it serves.
struct Serving<'s>(&'s Supervision);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            // Its call has no answer, and the effect of the call may not happen.
            self.0.over.store(true, Ordering::Release);
            (self.0.abort)("a thread that answers the notifier failed");
            self.0.lanes.close();
        }
        self.0.lanes.leave();
    }
}
