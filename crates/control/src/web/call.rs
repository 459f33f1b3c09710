//! One request: who makes it, and what it says.

use std::{collections::BTreeMap, sync::Arc};

use stockade_policy::access::Thing;
use stockade_types::{RawText, UnixMillis};

use super::{
    Web,
    access::{self, Action, Circumstances, Sight},
    caller::Caller,
    problem::Problem,
};

/// Fields of a form.
const FIELDS_MAX: usize = 200;

/// A request.
pub(crate) struct Call {
    pub(crate) web: Arc<Web>,
    /// Who makes it.
    pub(crate) caller: Option<Caller>,
    /// Its path and query.
    pub(crate) here: String,
    /// The script nonce of the answer.
    pub(crate) nonce: String,
    /// When it came.
    pub(crate) now: UnixMillis,
    /// How many questions wait for the caller.
    pub(crate) waiting: u64,
    /// The page to come back to after signing in: this one, or the one with the form.
    pub(crate) back: String,
    /// Whether a link on a page of another site led here.
    pub(crate) from_elsewhere: bool,
    /// The address that it came from, cut to what a household or company shares.
    pub(crate) from: String,
    /// What the browser shows of an attempt to sign in at a provider.
    pub(crate) attempt: Option<String>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) query: Fields,
    pub(crate) form: Fields,
}

/// Fields of a form or a query, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a form or a query.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes).into_owned();
        Self(pairs.take(FIELDS_MAX).collect())
    }

    /// Returns a field, `""` if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// Returns all fields whose names begin so, with the rest of their names.
    pub(crate) fn below<'f>(&'f self, front: &'f str) -> impl Iterator<Item = (&'f str, &'f str)> {
        let rest = move |(name, value): &'f (String, String)| {
            let rest = name.strip_prefix(front)?;
            Some((rest, value.as_str()))
        };
        self.0.iter().filter_map(rest)
    }

    /// Returns all fields of a name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(found, _)| found == name);
        named.map(|(_, value)| value.as_str())
    }
}

impl Call {
    /// Returns who is signed in.
    ///
    /// # Errors
    /// When nobody is; the route then should have needed it.
    pub(crate) fn caller(&self) -> Result<&Caller, Problem> {
        self.caller.as_ref().ok_or_else(Problem::signed_out)
    }

    /// Tells whether the caller's session or token still works.
    pub(crate) async fn is_still_there(&self) -> bool {
        let Some(caller) = &self.caller else {
            return false;
        };
        caller.is_still_there(&self.web, self.now).await
    }

    /// Returns how far the caller may do something with machines and sessions.
    pub(crate) fn sight(&self, action: Action) -> Result<Sight, Problem> {
        Ok(self.caller()?.sight(action))
    }

    /// Lets a change of a thing through that the caller may see.
    ///
    /// # Errors
    /// When the caller may not make it, or has to prove first who it is.
    pub(crate) fn permit(
        &self,
        action: Action,
        thing: &Thing<'_>,
        how: Circumstances,
    ) -> Result<(), Problem> {
        let caller = self.caller()?;
        let thing = (self.web.server.state.org(), thing);
        let step_up = how.step_up || caller.is_fresh(self.now);
        if caller.allows(action, thing, Circumstances { step_up, ..how }) {
            return Ok(());
        }
        let proved = Circumstances {
            step_up: true,
            ..how
        };
        if caller.allows(action, thing, proved) {
            caller.fresh(self.now)?;
            return Err(Problem::stale());
        }
        Err(Problem::forbidden(
            format!("your roles do not let you {} here", access::words(action)),
            "ask an administrator for a role that does",
        ))
    }

    /// Returns a part of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    }

    /// Returns a part of the path as what it names; a wrong one names nothing.
    pub(crate) fn named<T: std::str::FromStr>(&self, name: &str) -> Result<T, Problem> {
        self.param(name).parse().map_err(|_| Problem::not_found())
    }

    /// Returns what a person typed into a field of the query, which the page shows again: of so many
    /// characters, and without any that cannot be seen.
    pub(crate) fn typed(&self, name: &str, chars_max: usize) -> String {
        seen(self.query.get(name), chars_max)
    }

    /// Returns a field of the query.
    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.get(name)
    }
}

/// Returns a text of so many characters, without any that cannot be seen, for a field that is shown again.
pub(crate) fn seen(text: &str, chars_max: usize) -> String {
    let is_hidden = |c: char| RawText::from(c.encode_utf8(&mut [0; 4]) as &str).has_hidden();
    let seen = text.chars().take(chars_max);
    let seen: String = seen.map(|c| if is_hidden(c) { ' ' } else { c }).collect();
    seen.trim().to_owned()
}
