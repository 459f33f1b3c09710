//! Every role, held for the whole organisation and for one team, on every route, with what belongs to its team,
//! to another one, to none, and to another organisation.

mod tables;

use stockade_api::NodeId;
use stockade_testkit::invented;
use stockade_trust::TeamId;
use stockade_types::RawText;

use super::{
    inbox::ask_role,
    lab::{Answer, Lab, Person},
};
use crate::{
    now,
    web::{routes::routes, serving::Needs},
};
use tables::{ELSEWHERE, LISTS, OF_THE_WHOLE, ROUTES, TABLE, WHOLE, WHOLE_ALONE, letter, roles};

/// Where a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the team of the caller.
    Web,
    /// In another team.
    Pay,
    /// In no team.
    Nowhere,
    /// In another organisation.
    Foreign,
}

/// A machine with a session, a finding and a question.
struct Thing {
    place: Place,
    /// Whether it belongs to who asks, and its question asks the role of who asks.
    own: bool,
    node: NodeId,
    session: String,
    finding: String,
    question: String,
    team: String,
}

struct World {
    lab: Lab,
    web: TeamId,
    olga: Person,
    things: Vec<Thing>,
}

impl World {
    async fn new() -> Self {
        let lab = Lab::start().await;
        let (web, pay) = (lab.team("web").await, lab.team("payments").await);
        let olga = lab.person("olga", &[]).await;
        let mut things = Vec::new();
        for (place, team) in [
            (Place::Web, Some(&web)),
            (Place::Pay, Some(&pay)),
            (Place::Nowhere, None),
            (Place::Foreign, None),
        ] {
            for own in [false, true] {
                let name = format!("{place:?}-{own}");
                let machine = lab.machine(&name, Some(&olga)).await;
                let session = invented::record(&machine.dir, 2, &RawText::from("text"));
                lab.take(&machine, u64::MAX).await;
                lab.state
                    .accuse(&machine.id, None, "text-mismatch", &name, now())
                    .await
                    .unwrap();
                if let Some(team) = team {
                    lab.give(&machine.id, team).await;
                }
                things.push(Thing {
                    place,
                    own,
                    session,
                    finding: format!("n-{}", things.len() + 1),
                    question: String::new(),
                    team: team.map_or_else(String::new, |team| team.0.clone()),
                    node: machine.id,
                });
            }
        }
        lab.indexed().await;
        for thing in things.iter().filter(|thing| thing.place == Place::Foreign) {
            for (table, column) in [
                ("nodes", "id"),
                ("sessions", "node_id"),
                ("findings", "node_id"),
            ] {
                let node = &thing.node;
                let sql = format!("UPDATE {table} SET org_id = 'other' WHERE {column} = '{node}'");
                lab.sql(sql).await;
            }
        }
        Self {
            lab,
            web,
            olga,
            things,
        }
    }

    /// Gives a person own machines and questions.
    async fn own(&mut self, person: &Person, role: &str) {
        for thing in &mut self.things {
            let (owner, asked) = if thing.own {
                (person, role)
            } else {
                (&self.olga, "owner")
            };
            let sql = format!(
                "UPDATE nodes SET owner = '{}' WHERE id = '{}'",
                owner.id, thing.node
            );
            self.lab.sql(sql).await;
            self.lab
                .sql(format!(
                    "DELETE FROM questions WHERE node_id = '{}'",
                    thing.node
                ))
                .await;
            let row = ask_role(&self.lab, thing.node.clone(), &self.olga, asked).await;
            // One person has overridden its stages, so that there is something to review.
            let (id, olga, due) = (&row.id, &self.olga.id, now().0 + 3_600_000);
            let sql = format!(
                "INSERT INTO review_tasks (org_id, question_id, breaker, made, due) \
                 VALUES ('acme', '{id}', '{olga}', 0, {due})"
            );
            self.lab.sql(sql).await;
            if thing.place == Place::Foreign {
                let sql = format!(
                    "UPDATE questions SET org_id = 'other' WHERE id = '{}'",
                    row.id
                );
                self.lab.sql(sql).await;
            }
            thing.question = row.id;
        }
    }

    async fn person(&self, role: &str, of_team: bool) -> Person {
        let held = if of_team {
            format!("{role}@{}", self.web.0)
        } else {
            role.to_owned()
        };
        if of_team && WHOLE_ALONE.contains(&role) {
            // No page gives such a role; it counts for nothing all the same.
            let person = self.lab.person(&held, &[]).await;
            let sql = format!(
                "INSERT INTO team_roles VALUES ('acme', '{}', '{}', '{role}', '', 0)",
                person.id, self.web.0
            );
            self.lab.sql(sql).await;
            return person;
        }
        self.lab.person(&held, &[&held]).await
    }

