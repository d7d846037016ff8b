//! `registered_domain`: a host's name into its registered domain, what that stands under, and what stands under it.
//!
//! The public suffix list comes with the crate `psl`, private suffixes included.

use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &["field", "ignore_missing", "target_field"];

#[derive(Debug)]
struct RegisteredDomain {
    field: FieldPath,
    domain: FieldPath,
    registered: FieldPath,
    suffix: FieldPath,
    subdomain: FieldPath,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = options.text_if_set("target_field")?.unwrap_or_default();
    let below = |name: &str| match target.is_empty() {
        true => options.parse_path("target_field", name),
        false => options.parse_path("target_field", &format!("{target}.{name}")),
    };
    let (domain, registered) = (below("domain")?, below("registered_domain")?);
    let (suffix, subdomain) = (below("top_level_domain")?, below("subdomain")?);
    let ignore_missing = options.flag("ignore_missing", true)?;
    Ok(Box::new(RegisteredDomain { field, domain, registered, suffix, subdomain, ignore_missing }))
}

impl Step for RegisteredDomain {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let text = text_at(event, &self.field, self.ignore_missing)?.cloned();
        let Some((text, parts)) = text.as_ref().and_then(|text| Some((text, parts(text)?))) else {
            return match self.ignore_missing {
                true => Ok(Flow::Continue),
                false => Err(Problem::new("unable to set domain information for document")),
            };
        };
        event.set(&self.domain, Value::Text(text.clone()))?;
        let Parts { registered, suffix, subdomain } = parts;
        for (path, part) in [(&self.registered, registered), (&self.suffix, Some(suffix)), (&self.subdomain, subdomain)]
        {
            if let Some(part) = part {
                event.set(path, Value::from(part))?;
            }
        }
        Ok(Flow::Continue)
    }
}

#[derive(Debug, PartialEq)]
struct Parts {
    /// `None` if the name is a suffix and no more.
    registered: Option<String>,
    suffix: String,
    subdomain: Option<String>,
}

/// The parts of `name`. `None` if it stands under no suffix of the list, as an address does.
fn parts(name: &str) -> Option<Parts> {
    let lower = name.to_ascii_lowercase();
    let whole = lower.strip_prefix('.').unwrap_or(&lower);
    let suffix = psl::suffix(whole.as_bytes()).filter(psl::Suffix::is_known)?;
    if whole.ends_with('.') {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(domain) = psl::domain(whole.as_bytes()) else {
        // A suffix alone is shown as it was written.
        return Some(Parts { registered: None, suffix: name.to_owned(), subdomain: None });
    };
    if lower.len() != whole.len() {
        return None;
    }
    let registered = text(domain.as_bytes());
    // As the original: found only where the name is written in small letters.
    let subdomain = name.strip_suffix(&registered).and_then(|rest| rest.strip_suffix('.'));
    let subdomain = subdomain.filter(|rest| !rest.is_empty()).map(str::to_owned);
    Some(Parts { registered: Some(registered), suffix: text(suffix.as_bytes()), subdomain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<(Option<&str>, &str, Option<&str>)>) {
        let expected = expected.map(|(registered, suffix, subdomain)| Parts {
            registered: registered.map(str::to_owned),
            suffix: suffix.to_owned(),
            subdomain: subdomain.map(str::to_owned),
        });
        assert_eq!(parts(name), expected, "{name}");
    }

    #[test]
    fn a_name_is_taken_apart_at_its_public_suffix() {
        check("www.example.ac.uk", Some((Some("example.ac.uk"), "ac.uk", Some("www"))));
        check("www.google.com", Some((Some("google.com"), "com", Some("www"))));
        check("google.com", Some((Some("google.com"), "com", None)));
        check("www.books.amazon.co.uk", Some((Some("amazon.co.uk"), "co.uk", Some("www.books"))));
        // A private suffix counts as one.
        check(
            "1.www.global.ssl.fastly.net",
            Some((Some("www.global.ssl.fastly.net"), "global.ssl.fastly.net", Some("1"))),
        );
        check(
            "content-autofill.googleapis.com",
            Some((Some("content-autofill.googleapis.com"), "googleapis.com", None)),
        );
        // Wildcards and their exceptions.
        check("x.a.b.ck", Some((Some("a.b.ck"), "b.ck", Some("x"))));
        check("x.www.ck", Some((Some("www.ck"), "ck", Some("x"))));
        check("食狮.公司.cn", Some((Some("食狮.公司.cn"), "公司.cn", None)));
        check("a.xn--85x722f.xn--55qx5d.cn", Some((Some("xn--85x722f.xn--55qx5d.cn"), "xn--55qx5d.cn", Some("a"))));
        check("WWW.Google.com", Some((Some("google.com"), "com", None)));
    }

    #[test]
    fn a_suffix_alone_is_its_own_domain_and_what_is_under_none_is_nothing() {
        check("com", Some((None, "com", None)));
        check("co.uk", Some((None, "co.uk", None)));
        check("googleapis.com", Some((None, "googleapis.com", None)));
        for name in ["", ".", "$", "foo.bar.baz", "localhost", "192.168.1.1", "::1", "google.com.", ".google.com"] {
            check(name, None);
        }
    }
}
