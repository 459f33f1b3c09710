//! Random histories of a question, against a count of votes that is written another way. What holds in all of
//! them is what `docs/approvals.md` promises.

use std::borrow::Cow;

use proptest::prelude::*;
use stockade_api::{NodeId, node::QuestionSent};
use stockade_policy::{NetRequest, Request, Scope, Strength};
use stockade_shown::{Grounds, Matter};
use stockade_trust::{
    BreakGlass, Choice, Directory, Envelope, Escalation, Keys, Nonce, Proof, RelyingParty, Review,
    Role, SecretKey, Stage, User, UserId, Vote,
};
use stockade_types::{ApprovalId, Digest, Port, SessionId, Subject, UnixMillis};

use super::{Case, CaseError, Choosing, Counting, Voter};
use crate::state::{QuestionRow, QuestionState, SessionKey};

/// Histories of one case of the property test: 256 cases are more than 100,000.
const HISTORIES: u64 = 400;
const STEPS: u64 = 14;
const BEGIN: u64 = 1_000_000_000;
const OPEN_MS: u64 = 60_000;
const ROLES: [&str; 4] = ["a", "b", "late", "lead"];
/// The first person asks.
const REQUESTER: usize = 0;

/// Numbers of a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let end = u64::try_from(of.len()).unwrap();
        of[usize::try_from(self.below(end)).unwrap()]
    }
}

/// What no history changes.
struct World {
    server: SecretKey,
    servers: Keys,
    keys: Vec<SecretKey>,
    party: RelyingParty,
    sent: QuestionSent,
}

fn review() -> Review {
    Review {
        paths: Vec::new(),
        scope_max: Scope::Uses(3),
        reason_required: false,
        break_glass: None,
    }
}

impl World {
    fn new() -> Self {
        let request = Request::Net(NetRequest {
            host: "paste.test".parse().unwrap(),
            port: Port::new(443).unwrap(),
            subject: Subject::default(),
        });
        let matter = Matter {
            request: &request,
            grounds: Cow::Owned(Grounds {
                rule: None,
                origin: None,
                reason: "look".to_owned(),
                nearest_allow: None,
                private: false,
                scope_max: Some(Scope::Session),
                review: None,
            }),
            agent: "codex",
            intent: None,
            asked: UnixMillis(BEGIN),
            expires: UnixMillis(BEGIN + OPEN_MS),
        };
        let question = matter.canonical();
        let server = SecretKey::from_seed(&[1; 32]);
        Self {
            servers: Keys {
                keys: vec![server.public()],
                threshold: 1,
            },
            server,
            keys: (10_u8..16)
                .map(|seed| SecretKey::from_seed(&[seed; 32]))
                .collect(),
            party: RelyingParty {
                id: "stockade.test".to_owned(),
                origin: "https://stockade.test".to_owned(),
            },
            sent: QuestionSent {
                rendered: question.shown().digest(),
                question,
                nonce: Nonce::new([3; 16]),
                revision: Digest::of(b"policy"),
                review: review(),
                uid: 1000,
                user: None,
            },
        }
    }

    fn people(&self, dice: &mut Dice) -> Directory {
        let person = |(index, key): (usize, &SecretKey)| User {
            id: id(index),
            name: format!("u{index}"),
            roles: ROLES
                .iter()
                .filter(|_| dice.below(5) < 2)
                .map(|role| Role((*role).to_owned()))
                .collect(),
            passkeys: Vec::new(),
            keys: vec![key.public()],
        };
        Directory {
            org: "acme".to_owned(),
            serial: 1,
            not_after: UnixMillis(u64::MAX),
            people: self.keys.iter().enumerate().map(person).collect(),
        }
    }
}

fn id(index: usize) -> UserId {
    UserId(format!("u{index}"))
}

fn review_of(dice: &mut Dice) -> Review {
    // Signatures cost most; one history in sixteen has them.
    let is_strong = dice.one_in(16);
    let stages: Vec<Stage> = ["x", "y", "z"]
        .map(|name| Stage {
            name: name.to_owned(),
            role: Role(dice.pick(&["a", "b"]).to_owned()),
            need: 1 + u32::from(dice.one_in(3)),
            veto: 1 + u32::from(dice.one_in(4)),
            strength: if is_strong && dice.one_in(2) {
                Strength::Passkey
            } else {
                Strength::Session
            },
            wait_ms: if dice.one_in(4) { 6_000 } else { 0 },
            escalation: dice.one_in(2).then(|| Escalation {
                after_ms: 9_000,
                role: Role("late".to_owned()),
            }),
        })
        .to_vec();
    let ways: [&[usize]; 5] = [&[0], &[0, 1], &[1, 2], &[2], &[0, 1, 2]];
    let mut path = || -> Vec<Stage> {
        let way = dice.pick(&ways);
        way.iter().map(|at| stages[*at].clone()).collect()
    };
    let mut paths = vec![path()];
    let more = path();
    if dice.one_in(2) {
        paths.push(more);
    }
    Review {
        paths,
        reason_required: dice.one_in(4),
        break_glass: dice.one_in(3).then(|| BreakGlass {
            role: Role("lead".to_owned()),
            strength: if is_strong {
                Strength::Passkey
            } else {
                Strength::Session
            },
            max_ms: 5_000,
        }),
        ..review()
    }
}

