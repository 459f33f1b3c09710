//! A question as this terminal shows it, and the vote that is made of what was shown.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_api::terminal::{BallotThere, QuestionThere, VoteTaken};
use stockade_approval::Shown;
use stockade_policy::{Scope, Strength};
use stockade_trust::{Ballot, Choice, Proof, SecretKey, Vote};
use stockade_types::{Digest, UnixMillis};

use super::{Login, TerminalError};
use crate::clock::now;

/// How long a yes holds at most that names no time itself, in milliseconds: the server says until when.
const HOLDS_MS_MAX: u64 = 2 * 24 * 60 * 60 * 1000;

/// Why a question is not shown, or a vote not made.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// The server was not reached, or refused.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// What the server says does not fit.
    #[error(
        "{0}; bring Stockade here and on the server to one version, or tell who runs the server"
    )]
    Unfit(&'static str),
    /// What was shown before is not what is asked.
    #[error("the question is not the one that was shown; look at it again")]
    Other,
    /// The stage needs a key.
    #[error(
        "stage `{0}` takes no vote without an approver key; make one with `stockade approvals key create`"
    )]
    KeyNeeded(String),
    /// The stage needs a passkey.
    #[error("stage `{0}` takes a passkey and no key; answer on the page")]
    PasskeyNeeded(String),
    /// The key is of another organisation or person.
    #[error("the approver key here is of another person or organisation than who is signed in")]
    OtherKey,
}

/// A question, with the text that was made of it here.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the server says of it.
    pub there: QuestionThere,
    /// Its text.
    pub shown: Shown,
    /// The digest of the text, which a vote names.
    pub rendered: Digest,
}

/// What a person chose.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    /// Yes or no.
    pub choice: Choice,
    /// How far a yes reaches.
    pub scope: Scope,
    /// Why.
    pub reason: Option<&'a str>,
    /// What was shown: [`Asked::rendered`].
    pub rendered: Digest,
}

impl<'a> Chosen<'a> {
    /// Returns the reason as the server takes it: without space around it.
    fn said(&self) -> Option<&'a str> {
        let reason = self.reason.map(str::trim);
        reason.filter(|reason| !reason.is_empty())
    }
}

