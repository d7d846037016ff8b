//! `fingerprint`: a digest of fields, to know the same content again.
//!
//! Elasticsearch's and OpenSearch's processors of this name make different digests. `method` or `salt` asks for the
//! former, everything else is the latter's.

use crate::digest::Digest;
use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use crate::text::java_text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] =
    &["exclude_fields", "fields", "hash_method", "ignore_missing", "method", "salt", "target_field"];

/// What stands between the values of Elasticsearch's digest.
const DELIMITER: u8 = 0;

#[derive(Debug)]
struct Fingerprint {
    fields: Vec<FieldPath>,
    /// Members of the root that are left out when no fields are named.
    excluded: Vec<String>,
    target: FieldPath,
    digest: Digest,
    form: Form,
    ignore_missing: bool,
}

#[derive(Debug)]
enum Form {
    Elasticsearch {
        salt: String,
    },
    /// The digest's name stands in front of it.
    OpenSearch(&'static str),
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let elastic = options.has("method") || options.has("salt");
    let (digest, form) = if elastic { elastic_form(options)? } else { opensearch_form(options)? };
    let mut fields = options.one_or_more("fields")?;
    let excluded = options.one_or_more("exclude_fields")?;
    if !fields.is_empty() && !excluded.is_empty() {
        return Err("[fields] either fields or exclude_fields can be set".to_owned());
    }
    if elastic && fields.is_empty() {
        return Err("[fields] must specify at least one field".to_owned());
    }
    fields.sort_unstable();
    fields.dedup();
    let fields: Result<_, _> = fields.iter().map(|field| options.parse_path("fields", field)).collect();
    let target = match options.text_if_set("target_field")? {
        Some(text) => options.parse_path("target_field", &text)?,
        None => options.parse_path("target_field", "fingerprint")?,
    };
    Ok(Box::new(Fingerprint {
        fields: fields?,
        excluded: excluded.into_iter().map(String::from).collect(),
        target,
        digest,
        form,
        ignore_missing: options.flag("ignore_missing", false)?,
    }))
}

fn elastic_form(options: &mut Options<'_>) -> Result<(Digest, Form), Wrong> {
    let digest = match options.text_if_set("method")?.as_deref() {
        None | Some("SHA-1") => Digest::Sha1,
        Some("MD5") => Digest::Md5,
        Some("SHA-256") => Digest::Sha256,
        Some("SHA-512") => Digest::Sha512,
        Some("MurmurHash3") => Digest::Murmur3,
        Some(other) => {
            return Err(format!(
                "[method] [{other}] is not supported, there are: MD5, MurmurHash3, SHA-1, SHA-256, SHA-512"
            ));
        }
    };
    let salt = options.text_if_set("salt")?.unwrap_or_default().into();
    Ok((digest, Form::Elasticsearch { salt }))
}

fn opensearch_form(options: &mut Options<'_>) -> Result<(Digest, Form), Wrong> {
    let (digest, name) = match options.text_if_set("hash_method")?.as_deref() {
        None | Some("SHA-1@2.16.0") => (Digest::Sha1, "SHA-1@2.16.0"),
        Some("MD5@2.16.0") => (Digest::Md5, "MD5@2.16.0"),
        Some("SHA-256@2.16.0") => (Digest::Sha256, "SHA-256@2.16.0"),
        Some("SHA3-256@2.16.0") => (Digest::Sha3, "SHA3-256@2.16.0"),
        Some(_) => {
            return Err("[hash_method] hash method must be MD5@2.16.0, SHA-1@2.16.0, SHA-256@2.16.0 or \
                        SHA3-256@2.16.0"
                .to_owned());
        }
    };
    Ok((digest, Form::OpenSearch(name)))
}

impl Step for Fingerprint {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let made = match &self.form {
            Form::Elasticsearch { salt } => self.elastic(event, salt)?,
            Form::OpenSearch(name) => self.opensearch(event)?.map(|digest| format!("{name}:{digest}")),
        };
        if let Some(made) = made {
            event.set(&self.target, Value::from(made))?;
        }
        Ok(Flow::Continue)
    }
}

