//! Comparing what a request is about to show to a model, while its answer is waited for.

use std::{sync::Arc, thread};

use stockade_egress::wire::{Defined, FromSupervisor, Replies};

use super::NetworkSupervision;
use crate::pins::refusal;

/// Compares on a thread of its own, which may wait for an answer.
pub(crate) fn compare_aside(
    shared: &Arc<NetworkSupervision>,
    id: u64,
    defined: Box<Defined>,
    replies: &Arc<Replies>,
) {
    let reply = |refused| FromSupervisor::Compared { id, refused };
    let number = shared.recorder.new_decision();
    let Some(wanted) = shared.waits(id, number) else {
        let refused = refusal("too many requests wait for an answer already");
        return shared.reply(replies, &reply(Some(Box::new(refused))));
    };
    let (shared_there, replies_there) = (Arc::clone(shared), Arc::clone(replies));
    let spawned = thread::Builder::new()
        .name("compare".to_owned())
        .spawn(move || {
            let refused = shared_there
                .comparing
                .compare(&defined, number, &wanted)
                .err();
            shared_there.waits_no_more(id);
            let answer = FromSupervisor::Compared {
                id,
                refused: refused.map(Box::new),
            };
            shared_there.reply(&replies_there, &answer);
        });
    if spawned.is_err() {
        shared.waits_no_more(id);
        let refused = refusal("no thread to compare on");
        shared.reply(replies, &reply(Some(Box::new(refused))));
    }
}
