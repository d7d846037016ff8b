//! A compiled script at work: statements and calls, with bounded steps, memory and depth.

mod eval;

use super::ast::{Expr, Lambda, LambdaBody, Program, Reference, Stmt, Type};
use super::class::Class;
use super::thrown::{self, Thrown, throw};
use super::value::{Matcher, Obj, Text, Val, borrow};
use super::{access, methods, ops, statics};
use std::cell::RefCell;

/// Most steps of one run: turns of loops, calls, and members looked at.
const STEPS_MAX: u64 = 10_000_000;
/// Most turns of loops in one run, as the original counts them for each loop.
const TURNS_MAX: u32 = 1_000_000;
/// Most bytes of texts and elements that one run may make.
const BYTES_MAX: usize = 64 << 20;
/// Deepest calls of functions.
const CALLS_MAX: u32 = 50;
/// Deepest nesting of expressions at work, over all functions: bounds the stack.
const DEPTH_MAX: u32 = 200;
/// What an element costs, in bytes.
const ELEMENT_BYTES: usize = 64;

pub(super) type Eval<'e> = Result<Val<'e>, Box<Thrown>>;

/// An argument that has been worked out.
#[derive(Debug, Clone, Default)]
pub(super) enum Given<'e> {
    #[default]
    None,
    Value(Val<'e>),
    Lambda(&'e Lambda),
}

/// Where a statement leads.
pub(super) enum Flow<'e> {
    Next,
    Break,
    Continue,
    Return(Val<'e>),
}

/// One run of a script.
#[derive(Debug)]
pub(super) struct Machine<'e> {
    program: &'e Program,
    ctx: Val<'e>,
    params: Val<'e>,
    frame: Vec<Val<'e>>,
    base: usize,
    steps: u64,
    turns: u32,
    bytes: usize,
    calls: u32,
    depth: u32,
}

impl<'e> Machine<'e> {
    pub(super) fn new(program: &'e Program, ctx: Val<'e>, params: Val<'e>) -> Self {
        let frame = vec![Val::Null; usize::from(program.slots)];
        Self { program, ctx, params, frame, base: 0, steps: 0, turns: 0, bytes: 0, calls: 0, depth: 0 }
    }

    /// Runs the script. What it returns, if it does.
    pub(super) fn run(&mut self) -> Result<Option<Val<'e>>, Box<Thrown>> {
        match self.block(&self.program.body)? {
            Flow::Return(value) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// Counts `steps`.
    pub(super) fn step(&mut self, steps: usize) -> Result<(), Box<Thrown>> {
        self.steps += steps as u64 + 1;
        event::steps::count(steps + 1);
        if self.steps > STEPS_MAX {
            return Err(Thrown::fatal(format!(
                "the script has taken {STEPS_MAX} steps, which is the most it may take"
            )));
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Box<Thrown>> {
        self.turns += 1;
        if self.turns > TURNS_MAX {
            return Err(Thrown::fatal(
                "The maximum number of statements that can be executed in a loop has been reached.",
            ));
        }
        self.step(1)
    }

    /// Counts `bytes` that are made.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Box<Thrown>> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > BYTES_MAX {
            return Err(Thrown::fatal(format!("the script has made {BYTES_MAX} bytes, which is the most it may make")));
        }
        Ok(())
    }

    /// Counts `elements` of lists and maps that are made.
    pub(super) fn charge_elements(&mut self, elements: usize) -> Result<(), Box<Thrown>> {
        self.step(elements)?;
        self.charge(elements.saturating_mul(ELEMENT_BYTES))
    }

    /// Refuses `value` in `holder` if it holds the holder already: nothing of a script may hold itself, or it would never
    /// be let go of. The original says so when the script has ended.
    pub(super) fn may_hold(&mut self, holder: &Val<'e>, value: &Val<'e>) -> Result<(), Box<Thrown>> {
        let Val::Object(holder) = holder else { return Ok(()) };
        if !matches!(value, Val::Object(_)) {
            return Ok(());
        }
        let mut open = vec![value.clone()];
        while let Some(value) = open.pop() {
            self.step(1)?;
            let Val::Object(object) = &value else { continue };
            if std::rc::Rc::ptr_eq(object, holder) {
                return throw(Class::IllegalArgumentException, thrown::SELF_REFERENCE);
            }
            object.parts(&mut open);
        }
        Ok(())
    }

    fn local(&mut self, slot: u16) -> &mut Val<'e> {
        &mut self.frame[self.base + usize::from(slot)]
    }

