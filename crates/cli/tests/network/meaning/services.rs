//! Rules about packages, code hosts and models, with requests in TLS that is opened.

use stockade_testkit::{
    Output, TestEnv,
    approvals::{self, Answer, Asked},
    events,
    lab::TlsServer,
    run::require_tool,
};

use crate::network::for_each_user;

/// A server of a service, with the rules about it.
struct Service<'e> {
    env: &'e TestEnv,
    server: TlsServer,
    rules: String,
}

impl<'e> Service<'e> {
    /// `rules` are tables of TOML in which `HOSTS` stands for the host.
    fn new(env: &'e TestEnv, rules: &str) -> Self {
        let server = TlsServer::start(&["service.test"]);
        let authority = env.write("authority.pem", server.certificate_pem());
        let hosts = format!("hosts = [\"service.test\"]\nports = [{}]", server.port());
        let rules = format!(
            "schema = 1\n[network]\nupstream_ca = [\"{}\"]\n[network.hosts]\n\"service.test\" = \
             \"127.0.0.1\"\n{}",
            authority.display(),
            rules.replace("HOSTS", &hosts)
        );
        Self { env, server, rules }
    }

    /// Sends each request, `METHOD PATH [BODY]`, and prints its status; questions get a no.
    fn send(&self, requests: &[&str]) -> (Output, Vec<Asked>) {
        require_tool("curl");
        let policy = self
            .env
            .write("policy.toml", &self.rules)
            .display()
            .to_string();
        let mut line = String::new();
        for request in requests {
            let mut parts = request.splitn(3, ' ');
            let (method, path) = (parts.next().unwrap_or("GET"), parts.next().unwrap_or("/"));
            let body = parts.next().map(|body| format!(" --data-binary '{body}'"));
            let one = format!(
                "curl -s -o /dev/null --path-as-is -m 10 -w '%{{http_code}} ' -X {method}{} \
                 'https://service.test:{}{path}'; ",
                body.unwrap_or_default(),
                self.server.port()
            );
            line.push_str(&one);
        }
        let repo = self.env.repo();
        let options = ["--ask", "inbox", "--policy", policy.as_str()];
        let run = self.env.session_with(repo.path(), &options).line(line);
        approvals::answer_all(self.env, run.spawn(), |_| Answer::Deny {
            reason: "not this".to_owned(),
        })
    }

    /// Ends the test unless exactly these requests arrived, and each of the others was refused once.
    fn check(&self, table: &[(&str, u16)]) -> Vec<Asked> {
        let requests: Vec<&str> = table.iter().map(|(request, _)| *request).collect();
        let (output, asked) = self.send(&requests);
        let statuses: Vec<String> = table.iter().map(|(_, status)| status.to_string()).collect();
        let record = events::summary(&self.env.record());
        assert_eq!(
            output.stdout.trim(),
            statuses.join(" "),
            "{table:?}\n{record}"
        );
        let passed = table.iter().filter(|(_, status)| *status == 200);
        let arrived: Vec<String> = self
            .server
            .requests()
            .iter()
            .map(|one| one.target.clone())
            .collect();
        let expected: Vec<String> = passed
            .filter_map(|(request, _)| request.split(' ').nth(1).map(str::to_owned))
            .collect();
        assert_eq!(arrived, expected, "{record}");
        asked
    }
}

const EVERYTHING: &str = "[[allow]]\nid = \"all\"\nwhat = \"net\"\nHOSTS\nprivate = true\n";

/// Calls of models: what the provider would do by itself is refused, whichever protocol names it and
/// however it is hidden; calls with the program's own tools pass.
#[test]
fn models_run_no_tools_that_nobody_sees() {
    for_each_user(|env| {
        let rules = format!(
            "{EVERYTHING}[[deny]]\nid = \"hosted\"\nwhat = \"model\"\nHOSTS\nhosted_tools = \
             [\"web_search\", \"mcp\"]\n[[deny]]\nid = \"large\"\nwhat = \"model\"\nHOSTS\nmodels = \
             [\"large-*\"]\n"
        );
        let service = Service::new(env, &rules);
        let own = "{\"model\":\"m\",\"tools\":[{\"name\":\"Read\",\"input_schema\":{}}]}";
        service.check(&[
            (&format!("POST /v1/messages {own}"), 200),
            ("GET /v1/models", 200),
            ("POST /v1/other {\"events\":[]}", 200),
            ("POST /v1/messages {\"model\":\"m\",\"tools\":[{\"type\":\"web_search_20250305\"}]}", 403),
            ("POST /v1/messages {\"model\":\"m\",\"mcp_servers\":[{\"url\":\"x\"}]}", 403),
            ("POST /v1/responses {\"model\":\"m\",\"tools\":[{\"type\":\"mcp\"}]}", 403),
            ("POST /v1/messages {\"model\":\"large-1\"}", 403),
            ("POST /v1/messages {\"model\":\"m\",\"model\":\"large-1\"}", 403),
            ("POST /v1/messages {\"model\":\"m\",\"TOOLS\":[{\"type\":\"web_search\"}]}", 403),
            ("POST /v1//messages {\"mcp_servers\":[{}]}", 403),
            ("POST /v1/messages/batches {\"requests\":[{\"params\":{\"tools\":[{\"type\":\"web_search\"}]}}]}", 403),
            ("POST /v1/messages not-json", 403),
        ]);
        let record = events::summary(&env.record());
        assert!(record.contains("the provider runs web_search"), "{record}");
    });
}

