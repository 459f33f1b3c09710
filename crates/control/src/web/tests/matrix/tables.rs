//! What each role may, written without regard to how the server decides it, and every route that needs a role.

/// What each role may: `A` with everything for which it is held, `O` with what is its own (of questions: what
/// asks the role), `-` nothing. It is written without regard to how the server decides it.
pub(super) const TABLE: &str = "
                qu vo se st co tr in fl mf
viewer          A  -  A  -  -  -  A  A  -
developer       O  -  O  O  -  -  O  -  -
policy-author   -  -  -  -  -  -  -  -  -
policy-approver -  -  -  -  -  -  -  A  -
fleet-operator  -  -  A  A  -  -  A  A  A
analyst         A  -  A  -  -  A  A  A  -
auditor         A  -  A  -  -  -  A  A  -
privacy-officer -  -  -  -  -  -  -  -  -
incident-lead   A  O  A  A  A  A  A  A  -
monitor         -  -  -  -  -  -  -  -  -
content-reader  -  -  A  -  A  -  -  -  -
admin           A  -  A  A  -  A  A  A  A
security        O  O  O  -  -  -  -  -  -
";

/// Which roles reach what is about the organisation as a whole: `W` if they are held for all of it, `T` also if
/// they are held for one team.
pub(super) const WHOLE: &str = "
                ov po pu pr sp mp au me
viewer          T  T  -  -  -  -  -  -
developer       T  T  -  -  -  -  -  -
policy-author   W  W  -  W  -  -  -  -
policy-approver W  W  W  W  -  -  -  -
fleet-operator  T  T  -  -  -  -  -  W
analyst         T  T  -  -  -  -  -  -
auditor         T  T  -  -  W  -  W  -
privacy-officer W  -  -  -  W  -  W  -
incident-lead   T  -  -  -  -  -  -  -
monitor         -  -  -  -  -  -  -  W
content-reader  T  -  -  -  -  -  -  -
admin           W  W  W  W  W  W  W  W
security        T  -  -  -  -  -  -  -
";

/// Roles that are about the organisation as a whole.
pub(super) const WHOLE_ALONE: [&str; 5] = [
    "policy-author",
    "policy-approver",
    "privacy-officer",
    "monitor",
    "admin",
];

/// Routes about one thing: method, path, what the caller has to see of it, and what to be allowed.
pub(super) const ROUTES: &[(&str, &str, &str, &str)] = &[
    ("GET", "/inbox/{question}", "qu", "qu"),
    ("GET", "/api/v1/questions/{question}", "qu", "qu"),
    ("POST", "/api/v1/questions/{question}/challenge", "qu", "vo"),
    ("GET", "/api/v1/questions/{question}/sent", "qu", "qu"),
    ("POST", "/api/v1/questions/{question}/ballot", "qu", "vo"),
    ("POST", "/api/v1/questions/{question}/vote", "qu", "vo"),
    ("POST", "/inbox/{question}/review", "qu", "vo"),
    ("POST", "/inbox/{question}", "qu", "vo"),
    ("GET", "/sessions/{node}/{session}", "se", "se"),
    ("GET", "/api/v1/sessions/{node}/{session}", "se", "se"),
    ("GET", "/sessions/{node}/{session}/events", "se", "se"),
    (
        "GET",
        "/api/v1/sessions/{node}/{session}/events",
        "se",
        "se",
    ),
    ("GET", "/sessions/{node}/{session}/events/{seq}", "se", "se"),
    (
        "GET",
        "/api/v1/sessions/{node}/{session}/events/{seq}",
        "se",
        "se",
    ),
    ("GET", "/decisions/{node}/{session}/{decision}", "se", "se"),
    (
        "GET",
        "/api/v1/decisions/{node}/{session}/{decision}",
        "se",
        "se",
    ),
    ("POST", "/sessions/{node}/{session}/stop", "se", "st"),
    ("POST", "/sessions/{node}/{session}/content", "se", "co"),
    ("POST", "/findings", "se", "tr"),
    ("GET", "/integrity/{node}/{session}", "in", "in"),
    ("GET", "/api/v1/integrity/{node}/{session}", "in", "in"),
    ("POST", "/integrity/{node}/{session}", "in", "in"),
    ("GET", "/fleet/{node}", "fl", "fl"),
    ("GET", "/api/v1/nodes/{node}", "fl", "fl"),
    ("POST", "/fleet/{node}/team", "fl", "mf"),
    ("POST", "/fleet/{node}/retire", "fl", "mf"),
];