impl Login {
    /// Returns a question, with its text as this machine makes it.
    ///
    /// # Errors
    /// When there is none for the person, or what the server says of it does not fit together.
    pub fn question(&self, id: &str) -> Result<Asked, VoteError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !id.bytes().all(is_plain) {
            return Err(VoteError::Unfit("that is no id of a question"));
        }
        let there: QuestionThere = self.ask(&format!("/api/v1/questions/{id}/sent"), None)?;
        let shown = there.sent.question.shown();
        let rendered = shown.digest();
        if rendered != there.sent.rendered {
            return Err(VoteError::Unfit(
                "the text of the question is not what the machine that asks makes of it",
            ));
        }
        if there.sent.question.grounds.review.as_ref() != Some(&there.sent.review) {
            return Err(VoteError::Unfit(
                "the question names other people in its text than those who are to answer",
            ));
        }
        Ok(Asked {
            there,
            shown,
            rendered,
        })
    }

    /// Asks the server whether the person may vote so, before anything is signed.
    ///
    /// # Errors
    /// When the person may not, or the server answers what does not fit.
    pub fn ballot(&self, asked: &Asked, chosen: &Chosen<'_>) -> Result<BallotThere, VoteError> {
        if chosen.rendered != asked.rendered {
            return Err(VoteError::Other);
        }
        let path = format!("/api/v1/questions/{}/ballot", asked.there.id);
        let fields = Fields::of(chosen);
        let ballot: BallotThere = self.ask(&path, Some(&fields.pairs()))?;
        let stage = asked.there.sent.review.stage(&ballot.stage);
        if stage.is_none() {
            return Err(VoteError::Unfit(
                "the server names a stage that the question does not have",
            ));
        }
        let latest = match chosen.scope {
            Scope::Until(end) => end.0,
            Scope::Once | Scope::Uses(_) | Scope::Session | Scope::Paths => {
                now().0.saturating_add(HOLDS_MS_MAX)
            }
        };
        if ballot.not_after.0 > latest {
            return Err(VoteError::Unfit(
                "the server wants a yes that holds for too long",
            ));
        }
        Ok(ballot)
    }

    /// Tells whether the stage of a ballot takes a vote without a key.
    ///
    /// # Errors
    /// When it takes neither that nor a key.
    pub fn needs_key(asked: &Asked, ballot: &BallotThere) -> Result<bool, VoteError> {
        let stage = asked.there.sent.review.stage(&ballot.stage);
        match stage.map(|stage| stage.strength) {
            Some(Strength::Session) => Ok(false),
            Some(Strength::Key) => Ok(true),
            Some(Strength::Passkey) | None => Err(VoteError::PasskeyNeeded(ballot.stage.clone())),
        }
    }

    /// Votes: signed by a key, or shortly after the person has signed the terminal in. Returns how the
    /// question stands then.
    ///
    /// # Errors
    /// When the stage does not take it, or the server does not.
    pub fn vote(
        &self,
        asked: &Asked,
        chosen: &Chosen<'_>,
        ballot: &BallotThere,
        key: Option<&SecretKey>,
    ) -> Result<VoteTaken, VoteError> {
        if key.is_none() && Self::needs_key(asked, ballot)? {
            return Err(VoteError::KeyNeeded(ballot.stage.clone()));
        }
        let fields = Fields::of(chosen);
        let mut pairs = fields.pairs();
        let not_after = ballot.not_after.0.to_string();
        pairs.push(("stage", &ballot.stage));
        pairs.push(("not_after", &not_after));
        let signed = key.map(|key| {
            let message = self.challenge(asked, chosen, ballot);
            let id = serde_json::to_value(key.public().id()).ok();
            let id = id.and_then(|id| id.as_str().map(str::to_owned));
            let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()));
            (id.unwrap_or_default(), signature)
        });
        if let Some((id, signature)) = &signed {
            pairs.push(("key", id));
            pairs.push(("signature", signature));
        }
        let path = format!("/api/v1/questions/{}/vote", asked.there.id);
        Ok(self.ask(&path, Some(&pairs))?)
    }

    /// Makes what a key signs: of the request whose text was shown here, and nothing that the server computed.
    fn challenge(&self, asked: &Asked, chosen: &Chosen<'_>, there: &BallotThere) -> Digest {
        let question = &asked.there;
        let ballot = Ballot {
            org: &self.org,
            node: &question.node,
            session: &question.session,
            approval: &question.approval,
            nonce: question.sent.nonce,
            request: question.sent.question.request_digest(),
            revision: question.sent.revision,
            rendered: asked.rendered,
        };
        ballot.challenge(&Vote {
            user: self.user.clone(),
            stage: there.stage.clone(),
            choice: chosen.choice,
            scope: chosen.scope,
            not_after: there.not_after,
            reason: chosen.said().map(str::to_owned),
            // Neither is part of what is signed: the server notes when the vote came.
            at: UnixMillis(0),
            proof: Proof::Session {},
        })
    }
}

/// What a person chose, as the fields of a form.
struct Fields<'a> {
    choice: &'static str,
    scope: String,
    reason: &'a str,
    rendered: String,
}

impl<'a> Fields<'a> {
    fn of(chosen: &Chosen<'a>) -> Self {
        Self {
            choice: match chosen.choice {
                Choice::Allow => "allow",
                Choice::Deny => "deny",
            },
            scope: chosen.scope.to_string(),
            reason: chosen.said().unwrap_or_default(),
            rendered: chosen.rendered.to_string(),
        }
    }

    fn pairs(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("choice", self.choice),
            ("scope", &self.scope),
            ("reason", self.reason),
            ("rendered", &self.rendered),
        ]
    }
}