/// Packages are read without a question, and what is put there is asked about, by whatever address.
#[test]
fn packages_are_downloaded_and_not_published() {
    for_each_user(|env| {
        let rules = "[[allow]]\nid = \"read\"\nwhat = \"package\"\nHOSTS\nprivate = true\n\
                     ecosystems = [\"npm\"]\noperations = [\"download\"]\n[[deny]]\nid = \
                     \"left\"\nwhat = \"package\"\nHOSTS\necosystems = [\"npm\"]\nnames = \
                     [\"left-pad\", \"@bad/*\"]\n[[ask]]\nid = \"publish\"\nwhat = \
                     \"package\"\nHOSTS\nprivate = true\necosystems = [\"npm\"]\noperations = [\"publish\"]\n";
        let service = Service::new(env, rules);
        let asked = service.check(&[
            ("GET /right-pad", 200),
            ("GET /right-pad/-/right-pad-1.0.0.tgz", 200),
            ("GET /@good%2fthing", 200),
            ("GET /left-pad", 403),
            ("GET /Left-Pad/-/left-pad-1.0.0.tgz", 403),
            ("GET /@bad%2fthing", 403),
            ("GET /@good%2f..%2fleft-pad", 403),
            ("GET /npm/right-pad", 200),
            ("GET /a/npm/right-pad/-/right-pad-1.0.0.tgz", 200),
            ("GET /npm/@good%2fthing", 200),
            ("GET /npm/left-pad", 403),
            ("GET /npm/left-pad/1.0.0", 403),
            ("GET /a/npm/left-pad/-/left-pad-1.0.0.tgz", 403),
            ("GET /npm/@bad%2fthing", 403),
            ("GET /npm/-/all", 403),
            ("PUT /right-pad {}", 403),
            ("PUT /npm/left-pad {}", 403),
            ("PUT /odd/place {}", 403),
        ]);
        // What can be a name that is denied is not asked about.
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(asked[1].mentions("publish odd or place (npm)"), "{asked:?}");
        assert!(asked[0].mentions("publish right-pad (npm)"), "{asked:?}");
    });
}

/// Code hosts: what reads passes, what changes is told from it in REST and GraphQL.
#[test]
fn code_hosts_are_read_and_not_changed() {
    for_each_user(|env| {
        let rules = format!(
            "{EVERYTHING}[[ask]]\nid = \"change\"\nwhat = \"forge\"\nHOSTS\nprivate = true\noperations = \
             [\"mutation\"]\n[[deny]]\nid = \"merge\"\nwhat = \"forge\"\nHOSTS\nactions = [\"merge*\"]\n"
        );
        let service = Service::new(env, &rules);
        let asked = service.check(&[
            ("GET /repos/team/shop/pulls/1", 200),
            ("POST /graphql {\"query\":\"{ viewer { login } }\"}", 200),
            ("PUT /repos/team/shop/pulls/1/merge {}", 403),
            (
                "POST /graphql {\"query\":\"mutation { m: mergePullRequest(input: {}) { id } }\"}",
                403,
            ),
            (
                "POST /graphql {\"query\":\"mutation { ...F } fragment F on Mutation { a }\"}",
                403,
            ),
            ("POST /graphql {\"id\":\"stored\"}", 403),
            ("GET /graphql?query=mutation{mergePullRequest}", 403),
            ("POST /repos/team/shop/releases {}", 403),
        ]);
        // What a deny could mean is not asked about.
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(
            asked[0].mentions("change at team/shop: release"),
            "{asked:?}"
        );
    });
}