    /// Asks a route for a thing, as a page would.
    async fn ask(&self, person: &Person, (method, path): (&str, &str), thing: &Thing) -> Answer {
        let question = self.lab.state.question(&thing.question).await.unwrap();
        let rendered = question.map_or_else(String::new, |row| row.sent.rendered.to_string());
        let path = path
            .replace("{node}", thing.node.as_str())
            .replace("{session}", &thing.session)
            .replace("{question}", &thing.question)
            .replace("{seq}", "1")
            .replace("{decision}", "1");
        if method == "GET" {
            return self.lab.get(person, &path).await;
        }
        let fields = [
            ("rendered", rendered.as_str()),
            ("choice", "deny"),
            ("verdict", "justified"),
            ("note", "seen"),
            ("reason", "an incident is looked into"),
            ("id", &thing.finding),
            ("state", "expected"),
            ("seen", &thing.team),
            ("team", &thing.team),
        ];
        self.lab.post(person, &path, &fields).await
    }
}

/// What is expected of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// No role lets the caller do it with anything.
    Never,
    /// There is no such thing, as far as the caller can tell.
    Hidden,
    /// It is seen, and may not be done.
    Refused,
    /// It is done, or something else is wrong with it.
    Done,
}

fn expected(role: &str, of_team: bool, (sees, does): (&str, &str), thing: &Thing) -> Expected {
    if letter(TABLE, role, does) == '-' || of_team && WHOLE_ALONE.contains(&role) {
        return Expected::Never;
    }
    let is_held = match thing.place {
        Place::Web => true,
        Place::Pay | Place::Nowhere => !of_team,
        Place::Foreign => false,
    };
    let reaches = |column| match letter(TABLE, role, column) {
        'A' => is_held,
        'O' => is_held && thing.own,
        _ => false,
    };
    if !reaches(sees) {
        Expected::Hidden
    } else if reaches(does) {
        Expected::Done
    } else {
        Expected::Refused
    }
}

fn told(status: u16) -> Expected {
    match status {
        403 => Expected::Refused,
        404 => Expected::Hidden,
        // It exists for the caller: it was done, is done already, or something is missing.
        200 | 303 | 400 | 409 => Expected::Done,
        other => panic!("{other}"),
    }
}

/// Takes names of things out of an answer, so that two can be compared.
fn plain(answer: &Answer) -> String {
    let mut text = answer.body.clone();
    if let Some(at) = text.find("<main") {
        text = text.split_off(at);
    }
    text
}

/// Asks every route for every thing as each of these roles, and says what is answered in another way than the tables
/// say.
async fn asked(of_team: bool, roles: &[&str]) -> Vec<String> {
    let mut world = World::new().await;
    let nothing = Thing {
        place: Place::Nowhere,
        own: false,
        node: NodeId::from_random(99),
        session: "0000000000000000".to_owned(),
        finding: "n-999".to_owned(),
        question: "q-0000000000000000".to_owned(),
        team: String::new(),
    };
    let mut wrong: Vec<String> = Vec::new();
    for role in roles {
        let person = world.person(role, of_team).await;
        world.own(&person, role).await;
        for (method, path, sees, does) in ROUTES {
            let absent = world.ask(&person, (method, path), &nothing).await;
            for thing in &world.things {
                let wanted = expected(role, of_team, (sees, does), thing);
                let answer = world.ask(&person, (method, path), thing).await;
                let found = match (told(answer.status), wanted) {
                    (Expected::Refused, Expected::Never) => Expected::Never,
                    (found, _) => found,
                };
                let what = format!(
                    "{role} of team {of_team}: {method} {path} in {:?}, own {}",
                    thing.place, thing.own
                );
                if found != wanted {
                    wrong.push(format!("{what}: {found:?}, not {wanted:?}"));
                }
                // Exactly what is said about a thing that is not there.
                let is_hidden = matches!(found, Expected::Hidden | Expected::Never);
                let says = |answer: &Answer| (answer.status, plain(answer));
                if is_hidden && says(&absent) != says(&answer) {
                    wrong.push(format!("{what}: not as what is not there"));
                }
                if *path == "/fleet/{node}/retire" && found == Expected::Done {
                    let node = &thing.node;
                    let sql = format!("UPDATE nodes SET retired = NULL WHERE id = '{node}'");
                    world.lab.sql(sql).await;
                }
            }
        }
    }
    wrong
}

