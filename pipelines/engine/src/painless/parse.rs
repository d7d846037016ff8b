//! The tokens of a script in, its compiled tree out: statements, functions and types. Names are resolved on the way.
//!
//! Specified by Painless's `PainlessParser.g4`. What is not supported is an error here, with its place, never a wrong
//! result later.

mod expr;
mod primary;
mod stmt;
mod types;

use super::ast::{Function, Program, Stmt, Type};
use super::class::Class;
use super::lex::{Kind, Token, lex};
use compact_str::CompactString;

/// Deepest nesting of expressions and blocks: bounds the stack.
const NESTING_MAX: u32 = 100;
/// Most operators and members of one statement: bounds the stack, too.
const OPERATORS_MAX: u32 = 1_500;
/// Most variables of one function.
const SLOTS_MAX: u16 = 1_000;

/// What is wrong in a script, and at which byte.
pub(super) type Wrong = (usize, String);

/// Words that can't be names.
const RESERVED: &[&str] = &[
    "if",
    "else",
    "while",
    "do",
    "for",
    "in",
    "continue",
    "break",
    "return",
    "new",
    "try",
    "catch",
    "throw",
    "this",
    "instanceof",
    "true",
    "false",
    "null",
];

/// Compiles `script`. With `value` the last expression is what it returns.
pub(super) fn parse(script: &str, value: bool) -> Result<Program, Wrong> {
    let mut parser = Parser::new(lex(script)?, value);
    parser.find_functions();
    let mut functions = Vec::new();
    while parser.at_function() {
        functions.push(parser.function()?);
    }
    parser.open_frame();
    let mut body = Vec::new();
    while parser.kind() != &Kind::End {
        parser.statement(&mut body)?;
    }
    if value && matches!(body.last(), Some(Stmt::Expr(_))) {
        let Some(Stmt::Expr(last)) = body.pop() else { return Err((0, "the script is empty".to_owned())) };
        body.push(Stmt::Return(Some(last)));
    }
    for (function, count, at) in &parser.calls {
        let Some(function) = functions.get(usize::from(*function)) else { continue };
        if function.parameters.len() != *count {
            let (name, wanted) = (&function.name, function.parameters.len());
            return Err((*at, format!("function [{name}] takes {wanted} arguments, not {count}")));
        }
    }
    Ok(Program { functions, slots: parser.slots_used, body })
}

#[derive(Debug, Clone)]
struct Variable {
    name: CompactString,
    slot: u16,
    kind: Type,
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
    functions: Vec<CompactString>,
    /// Calls of functions: which, with how many arguments, where.
    calls: Vec<(u16, usize, usize)>,
    variables: Vec<Variable>,
    /// How many variables stand outside of the innermost lambda: it can't assign to those.
    captured: usize,
    next_slot: u16,
    slots_used: u16,
    loops: u32,
    /// The script gives the value of its last expression.
    gives_value: bool,
    /// Operators and members so far in this statement.
    operators: u32,
}

impl Parser {
    fn new(tokens: Vec<Token>, gives_value: bool) -> Self {
        Self {
            tokens,
            at: 0,
            depth: 0,
            functions: Vec::new(),
            calls: Vec::new(),
            variables: Vec::new(),
            captured: 0,
            next_slot: 0,
            slots_used: 0,
            loops: 0,
            gives_value,
            operators: 0,
        }
    }

    fn kind(&self) -> &Kind {
        self.peek(0)
    }

