//! `script`: a Painless script that changes the document.

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::painless::Script;
use crate::pipeline::{Flow, Run, Step};
use event::{Event, Object, Value};

pub(crate) const OPTIONS: &[&str] = &["id", "inline", "lang", "options", "params", "source"];

#[derive(Debug)]
struct ScriptStep {
    script: Script,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let mut written = Object::new();
    for name in OPTIONS {
        if let Some(value) = options.take(name) {
            written.insert(*name, value);
        }
    }
    let (source, params) = source(Value::Object(written))?;
    Ok(Box::new(ScriptStep { script: Script::parse(&source, params)? }))
}

/// The text and the parameters of a script, written as a text or as `{lang, source, params}`.
pub(crate) fn source(written: Value) -> Result<(String, Object), Wrong> {
    let mut written = match written {
        Value::Text(text) => return Ok((text.into(), Object::new())),
        // What is written without quotes: `if: true`.
        Value::Bool(flag) => return Ok((flag.to_string(), Object::new())),
        Value::Object(written) => written,
        other => return Err(format!("a script is a text or a map, not [{}]", other.java_class())),
    };
    match written.remove("lang") {
        None | Some(Value::Null) => {}
        Some(Value::Text(lang)) if lang == "painless" => {}
        Some(other) => return Err(format!("[lang] {} is not supported, there is: painless", other.to_json())),
    }
    if written.contains("id") {
        return Err("[id] stored scripts are not supported: write the script itself as [source]".to_owned());
    }
    let params = match written.remove("params") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(params)) => params,
        Some(other) => return Err(format!("[params] property isn't a map, but of type [{}]", other.java_class())),
    };
    match written.remove("source").or_else(|| written.remove("inline")) {
        Some(Value::Text(text)) => Ok((text.into(), params)),
        Some(other) => Err(format!("[source] property isn't a string, but of type [{}]", other.java_class())),
        None => Err("must specify either [source] for an inline script or [id] for a stored script".to_owned()),
    }
}

impl Step for ScriptStep {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        self.script.run(event)?;
        Ok(Flow::Continue)
    }
}
