//! What is asked, as Cedar's entities.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};

use super::{Action, Circumstances, Held, Principal, ROLES, Thing, is_for_teams};

/// The roles of a team in the schema.
const OF_TEAM: [&str; 8] = [
    "viewer",
    "developer",
    "fleet-operator",
    "analyst",
    "auditor",
    "incident-lead",
    "content-reader",
    APPROVER,
];
/// Stands for every role that the program does not know.
const APPROVER: &str = "approver";
/// Parts the name of a role from where it is held. No name of a role has it.
const AT: char = '@';
/// Stands for all places.
const ANYWHERE: &str = "*";

type Failed = String;
type Attributes = HashMap<String, RestrictedExpression>;

/// Where a thing belongs.
#[derive(Clone, Copy)]
enum Belongs<'a> {
    /// To machines of a team, or to those without one.
    To(Option<&'a str>),
    /// It is about the organisation as a whole.
    Nowhere,
}

/// Makes entities; it knows the names of their types.
pub(super) struct Makes {
    user: EntityTypeName,
    role: EntityTypeName,
    team: EntityTypeName,
    organisation: EntityTypeName,
    action: EntityTypeName,
    whole: EntityTypeName,
    node: EntityTypeName,
    session: EntityTypeName,
    question: EntityTypeName,
    proposal: EntityTypeName,
}

impl Makes {
    pub(super) fn new() -> Result<Self, Failed> {
        let name = |name: &str| name.parse().map_err(|error| format!("{error}"));
        Ok(Self {
            user: name("User")?,
            role: name("Role")?,
            team: name("Team")?,
            organisation: name("Organisation")?,
            action: name("Action")?,
            whole: name("Whole")?,
            node: name("Node")?,
            session: name("Session")?,
            question: name("Question")?,
            proposal: name("Proposal")?,
        })
    }

