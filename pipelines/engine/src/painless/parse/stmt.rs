//! Statements: declarations, branches, loops, `try`.

use super::{Kind, Parser, Wrong};
use crate::painless::ast::{Catch, Expr, Once, Stmt, Type};
use compact_str::CompactString;

impl Parser {
    pub(super) fn block(&mut self) -> Result<Vec<Stmt>, Wrong> {
        self.need("{")?;
        self.scoped(|parser| {
            let mut body = Vec::new();
            while !parser.take_sign("}") {
                if parser.kind() == &Kind::End {
                    return parser.unexpected("[}]");
                }
                parser.statement(&mut body)?;
            }
            Ok(body)
        })
    }

    /// A block, or a single statement.
    fn trailer(&mut self) -> Result<Vec<Stmt>, Wrong> {
        if self.is_sign("{") {
            return self.block();
        }
        self.scoped(|parser| {
            let mut body = Vec::new();
            parser.statement(&mut body)?;
            Ok(body)
        })
    }

    fn loop_body(&mut self) -> Result<Vec<Stmt>, Wrong> {
        self.loops += 1;
        let body = if self.take_sign(";") { Ok(Vec::new()) } else { self.trailer() };
        self.loops -= 1;
        body
    }

    fn end_of_statement(&mut self) -> Result<(), Wrong> {
        if self.take_sign(";") || self.is_sign("}") || self.kind() == &Kind::End {
            return Ok(());
        }
        self.unexpected("[;]")
    }

    pub(super) fn statement(&mut self, out: &mut Vec<Stmt>) -> Result<(), Wrong> {
        self.operators = 0;
        let Kind::Word(word) = self.kind() else {
            return self.simple_statement(out);
        };
        match word.as_str() {
            "if" => {
                self.at += 1;
                let statement = self.if_statement()?;
                out.push(statement);
            }
            "for" => {
                self.at += 1;
                let statement = self.scoped(Self::for_statement)?;
                out.push(statement);
            }
            "while" => {
                self.at += 1;
                let condition = self.condition()?;
                let body = self.loop_body()?;
                out.push(Stmt::While { condition, body, first: Once::Look });
            }
            "do" => {
                self.at += 1;
                self.loops += 1;
                let body = self.block()?;
                self.loops -= 1;
                if !self.take_word("while") {
                    return self.unexpected("[while]");
                }
                let condition = self.condition()?;
                self.end_of_statement()?;
                out.push(Stmt::While { condition, body, first: Once::Run });
            }
            "try" => {
                self.at += 1;
                let statement = self.try_statement()?;
                out.push(statement);
            }
            "break" | "continue" => {
                let statement = if word == "break" { Stmt::Break } else { Stmt::Continue };
                if self.loops == 0 {
                    return self.wrong("break and continue can stand in a loop only");
                }
                self.at += 1;
                self.end_of_statement()?;
                out.push(statement);
            }
            "return" => {
                self.at += 1;
                let ends = self.is_sign(";") || self.is_sign("}") || self.kind() == &Kind::End;
                let value = if ends { None } else { Some(self.expression()?) };
                self.end_of_statement()?;
                out.push(Stmt::Return(value));
            }
            "throw" => {
                self.at += 1;
                let value = self.expression()?;
                self.end_of_statement()?;
                out.push(Stmt::Throw(value));
            }
            _ => self.simple_statement(out)?,
        }
        Ok(())
    }

    fn simple_statement(&mut self, out: &mut Vec<Stmt>) -> Result<(), Wrong> {
        if self.take_sign(";") {
            return Ok(());
        }
        if self.at_declaration() {
            self.declaration(out)?;
        } else {
            let at = self.place();
            let value = self.expression()?;
            self.end_of_statement()?;
            let is_last = self.gives_value && self.depth == 0 && self.kind() == &Kind::End;
            if !is_last && !is_statement(&value) {
                return Err((at, "not a statement: what this gives is used by nothing".to_owned()));
            }
            out.push(Stmt::Expr(value));
            return Ok(());
        }
        self.end_of_statement()
    }

    /// `int a = 1, b`.
    fn declaration(&mut self, out: &mut Vec<Stmt>) -> Result<(), Wrong> {
        let kind = self.type_name()?;
        loop {
            let name = self.name()?;
            let value = if self.take_sign("=") { Some(self.expression()?) } else { None };
            let slot = self.declare(name, kind)?;
            out.push(Stmt::Declare { slot, kind, value });
            if !self.take_sign(",") {
                return Ok(());
            }
        }
    }

    fn condition(&mut self) -> Result<Expr, Wrong> {
        self.need("(")?;
        let condition = self.expression()?;
        self.need(")")?;
        Ok(condition)
    }

    fn if_statement(&mut self) -> Result<Stmt, Wrong> {
        let condition = self.condition()?;
        let then = self.trailer()?;
        let otherwise = if self.take_word("else") { self.trailer()? } else { Vec::new() };
        Ok(Stmt::If { condition, then, otherwise })
    }

    fn for_statement(&mut self) -> Result<Stmt, Wrong> {
        self.need("(")?;
        if let Some((kind, name)) = self.for_each_head() {
            let over = self.expression()?;
            self.need(")")?;
            let slot = self.declare(name, kind)?;
            let body = self.loop_body()?;
            return Ok(Stmt::ForEach { slot, kind, over, body });
        }
        let mut init = Vec::new();
        if !self.take_sign(";") {
            if self.at_declaration() {
                self.declaration(&mut init)?;
            } else {
                let value = self.expression()?;
                init.push(Stmt::Expr(value));
            }
            self.need(";")?;
        }
        let condition = if self.is_sign(";") { None } else { Some(self.expression()?) };
        self.need(";")?;
        let mut after = Vec::new();
        while !self.take_sign(")") {
            if !after.is_empty() {
                self.need(",")?;
            }
            after.push(self.expression()?);
        }
        let body = self.loop_body()?;
        Ok(Stmt::For { init, condition, after, body })
    }

    /// `def x :`, `String x :` or `x in`.
    fn for_each_head(&mut self) -> Option<(Type, CompactString)> {
        let start = self.at;
        if let Ok(name) = self.name()
            && self.take_word("in")
        {
            return Some((Type::Def, name));
        }
        self.at = start;
        if let Ok(kind) = self.type_name()
            && let Ok(name) = self.name()
            && self.take_sign(":")
        {
            return Some((kind, name));
        }
        self.at = start;
        None
    }

    fn try_statement(&mut self) -> Result<Stmt, Wrong> {
        let body = self.block()?;
        let mut catches = Vec::new();
        while self.take_word("catch") {
            self.need("(")?;
            let at = self.place();
            let class = match self.type_name()? {
                Type::Class(class) if class.is_exception() => class,
                _ => {
                    return Err((
                        at,
                        "an exception that is not known; there are Exception and those of java.lang".into(),
                    ));
                }
            };
            let name = self.name()?;
            self.need(")")?;
            let catch = self.scoped(|parser| {
                let slot = parser.declare(name, Type::Class(class))?;
                Ok(Catch { class, slot, body: parser.block()? })
            })?;
            catches.push(catch);
        }
        if catches.is_empty() {
            return self.unexpected("[catch]");
        }
        Ok(Stmt::Try { body, catches })
    }
}

/// True for what does something beside giving a value.
fn is_statement(value: &Expr) -> bool {
    matches!(
        value,
        Expr::Assign(..)
            | Expr::Compound { .. }
            | Expr::Call { .. }
            | Expr::Static { .. }
            | Expr::User { .. }
            | Expr::New { .. }
    )
}
