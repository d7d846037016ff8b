//! File or command → OAUTHBEARER token, and when it is to be fetched anew. Never shows the token.

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use service::clock::{monotonic, wall_ms};
use service::load::Secret;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest token, in bytes.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// Longest run of the command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the command is looked at.
const COMMAND_LOOK: Duration = Duration::from_millis(10);
/// Lifetime of a token that does not tell its own.
const LIFETIME_UNTOLD: Duration = Duration::from_secs(60);
/// Shortest wait before a token is fetched again, also after a failure.
const FETCH_PAUSE: Duration = Duration::from_secs(5);

/// Where tokens come from. YAML: `oauth_token`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenSource {
    /// A file that somebody keeps fresh.
    File(PathBuf),
    /// A program and its arguments; it writes the token to its standard output.
    Command(Vec<String>),
}

/// A token, usable until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: Secret,
    /// As whom it speaks: `sub` of a JWT.
    pub(crate) principal: String,
    /// When it expires, milliseconds since 1970: `exp` of a JWT.
    pub(crate) expires_ms: i64,
}

impl TokenSource {
    /// Fetches a token. Blocks for as long as the command runs, 10 s at most.
    ///
    /// Errors: nothing usable there, or it has expired; they name file or program, never what they held.
    pub(crate) fn fetch(&self) -> anyhow::Result<Token> {
        let text = match self {
            Self::File(path) => read_file(path).with_context(|| format!("kafka.oauth_token: file {}", path.display())),
            Self::Command(words) => {
                let program = words.first().map(String::as_str).unwrap_or_default();
                run(words).with_context(|| format!("kafka.oauth_token: command {program:?}"))
            }
        }?;
        Token::new(&text, wall_ms()).context("kafka.oauth_token")
    }
}

impl Token {
    /// Reads what a JWT says of itself; of any other token nothing is known, and it is fetched again soon.
    fn new(text: &str, now_ms: i64) -> anyhow::Result<Self> {
        #[derive(Deserialize, Default)]
        struct Claims {
            sub: Option<String>,
            exp: Option<f64>,
        }
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("there is no token: it is empty, or has spaces or letters that no token has");
        }
        let middle = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok());
        let claims: Claims = middle.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let untold = now_ms + i64::try_from(LIFETIME_UNTOLD.as_millis()).unwrap_or(i64::MAX);
        let expires_ms = claims.exp.map_or(untold, |seconds| (seconds * 1000.0) as i64);
        if expires_ms <= now_ms {
            bail!("the token expired {} s ago", (now_ms - expires_ms) / 1000);
        }
        let principal = claims.sub.unwrap_or_else(|| "the holder of the token".to_owned());
        Ok(Self { text: Secret::from_plain(text), principal, expires_ms })
    }

    /// How long until the next one is to be fetched: four fifths of what is left.
    fn refresh_in(&self, now_ms: i64) -> Duration {
        let left = Duration::from_millis(u64::try_from(self.expires_ms - now_ms).unwrap_or(0));
        (left * 4 / 5).max(FETCH_PAUSE)
    }
}

/// Keeps a client's token fresh.
#[derive(Debug)]
pub(crate) struct Refresh {
    source: TokenSource,
    due: Instant,
}

impl Refresh {
    /// `token`: the one that was just fetched.
    pub(crate) fn new(source: TokenSource, token: &Token) -> Self {
        Self { source, due: monotonic() + token.refresh_in(wall_ms()) }
    }

    /// The next token, if it is time for one.
    pub(crate) fn fetch_if_due(&mut self) -> Option<anyhow::Result<Token>> {
        if monotonic() < self.due {
            return None;
        }
        let fetched = self.source.fetch();
        let pause = fetched.as_ref().map_or(FETCH_PAUSE, |token| token.refresh_in(wall_ms()));
        self.due = monotonic() + pause;
        Some(fetched)
    }
}

fn read_file(path: &PathBuf) -> anyhow::Result<String> {
    read(std::fs::File::open(path)?)
}

fn read(from: impl std::io::Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let bytes = from.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text).context("it is not text")?;
    if bytes as u64 > TOKEN_BYTES_MAX {
        bail!("it is longer than {TOKEN_BYTES_MAX} bytes");
    }
    Ok(text)
}

/// What the program writes. Its standard error is not shown: it may hold what it should not.
fn run(words: &[String]) -> anyhow::Result<String> {
    let (program, arguments) = words.split_first().context("it is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let deadline = monotonic() + COMMAND_TIMEOUT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if monotonic() >= deadline => {
                child.kill().ok(); // It may just have ended.
                child.wait()?;
                bail!("no end within {COMMAND_TIMEOUT:?}");
            }
            None => std::thread::sleep(COMMAND_LOOK),
        }
    };
    if !status.success() {
        bail!("{status}");
    }
    read(child.stdout.context("it has no standard output")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_tells_whose_it_is_and_until_when() {
        let token = Token::new(&format!(" {}\n", jwt(r#"{"sub":"web","exp":1700000100}"#)), NOW_MS).expect("a token");
        assert_eq!((&*token.principal, token.expires_ms), ("web", NOW_MS + 100_000));
        assert_eq!(token.refresh_in(NOW_MS), Duration::from_secs(80));
        assert_eq!(token.refresh_in(NOW_MS + 99_000), FETCH_PAUSE);
        let opaque = Token::new("a-b_c", NOW_MS).expect("a token");
        assert_eq!((opaque.text.expose(), opaque.expires_ms), ("a-b_c", NOW_MS + 60_000));
    }

    #[test]
    fn what_is_no_token_is_refused_and_nothing_is_shown() {
        for text in ["", " \n", "canary 4711", "canary\u{e9}4711", &jwt(r#"{"exp":1699999000,"sub":"canary"}"#)] {
            let error = format!("{:#}", Token::new(text, NOW_MS).expect_err("refused"));
            assert!(!error.contains("canary"), "{error}");
        }
        let token = Token::new("canary-4711", NOW_MS).expect("a token");
        assert!(!format!("{token:?}").contains("4711"));
    }

    #[test]
    fn tokens_come_from_files_and_commands() {
        let words = |words: &[&str]| TokenSource::Command(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(words(&["echo", "abc"]).fetch().expect("a token").text.expose(), "abc");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("token");
        let file = TokenSource::File(path.clone());
        let fails = |source: &TokenSource, reason: &str| {
            let error = format!("{:#}", source.fetch().expect_err("it fails"));
            assert!(error.contains(reason), "{error}");
        };
        fails(&file, &format!("file {}: No such file", path.display()));
        std::fs::write(&path, "abc\n").expect("written");
        assert_eq!(file.fetch().expect("a token").text.expose(), "abc");
        fails(&words(&["false"]), "command \"false\": exit status: 1");
        fails(&words(&["/no/such/program"]), "No such file");
        fails(&words(&[]), "it is empty");
    }

    #[test]
    fn a_token_is_fetched_again_before_it_expires() {
        let source = TokenSource::Command(vec!["echo".into(), "next".into()]);
        let token = Token::new("first", wall_ms()).expect("a token");
        let mut refresh = Refresh::new(source, &token);
        assert!(refresh.fetch_if_due().is_none());
        refresh.due = monotonic();
        let next = refresh.fetch_if_due().expect("it is due").expect("a token");
        assert_eq!(next.text.expose(), "next");
        assert!(refresh.fetch_if_due().is_none());
    }
}
