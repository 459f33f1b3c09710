//! Teams on the pages: how they are made and changed, and who manages whose machines.

use stockade_trust::UserId;

use super::lab::Lab;
use crate::roles::TeamRole;

/// An administrator makes a team, and gives people roles for it; what has changed since a form was loaded is
/// not overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn a_team_is_made_and_changed_by_forms_that_are_not_stale() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["admin"]).await;
    let ben = lab.person("ben", &[]).await;
    lab.post(&ann, "/people/teams", &[("name", "web")])
        .await
        .is(303);
    lab.post(&ann, "/people/teams", &[("name", "web")])
        .await
        .is(409);
    let web = lab.state.team_named("web").await.unwrap().unwrap();
    let field = format!("team:{}", web.id.0);
    let roles = format!("/people/{}/roles", ben.id);
    let version = lab.version(&ben).await;
    let give = |version: &str, roles: &str| {
        vec![
            ("version".to_owned(), version.to_owned()),
            (field.clone(), roles.to_owned()),
        ]
    };
    let send = async |fields: Vec<(String, String)>| {
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        lab.post(&ann, &roles, &fields).await.status
    };
    // Without a version, with a role of the whole, and for a team that is not there.
    assert_eq!(send(give("", "viewer")).await, 400);
    assert_eq!(send(give(&version, "admin")).await, 400);
    assert_eq!(send(give(&version, "Not@Role")).await, 400);
    let other = vec![
        ("version".to_owned(), version.clone()),
        ("team:tm-0".to_owned(), "viewer".to_owned()),
    ];
    assert_eq!(send(other).await, 404);
    assert_eq!(send(give(&version, "viewer security")).await, 303);
    // The same form again is stale, and changes nothing.
    assert_eq!(send(give(&version, "")).await, 409);
    let user = lab
        .state
        .user(&UserId(ben.id.clone()))
        .await
        .unwrap()
        .unwrap();
    let held = |role: &str| TeamRole {
        team: web.id.clone(),
        role: role.to_owned(),
    };
    assert_eq!(user.team_roles, [held("security"), held("viewer")]);
    assert!(user.roles.is_empty());
    let page = lab.get(&ann, "/people").await.is(200);
    assert!(page.body.contains("security for "), "{}", page.body);
    // A form without a field for the team leaves its roles alone.
    let version = lab.version(&ben).await;
    let fields = vec![
        ("version".to_owned(), version),
        ("others".to_owned(), "legal".to_owned()),
    ];
    assert_eq!(send(fields).await, 303);
    let user = lab
        .state
        .user(&UserId(ben.id.clone()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((user.team_roles.len(), user.roles.len()), (2, 1));
}

/// A machine is given to a team by a form that is not stale, and a team that is in use is not removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_team_that_is_in_use_is_not_removed() {
    let lab = Lab::start().await;
    let ann = lab.person("ann", &["admin"]).await;
    let web = lab.team("web").await;
    let held = format!("viewer@{}", web.0);
    let ben = lab.person("ben", &[&held]).await;
    let machine = lab.machine("laptop", None).await;
    let path = format!("/fleet/{}/team", machine.id);
    let to_web = [("seen", ""), ("team", web.as_str())];
    lab.post(&ann, &path, &to_web).await.is(303);
    lab.post(&ann, &path, &to_web).await.is(409);
    let team = format!("/people/teams/{}", web.0);
    let remove = format!("{team}/remove");
    lab.post(&ann, &remove, &[("version", "1")]).await.is(409);
    // A stale form renames nothing.
    let rename = async |version: &str, name: &str| {
        let fields = [("version", version), ("name", name)];
        lab.post(&ann, &team, &fields).await.status
    };
    assert_eq!(rename("1", "shop").await, 303);
    assert_eq!(rename("1", "web").await, 409);
    let back = [("seen", web.as_str()), ("team", "")];
    lab.post(&ann, &path, &back).await.is(303);
    // A person still holds a role for it.
    lab.post(&ann, &remove, &[("version", "2")]).await.is(409);
    let field = format!("team:{}", web.0);
    let version = lab.version(&ben).await;
    let fields = [("version", version.as_str()), (field.as_str(), "")];
    let roles = format!("/people/{}/roles", ben.id);
    lab.post(&ann, &roles, &fields).await.is(303);
    lab.post(&ann, &remove, &[("version", "2")]).await.is(303);
    assert!(lab.state.teams().await.unwrap().is_empty());
}

/// Who manages the machines of a team takes none of another one, and gives none away.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_managed_by_its_team() {
    let lab = Lab::start().await;
    let (web, pay) = (lab.team("web").await, lab.team("payments").await);
    let operator = format!("fleet-operator@{}", web.0);
    let viewer = format!("viewer@{}", pay.0);
    let ann = lab.person("ann", &[&operator, &viewer]).await;
    let own = lab.machine("own", None).await;
    let other = lab.machine("other", None).await;
    lab.give(&own.id, &web).await;
    lab.give(&other.id, &pay).await;
    let take = |id: &stockade_api::NodeId| format!("/fleet/{id}/team");
    let (web, pay) = (web.as_str(), pay.as_str());
    // She sees the machine of the other team, and cannot take it, retire it, or give hers away.
    lab.get(&ann, &format!("/fleet/{}", other.id)).await.is(200);
    lab.post(&ann, &take(&other.id), &[("seen", pay), ("team", web)])
        .await
        .is(403);
    lab.post(&ann, &format!("/fleet/{}/retire", other.id), &[])
        .await
        .is(403);
    for to in [pay, "", "tm-0000000000000000"] {
        lab.post(&ann, &take(&own.id), &[("seen", web), ("team", to)])
            .await
            .is(400);
    }
    // Tokens are for machines of her team alone; the words are the same for a team that is not there.
    let enrol = async |team: &str| lab.post(&ann, "/fleet/enrol", &[("team", team)]).await;
    let (hidden, absent) = (
        enrol(pay).await.is(400),
        enrol("tm-0000000000000000").await.is(400),
    );
    assert!(
        hidden.body.contains("there is no such team"),
        "{}",
        hidden.body
    );
    assert_eq!(hidden.status, absent.status);
    enrol("").await.is(400);
    assert!(enrol(web).await.is(200).body.contains("stockade enrol"));
    lab.post(&ann, &format!("/fleet/{}/retire", own.id), &[])
        .await
        .is(303);
}
