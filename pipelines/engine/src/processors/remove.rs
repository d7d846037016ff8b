//! `remove`: fields out of the document, or all but some.

use crate::failure::Problem;
use crate::options::{Options, Wrong, missing};
use crate::pipeline::{Flow, Run, Step};
use crate::template::{Field, Template};
use crate::text::{hash_order, java_hash};
use compact_str::CompactString;
use event::path::{PathError, is_metadata};
use event::{Event, FieldPath, Object, Value};

pub(crate) const OPTIONS: &[&str] = &["exclude_field", "field", "ignore_missing", "keep"];

#[derive(Debug)]
enum Remove {
    Fields {
        fields: Vec<Field>,
        ignore_missing: bool,
    },
    /// Elasticsearch's `keep`: paths, their parents and what is inside of them stay.
    AllBut {
        keep: Vec<Template>,
    },
    /// OpenSearch's `exclude_field`: members of the root stay.
    AllButMembers {
        names: Vec<Template>,
    },
}

/// Metadata that no document can be without.
const KEPT_METADATA: &[&str] = &["_index", "_version", "_version_type"];

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let ignore_missing = options.flag("ignore_missing", false)?;
    let given: Vec<_> = ["field", "keep", "exclude_field"].into_iter().filter(|name| options.has(name)).collect();
    let which = match given.as_slice() {
        [] => return Err(missing("field")),
        [which] => *which,
        [first, second, ..] => {
            return Err(format!("[{first}] and [{second}] cannot both be used in the same processor"));
        }
    };
    let names = options.one_or_more(which)?;
    if which == "field" {
        let fields: Result<_, _> = names.iter().map(|field| options.parse_field(which, field)).collect();
        return Ok(Box::new(Remove::Fields { fields: fields?, ignore_missing }));
    }
    let names: Result<_, _> = names.iter().map(|name| options.template(which, name)).collect();
    Ok(match which {
        "keep" => Box::new(Remove::AllBut { keep: names? }),
        _ => Box::new(Remove::AllButMembers { names: names? }),
    })
}

impl Step for Remove {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        match self {
            Self::Fields { fields, ignore_missing } => {
                for field in fields {
                    remove_one(field, *ignore_missing, event)?;
                }
            }
            Self::AllBut { keep } => {
                let keep = keep.iter().map(|template| template.render(event)).collect::<Result<Vec<_>, _>>()?;
                keep_only(&mut event.source, "", &keep);
            }
            Self::AllButMembers { names } => {
                let names = names.iter().map(|template| template.render(event)).collect::<Result<Vec<_>, _>>()?;
                if names.iter().any(|name| !name.is_empty()) {
                    remove_members(event, |key| !names.iter().any(|name| name == key))?;
                }
            }
        }
        Ok(Flow::Continue)
    }
}

/// Metadata that stands in the original's set of names beside those of the members.
const METADATA_THERE: [&str; 3] = ["_id", "_index", "_version"];

/// Removes the members of the root that `goes` names. As in the original their names are taken for paths, one after the
/// other in the order of a `HashSet`: a name with dots fails unless it leads to a field, and what was removed before stays
/// removed.
pub(super) fn remove_members(event: &mut Event, goes: impl Fn(&str) -> bool) -> Result<(), Box<Problem>> {
    if event.source.iter().all(|(key, _)| !key.is_empty() && !key.contains('.')) {
        event.source.retain(|key, _| !goes(key));
        return Ok(());
    }
    let names: Vec<CompactString> =
        event.source.iter().map(|(key, _)| key).chain(METADATA_THERE).map(CompactString::new).collect();
    for at in hash_order(names.iter().map(|name| java_hash(name))) {
        if !is_metadata(&names[at]) && goes(&names[at]) {
            event.remove(&FieldPath::new(&names[at])?)?;
        }
    }
    Ok(())
}

fn remove_one(field: &Field, ignore_missing: bool, event: &mut Event) -> Result<(), Box<Problem>> {
    let path = match field.path(event) {
        Ok(path) if event.has(&path) => path,
        _ if ignore_missing => return Ok(()),
        Ok(path) => return Err(Problem::new(format!("field [{path}] doesn't exist"))),
        Err(PathError::Empty) => return Err(Problem::new("field path cannot be null nor empty")),
        Err(error) => return Err(error.into()),
    };
    if KEPT_METADATA.contains(&path.as_str()) {
        return Err(Problem::new(format!("cannot remove metadata field [{path}]")));
    }
    event.remove(&path)?;
    Ok(())
}

/// Removes every member whose path is neither kept, nor on the way to what is kept, nor inside of it.
fn keep_only(object: &mut Object, prefix: &str, keep: &[CompactString]) {
    object.retain(|key, value| {
        let path = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
        let inside = |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
        if keep.iter().any(|kept| *kept == path || inside(kept, &path)) {
            return true;
        }
        let leads = keep.iter().any(|kept| inside(&path, kept));
        if let (true, Value::Object(inner)) = (leads, value) {
            keep_only(inner, &path, keep);
        }
        leads
    });
}
