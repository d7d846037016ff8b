//! The smallest case that still differs: what is to be looked at of a pipeline of nine processors.

use super::Case;
use serde_json::{Map, Value, json};

/// Rounds of leaving something out.
const ROUNDS_MAX: usize = 4;

/// `case`, of one document, without what it differs without.
pub(super) fn of(case: Case, differs: &dyn Fn(&Case) -> bool) -> Case {
    let mut smallest = case;
    for _ in 0..ROUNDS_MAX {
        let before = size(&smallest);
        for smaller in [handlers, processors, options, fields] {
            smallest = smaller(smallest, differs);
        }
        if size(&smallest) == before {
            break;
        }
    }
    smallest
}

fn size(case: &Case) -> usize {
    case.pipeline().to_string().len() + json!(case.docs).to_string().len()
}

fn handlers(case: Case, differs: &dyn Fn(&Case) -> bool) -> Case {
    keep(case, differs, |case| case.on_failure = None)
}

fn processors(mut case: Case, differs: &dyn Fn(&Case) -> bool) -> Case {
    for nth in (0..case.processors.len()).rev() {
        if case.processors.len() > 1 {
            case = keep(case, differs, |case| drop(case.processors.remove(nth)));
        }
    }
    case
}

/// Options that every processor has, and those that many have.
fn options(mut case: Case, differs: &dyn Fn(&Case) -> bool) -> Case {
    let names = ["if", "on_failure", "ignore_failure", "tag", "ignore_missing", "target_field", "timezone"];
    for nth in 0..case.processors.len() {
        for name in names {
            case = keep(case, differs, |case| {
                options_of(&mut case.processors[nth]).and_then(|options| options.remove(name));
            });
        }
    }
    case
}

fn options_of(processor: &mut Value) -> Option<&mut Map<String, Value>> {
    processor.as_object_mut()?.values_mut().next()?.as_object_mut()
}

fn fields(mut case: Case, differs: &dyn Fn(&Case) -> bool) -> Case {
    let names: Vec<String> = case.docs[0].as_object().into_iter().flat_map(|doc| doc.keys().cloned()).collect();
    for name in names {
        case = keep(case, differs, |case| {
            case.docs[0].as_object_mut().and_then(|doc| doc.remove(&name));
        });
    }
    case
}

/// The changed case if it still differs.
fn keep(case: Case, differs: &dyn Fn(&Case) -> bool, change: impl FnOnce(&mut Case)) -> Case {
    let mut changed = case.clone();
    change(&mut changed);
    if size(&changed) != size(&case) && differs(&changed) { changed } else { case }
}
