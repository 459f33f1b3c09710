//! What descriptions of packages say of when a version was published.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use stockade_policy::Ecosystem;

use super::Place;

/// The file of a version, and the place of the description that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) version: &'a str,
    pub(super) file: &'a Place,
    pub(super) place: &'a Place,
}

/// A description of npm.
#[derive(Deserialize)]
struct Packument {
    versions: BTreeMap<String, Version>,
    #[serde(default)]
    time: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Version {
    dist: Distribution,
}

#[derive(Deserialize)]
struct Distribution {
    tarball: String,
}

/// A page of the simple index of Python (PEP 691, PEP 700).
#[derive(Deserialize)]
struct Page {
    files: Vec<PageFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PageFile {
    filename: String,
    url: String,
    #[serde(default)]
    upload_time: Option<String>,
}

/// A line of an index of crates.
#[derive(Deserialize)]
struct Line {
    vers: String,
    #[serde(default)]
    pubtime: Option<String>,
}

/// What a proxy of Go says of a version.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    version: String,
    time: Option<String>,
}

impl Wanted<'_> {
    /// Returns when the version was published, in seconds since 1970; `None` if that is not said.
    ///
    /// # Errors
    /// When it is no description.
    pub(super) fn published(
        self,
        ecosystem: Ecosystem,
        text: &[u8],
    ) -> Result<Option<u64>, String> {
        let said = match ecosystem {
            Ecosystem::Npm => self.npm(text),
            Ecosystem::Pypi => self.pypi(text),
            Ecosystem::Crates => self.crates(text),
            Ecosystem::Go => self.go(text),
            Ecosystem::Debian | Ecosystem::Oci => Ok(None),
        };
        let said = said.map_err(|_| {
            format!(
                "`{}` describes it in a form that does not say its age",
                self.place.host
            )
        })?;
        Ok(said.as_deref().and_then(seconds))
    }

    /// Returns the last part of the path of the file.
    fn name(&self) -> &str {
        self.file.path.rsplit('/').next().unwrap_or_default()
    }

    fn npm(&self, text: &[u8]) -> Result<Option<String>, serde_json::Error> {
        let Packument { versions, time } = serde_json::from_slice(text)?;
        let is_it = |version: &Version| {
            let tarball = version.dist.tarball.split(['?', '#']).next();
            tarball.and_then(|path| path.rsplit('/').next()) == Some(self.name())
        };
        let said = time.get(self.version).and_then(serde_json::Value::as_str);
        let is_listed = versions.get(self.version).is_some_and(is_it);
        Ok(said.filter(|_| is_listed).map(str::to_owned))
    }

    fn pypi(&self, text: &[u8]) -> Result<Option<String>, serde_json::Error> {
        let Page { files } = serde_json::from_slice(text)?;
        let is_it = |file: &&PageFile| file.filename == self.name() && self.is_at(&file.url);
        // Of two that are one file, the younger one counts.
        let found = files.iter().filter(is_it);
        let mut times: Vec<&str> = found.filter_map(|one| one.upload_time.as_deref()).collect();
        times.sort_unstable_by_key(|time| seconds(time));
        Ok(times.last().map(|time| (*time).to_owned()))
    }

    /// Tells whether an address in the description is that of the file.
    fn is_at(&self, url: &str) -> bool {
        let url = url.split(['#', '?']).next().unwrap_or_default();
        let Some((_, rest)) = url.split_once("://") else {
            let name = url.rsplit('/').next();
            let same = (&self.place.host, self.place.port) == (&self.file.host, self.file.port);
            return same && !url.starts_with("//") && name == Some(self.name());
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = self.file.host.to_string();
        let with_port = format!("{host}:{}", self.file.port);
        let authority = authority.to_ascii_lowercase();
        (authority == host || authority == with_port)
            && self.file.path.strip_prefix('/') == Some(path)
    }

    fn crates(&self, text: &[u8]) -> Result<Option<String>, serde_json::Error> {
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line: Line = serde_json::from_slice(line)?;
            if line.vers == self.version {
                return Ok(line.pubtime);
            }
        }
        Ok(None)
    }

    fn go(&self, text: &[u8]) -> Result<Option<String>, serde_json::Error> {
        let info: Info = serde_json::from_slice(text)?;
        Ok(info.time.filter(|_| info.version == self.version))
    }
}