    /// The token `ahead` of the next one.
    fn peek(&self, ahead: usize) -> &Kind {
        self.tokens.get(self.at + ahead).map_or(&Kind::End, |token| &token.kind)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |token| token.at)
    }

    fn wrong<T>(&self, problem: impl Into<String>) -> Result<T, Wrong> {
        Err((self.place(), problem.into()))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, Wrong> {
        let got = match self.kind() {
            Kind::End => "end of script".to_owned(),
            Kind::Word(word) => word.to_string(),
            Kind::Sign(sign) => (*sign).to_owned(),
            Kind::Text(text) => format!("'{text}'"),
            Kind::Regex(text, _) => format!("/{text}/"),
            Kind::Int(number) => number.to_string(),
            Kind::Long(number) => number.to_string(),
            Kind::Float(number) => number.to_string(),
            Kind::Double(number) => number.to_string(),
        };
        self.wrong(format!("unexpected [{got}], {wanted} expected"))
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.kind(), Kind::Sign(found) if *found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.kind(), Kind::Word(found) if found == word)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let there = self.is_sign(sign);
        self.at += usize::from(there);
        there
    }

    fn take_word(&mut self, word: &str) -> bool {
        let there = self.is_word(word);
        self.at += usize::from(there);
        there
    }

    fn need(&mut self, sign: &str) -> Result<(), Wrong> {
        if self.take_sign(sign) { Ok(()) } else { self.unexpected(&format!("[{sign}]")) }
    }

    fn name(&mut self) -> Result<CompactString, Wrong> {
        match self.kind() {
            Kind::Word(word) if !RESERVED.contains(&word.as_str()) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => self.unexpected("a name"),
        }
    }

    /// One level deeper; to be left again with [`Parser::leave`].
    fn enter(&mut self) -> Result<(), Wrong> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return self.wrong(format!("nested deeper than {NESTING_MAX}"));
        }
        Ok(())
    }

    /// Rows of operators make a tree that is as deep as they are long.
    fn count_operator(&mut self) -> Result<(), Wrong> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return self.wrong(format!("more than {OPERATORS_MAX} operators and members in one statement"));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    // Names.

    fn open_frame(&mut self) {
        self.variables.clear();
        (self.captured, self.next_slot, self.slots_used, self.loops) = (0, 0, 0, 0);
    }

    fn declare(&mut self, name: CompactString, kind: Type) -> Result<u16, Wrong> {
        if self.variables.iter().any(|known| known.name == name) || name == "ctx" || name == "params" {
            return self.wrong(format!("variable [{name}] is already defined"));
        }
        let slot = self.next_slot;
        if slot == SLOTS_MAX {
            return self.wrong(format!("more than {SLOTS_MAX} variables"));
        }
        self.next_slot += 1;
        self.slots_used = self.slots_used.max(self.next_slot);
        self.variables.push(Variable { name, slot, kind });
        Ok(slot)
    }

    fn variable(&self, name: &str) -> Option<(usize, &Variable)> {
        self.variables.iter().enumerate().rev().find(|(_, variable)| variable.name == name)
    }

    /// Runs `inner` and forgets what it declared. Places are not used again: a lambda may still hold them.
    fn scoped<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Wrong>) -> Result<T, Wrong> {
        let known = self.variables.len();
        self.enter()?;
        let result = inner(self);
        self.leave();
        self.variables.truncate(known);
        result
    }

    // Functions.

    /// Notes the names of all functions, so that they can call each other.
    fn find_functions(&mut self) {
        let (mut depth, mut starts) = (0_u32, true);
        while self.kind() != &Kind::End {
            if depth == 0 && starts && self.at_function() {
                let start = self.at;
                if self.type_name().is_ok()
                    && let Ok(name) = self.name()
                {
                    self.functions.push(name);
                }
                self.at = start;
            }
            match self.kind() {
                Kind::Sign("{") => depth += 1,
                Kind::Sign("}") => depth = depth.saturating_sub(1),
                _ => {}
            }
            starts = matches!(self.kind(), Kind::Sign("}"));
            self.at += 1;
        }
        self.at = 0;
    }

    /// True before `type name (`, which no statement starts with.
    fn at_function(&mut self) -> bool {
        let start = self.at;
        let found = self.type_name().is_ok() && self.name().is_ok() && self.is_sign("(");
        self.at = start;
        found
    }

    fn function(&mut self) -> Result<Function, Wrong> {
        self.open_frame();
        let returns = self.type_name()?;
        let name = self.name()?;
        if self.functions.iter().filter(|known| **known == name).count() > 1 {
            return self.wrong(format!("two functions are called [{name}], which is not supported"));
        }
        self.need("(")?;
        let mut parameters = Vec::new();
        while !self.take_sign(")") {
            if !parameters.is_empty() {
                self.need(",")?;
            }
            let kind = self.type_name()?;
            let parameter = self.name()?;
            self.declare(parameter, kind)?;
            parameters.push(kind);
        }
        let body = self.block()?;
        Ok(Function { name, returns, parameters, slots: self.slots_used, body })
    }
}

/// A class is known, so the word that is its name is no variable.
fn class_of(name: &str) -> Option<Class> {
    Class::named(name)
}