fn row_of(world: &World, review: &Review) -> QuestionRow {
    QuestionRow {
        id: "q-0000000000000000".to_owned(),
        key: SessionKey {
            node: NodeId::from_random(7),
            session: SessionId::from_random(5),
        },
        approval: ApprovalId::from_random(9),
        sent: QuestionSent {
            review: review.clone(),
            ..world.sent.clone()
        },
        requesters: vec![id(REQUESTER)],
        state: QuestionState::Open,
        asked: UnixMillis(BEGIN),
        expires: UnixMillis(BEGIN + OPEN_MS),
        closed: None,
        why: None,
        delivered: None,
        version: 1,
    }
}

/// What was tried, in the words of a naive judge.
struct Tried {
    user: usize,
    is_own_key: bool,
    is_strong: bool,
    is_fresh: bool,
    choosing: Choosing,
}

impl Tried {
    fn draw(dice: &mut Dice, sent: &QuestionSent, now: u64) -> Self {
        let choosing = choosing(dice, sent, now);
        Self {
            user: usize::try_from(dice.below(6)).unwrap(),
            is_own_key: !dice.one_in(8),
            is_strong: dice.one_in(2),
            is_fresh: !dice.one_in(12),
            choosing,
        }
    }
}

impl Tried {
    /// Proves the vote with a key, the person's own or another one's, or by being signed in.
    fn proof(
        &self,
        world: &World,
        case: &Case<'_>,
        directory: &Directory,
        votes: &[Vote],
        now: UnixMillis,
    ) -> Proof {
        if !self.is_strong {
            return Proof::Session {};
        }
        let index = if self.is_own_key {
            self.user
        } else {
            (self.user + 1) % 6
        };
        signed(case, directory, votes, self, &world.keys[index], now)
    }

    fn voter(&self, now: u64) -> Voter {
        Voter {
            user: id(self.user),
            signed_in: UnixMillis(if self.is_fresh { now } else { now - 301_000 }),
        }
    }
}

