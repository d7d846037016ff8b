//! `user_agent`: a browser's name of itself into its name and version, its system and its device.
//!
//! The expressions are those of uap-core (`user_agent/regexes.yaml`, Apache-2.0). The first that matches counts; which
//! that is one automaton of all of them says, and only that one is then asked for its groups.

use crate::failure::Problem;
use crate::java_regex::{self, Flags};
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use crate::yaml;
use compact_str::CompactString;
use event::{Event, FieldPath, Object, Value};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::{Input, MatchKind, PatternSet};
use serde::Deserialize;
use std::sync::{Arc, OnceLock};

pub(crate) const OPTIONS: &[&str] =
    &["ecs", "extract_device_type", "field", "ignore_missing", "properties", "regex_file", "target_field"];

const REGEXES: &str = include_str!("user_agent/regexes.yaml");
/// Largest automaton of one list, and largest cache of what was seen of it, in bytes.
const NFA_BYTES_MAX: usize = 64 << 20;
const CACHE_BYTES_MAX: usize = 16 << 20;

const PROPERTIES: &[&str] = &["device", "name", "original", "os", "version"];
/// What stands for what is not known.
const OTHER: &str = "Other";

#[derive(Debug)]
struct UserAgent {
    field: FieldPath,
    target: FieldPath,
    properties: Vec<String>,
    ignore_missing: bool,
    parsers: &'static Parsers,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = match options.text_if_set("target_field")? {
        Some(text) => options.parse_path("target_field", &text)?,
        None => options.parse_path("target_field", "user_agent")?,
    };
    if let Some(file) = options.text_if_set("regex_file")? {
        return Err(format!("[regex_file] {file}: only the expressions that are built in are supported"));
    }
    if !options.flag("ecs", true)? {
        return Err("[ecs] false is deprecated and not supported".to_owned());
    }
    if options.flag("extract_device_type", false)? {
        return Err("[extract_device_type] is not supported".to_owned());
    }
    let asked = options.has("properties");
    let mut properties: Vec<String> =
        options.texts("properties")?.iter().map(|name| name.to_lowercase().into()).collect();
    if let Some(unknown) = properties.iter().find(|name| !PROPERTIES.contains(&name.as_str())) {
        return Err(format!("[properties] illegal property value [{unknown}]. valid values are {PROPERTIES:?}"));
    }
    if !asked {
        properties = PROPERTIES.iter().map(|name| (*name).to_owned()).collect();
    }
    let ignore_missing = options.flag("ignore_missing", false)?;
    let parsers = Parsers::shared().as_ref().map_err(Clone::clone)?;
    Ok(Box::new(UserAgent { field, target, properties, ignore_missing, parsers }))
}

impl Step for UserAgent {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let field = &self.field;
        if !self.ignore_missing && event.get(field) == Some(&Value::Null) {
            return Err(Problem::new(format!("field [{field}] is null, cannot parse user-agent.")));
        }
        let Some(text) = text_at(event, field, self.ignore_missing)?.cloned() else { return Ok(Flow::Continue) };
        let made = self.parse(&text);
        event.set(&self.target, Value::Object(made))?;
        Ok(Flow::Continue)
    }
}

impl UserAgent {
    fn parse(&self, text: &CompactString) -> Object {
        let wants = |name: &str| self.properties.iter().any(|property| property == name);
        let mut made = Object::with_capacity(PROPERTIES.len());
        if wants("original") {
            made.insert("original", Value::Text(text.clone()));
        }
        let mut version = None;
        if wants("name") || wants("version") {
            let agent = self.parsers.agents.find(text);
            if wants("name") {
                made.insert("name", agent.as_ref().map_or(OTHER, |agent| agent.name.as_str()));
            }
            version = agent.and_then(|agent| agent.version()).filter(|_| wants("version"));
        }
        if wants("os")
            && let Some(os) = self.parsers.systems.find(text)
        {
            let mut system = Object::with_capacity(3);
            if let Some(version) = os.version() {
                system.insert("full", format!("{} {version}", os.name));
                system.insert("version", version);
            }
            system.insert("name", os.name);
            made.insert("os", system);
        }
        if wants("device") {
            let device = self.parsers.devices.find(text).map_or_else(|| OTHER.to_owned(), |device| device.name);
            made.insert("device", std::iter::once(("name".into(), Value::from(device))).collect::<Object>());
        }
        // Last, as in the original: both may stand in one place of its map, where the first comes first.
        if let Some(version) = version {
            made.insert("version", version);
        }
        made
    }
}

/// What an expression found.
struct Found {
    name: String,
    /// Major, minor, patch, build; each only behind the one before.
    parts: [Option<String>; 4],
}

impl Found {
    fn version(&self) -> Option<String> {
        let parts: Vec<_> = self.parts.iter().map_while(|part| part.as_deref()).collect();
        (!parts.is_empty()).then(|| parts.join("."))
    }
}

#[derive(Debug)]
struct Parsers {
    agents: Parser,
    systems: Parser,
    devices: Parser,
}

/// Expressions in the order of their rank.
#[derive(Debug)]
struct Parser {
    entries: Vec<Entry>,
    /// Says which of them match.
    all: Regex,
}