    // Statements.

    fn block(&mut self, body: &'e [Stmt]) -> Result<Flow<'e>, Box<Thrown>> {
        for statement in body {
            match self.statement(statement)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, statement: &'e Stmt) -> Result<Flow<'e>, Box<Thrown>> {
        match statement {
            Stmt::Expr(value) => {
                self.eval(value)?;
            }
            Stmt::Declare { slot, kind, value } => {
                let value = match value {
                    Some(value) => ops::cast(self.eval(value)?, *kind, false)?,
                    None => default_of(*kind),
                };
                *self.local(*slot) = value;
            }
            Stmt::If { condition, then, otherwise } => {
                let branch = if self.truth(condition)? { then } else { otherwise };
                return self.block(branch);
            }
            Stmt::For { init, condition, after, body } => {
                self.block(init)?;
                while condition.as_ref().map_or(Ok(true), |condition| self.truth(condition))? {
                    self.turn()?;
                    match self.block(body)? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::Next | Flow::Continue => {}
                    }
                    for value in after {
                        self.eval(value)?;
                    }
                }
            }
            Stmt::ForEach { slot, kind, over, body } => {
                let over = self.eval(over)?;
                for value in access::elements(self, &over)? {
                    self.turn()?;
                    *self.local(*slot) = ops::cast(value, *kind, false)?;
                    match self.block(body)? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::Next | Flow::Continue => {}
                    }
                }
            }
            Stmt::While { condition, body, first } => {
                let mut looked = *first == super::ast::Once::Run;
                while std::mem::take(&mut looked) || self.truth(condition)? {
                    self.turn()?;
                    match self.block(body)? {
                        Flow::Break => break,
                        Flow::Return(value) => return Ok(Flow::Return(value)),
                        Flow::Next | Flow::Continue => {}
                    }
                }
            }
            Stmt::Return(value) => {
                return Ok(Flow::Return(value.as_ref().map_or(Ok(Val::Null), |value| self.eval(value))?));
            }
            Stmt::Break => return Ok(Flow::Break),
            Stmt::Continue => return Ok(Flow::Continue),
            Stmt::Throw(value) => return Err(exception(&self.eval(value)?)),
            Stmt::Try { body, catches } => return self.attempt(body, catches),
        }
        Ok(Flow::Next)
    }

    fn attempt(&mut self, body: &'e [Stmt], catches: &'e [super::ast::Catch]) -> Result<Flow<'e>, Box<Thrown>> {
        let thrown = match self.block(body) {
            Err(thrown) if !thrown.fatal => thrown,
            other => return other,
        };
        let Some(catch) = catches.iter().find(|catch| catch.class.catches(thrown.class)) else { return Err(thrown) };
        let class = Class::named(thrown.class).unwrap_or(Class::RuntimeException);
        *self.local(catch.slot) = Val::object(Obj::Exception(class, thrown.message.map(Into::into)));
        self.block(&catch.body)
    }

    fn truth(&mut self, condition: &'e Expr) -> Result<bool, Box<Thrown>> {
        ops::truth(&self.eval(condition)?)
    }

    // Calls.