/// Since when a stage waits, told from the votes one after the other.
fn since(review: &Review, stage: &str, votes: &[Vote]) -> Option<u64> {
    let mut found: Option<u64> = None;
    for path in &review.paths {
        let Some(at) = path.iter().position(|one| one.name == stage) else {
            continue;
        };
        let mut time = Some(BEGIN);
        for before in &path[..at] {
            let mut missing = before.need;
            let mut done = None;
            let mut sorted: Vec<&Vote> = votes.iter().collect();
            sorted.sort_by_key(|vote| vote.at);
            for vote in sorted {
                if vote.stage == before.name && vote.choice == Choice::Allow && missing > 0 {
                    missing -= 1;
                    done = Some(vote.at.0);
                }
            }
            time = match (time, missing, done) {
                (Some(time), 0, Some(done)) => Some(time.max(done)),
                _ => None,
            };
        }
        found = match (found, time) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    found
}

/// Tells whether a vote in a stage is one that the rule asks for, by the people as they are.
fn is_asked(review: &Review, directory: &Directory, votes: &[Vote], vote: &Vote) -> bool {
    let Some(stage) = review.stage(&vote.stage) else {
        return false;
    };
    let Some(user) = directory.people.iter().find(|user| user.id == vote.user) else {
        return false;
    };
    let Some(since) = since(review, &vote.stage, votes) else {
        return user.roles.contains(&stage.role) && stage.wait_ms == 0;
    };
    let has_late = stage
        .escalation
        .as_ref()
        .is_some_and(|then| user.roles.contains(&then.role) && vote.at.0 >= since + then.after_ms);
    let waits = vote.choice == Choice::Deny || vote.at.0 >= since + stage.wait_ms;
    (user.roles.contains(&stage.role) || has_late) && waits
}

/// Counts votes that hold another way than the program: by naming, for each path, who fills it.
fn outcome(review: &Review, directory: &Directory, votes: &[Vote]) -> &'static str {
    if votes.iter().any(|vote| vote.stage.is_empty()) {
        return "granted";
    }
    let holds: Vec<&Vote> = votes
        .iter()
        .filter(|vote| is_asked(review, directory, votes, vote))
        .collect();
    let of = |stage: &Stage, choice| {
        let mut names: Vec<&str> = holds
            .iter()
            .filter(|vote| vote.stage == stage.name && vote.choice == choice)
            .map(|vote| vote.user.0.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        u32::try_from(names.len()).unwrap()
    };
    for path in &review.paths {
        if path
            .iter()
            .any(|stage| of(stage, Choice::Deny) >= stage.veto)
        {
            return "denied";
        }
    }
    let is_filled = |path: &Vec<Stage>| path.iter().all(|s| of(s, Choice::Allow) >= s.need);
    if review.paths.iter().any(is_filled) {
        return "granted";
    }
    "open"
}

fn choosing(dice: &mut Dice, sent: &QuestionSent, now: u64) -> Choosing {
    let stages = [None, None, None, Some("x"), Some("y"), Some("z"), Some("w")];
    Choosing {
        stage: dice.pick(&stages).map(str::to_owned),
        breaks_glass: dice.one_in(12),
        choice: if dice.one_in(5) {
            Choice::Deny
        } else {
            Choice::Allow
        },
        scope: dice.pick(&[Scope::Once, Scope::Uses(2), Scope::Uses(3), Scope::Session]),
        not_after: match dice.below(8) {
            0 => Some(UnixMillis(now + 1_000)),
            1 => Some(UnixMillis(u64::MAX)),
            _ => None,
        },
        reason: (!dice.one_in(3)).then(|| "because".to_owned()),
        rendered: if dice.one_in(16) {
            Digest::of(b"harmless")
        } else {
            sent.rendered
        },
    }
}

/// Proves a vote with a key, as its person does: over what the server says is to be signed.
fn signed(
    case: &Case<'_>,
    directory: &Directory,
    votes: &[Vote],
    tried: &Tried,
    key: &SecretKey,
    now: UnixMillis,
) -> Proof {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let draft = case.draft(
        directory,
        &id(tried.user),
        votes,
        &tried.choosing,
        Proof::Session {},
        now,
    );
    let Ok(vote) = draft else {
        return Proof::Session {};
    };
    let challenge = case.ballot().challenge(&vote);
    Proof::Key {
        key: key.public().id(),
        signature: URL_SAFE_NO_PAD.encode(key.sign(challenge.as_bytes())),
    }
}

/// Plays one history, and returns how it ended.
fn play(world: &World, dice: &mut Dice) -> QuestionState {
    let review = review_of(dice);
    assert!(review.check().is_ok());
    let mut directory = world.people(dice);
    let mut row = row_of(world, &review);
    let mut votes: Vec<Vote> = Vec::new();
    let mut now = BEGIN;
    for _ in 0..STEPS {
        now += dice.below(8_000);
        if dice.one_in(10) {
            // Somebody loses roles.
            let index = usize::try_from(dice.below(6)).unwrap();
            directory.people[index].roles.pop();
        }
        let tried = Tried::draw(dice, &row.sent, now);
        let before = row.state;
        let case = Case::new("acme", &row);
        let time = UnixMillis(now);
        let proof = tried.proof(world, &case, &directory, &votes, time);
        let voter = tried.voter(now);
        let with = (&directory, &world.party);
        let cast = case.cast(with, &voter, &votes, &tried.choosing, proof, time);
        let Ok((vote, counting)) = cast else {
            if before != QuestionState::Open {
                assert!(
                    matches!(cast, Err(CaseError::Over | CaseError::Stale)),
                    "{cast:?}"
                );
            }
            continue;
        };
        assert_eq!(
            before,
            QuestionState::Open,
            "nothing leads out of {before:?}"
        );
        is_a_vote(&review, &directory, &votes, &vote, &tried, now);
        votes.push(vote);
        let expected = outcome(&review, &directory, &votes);
        let state = match counting {
            Counting::Open => {
                assert_eq!(expected, "open", "{votes:?}");
                continue;
            }
            Counting::Denied { .. } => {
                assert_eq!(expected, "denied", "{votes:?}");
                QuestionState::Denied
            }
            Counting::Granted { votes: named } => {
                assert_eq!(expected, "granted", "{votes:?}");
                if !is_granted(world, &case, &directory, named, time, dice) {
                    // The server keeps nothing of a vote whose grant no machine would believe.
                    votes.pop();
                    continue;
                }
                QuestionState::Granted
            }
        };
        row.state = state;
    }
    row.state
}

/// Checks what a vote that was taken must be.
fn is_a_vote(
    review: &Review,
    directory: &Directory,
    votes: &[Vote],
    vote: &Vote,
    tried: &Tried,
    now: u64,
) {
    assert!(
        tried.choosing.rendered != Digest::of(b"harmless") && now < BEGIN + OPEN_MS,
        "another text, or too late"
    );
    assert_ne!(tried.user, REQUESTER, "who asks has a vote");
    assert_eq!(vote.user, id(tried.user));
    assert!(votes.iter().all(|other| other.user != vote.user), "twice");
    let (strength, is_glass) = if let Some(stage) = review.stage(&vote.stage) {
        (stage.strength, false)
    } else {
        let glass = review
            .break_glass
            .as_ref()
            .expect("the glass can be broken");
        let user = directory.user(&vote.user).expect("a person");
        assert!(vote.stage.is_empty() && user.has(&glass.role));
        assert_eq!(vote.choice, Choice::Allow);
        assert!(vote.not_after.0 <= now + glass.max_ms);
        (glass.strength, true)
    };
    if !is_glass {
        let all: Vec<Vote> = votes.iter().chain([vote]).cloned().collect();
        assert!(
            is_asked(review, directory, &all, vote),
            "{vote:?} of {votes:?}"
        );
    }
    match vote.proof {
        Proof::Session {} => {
            assert_eq!(strength, Strength::Session);
            assert!(tried.is_fresh);
        }
        Proof::Key { .. } => assert!(tried.is_own_key, "another person's key"),
        Proof::Passkey(_) => panic!("nobody has one"),
    }
    if review.reason_required || is_glass {
        assert!(vote.reason.is_some());
    }
    if vote.choice == Choice::Allow {
        assert!(vote.scope.is_within(Scope::Uses(3)) && vote.not_after.0 > now);
    }
}

/// Makes the grant, and checks that the machine believes it, and nothing that was changed in it. Returns
/// whether the machine believes it: not if the roles that the votes had are gone.
fn is_granted(
    world: &World,
    case: &Case<'_>,
    directory: &Directory,
    votes: Vec<Vote>,
    now: UnixMillis,
    dice: &mut Dice,
) -> bool {
    let grant = case.grant(votes);
    let seal = |grant| Envelope::seal(&grant, &[&world.server]).unwrap();
    let judge = |envelope: &Envelope, directory: &Directory| {
        case.verify(envelope, directory, &world.servers, &world.party, now)
    };
    let envelope = seal(grant.clone());
    let Ok(granted) = judge(&envelope, directory) else {
        return false;
    };
    assert!(!granted.by.contains(&id(REQUESTER)));
    assert_eq!(granted.broken_glass.is_some(), grant.broken_glass);
    let yes = grant
        .votes
        .iter()
        .filter(|vote| vote.choice == Choice::Allow);
    for vote in yes {
        assert!(granted.scope.is_within(vote.scope) && granted.not_after <= vote.not_after);
    }
    // One change of each grant; a thief of the server's key signs it anew.
    let mut forged = grant.clone();
    let mut people = directory.clone();
    match dice.below(7) {
        0 => forged.nonce = Nonce::new([4; 16]),
        1 => forged.request = Digest::of(b"rm"),
        2 => forged.not_after = UnixMillis(forged.not_after.0 + 1),
        3 => forged.scope = Scope::Session,
        4 => forged.votes[0].user = id(REQUESTER),
        5 => forged.broken_glass = !forged.broken_glass,
        _ => {
            let gone = forged.votes[0].user.clone();
            people.people.retain(|user| user.id != gone);
        }
    }
    assert!(judge(&seal(forged), &people).is_err());
    true
}

/// The histories are no formality: all ends are reached, most of them often.
#[test]
fn histories_reach_every_end() {
    let world = World::new();
    let mut dice = Dice(1);
    let mut ends = [0_u32; 3];
    for _ in 0..2_000 {
        match play(&world, &mut dice) {
            QuestionState::Open => ends[0] += 1,
            QuestionState::Granted => ends[1] += 1,
            QuestionState::Denied => ends[2] += 1,
            other @ (QuestionState::Expired | QuestionState::Closed) => panic!("{other:?}"),
        }
    }
    assert!(ends.iter().all(|count| *count > 200), "{ends:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_what_is_promised(seed in any::<u64>()) {
        let world = World::new();
        let mut dice = Dice(seed);
        for _ in 0..HISTORIES {
            play(&world, &mut dice);
        }
    }
}
