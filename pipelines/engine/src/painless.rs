//! The subset of Painless that `if` and `script` take: text in, something that runs on an event out.
//!
//! What is not supported is an error when a pipeline is loaded, with line and column in the script; steps, memory and
//! depth of a run are bounded. A condition reads the document where it stands; a script gets it as objects to change.
//! Specified by Painless's language guide and, for what a value can do, by its allow lists.

mod access;
mod ast;
mod class;
mod lex;
mod machine;
mod methods;
mod ops;
mod parse;
mod regex;
mod statics;
mod thrown;
mod time;
mod value;

use crate::failure::Problem;
use ast::Program;
use event::path::is_metadata;
use event::{Event, Object, Value};
use machine::Machine;
use thrown::Thrown;
use value::{Order, Val};

/// Type name of what goes wrong in a running script.
pub(crate) const SCRIPT: &str = "script_exception";

/// A compiled `if`.
#[derive(Debug)]
pub struct Condition {
    program: Program,
    params: Value,
}

/// A compiled `script`.
#[derive(Debug)]
pub(crate) struct Script {
    program: Program,
    params: Value,
}

fn compile(source: &str, value: bool) -> Result<Program, String> {
    parse::parse(source, value).map_err(|(at, problem)| {
        let before = source.get(..at).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        format!("script, line {line}, column {column}: {problem}")
    })
}

impl Condition {
    /// Compiles `source`, outside a pipeline.
    ///
    /// Errors: what is wrong with it, and where.
    pub fn new(source: &str) -> Result<Self, String> {
        Self::parse(source, Object::default())
    }

    /// Whether the condition holds for `event`.
    ///
    /// Errors: why that cannot be told.
    pub fn test(&self, event: &Event) -> Result<bool, String> {
        self.holds(event).map_err(|problem| problem.reason)
    }

    /// Compiles `source`; `params` are what it sees as `params`.
    pub(crate) fn parse(source: &str, params: Object) -> Result<Self, String> {
        Ok(Self { program: compile(source, true)?, params: Value::Object(params) })
    }

    /// Whether the condition holds for `event`.
    ///
    /// Errors: it throws, or what it gives is neither true nor false.
    pub(crate) fn holds(&self, event: &Event) -> Result<bool, Box<Problem>> {
        let mut machine = Machine::new(&self.program, Val::Event(event), Val::borrowed(&self.params));
        let result = machine.run().and_then(|value| value.as_ref().map_or(Ok(false), ops::truth));
        result.map_err(|thrown| problem(&thrown))
    }
}

impl Script {
    /// Compiles `source`; `params` are what it sees as `params`.
    pub(crate) fn parse(source: &str, params: Object) -> Result<Self, String> {
        Ok(Self { program: compile(source, false)?, params: Value::Object(params) })
    }

    /// Runs the script on `event`. What it changed before it failed stays, as in the original.
    pub(crate) fn run(&self, event: &mut Event) -> Result<(), Box<Problem>> {
        let source = std::mem::take(&mut event.source);
        let fields = std::mem::take(&mut event.metadata.fields);
        let members = fields.into_iter().chain(source);
        let members = members.map(|(key, value)| (Val::text(key), Val::owned(value))).collect();
        let ctx = Val::map(members, Order::Hash);
        let result = Machine::new(&self.program, ctx.clone(), Val::borrowed(&self.params)).run();
        let mut refused = None;
        for (key, value) in ctx.members().unwrap_or_default() {
            let key = key.to_text();
            match value.into_value() {
                Ok(value) if is_metadata(&key) => {
                    event.metadata.fields.insert(key, value);
                }
                Ok(value) => {
                    event.source.insert(key, value);
                }
                Err(thrown) => refused = Some(thrown),
            }
        }
        match (result, refused) {
            (Err(thrown), _) => Err(problem(&thrown)),
            (Ok(_), Some(thrown)) => Err(Problem::new(thrown.message.unwrap_or_default())),
            (Ok(_), None) => Ok(()),
        }
    }
}

/// A failure of the processor: the original says `runtime error`, and the exception is its cause.
fn problem(thrown: &Thrown) -> Box<Problem> {
    if thrown.message.as_deref() == Some(thrown::SELF_REFERENCE) {
        return Problem::new(format!("{} (ingest script)", thrown::SELF_REFERENCE));
    }
    let cause = thrown.message.clone().unwrap_or_else(|| thrown.kind());
    Box::new(Problem { kind: SCRIPT, reason: "runtime error".to_owned(), cause: Some(cause.into()) })
}

#[cfg(test)]
mod tests;