/// Reads a time (RFC 3339), in seconds since 1970.
fn seconds(time: &str) -> Option<u64> {
    let time: Timestamp = time.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use stockade_fuzz::{TRIES, Target};
    use stockade_policy::Ecosystem::{self, Crates, Go, Npm, Pypi};

    use super::{Place, Wanted};

    fn place(host: &str, path: &str) -> Place {
        Place {
            host: host.parse().unwrap(),
            port: stockade_types::Port::new(443).unwrap(),
            path: path.to_owned(),
        }
    }

    fn said(ecosystem: Ecosystem, file: &Place, text: &str) -> Result<Option<u64>, String> {
        let wanted = Wanted {
            version: "1.0.0",
            file,
            place: &place("index.test", "/simple/demo/"),
        };
        wanted.published(ecosystem, text.as_bytes())
    }

    /// What registries say, and what is none of the file that is asked for.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn times_are_those_of_the_file() {
        let tarball = place("index.test", "/npm/demo/-/demo-1.0.0.tgz");
        let wheel = place("files.test", "/ab/demo-1.0.0-py3-none-any.whl");
        let own = place("index.test", "/files/demo-1.0.0-py3-none-any.whl");
        let at = Ok(Some(1_577_836_800));
        let page = |url: &str, time: &str| {
            format!(
                "{{\"files\":[{{\"filename\":\"demo-1.0.0-py3-none-any.whl\",\"url\":\"{url}\"{time}}}]}}"
            )
        };
        let time = ",\"upload-time\":\"2020-01-01T00:00:00.000000Z\"";
        let npm = |tarball: &str, time: &str| {
            format!(
                "{{\"versions\":{{\"1.0.0\":{{\"dist\":{{\"tarball\":\"{tarball}\"}}}}}},\"time\":{{{time}}}}}"
            )
        };
        let npm_time =
            "\"1.0.0\":\"2020-01-01T00:00:00.000Z\",\"created\":\"2019-01-01T00:00:00.000Z\"";
        for (ecosystem, file, text, expected) in [
            (
                Npm,
                &tarball,
                npm("https://a.test/demo/-/demo-1.0.0.tgz", npm_time),
                at.clone(),
            ),
            (
                Npm,
                &tarball,
                npm("https://a.test/demo/-/demo-9.0.0.tgz", npm_time),
                Ok(None),
            ),
            (
                Npm,
                &tarball,
                npm("https://a.test/demo/-/demo-1.0.0.tgz", ""),
                Ok(None),
            ),
            (
                Npm,
                &tarball,
                npm("https://a.test/demo/-/demo-1.0.0.tgz", "\"1.0.0\":1"),
                Ok(None),
            ),
            (
                Pypi,
                &wheel,
                page(
                    "https://files.test/ab/demo-1.0.0-py3-none-any.whl#sha256=1",
                    time,
                ),
                at.clone(),
            ),
            (
                Pypi,
                &wheel,
                page(
                    "https://files.test:443/ab/demo-1.0.0-py3-none-any.whl",
                    time,
                ),
                at.clone(),
            ),
            (
                Pypi,
                &wheel,
                page("https://other.test/ab/demo-1.0.0-py3-none-any.whl", time),
                Ok(None),
            ),
            (
                Pypi,
                &wheel,
                page("https://files.test/other/demo-1.0.0-py3-none-any.whl", time),
                Ok(None),
            ),
            (
                Pypi,
                &wheel,
                page("../files/demo-1.0.0-py3-none-any.whl", time),
                Ok(None),
            ),
            (
                Pypi,
                &own,
                page("../files/demo-1.0.0-py3-none-any.whl", time),
                at.clone(),
            ),
            (
                Pypi,
                &own,
                page("//evil.test/demo-1.0.0-py3-none-any.whl", time),
                Ok(None),
            ),
            (
                Pypi,
                &own,
                page("../files/demo-1.0.0-py3-none-any.whl", ""),
                Ok(None),
            ),
            (
                Crates,
                &own,
                "{\"vers\":\"0.9.0\"}\n{\"vers\":\"1.0.0\",\"pubtime\":\"2020-01-01T00:00:00Z\"}\n"
                    .to_owned(),
                at.clone(),
            ),
            (Crates, &own, "{\"vers\":\"1.0.0\"}".to_owned(), Ok(None)),
            (
                Go,
                &own,
                "{\"Version\":\"1.0.0\",\"Time\":\"2020-01-01T01:00:00+01:00\"}".to_owned(),
                at.clone(),
            ),
            (
                Go,
                &own,
                "{\"Version\":\"1.0.1\",\"Time\":\"2020-01-01T00:00:00Z\"}".to_owned(),
                Ok(None),
            ),
            (
                Go,
                &own,
                "{\"Version\":\"1.0.0\",\"Time\":\"yesterday\"}".to_owned(),
                Ok(None),
            ),
        ] {
            assert_eq!(said(ecosystem, file, &text), expected, "{text}");
        }
        for ecosystem in [Npm, Pypi, Crates, Go] {
            assert!(said(ecosystem, &own, "<html>").is_err());
        }
    }

    #[test]
    fn fuzz_package_description() {
        let target = Target {
            name: "package-description",
            samples: vec![
                b"{\"versions\":{\"1.0.0\":{\"dist\":{\"tarball\":\"https://a.test/demo/-/demo-1.0.0.tgz\"}}},\"time\":{\"1.0.0\":\"2020-01-01T00:00:00.000Z\"}}".to_vec(),
                b"{\"files\":[{\"filename\":\"demo-1.0.0.tgz\",\"url\":\"../demo-1.0.0.tgz\",\"upload-time\":\"2020-01-01T00:00:00Z\"}]}".to_vec(),
                b"{\"vers\":\"1.0.0\",\"pubtime\":\"2020-01-01T00:00:00Z\"}\n".to_vec(),
                b"{\"Version\":\"1.0.0\",\"Time\":\"2020-01-01T00:00:00Z\"}".to_vec(),
            ],
            words: &[b"\"time\":", b"9999-12-31T23:59:60Z", b"-1", b"://"],
            tries: TRIES,
        };
        let file = place("index.test", "/npm/demo/-/demo-1.0.0.tgz");
        stockade_fuzz::target(&target, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            for ecosystem in [Npm, Pypi, Crates, Go] {
                if let Ok(Some(published)) = said(ecosystem, &file, &text) {
                    assert!(text.contains("1.0.0"), "{published}");
                }
            }
        });
    }
}