    fn function(&mut self, function: usize, args: Vec<Val<'e>>) -> Eval<'e> {
        self.step(args.len())?;
        let program = self.program;
        let Some(function) = program.functions.get(function) else {
            return throw(Class::IllegalArgumentException, "the script has no such function");
        };
        self.calls += 1;
        if self.calls > CALLS_MAX {
            return Err(Thrown::fatal(format!("functions call each other deeper than {CALLS_MAX}")));
        }
        let (base, start) = (self.base, self.frame.len());
        self.frame.resize(start + usize::from(function.slots), Val::Null);
        for (at, (value, kind)) in args.into_iter().zip(&function.parameters).enumerate() {
            self.frame[start + at] = ops::cast(value, *kind, false)?;
        }
        self.base = start;
        let result = self.block(&function.body);
        self.base = base;
        self.frame.truncate(start);
        self.calls -= 1;
        match result? {
            Flow::Return(value) => ops::cast(value, function.returns, false),
            _ => Ok(Val::Null),
        }
    }

    /// Calls a lambda with `args`.
    pub(super) fn lambda(&mut self, lambda: &'e Lambda, args: &[Val<'e>]) -> Eval<'e> {
        self.step(args.len())?;
        if let LambdaBody::Reference(reference) = &lambda.body {
            return self.reference(reference, args);
        }
        if usize::from(lambda.parameters) != args.len() {
            let wanted = lambda.parameters;
            return throw(
                Class::IllegalArgumentException,
                format!("Incorrect number of parameters for a lambda: it has [{wanted}], and gets [{}]", args.len()),
            );
        }
        for (at, value) in args.iter().enumerate() {
            *self.local(lambda.slot + at as u16) = value.clone();
        }
        match &lambda.body {
            LambdaBody::Value(value) => self.eval(value),
            LambdaBody::Block(body) => match self.block(body)? {
                Flow::Return(value) => Ok(value),
                _ => Ok(Val::Null),
            },
            LambdaBody::Reference(_) => Ok(Val::Null),
        }
    }

    fn reference(&mut self, reference: &'e Reference, args: &[Val<'e>]) -> Eval<'e> {
        match reference {
            Reference::Function(name) => {
                let program = self.program;
                match program.functions.iter().position(|function| function.name == *name) {
                    Some(at) if program.functions[at].parameters.len() == args.len() => {
                        self.function(at, args.to_vec())
                    }
                    _ => throw(Class::IllegalArgumentException, format!("[this::{name}] takes other arguments")),
                }
            }
            Reference::Class(class, name) if name == "new" => statics::construct(self, *class, args),
            Reference::Class(class, name) => {
                let given: Vec<_> = args.iter().cloned().map(Given::Value).collect();
                if statics::known(*class, name, args.len()) {
                    return statics::call(self, *class, name, &given);
                }
                match args.split_first() {
                    Some((of, _)) => methods::call(self, of, name, &given[1..]),
                    None => throw(Class::IllegalArgumentException, format!("[{name}] has nothing to be called on")),
                }
            }
        }
    }

    /// True if the lambda says so of `args`.
    pub(super) fn test(&mut self, lambda: &'e Lambda, args: &[Val<'e>]) -> Result<bool, Box<Thrown>> {
        ops::truth(&self.lambda(lambda, args)?)
    }
}

/// What a variable holds that was given nothing.
fn default_of<'e>(kind: Type) -> Val<'e> {
    match kind {
        Type::Boolean => Val::Bool(false),
        Type::Byte => Val::Byte(0),
        Type::Short => Val::Short(0),
        Type::Char => Val::Char(0),
        Type::Int => Val::Int(0),
        Type::Long => Val::Long(0),
        Type::Float => Val::Float(0.0),
        Type::Double => Val::Double(0.0),
        _ => Val::Null,
    }
}

fn exception(value: &Val<'_>) -> Box<Thrown> {
    if let Val::Object(object) = value
        && let Obj::Exception(class, message) = &**object
    {
        return Box::new(Thrown {
            class: class.full_name(),
            message: message.as_ref().map(ToString::to_string),
            fatal: false,
        });
    }
    Thrown::new(Class::ClassCastException, format!("cannot throw a [{}]", value.class_name()))
}

/// The elements that `values` holds now.
pub(super) fn snapshot<'e>(values: &RefCell<Vec<Val<'e>>>) -> Result<Vec<Val<'e>>, Box<Thrown>> {
    borrow(values).map(|values| values.clone())
}

/// A matcher of `pattern` on `text` that has found nothing yet.
pub(super) fn matcher<'e>(pattern: std::sync::Arc<super::ast::Pattern>, text: Text<'e>) -> Val<'e> {
    Val::object(Obj::Matcher(RefCell::new(Matcher { pattern, text, groups: None, next: 0 })))
}
