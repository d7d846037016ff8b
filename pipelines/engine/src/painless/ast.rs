//! What a script is compiled to: a tree whose names are resolved to places, classes and functions.

use super::class::Class;
use compact_str::CompactString;
use regex_automata::meta::Regex;
use std::sync::Arc;

/// A type as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// `def`, and every class that needs no check.
    Def,
    Boolean,
    Byte,
    Short,
    Char,
    Int,
    Long,
    Float,
    Double,
    Class(Class),
    /// An array of anything; of how many dimensions does not matter to us.
    Array,
    Void,
}

/// A compiled regular expression and its text.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    pub(super) regex: Regex,
    /// The same between anchors: what matches a whole text.
    pub(super) whole: Regex,
}

#[derive(Debug, Clone)]
pub(super) enum Const {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(CompactString),
    Regex(Arc<Pattern>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    ShiftLeft,
    ShiftRight,
    ShiftRightUnsigned,
    BitAnd,
    BitOr,
    BitXor,
    Eq,
    Ne,
    Less,
    LessEq,
    More,
    MoreEq,
    /// `=~`
    Find,
    /// `==~`
    Match,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnaryOp {
    Not,
    Negate,
    Plus,
    BitNot,
}

/// An argument of a call.
#[derive(Debug)]
pub(super) enum Arg {
    Value(Expr),
    Lambda(Lambda),
}

/// A function without a name. It runs in the frame of what surrounds it, while that runs.
#[derive(Debug)]
pub(super) struct Lambda {
    /// Place of the first parameter; the others follow.
    pub(super) slot: u16,
    pub(super) parameters: u16,
    pub(super) body: LambdaBody,
}

#[derive(Debug)]
pub(super) enum LambdaBody {
    Value(Box<Expr>),
    Block(Vec<Stmt>),
    /// `Class::name` and `this::name`, with what is called.
    Reference(Reference),
}

#[derive(Debug)]
pub(super) enum Reference {
    /// A method of the first parameter, or a static one of the class.
    Class(Class, CompactString),
    Function(CompactString),
}

/// What can be assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Local(u16, Type),
    Field(Box<Expr>, CompactString),
    Index(Box<Expr>, Box<Expr>),
}

#[derive(Debug)]
pub(super) enum Expr {
    Const(Const),
    Local(u16),
    Ctx,
    Params,
    Field {
        of: Box<Expr>,
        name: CompactString,
        safe: bool,
    },
    Index {
        of: Box<Expr>,
        key: Box<Expr>,
    },
    Call {
        of: Box<Expr>,
        name: CompactString,
        args: Vec<Arg>,
        safe: bool,
    },
    StaticField(Class, CompactString),
    Static {
        class: Class,
        name: CompactString,
        args: Vec<Arg>,
    },
    User {
        function: u16,
        args: Vec<Expr>,
    },
    New {
        class: Class,
        args: Vec<Expr>,
    },
    /// Type of the elements, lengths of the dimensions.
    NewArray(Type, Vec<Expr>),
    Array(Vec<Expr>),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    Unary(UnaryOp, Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    /// `+` where one side is declared as a text, and so is one even if it is null.
    Concat(Box<Expr>, Box<Expr>),
    /// All of them, and any of them: side by side, so that a long row is not deep.
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Elvis(Box<Expr>, Box<Expr>),
    Ternary(Box<Expr>, Box<Expr>, Box<Expr>),
    InstanceOf(Box<Expr>, Type),
    Cast(Type, Box<Expr>),
    Assign(Target, Box<Expr>),
    /// `target op= value`, and `++` and `--`, whose value may be the one before.
    Compound {
        target: Target,
        op: Op,
        value: Box<Expr>,
        before: bool,
    },
}

#[derive(Debug)]
pub(super) enum Stmt {
    Expr(Expr),
    Declare { slot: u16, kind: Type, value: Option<Expr> },
    If { condition: Expr, then: Vec<Stmt>, otherwise: Vec<Stmt> },
    For { init: Vec<Stmt>, condition: Option<Expr>, after: Vec<Expr>, body: Vec<Stmt> },
    ForEach { slot: u16, kind: Type, over: Expr, body: Vec<Stmt> },
    While { condition: Expr, body: Vec<Stmt>, first: Once },
    Return(Option<Expr>),
    Break,
    Continue,
    Throw(Expr),
    Try { body: Vec<Stmt>, catches: Vec<Catch> },
}

/// Whether a loop looks at its condition before its first turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once {
    Look,
    Run,
}

#[derive(Debug)]
pub(super) struct Catch {
    pub(super) class: Class,
    pub(super) slot: u16,
    pub(super) body: Vec<Stmt>,
}

/// A function of the script.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: CompactString,
    pub(super) returns: Type,
    pub(super) parameters: Vec<Type>,
    /// Places that a call needs.
    pub(super) slots: u16,
    pub(super) body: Vec<Stmt>,
}

/// A compiled script.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) functions: Vec<Function>,
    pub(super) slots: u16,
    pub(super) body: Vec<Stmt>,
}
