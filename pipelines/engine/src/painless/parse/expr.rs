//! Expressions, by precedence as in Painless's grammar.

use super::{Kind, Parser, Wrong};
use crate::painless::ast::{Const, Expr, Op, Target, Type, UnaryOp};
use crate::painless::class::Class;
use crate::painless::methods;

/// Binary operators, loosest first; those of one line bind alike.
const LEVELS: &[&[(&str, Op)]] = &[
    &[("|", Op::BitOr)],
    &[("^", Op::BitXor)],
    &[("&", Op::BitAnd)],
    &[("==", Op::Eq), ("!=", Op::Ne)],
    &[("<", Op::Less), ("<=", Op::LessEq), (">", Op::More), (">=", Op::MoreEq)],
    &[("<<", Op::ShiftLeft), (">>", Op::ShiftRight), (">>>", Op::ShiftRightUnsigned)],
    &[("+", Op::Add), ("-", Op::Sub)],
    &[("=~", Op::Find), ("==~", Op::Match)],
    &[("*", Op::Mul), ("/", Op::Div), ("%", Op::Rem)],
];
/// Where `instanceof` stands among them: it binds as the comparisons do.
const COMPARISONS: usize = 4;

const ASSIGNMENTS: &[(&str, Op)] = &[
    ("+=", Op::Add),
    ("-=", Op::Sub),
    ("*=", Op::Mul),
    ("/=", Op::Div),
    ("%=", Op::Rem),
    ("&=", Op::BitAnd),
    ("^=", Op::BitXor),
    ("|=", Op::BitOr),
    ("<<=", Op::ShiftLeft),
    (">>=", Op::ShiftRight),
    (">>>=", Op::ShiftRightUnsigned),
];

impl Parser {
    /// An expression, assignments included.
    pub(super) fn expression(&mut self) -> Result<Expr, Wrong> {
        self.enter()?;
        let result = self.assignment();
        self.leave();
        result
    }

    fn assignment(&mut self) -> Result<Expr, Wrong> {
        let at = self.place();
        let left = self.ternary()?;
        if self.take_sign("=") {
            let target = self.target(left, at)?;
            let value = self.expression()?;
            return Ok(Expr::Assign(target, Box::new(value)));
        }
        for (sign, op) in ASSIGNMENTS {
            if self.take_sign(sign) {
                let target = self.target(left, at)?;
                let value = Box::new(self.expression()?);
                return Ok(Expr::Compound { target, op: *op, value, before: false });
            }
        }
        Ok(left)
    }

    fn target(&self, left: Expr, at: usize) -> Result<Target, Wrong> {
        match left {
            Expr::Local(slot) => {
                let found = self.variables.iter().enumerate().find(|(_, variable)| variable.slot == slot);
                let Some((nth, variable)) = found else {
                    return Err((at, "a variable that is not known here".to_owned()));
                };
                if nth < self.captured {
                    let name = &variable.name;
                    return Err((at, format!("cannot assign to [{name}] in a lambda: it stands outside of it")));
                }
                Ok(Target::Local(slot, variable.kind))
            }
            Expr::Field { of, name, safe: false } => Ok(Target::Field(of, name)),
            Expr::Index { of, key } => Ok(Target::Index(of, key)),
            _ => Err((at, "cannot assign a value to this: it is no variable, field or element".to_owned())),
        }
    }

    fn ternary(&mut self) -> Result<Expr, Wrong> {
        let condition = self.elvis()?;
        if !self.take_sign("?") {
            return Ok(condition);
        }
        let then = self.expression()?;
        self.need(":")?;
        let otherwise = self.expression()?;
        Ok(Expr::Ternary(Box::new(condition), Box::new(then), Box::new(otherwise)))
    }

    fn elvis(&mut self) -> Result<Expr, Wrong> {
        let left = self.or()?;
        if !self.take_sign("?:") {
            return Ok(left);
        }
        self.enter()?;
        let right = self.elvis();
        self.leave();
        Ok(Expr::Elvis(Box::new(left), Box::new(right?)))
    }

    fn or(&mut self) -> Result<Expr, Wrong> {
        let first = self.and()?;
        if !self.is_sign("||") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_sign("||") {
            all.push(self.and()?);
        }
        Ok(Expr::Or(all))
    }

    fn and(&mut self) -> Result<Expr, Wrong> {
        let first = self.binary(0)?;
        if !self.is_sign("&&") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_sign("&&") {
            all.push(self.binary(0)?);
        }
        Ok(Expr::And(all))
    }

