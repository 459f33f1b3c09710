//! What hosts proved of themselves on connections of the session, as the egress process saw it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Mutex,
    time::Instant,
};

use stockade_egress::wire::HostProof;
use stockade_supervise::lock;

use super::limits::{PROOF_AGE, PROOFS_MAX};

/// The proofs of a session.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    proofs: VecDeque<Known>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    proof: HostProof,
    since: Instant,
    /// Numbers of the keys that signed for the connection.
    used: BTreeSet<usize>,
}

impl Proofs {
    /// Adds one.
    pub(crate) fn add(&self, proof: HostProof) {
        let mut list = lock(&self.0);
        if list.proofs.len() >= PROOFS_MAX {
            list.proofs.pop_front();
        }
        let number = list.next;
        list.next += 1;
        list.proofs.push_back(Known {
            number,
            proof,
            since: Instant::now(),
            used: BTreeSet::new(),
        });
    }

    /// Finds the connection on which a host showed this key and signature, and its number.
    pub(super) fn find(&self, key: &[u8], signature: &[u8]) -> Option<(u64, HostProof)> {
        let mut list = lock(&self.0);
        list.forget_old();
        let mut proofs = list.proofs.iter();
        let is_it = |one: &&Known| one.proof.key == key && one.proof.signature == signature;
        let found = proofs.find(is_it)?;
        Some((found.number, found.proof.clone()))
    }

    /// Lets a key sign for a connection, once.
    pub(super) fn take(&self, number: u64, key: usize) -> bool {
        let mut list = lock(&self.0);
        list.forget_old();
        let mut proofs = list.proofs.iter_mut();
        let found = proofs.find(|one| one.number == number);
        found.is_some_and(|found| found.used.insert(key))
    }
}

impl List {
    fn forget_old(&mut self) {
        self.proofs.retain(|one| one.since.elapsed() < PROOF_AGE);
    }
}
