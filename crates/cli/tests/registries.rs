//! Inside, clients know the package sources and the certificates that they know outside, but none
//! of the credentials for them.

use stockade_testkit::{Repo, TestEnv, run::require_tool};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nlab\n-----END CERTIFICATE-----\n";

fn for_each(body: impl Fn(&TestEnv, &Repo)) {
    TestEnv::each(|env, repo| body(&env, &repo));
}

/// R13, F4: the real npm inside uses the company's source, without its login.
#[test]
fn clients_inside_know_the_same_sources_without_the_login() {
    require_tool("npm");
    for_each(|env, repo| {
        let npmrc =
            "registry=https://dev:hunter2@corp.test:8443/npm/\n//corp.test/:_authToken=hunter2\n";
        env.write(env.home().join(".npmrc"), npmrc);
        let pip = "[global]\nindex-url = https://dev:hunter2@pip.test/simple\n";
        env.write(env.home().join(".config/pip/pip.conf"), pip);
        let line = "npm config get registry; cat ~/.config/pip/pip.conf; echo $UV_DEFAULT_INDEX; \
            cat ~/.npmrc | wc -l; grep -r hunter2 ~ /proc/self/environ; touch ~/.npmrc.new ~/.config/x";
        let output = env
            .session(repo.path())
            .env("UV_DEFAULT_INDEX", "https://dev:hunter2@uv.test/simple")
            .line(line)
            .output();
        output.assert_success().assert_stdout(
            "https://corp.test:8443/npm/\n[global]\nindex-url = https://pip.test/simple\n\
             https://uv.test/simple\n1\n",
        );
        // A policy that passes the variable by its name means it unchanged.
        env.write(
            env.home().join(".config/stockade/policy.toml"),
            "schema = 1\n[environment]\npass = [\"UV_DEFAULT_INDEX\"]\n[filesystem]\nhide = [\"~/.npmrc\"]\n",
        );
        let output = env
            .session(repo.path())
            .env("UV_DEFAULT_INDEX", "https://dev:hunter2@uv.test/simple")
            .line("echo $UV_DEFAULT_INDEX; cat ~/.npmrc 2> /dev/null | wc -l")
            .output();
        output.assert_stdout("https://dev:hunter2@uv.test/simple\n0\n");
    });
}

/// F12: the file in a certificate variable is visible and cannot be changed; a file with a key is
/// not visible, nor is any other.
#[test]
fn certificates_that_the_caller_trusts_are_there() {
    for_each(|env, repo| {
        let certificate = env.write(env.home().join("ca/company.pem"), CERTIFICATE);
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        let both = env.write(
            env.home().join("ca/both.pem"),
            &format!("{CERTIFICATE}{key}"),
        );
        let other = env.write(env.home().join("ca/notes"), "hunter2\n");
        let line = "cat $NODE_EXTRA_CA_CERTS; echo x >> $NODE_EXTRA_CA_CERTS; rm -f $NODE_EXTRA_CA_CERTS; \
            echo $SSL_CERT_FILE $CURL_CA_BUNDLE; cat $SSL_CERT_FILE $CURL_CA_BUNDLE; ls ~/ca";
        let output = env
            .session(repo.path())
            .env("NODE_EXTRA_CA_CERTS", &certificate)
            .env("SSL_CERT_FILE", &both)
            .env("CURL_CA_BUNDLE", &other)
            .line(line)
            .output();
        let paths = format!("{} {}\n", both.display(), other.display());
        output.assert_stdout(&format!("{CERTIFICATE}{paths}company.pem\n"));
        assert_eq!(std::fs::read_to_string(&certificate).unwrap(), CERTIFICATE);
    });
}

/// The certificates in the directories of `SSL_CERT_DIR` are visible, by their own names and
/// through links, and nothing else in them is.
#[test]
fn directories_of_certificates_are_there_without_keys() {
    for_each(|env, repo| {
        let home = env.home();
        env.write(home.join("ca/company.pem"), CERTIFICATE);
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        env.write(home.join("ca/both.pem"), &format!("{CERTIFICATE}{key}"));
        env.write(home.join("ca/notes"), "hunter2\n");
        env.write(home.join("other/ca.pem"), CERTIFICATE);
        let links =
            "ln -s company.pem ca/12345678.0; ln -s ../other/ca.pem ca/9.0; ln -s notes ca/1.0";
        env.shell(&home, links).assert_success();
        let directories = format!("/etc/ssl/certs:{0}/ca:{0}/absent:relative", home.display());
        let line = "echo $SSL_CERT_DIR; ls ~/ca; cat ~/ca/*.0; ls ~/other 2> /dev/null; \
            grep -rs hunter2 ~; ls /etc/ssl/certs | head -n 1 | wc -l";
        let output = env
            .session(repo.path())
            .env("SSL_CERT_DIR", &directories)
            .line(line)
            .output();
        let expected = format!(
            "{directories}\n12345678.0\n9.0\ncompany.pem\n{}1\n",
            CERTIFICATE.repeat(2)
        );
        output.assert_stdout(&expected);
    });
}