    /// Makes a request with its entities.
    pub(super) fn request(
        &self,
        principal: &Principal<'_>,
        action: Action,
        thing: (&str, &Thing<'_>),
        circumstances: Circumstances,
    ) -> Result<(Request, Entities), Failed> {
        let (uid, entities) = self.entities(principal, thing, None)?;
        let request = self.about(principal, action, uid, circumstances, None)?;
        Ok((request, entities))
    }

    fn about(
        &self,
        principal: &Principal<'_>,
        action: Action,
        thing: EntityUid,
        circumstances: Circumstances,
        schema: Option<&Schema>,
    ) -> Result<Request, Failed> {
        let flags = [
            ("step_up", circumstances.step_up),
            ("is_requester", circumstances.is_requester),
            ("is_author", circumstances.is_author),
            ("has_reason", circumstances.has_reason),
        ];
        let flags = flags.map(|(name, is)| (name.to_owned(), RestrictedExpression::new_bool(is)));
        let context = Context::from_pairs(flags).map_err(|error| error.to_string())?;
        let principal = uid(&self.user, principal.id);
        let action = uid(&self.action, action.as_str());
        Request::new(principal, action, thing, context, schema).map_err(|error| error.to_string())
    }

    fn entities(
        &self,
        principal: &Principal<'_>,
        (org, thing): (&str, &Thing<'_>),
        schema: Option<&Schema>,
    ) -> Result<(EntityUid, Entities), Failed> {
        let team = match thing {
            Thing::Node(place) | Thing::Session(place) => Belongs::To(place.team),
            Thing::Question { team, .. } => Belongs::To(*team),
            Thing::Whole | Thing::Proposal(_) => Belongs::Nowhere,
        };
        let (mut all, parents) = self.roles(principal.held, team);
        let own = reference(&self.organisation, principal.org);
        let attributes = [("org".to_owned(), own)].into_iter().collect();
        all.push(entity(uid(&self.user, principal.id), attributes, parents)?);
        if let Belongs::To(team) = team {
            let roles = OF_TEAM.map(|role| reference(&self.role, &held_for(role, team)));
            let attributes = OF_TEAM.map(str::to_owned).into_iter().zip(roles).collect();
            all.push(entity(self.team_uid(team), attributes, HashSet::new())?);
        }
        let (thing, mut attributes) = self.thing(thing);
        let org = reference(&self.organisation, org);
        attributes.insert("org".to_owned(), org);
        all.push(entity(thing.clone(), attributes, HashSet::new())?);
        let entities = Entities::from_entities(all, schema);
        Ok((thing, entities.map_err(|error| error.to_string())?))
    }

    /// Makes the roles that somebody holds, as far as they matter for a thing of this team; returns them with
    /// what the person is in.
    fn roles(&self, held: &[Held<'_>], team: Belongs<'_>) -> (Vec<Entity>, HashSet<EntityUid>) {
        let mut parents_of: BTreeMap<String, HashSet<EntityUid>> = BTreeMap::new();
        let mut own = HashSet::new();
        let is_plain = |held: &&Held<'_>| !held.role.contains(AT) && !held.role.is_empty();
        for held in held.iter().filter(is_plain) {
            // A role of the organisation as a whole that is held for a team gives nothing.
            if held.team.is_some() && (!is_for_teams(held.role) || held.team == Some("")) {
                continue;
            }
            let name = match held.team {
                Some(team) => held_for(held.role, Some(team)),
                None => held.role.to_owned(),
            };
            let kinds = if ROLES.contains(&held.role) {
                [Some(held.role), None]
            } else {
                [Some(held.role), Some(APPROVER)]
            };
            let parents = parents_of.entry(name.clone()).or_default();
            for kind in kinds.into_iter().flatten() {
                parents.insert(uid(&self.role, &format!("{kind}{AT}{ANYWHERE}")));
                // Who holds it for the whole organisation holds it for each team.
                let place = match (held.team, team) {
                    (Some(own), _) => Belongs::To(Some(own)),
                    (None, place) => place,
                };
                if let Belongs::To(place) = place {
                    let there = held_for(kind, place);
                    if there != name {
                        parents.insert(uid(&self.role, &there));
                    }
                }
            }
            own.insert(uid(&self.role, &name));
        }
        let role = |(name, parents): (String, HashSet<EntityUid>)| {
            Entity::new_no_attrs(uid(&self.role, &name), parents)
        };
        (parents_of.into_iter().map(role).collect(), own)
    }

    fn thing(&self, thing: &Thing<'_>) -> (EntityUid, Attributes) {
        let mut attributes = Attributes::new();
        let mut has = |name: &str, value| attributes.insert(name.to_owned(), value);
        let kind = match thing {
            Thing::Whole => &self.whole,
            Thing::Node(place) | Thing::Session(place) => {
                has(
                    "team",
                    RestrictedExpression::new_entity_uid(self.team_uid(place.team)),
                );
                if let Some(owner) = place.owner {
                    has("owner", reference(&self.user, owner));
                }
                if matches!(thing, Thing::Node(_)) {
                    &self.node
                } else {
                    &self.session
                }
            }
            Thing::Question {
                team,
                requesters,
                asks,
            } => {
                has(
                    "team",
                    RestrictedExpression::new_entity_uid(self.team_uid(*team)),
                );
                let requesters = requesters.iter().map(|id| reference(&self.user, id));
                has("requesters", RestrictedExpression::new_set(requesters));
                let asks = asks.iter().filter(|role| !role.contains(AT));
                let asks = asks.map(|role| reference(&self.role, &held_for(role, *team)));
                has("asks", RestrictedExpression::new_set(asks));
                &self.question
            }
            Thing::Proposal(author) => {
                has("author", reference(&self.user, author));
                &self.proposal
            }
        };
        (uid(kind, "this"), attributes)
    }

    fn team_uid(&self, team: Option<&str>) -> EntityUid {
        uid(&self.team, team.unwrap_or_default())
    }
}

fn reference(kind: &EntityTypeName, id: &str) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid(kind, id))
}

/// Names a role that is held for a team; machines without one have an empty name for theirs.
fn held_for(role: &str, team: Option<&str>) -> String {
    format!("{role}{AT}{}", team.unwrap_or_default())
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<Entity, Failed> {
    Entity::new(uid, attributes, parents).map_err(|error| error.to_string())
}

#[cfg(test)]
impl Makes {
    /// Makes a request and its entities as the schema has them.
    pub(super) fn checked(
        &self,
        principal: &Principal<'_>,
        action: Action,
        thing: (&str, &Thing<'_>),
        schema: &Schema,
    ) -> Result<(), Failed> {
        let (uid, _) = self.entities(principal, thing, Some(schema))?;
        self.about(principal, action, uid, Circumstances::BEST, Some(schema))?;
        Ok(())
    }
}