/// Routes that are no change and no list of what belongs to teams, and what they need of the whole.
pub(super) const OF_THE_WHOLE: &[(&str, &str, &str)] = &[
    ("GET", "/", "ov"),
    ("GET", "/api/v1/overview", "ov"),
    ("GET", "/metrics", "me"),
    ("GET", "/policy", "po"),
    ("GET", "/api/v1/policy", "po"),
    ("GET", "/policy/proposals", "po"),
    ("GET", "/api/v1/policy/proposals", "po"),
    ("GET", "/policy/proposals/{proposal}", "po"),
    ("GET", "/api/v1/policy/proposals/{proposal}", "po"),
    ("GET", "/rollouts", "po"),
    ("GET", "/api/v1/rollouts", "po"),
    ("GET", "/rollouts/{rollout}", "po"),
    ("GET", "/api/v1/rollouts/{rollout}", "po"),
    ("POST", "/rollouts/{rollout}/report", "po"),
    ("POST", "/api/v1/policy/check", "po"),
    ("POST", "/policy/proposals", "pr"),
    ("POST", "/policy/proposals/{proposal}", "pr"),
    ("POST", "/rollouts/{rollout}", "pu"),
    ("POST", "/policy", "pu"),
    ("GET", "/people", "sp"),
    ("GET", "/api/v1/people", "sp"),
    ("GET", "/people/{user}", "sp"),
    ("GET", "/api/v1/people/{user}", "sp"),
    ("GET", "/audit", "au"),
    ("GET", "/api/v1/audit", "au"),
    ("POST", "/people/invite", "mp"),
    ("POST", "/people/{user}/roles", "mp"),
    ("POST", "/people/{user}/remove", "mp"),
    ("POST", "/settings/channels", "mp"),
    ("POST", "/settings/channels/{channel}/remove", "mp"),
    ("POST", "/settings/channels/{channel}/test", "mp"),
    ("POST", "/settings/deliveries/{delivery}/again", "mp"),
    ("GET", "/keys", "mp"),
    ("GET", "/api/v1/keys", "mp"),
    ("POST", "/keys/approve", "mp"),
    ("POST", "/keys/revoke", "mp"),
    ("POST", "/people/teams", "mp"),
    ("POST", "/people/teams/{team}", "mp"),
    ("POST", "/people/teams/{team}/remove", "mp"),
];

/// Lists, and what of each row the caller has to see.
pub(super) const LISTS: &[(&str, &str)] = &[
    ("/inbox", "qu"),
    ("/api/v1/questions", "qu"),
    ("/sessions", "se"),
    ("/api/v1/sessions", "se"),
    ("/flows?days=90", "se"),
    ("/api/v1/flows?days=90", "se"),
    ("/findings?which=all", "se"),
    ("/api/v1/findings?which=all", "se"),
    ("/search?q=kind:session.started", "se"),
    ("/api/v1/search?q=kind:session.started", "se"),
    ("/integrity", "in"),
    ("/api/v1/integrity", "in"),
    ("/fleet", "fl"),
    ("/api/v1/nodes", "fl"),
];

/// Other routes that need a role, and are asked elsewhere: enrolment is by `a_machine_is_managed_by_its_team`, and equal
/// questions, which have no name of their own, are by the tests of `together`.
pub(super) const ELSEWHERE: &[&str] = &[
    "/fleet/enrol",
    "/inbox/together/{group}",
    "/api/v1/questions/together/{group}",
];

pub(super) fn letter(table: &str, role: &str, column: &str) -> char {
    let mut lines = table.trim_matches('\n').lines();
    let head = lines.next().unwrap();
    let place = head.split_whitespace().position(|one| one == column);
    let mut row = lines.find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(role)).then_some(words)
    });
    let word = row.as_mut().and_then(|row| row.nth(place.unwrap()));
    word.unwrap_or_else(|| panic!("{role} {column}"))
        .chars()
        .next()
        .unwrap()
}

pub(super) fn roles() -> Vec<&'static str> {
    let rows = TABLE.trim_matches('\n').lines().skip(1);
    rows.filter_map(|row| row.split_whitespace().next())
        .collect()
}