#[derive(Debug)]
struct Entry {
    pattern: String,
    /// Compiled when it matches for the first time: most never do.
    regex: OnceLock<Option<Arc<Regex>>>,
    name: Option<String>,
    parts: [Option<String>; 4],
}

#[derive(Deserialize)]
struct Written {
    user_agent_parsers: Vec<WrittenEntry>,
    os_parsers: Vec<WrittenEntry>,
    device_parsers: Vec<WrittenEntry>,
}

/// Members that are not named here say nothing to us.
#[derive(Deserialize)]
struct WrittenEntry {
    regex: String,
    regex_flag: Option<String>,
    #[serde(alias = "os_replacement", alias = "device_replacement")]
    family_replacement: Option<String>,
    #[serde(alias = "os_v1_replacement")]
    v1_replacement: Option<String>,
    #[serde(alias = "os_v2_replacement")]
    v2_replacement: Option<String>,
    #[serde(alias = "os_v3_replacement")]
    v3_replacement: Option<String>,
    #[serde(alias = "os_v4_replacement")]
    v4_replacement: Option<String>,
}

impl Parsers {
    /// Those that are built in, made when the first pipeline asks for them.
    fn shared() -> &'static Result<Self, String> {
        static SHARED: OnceLock<Result<Parsers, String>> = OnceLock::new();
        SHARED.get_or_init(|| {
            let written: Written = yaml::parse(REGEXES).map_err(|error| error.render())?;
            Ok(Self {
                agents: Parser::new(written.user_agent_parsers)?,
                systems: Parser::new(written.os_parsers)?,
                devices: Parser::new(written.device_parsers)?,
            })
        })
    }
}

impl Parser {
    fn new(written: Vec<WrittenEntry>) -> Result<Self, String> {
        let entries: Vec<Entry> = written
            .into_iter()
            .map(|entry| Entry {
                pattern: if entry.regex_flag.as_deref() == Some("i") {
                    format!("(?i:{})", entry.regex)
                } else {
                    entry.regex
                },
                regex: OnceLock::new(),
                name: entry.family_replacement,
                parts: [entry.v1_replacement, entry.v2_replacement, entry.v3_replacement, entry.v4_replacement],
            })
            .collect();
        let translated: Result<Vec<_>, _> = entries
            .iter()
            .map(|entry| java_regex::translated(&entry.pattern).map_err(|wrong| format!("{}: {wrong}", entry.pattern)))
            .collect();
        let config = Regex::config()
            .match_kind(MatchKind::All)
            // Places of groups for all of them at once would be gigabytes.
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(NFA_BYTES_MAX))
            .hybrid_cache_capacity(CACHE_BYTES_MAX);
        let all = Regex::builder().configure(config).build_many(&translated?).map_err(|error| format!("{error}"))?;
        Ok(Self { entries, all })
    }

    fn find(&self, text: &str) -> Option<Found> {
        let mut matching = PatternSet::new(self.entries.len());
        self.all.which_overlapping_matches(&Input::new(text), &mut matching);
        let entry = self.entries.get(matching.iter().next()?.as_usize())?;
        let compiled = || java_regex::compile(&entry.pattern, Flags::default()).ok().map(Arc::new);
        let regex = entry.regex.get_or_init(compiled).as_ref()?;
        let mut captures = regex.create_captures();
        regex.captures(text, &mut captures);
        let group = |nth: usize| {
            let part = captures.get_group(nth).and_then(|span| text.get(span.range()));
            part.filter(|part| !part.is_empty()).map(str::to_owned)
        };
        let filled = |template: &str| {
            let mut made = template.to_owned();
            for nth in 1..=9 {
                let place = format!("${nth}");
                if made.contains(&place) {
                    made = made.replace(&place, &group(nth).unwrap_or_default());
                }
            }
            Some(made.trim().to_owned()).filter(|made| !made.is_empty())
        };
        let name = entry.name.as_deref().map_or_else(|| group(1), filled)?;
        let part = |nth: usize| entry.parts[nth].as_deref().map_or_else(|| group(nth + 2), filled);
        Some(Found { name, parts: [part(0), part(1), part(2), part(3)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_systems_and_devices_are_known() {
        let parsers = Parsers::shared().as_ref().expect("the expressions compile");
        let agent = |text: &str| parsers.agents.find(text).map(|found| (found.version(), found.name));
        let chrome = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_2) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/33.0.1750.149 Safari/537.36";
        assert_eq!(agent(chrome), Some((Some("33.0.1750.149".to_owned()), "Chrome".to_owned())));
        let os = parsers.systems.find(chrome).expect("a system");
        assert_eq!((os.name.as_str(), os.version().as_deref()), ("Mac OS X", Some("10.9.2")));
        assert_eq!(parsers.devices.find(chrome).map(|device| device.name).as_deref(), Some("Mac"));
        let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 13_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0.4 Mobile/15E148 Safari/604.1";
        assert_eq!(agent(phone), Some((Some("13.0.4".to_owned()), "Mobile Safari".to_owned())));
        assert_eq!(parsers.devices.find(phone).map(|device| device.name).as_deref(), Some("iPhone"));
        assert_eq!(agent("nothing that is known"), None);
    }
}
