//! How the set of events is written down.

use serde::Serialize;
use stockade_types::{RawText, Target};

use crate::totals::Counts;

/// Receives the fields of an event one by one.
pub trait FieldWriter {
    /// Why a field was not accepted.
    type Error;

    /// Writes one field.
    ///
    /// # Errors
    /// When the field cannot be written.
    fn field(&mut self, name: &str, value: &impl Serialize) -> Result<(), Self::Error>;
}

/// Returns the target of an event about a server.
pub(crate) fn server(host: &str, port: u16) -> Target {
    Target {
        host: Some(host.to_owned()),
        port: Some(port),
        ..Target::default()
    }
}

/// Returns the target of an event about a request to a server.
pub(crate) fn request(method: &str, path: &RawText, server: Target) -> Target {
    Target {
        method: Some(method.to_owned()),
        path: Some(path.clone()),
        ..server
    }
}

/// Gives a closure of the set of events the type of its argument.
pub(crate) fn apply(totals: &mut Counts, add: impl FnOnce(&mut Counts)) {
    add(totals);
}

/// Declares from one text the enum, its catalogue and the way its own fields are written, so that
/// none of them can miss a variant. A journal keeps fields marked with `@` beside the event: see
/// the crate `journal`.
///
/// After the fields comes the line that `stockade events` shows; then, if there is one, the
/// `target` that is not in a decision; then what the event `counts` in the totals; and whether it
/// `closes`, so that a full journal accepts it.
macro_rules! events {
    ($(
        $(#[doc = $doc:literal])+
        $kind:literal $name:ident {
            $($(#[doc = $field_doc:literal])+ $(@$beside:tt)? $field:ident: $type:ty,)+
        }
        => $line:expr;
        $(target $target:expr;)?
        $(counts $counts:expr;)?
        $(closes $closes:literal;)?
    )+) => {
        /// Every event that a session can report; the set is closed.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "data")]
        pub enum Event {
            $(
                $(#[doc = $doc])+
                #[serde(rename = $kind)]
                $name { $($(#[doc = $field_doc])+ $field: $type,)+ },
            )+
        }

        impl Event {
            /// Returns the name of the kind, `<noun>.<past verb>`.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $kind,)+
                }
            }

            /// Says what happened in one line. It escapes every character of foreign text that a
            /// terminal would obey or hide.
            #[allow(unused_variables, reason = "a line tells the fields that matter")]
            pub fn line(&self) -> String {
                match self {
                    $(Self::$name { $($field),+ } => $line,)+
                }
            }

            /// Returns its target, if that is not in a decision.
            #[allow(unused_variables, reason = "a target is made of some fields")]
            pub fn own_target(&self) -> Option<Target> {
                match self {
                    $(Self::$name { $($field),+ } => events!(@some $($target)?),)+
                }
            }

            /// Adds to the totals of a session what the event itself counts for, apart from its
            /// decision.
            #[allow(unused_variables, reason = "most kinds count as one")]
            pub(crate) fn add_to(&self, totals: &mut Counts) {
                match self {
                    $(Self::$name { $($field),+ } => {
                        $(apply(totals, $counts);)?
                    })+
                }
            }

            /// Returns whether it only reports something that has already happened, at the end or
            /// about the record itself, so that a full journal still accepts it.
            pub const fn closes(&self) -> bool {
                match self {
                    $(Self::$name { .. } => false $(|| $closes)?,)+
                }
            }

            /// Returns the decision that the event carries.
            #[allow(unused_variables, reason = "most fields carry none")]
            pub fn decision(&self) -> Option<&DecisionRecord> {
                match self {
                    $(Self::$name { $($field),+ } => None
                        $($(.or_else(|| events!(@decision $beside $field)))?)+,)+
                }
            }

            /// Returns the process that the event is about, if the event itself names one.
            #[allow(unused_variables, reason = "most fields name none")]
            pub fn subject(&self) -> Option<&Subject> {
                match self {
                    $(Self::$name { $($field),+ } => None
                        $($(.or_else(|| events!(@subject $beside $field)))?)+,)+
                }
            }

            /// Puts in what a journal keeps beside the event; `false` if there is no decision for one
            /// that needs it.
            #[allow(unused_variables, reason = "a journal keeps most fields within the event")]
            pub fn put_beside(
                &mut self,
                process: Option<&Subject>,
                mut decision: Option<DecisionRecord>,
            ) -> bool {
                match self {
                    $(Self::$name { $($field),+ } => true
                        $($(&& events!(@fill $beside $field, process, &mut decision))?)+,)+
                }
            }

            /// Passes to `put` the fields that a journal keeps within the event, in their order.
            ///
            /// # Errors
            /// The error of `put`, at the first field that it does not accept.
            pub fn own_fields<E>(
                &self,
                put: &mut impl FieldWriter<Error = E>,
            ) -> Result<(), E> {
                match self {
                    $(Self::$name { $($field),+ } => {
                        $(events!(@put put $($beside)?, $field);)+
                        Ok(())
                    })+
                }
            }
        }

        /// Returns the fields of a kind that a journal keeps beside the event, each with JSON in its
        /// place, so that the others can be read before [`Event::put_beside`].
        pub fn placeholders(kind: &str) -> &'static [(&'static str, &'static str)] {
            match kind {
                $($kind => const { &[$($(events!(@placeholder $beside $field: $type),)?)+] },)+
                _ => &[],
            }
        }

        /// Returns every kind of event in the order in which the reference lists them.
        pub const fn catalogue() -> &'static [KindDoc] {
            CATALOGUE
        }

        const CATALOGUE: &[KindDoc] = &[$(
            KindDoc {
                kind: $kind,
                doc: concat!($($doc),+),
                fields: &[$(
                    FieldDoc {
                        name: stringify!($field),
                        type_name: stringify!($type),
                        doc: concat!($($field_doc),+),
                    },
                )+],
            },
        )+];
    };
    (@put $put:ident beside, $field:ident) => { let _: &_ = $field; };
    (@put $put:ident , $field:ident) => { $put.field(stringify!($field), $field)?; };
    (@placeholder beside $field:ident: $type:ty) => {
        (stringify!($field), <$type as Beside>::PLACEHOLDER)
    };
    (@fill beside $field:ident, $process:expr, $decision:expr) => {
        Beside::fill($field, $process, $decision)
    };
    (@some $value:expr) => { Some($value) };
    (@some) => { None };
    (@decision beside $field:ident) => { Beside::decision($field) };
    (@subject beside $field:ident) => { Beside::subject($field) };
}

pub(crate) use events;
