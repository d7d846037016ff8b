//! A node's answer to `GET /` → what it is, and whether we speak to it. Pure.

use crate::settle::Answer;

/// What a node says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `elasticsearch` or `opensearch`.
    pub distribution: String,
    /// `8.19.21`.
    pub number: String,
}

/// What the answer to the question for the version tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// A search node that we speak to.
    Known(Version),
    /// One that keeps its version from us: the credentials may write documents and no more (403).
    Hidden,
    /// A search node of a version that we do not speak to.
    Foreign(Version),
    /// No answer, or none of a search node: worth another try.
    Problem(String),
}

/// Reads the answer to `GET /`.
pub fn greeting(answer: &Answer) -> Greeting {
    match answer {
        Answer::Http { status: 200, body, .. } => match parse(body) {
            Ok(version) if version.is_supported() => Greeting::Known(version),
            Ok(version) => Greeting::Foreign(version),
            Err(problem) => Greeting::Problem(problem),
        },
        Answer::Http { status: 403, .. } => Greeting::Hidden,
        Answer::Http { status: 401, .. } => {
            Greeting::Problem("status 401 to GET /: check elasticsearch.auth".to_owned())
        }
        Answer::Http { status, .. } => Greeting::Problem(format!("status {status} to GET /")),
        Answer::Nothing(problem) => Greeting::Problem(problem.clone()),
    }
}

fn parse(body: &[u8]) -> Result<Version, String> {
    #[derive(serde::Deserialize)]
    struct Root {
        version: Number,
    }
    #[derive(serde::Deserialize)]
    struct Number {
        number: String,
        #[serde(default)]
        distribution: Option<String>,
    }
    let root: Root =
        serde_json::from_slice(body).map_err(|error| format!("GET / is not answered by a search node: {error}"))?;
    let distribution = root.version.distribution.unwrap_or_else(|| "elasticsearch".to_owned());
    Ok(Version { distribution, number: root.version.number })
}

impl Version {
    /// True for what we are tested with: Elasticsearch 7.10 to 9, OpenSearch 1 to 3 (which may call itself 7.10.2).
    pub fn is_supported(&self) -> bool {
        let mut parts = self.number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        match self.distribution.as_str() {
            "opensearch" => (1..=3).contains(&major) || (major, minor) == (7, 10),
            _ => (7, 10) <= (major, minor) && major <= 9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, body: &str) -> Greeting {
        let body = bytes::Bytes::copy_from_slice(body.as_bytes());
        greeting(&Answer::Http { status, body, retry_after: None })
    }

    #[track_caller]
    fn check(distribution: &str, number: &str, supported: bool) {
        let body = match distribution {
            "" => format!(r#"{{"version":{{"number":"{number}"}},"tagline":"You Know, for Search"}}"#),
            name => format!(r#"{{"version":{{"distribution":"{name}","number":"{number}"}}}}"#),
        };
        let greeting = http(200, &body);
        assert_eq!(matches!(greeting, Greeting::Known(_)), supported, "{greeting:?}");
        assert_eq!(matches!(greeting, Greeting::Foreign(_)), !supported, "{greeting:?}");
    }

    #[test]
    fn versions_are_checked_by_distribution() {
        for number in ["7.10.2", "7.17.29", "8.19.21", "9.1.0"] {
            check("", number, true);
        }
        for number in ["6.8.23", "7.9.3", "10.0.0", "x"] {
            check("", number, false);
        }
        for (number, supported) in
            [("1.3.20", true), ("2.19.4", true), ("3.1.0", true), ("7.10.2", true), ("4.0.0", false)]
        {
            check("opensearch", number, supported);
        }
    }

    #[test]
    fn what_is_no_search_node_is_asked_again_and_rights_to_write_alone_are_enough() {
        for (status, body) in [(200, "<html>"), (200, "{}"), (400, ""), (401, "{}"), (404, ""), (503, "")] {
            assert!(matches!(http(status, body), Greeting::Problem(_)), "{status} {body}");
        }
        assert_eq!(http(403, "{}"), Greeting::Hidden);
        assert_eq!(greeting(&Answer::Nothing("refused".to_owned())), Greeting::Problem("refused".to_owned()));
    }
}