impl Fingerprint {
    /// The names and values that count, in order.
    fn values<'e>(&self, event: &'e Event) -> Result<Vec<(String, &'e Value)>, Box<Problem>> {
        // As in the original the names of all members are taken for paths.
        let all: Vec<_> = match self.fields.is_empty() {
            true => {
                let is_left = |key: &str| !self.excluded.iter().any(|excluded| excluded == key);
                let mut names: Vec<_> = event.source.iter().map(|(key, _)| key).filter(|key| is_left(key)).collect();
                names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
                names.into_iter().map(FieldPath::new).collect::<Result<_, _>>()?
            }
            false => Vec::new(),
        };
        let fields = if self.fields.is_empty() { &all } else { &self.fields };
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            match event.get(field) {
                Some(value) => values.push((field.to_string(), value)),
                None if self.ignore_missing => {}
                None if matches!(self.form, Form::OpenSearch(_)) => {
                    return Err(Problem::new(format!("field [{field}] doesn't exist")));
                }
                None => return Err(Problem::new(format!("missing field [{field}] when calculating fingerprint"))),
            }
        }
        Ok(values)
    }

    /// `|name|length:text` for each value, objects by their flattened members.
    fn opensearch(&self, event: &Event) -> Result<Option<String>, Box<Problem>> {
        let mut all = String::new();
        let mut add = |name: &str, text: &str| {
            let length = text.encode_utf16().count();
            all.push_str(&format!("|{name}|{length}:{text}"));
        };
        for (name, value) in self.values(event)? {
            match value {
                Value::Object(object) => {
                    let mut members = Vec::new();
                    flatten("", object, &mut members);
                    members.sort();
                    members.iter().for_each(|(key, text)| add(&format!("{name}.{key}"), text));
                }
                value => add(&name, &java_text(value)),
            }
        }
        if all.is_empty() {
            return Ok(None);
        }
        all.push('|');
        Ok(Some(STANDARD.encode(self.digest.of(all.as_bytes()))))
    }

    /// Salt, then every value behind a delimiter, lists by their elements, objects by their sorted members.
    fn elastic(&self, event: &Event, salt: &str) -> Result<Option<String>, Box<Problem>> {
        let mut bytes = salt.as_bytes().to_vec();
        let before = bytes.len();
        for (name, value) in self.values(event)? {
            if *value == Value::Null {
                if self.ignore_missing {
                    continue;
                }
                return Err(Problem::new(format!("missing field [{name}] when calculating fingerprint")));
            }
            feed(value, &mut bytes);
        }
        Ok((bytes.len() > before).then(|| STANDARD.encode(self.digest.of(&bytes))))
    }
}

fn flatten(prefix: &str, object: &Object, out: &mut Vec<(String, String)>) {
    for (key, value) in object.iter() {
        let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) => flatten(&name, inner, out),
            value => out.push((name, java_text(value).into())),
        }
    }
}

fn feed(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| feed(value, out)),
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(key, _)| *key);
            for (key, value) in members {
                feed(&Value::from(key), out);
                feed(value, out);
            }
        }
        value => {
            out.push(DELIMITER);
            match value {
                Value::Bool(flag) => out.push(u8::from(*flag)),
                Value::Int(number) => out.extend_from_slice(&number.to_be_bytes()),
                Value::Long(number) => out.extend_from_slice(&number.to_be_bytes()),
                Value::Float(number) => out.extend_from_slice(&number.to_bits().to_be_bytes()),
                Value::Double(number) => out.extend_from_slice(&number.to_bits().to_be_bytes()),
                Value::Text(text) | Value::Big(text) => out.extend_from_slice(text.as_bytes()),
                _ => {}
            }
        }
    }
}