/// Roles whose turn is first. Together they take minutes on a busy machine.
const FIRST: usize = 7;

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_held_for_all_reach_the_organisation() {
    assert_eq!(asked(false, &roles()[..FIRST]).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn further_roles_that_are_held_for_all_reach_the_organisation() {
    assert_eq!(asked(false, &roles()[FIRST..]).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_held_for_a_team_reach_that_team_and_nothing_else() {
    assert_eq!(asked(true, &roles()[..FIRST]).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn further_roles_that_are_held_for_a_team_reach_that_team_and_nothing_else() {
    assert_eq!(asked(true, &roles()[FIRST..]).await, Vec::<String>::new());
}

/// The controls of these: each route is for somebody, hidden from somebody, and not for everybody.
#[test]
fn the_tables_have_both_answers_for_each_route() {
    let places = [Place::Web, Place::Pay, Place::Nowhere, Place::Foreign];
    let things = places.into_iter().flat_map(|place| {
        [false, true].map(|own| Thing {
            place,
            own,
            node: NodeId::from_random(1),
            session: String::new(),
            finding: String::new(),
            question: String::new(),
            team: String::new(),
        })
    });
    let things: Vec<Thing> = things.collect();
    for (_, path, sees, does) in ROUTES {
        let mut all = Vec::new();
        for of_team in [false, true] {
            for role in roles() {
                let one = |thing| expected(role, of_team, (sees, does), thing);
                all.extend(things.iter().map(one));
            }
        }
        for wanted in [Expected::Done, Expected::Hidden, Expected::Never] {
            let count = all.iter().filter(|one| **one == wanted).count();
            assert!(count > 5, "{path}: {wanted:?} {count}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_list_has_what_its_reader_may_see_and_nothing_else() {
    let mut world = World::new().await;
    let mut shown = [0, 0];
    let mut wrong: Vec<String> = Vec::new();
    for of_team in [false, true] {
        for role in roles() {
            let person = world.person(role, of_team).await;
            world.own(&person, role).await;
            for (path, sees) in LISTS {
                let answer = world.lab.get(&person, path).await;
                let never =
                    letter(TABLE, role, sees) == '-' || of_team && WHOLE_ALONE.contains(&role);
                assert_eq!(
                    answer.status,
                    if never { 403 } else { 200 },
                    "{role} {path}"
                );
                if never {
                    continue;
                }
                // Flows have one example of many sessions: what of others must not be among them.
                let is_grouped = path.contains("/flows");
                for thing in &world.things {
                    let may = expected(role, of_team, (sees, sees), thing) == Expected::Done;
                    // The sessions of all machines have the same id here.
                    let names = [thing.node.as_str(), &thing.question];
                    let has = names.iter().any(|name| answer.body.contains(name));
                    let what = format!(
                        "{role} of team {of_team}: {path} {:?} {}",
                        thing.place, thing.own
                    );
                    if has && !may {
                        wrong.push(format!("{what}: is shown"));
                    }
                    if may && !has && !is_grouped && !is_page(path) {
                        wrong.push(format!("{what}: is not shown"));
                    }
                    shown[usize::from(has)] += 1;
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(shown[0] > 200 && shown[1] > 200, "{shown:?}");
}

/// Pages show names where data has ids.
fn is_page(path: &str) -> bool {
    !path.starts_with("/api/")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_the_whole_is_for_roles_that_are_held_for_it() {
    let world = World::new().await;
    let mut told = [0, 0];
    for of_team in [false, true] {
        for role in roles() {
            let person = world.person(role, of_team).await;
            for (method, path, column) in OF_THE_WHOLE {
                let path = path
                    .replace("{proposal}", "p-0000000000000000")
                    .replace("{rollout}", "r-0000000000000000")
                    .replace("{user}", "u-0000000000000000")
                    .replace("{channel}", "ch-0000000000000000")
                    .replace("{delivery}", "d-0000000000000000")
                    .replace("{team}", "tm-0000000000000000");
                let may = match letter(WHOLE, role, column) {
                    'W' => !of_team,
                    'T' => true,
                    _ => false,
                };
                let answer = match *method {
                    "GET" => world.lab.get(&person, &path).await,
                    _ => world.lab.post(&person, &path, &[]).await,
                };
                let what = format!(
                    "{role} of team {of_team}: {method} {path}: {}",
                    answer.status
                );
                assert_eq!(answer.status != 403, may, "{what}");
                assert!(answer.status < 500, "{what}");
                told[usize::from(may)] += 1;
            }
        }
    }
    assert!(told[0] > 300 && told[1] > 150, "{told:?}");
}

/// No route that needs a role is left out of the tables.
#[test]
fn the_tables_have_every_route() {
    let of_thing = ROUTES.iter().map(|(method, path, _, _)| (*method, *path));
    let of_whole = OF_THE_WHOLE
        .iter()
        .map(|(method, path, _)| (*method, *path));
    let lists = LISTS
        .iter()
        .map(|(path, _)| ("GET", path.split('?').next().unwrap()));
    let known: Vec<(&str, &str)> = of_thing.chain(of_whole).chain(lists).collect();
    for route in routes() {
        let Needs::Role(action) = route.needs else {
            continue;
        };
        let is_known = known.contains(&(route.method.as_str(), route.path));
        assert!(
            is_known || ELSEWHERE.contains(&route.path),
            "{} {} needs {action:?}: add it to a table",
            route.method,
            route.path
        );
    }
}