    fn binary(&mut self, level: usize) -> Result<Expr, Wrong> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            if self.is_sign("===") || self.is_sign("!==") {
                return self.wrong("=== and !== compare references, which is not supported; use == and !=");
            }
            if level == COMPARISONS && self.take_word("instanceof") {
                let kind = self.type_name()?;
                left = Expr::InstanceOf(Box::new(left), kind);
                continue;
            }
            let Some((_, op)) = operators.iter().find(|(sign, _)| self.is_sign(sign)) else { return Ok(left) };
            self.at += 1;
            self.count_operator()?;
            let (op, right) = (*op, self.binary(level + 1)?);
            let concat = op == Op::Add && (self.is_text(&left) || self.is_text(&right));
            let (left_side, right) = (Box::new(left), Box::new(right));
            left = if concat { Expr::Concat(left_side, right) } else { Expr::Binary(op, left_side, right) };
        }
    }

    /// True for what is declared as a text.
    fn is_text(&self, value: &Expr) -> bool {
        match value {
            Expr::Concat(..) | Expr::Cast(Type::Class(Class::String), _) => true,
            Expr::Local(slot) => self
                .variables
                .iter()
                .any(|variable| variable.slot == *slot && variable.kind == Type::Class(Class::String)),
            _ => false,
        }
    }

    fn unary(&mut self) -> Result<Expr, Wrong> {
        self.enter()?;
        let result = self.unary_inside();
        self.leave();
        result
    }

    fn unary_inside(&mut self) -> Result<Expr, Wrong> {
        let at = self.place();
        for (sign, op) in [("++", Op::Add), ("--", Op::Sub)] {
            if self.take_sign(sign) {
                let of = self.unary()?;
                let target = self.target(of, at)?;
                let value = Box::new(Expr::Const(Const::Int(1)));
                return Ok(Expr::Compound { target, op, value, before: false });
            }
        }
        for (sign, op) in [("!", UnaryOp::Not), ("-", UnaryOp::Negate), ("+", UnaryOp::Plus), ("~", UnaryOp::BitNot)] {
            if self.take_sign(sign) {
                return Ok(Expr::Unary(op, Box::new(self.unary()?)));
            }
        }
        if let Some(kind) = self.cast() {
            return Ok(Expr::Cast(kind, Box::new(self.unary()?)));
        }
        let value = self.postfix()?;
        for (sign, op) in [("++", Op::Add), ("--", Op::Sub)] {
            if self.take_sign(sign) {
                let target = self.target(value, at)?;
                let value = Box::new(Expr::Const(Const::Int(1)));
                return Ok(Expr::Compound { target, op, value, before: true });
            }
        }
        Ok(value)
    }

    /// `(type)` before something that can be cast.
    fn cast(&mut self) -> Option<Type> {
        let start = self.at;
        if self.take_sign("(")
            && let Ok(kind) = self.type_name()
            && self.take_sign(")")
        {
            let castable = match self.kind() {
                Kind::End => false,
                Kind::Sign(sign) => {
                    let signed = matches!(*sign, "+" | "-") && !matches!(kind, Type::Class(_) | Type::Array);
                    matches!(*sign, "(" | "[" | "!" | "~") || signed
                }
                Kind::Word(word) => word != "instanceof" && word != "in",
                _ => true,
            };
            if castable {
                return Some(kind);
            }
        }
        self.at = start;
        None
    }

    fn postfix(&mut self) -> Result<Expr, Wrong> {
        let mut value = self.primary()?;
        loop {
            let safe = self.is_sign("?.");
            if safe || self.is_sign(".") {
                self.at += 1;
                self.count_operator()?;
                let at = self.place();
                let Kind::Word(name) = self.kind() else { return self.unexpected("a name") };
                let name = name.clone();
                self.at += 1;
                let of = Box::new(value);
                value = if self.is_sign("(") {
                    let args = self.arguments()?;
                    if !methods::known(&name, args.len()) {
                        return Err((at, format!("method [{name}/{}] is not supported", args.len())));
                    }
                    Expr::Call { of, name, args, safe }
                } else {
                    Expr::Field { of, name, safe }
                };
            } else if self.take_sign("[") {
                self.count_operator()?;
                let key = Box::new(self.expression()?);
                self.need("]")?;
                value = Expr::Index { of: Box::new(value), key };
            } else {
                return Ok(value);
            }
        }
    }
}
