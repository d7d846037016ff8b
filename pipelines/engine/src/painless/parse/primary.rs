//! What expressions are made of: constants, names, lists and maps, calls, `new`, lambdas.

use super::{Kind, Parser, RESERVED, Wrong};
use crate::java_regex;
use crate::painless::ast::{Arg, Const, Expr, Lambda, LambdaBody, Pattern, Reference, Type};
use crate::painless::class::Class;
use crate::painless::{methods, statics};
use std::sync::Arc;

impl Parser {
    pub(super) fn primary(&mut self) -> Result<Expr, Wrong> {
        let constant = match self.kind() {
            Kind::Int(number) => Const::Int(*number),
            Kind::Long(number) => Const::Long(*number),
            Kind::Float(number) => Const::Float(*number),
            Kind::Double(number) => Const::Double(*number),
            Kind::Text(text) => Const::Text(text.clone()),
            Kind::Regex(text, flags) => {
                let flags = java_regex::flags(flags);
                let compiled = java_regex::compile(text, flags)
                    .and_then(|regex| Ok((regex, java_regex::compile_whole(text, flags)?)));
                match compiled {
                    Ok((regex, whole)) => Const::Regex(Arc::new(Pattern { text: text.to_string(), regex, whole })),
                    Err(problem) => return self.wrong(format!("regular expression /{text}/: {problem}")),
                }
            }
            Kind::Sign("(") => {
                self.at += 1;
                let value = self.expression()?;
                self.need(")")?;
                return Ok(value);
            }
            Kind::Sign("[") => return self.list_or_map(),
            Kind::Word(_) => return self.word(),
            _ => return self.unexpected("a value"),
        };
        self.at += 1;
        Ok(Expr::Const(constant))
    }

    fn list_or_map(&mut self) -> Result<Expr, Wrong> {
        self.need("[")?;
        if self.take_sign(":") {
            self.need("]")?;
            return Ok(Expr::Map(Vec::new()));
        }
        if self.take_sign("]") {
            return Ok(Expr::List(Vec::new()));
        }
        let first = self.expression()?;
        if self.take_sign(":") {
            let mut members = vec![(first, self.expression()?)];
            while !self.take_sign("]") {
                self.need(",")?;
                let key = self.expression()?;
                self.need(":")?;
                members.push((key, self.expression()?));
            }
            return Ok(Expr::Map(members));
        }
        let mut values = vec![first];
        while !self.take_sign("]") {
            self.need(",")?;
            values.push(self.expression()?);
        }
        Ok(Expr::List(values))
    }

    fn word(&mut self) -> Result<Expr, Wrong> {
        let at = self.place();
        let Kind::Word(word) = self.kind().clone() else { return self.unexpected("a value") };
        let constant = match word.as_str() {
            "true" => Some(Const::Bool(true)),
            "false" => Some(Const::Bool(false)),
            "null" => Some(Const::Null),
            _ => None,
        };
        if let Some(constant) = constant {
            self.at += 1;
            return Ok(Expr::Const(constant));
        }
        if word == "new" {
            self.at += 1;
            return self.new_object();
        }
        if let Some((_, variable)) = self.variable(&word) {
            let slot = variable.slot;
            self.at += 1;
            return Ok(Expr::Local(slot));
        }
        match word.as_str() {
            "ctx" => {
                self.at += 1;
                return Ok(Expr::Ctx);
            }
            "params" => {
                self.at += 1;
                return Ok(Expr::Params);
            }
            _ => {}
        }
        if matches!(self.peek(1), Kind::Sign("(")) {
            return self.call_of_function();
        }
        if let Some(class) = self.class_name() {
            return self.static_member(class, at);
        }
        if RESERVED.contains(&word.as_str()) {
            return self.unexpected("a value");
        }
        Err((at, format!("cannot resolve symbol [{word}]: it is no variable, and no class that is supported")))
    }

    fn call_of_function(&mut self) -> Result<Expr, Wrong> {
        let at = self.place();
        let name = self.name()?;
        let Some(function) = self.functions.iter().position(|known| *known == name) else {
            return Err((at, format!("unknown call [{name}]: the script has no such function")));
        };
        let mut args = Vec::new();
        for arg in self.arguments()? {
            match arg {
                Arg::Value(value) => args.push(value),
                Arg::Lambda(_) => return Err((at, "a lambda as argument of a function is not supported".to_owned())),
            }
        }
        let function = u16::try_from(function).unwrap_or(u16::MAX);
        self.calls.push((function, args.len(), at));
        Ok(Expr::User { function, args })
    }

    fn static_member(&mut self, class: Class, at: usize) -> Result<Expr, Wrong> {
        if !self.take_sign(".") {
            return Err((at, format!("class [{}] is no value", class.full_name())));
        }
        let Kind::Word(name) = self.kind() else { return self.unexpected("a name") };
        let name = name.clone();
        self.at += 1;
        if self.is_sign("(") {
            let args = self.arguments()?;
            if !statics::known(class, &name, args.len()) {
                let (class, count) = (class.full_name(), args.len());
                return Err((at, format!("static method [{class}, {name}/{count}] is not supported")));
            }
            return Ok(Expr::Static { class, name, args });
        }
        if !statics::known_field(class, &name) {
            return Err((at, format!("static field [{}, {name}] is not supported", class.full_name())));
        }
        Ok(Expr::StaticField(class, name))
    }

    fn new_object(&mut self) -> Result<Expr, Wrong> {
        let at = self.place();
        let Some(kind) = self.plain_type() else { return self.unexpected("a class that is known") };
        if self.is_sign("[") {
            return self.new_array(kind);
        }
        let class = match kind {
            Type::Class(class) => class,
            Type::Def => Class::Object,
            _ => return Err((at, "only classes and arrays can be made with new".to_owned())),
        };
        let mut args = Vec::new();
        for arg in self.arguments()? {
            match arg {
                Arg::Value(value) => args.push(value),
                Arg::Lambda(_) => return Err((at, "a lambda as argument of new is not supported".to_owned())),
            }
        }
        if !statics::known_constructor(class, args.len()) {
            return Err((at, format!("constructor [{}, <init>/{}] is not supported", class.full_name(), args.len())));
        }
        Ok(Expr::New { class, args })
    }

    fn new_array(&mut self, kind: Type) -> Result<Expr, Wrong> {
        let mut lengths = Vec::new();
        while self.take_sign("[") {
            if self.take_sign("]") {
                self.need("{")?;
                let mut values = Vec::new();
                while !self.take_sign("}") {
                    if !values.is_empty() {
                        self.need(",")?;
                    }
                    let value = self.expression()?;
                    values.push(if kind == Type::Def { value } else { Expr::Cast(kind, Box::new(value)) });
                }
                return Ok(Expr::Array(values));
            }
            lengths.push(self.expression()?);
            self.need("]")?;
        }
        Ok(Expr::NewArray(kind, lengths))
    }

    pub(super) fn arguments(&mut self) -> Result<Vec<Arg>, Wrong> {
        self.need("(")?;
        let mut args = Vec::new();
        while !self.take_sign(")") {
            if !args.is_empty() {
                self.need(",")?;
            }
            args.push(self.argument()?);
        }
        Ok(args)
    }

    fn argument(&mut self) -> Result<Arg, Wrong> {
        if let Some(lambda) = self.lambda()? {
            return Ok(Arg::Lambda(lambda));
        }
        if let Some(reference) = self.reference()? {
            let body = LambdaBody::Reference(reference);
            return Ok(Arg::Lambda(Lambda { slot: 0, parameters: 0, body }));
        }
        self.expression().map(Arg::Value)
    }

    /// `x -> …`, `(a, b) -> …`, `() -> …`.
    fn lambda(&mut self) -> Result<Option<Lambda>, Wrong> {
        let start = self.at;
        let mut names = Vec::new();
        if self.take_sign("(") {
            while !self.take_sign(")") {
                if (!names.is_empty() && !self.take_sign(",")) || self.kind() == &Kind::End {
                    self.at = start;
                    return Ok(None);
                }
                let kind = if self.at_declaration() { self.type_name()? } else { Type::Def };
                let Ok(name) = self.name() else {
                    self.at = start;
                    return Ok(None);
                };
                names.push((name, kind));
            }
        } else if let Ok(name) = self.name() {
            names.push((name, Type::Def));
        }
        if !self.take_sign("->") {
            self.at = start;
            return Ok(None);
        }
        let (captured, loops) = (self.captured, std::mem::take(&mut self.loops));
        let lambda = self.scoped(|parser| {
            parser.captured = parser.variables.len();
            let (slot, parameters) = (parser.next_slot, names.len() as u16);
            for (name, kind) in names {
                parser.declare(name, kind)?;
            }
            let body = match parser.is_sign("{") {
                true => LambdaBody::Block(parser.block()?),
                false => LambdaBody::Value(Box::new(parser.expression()?)),
            };
            Ok(Lambda { slot, parameters, body })
        });
        (self.captured, self.loops) = (captured, loops);
        lambda.map(Some)
    }

    /// `Class::method`, `this::function`.
    fn reference(&mut self) -> Result<Option<Reference>, Wrong> {
        let start = self.at;
        if self.take_word("this") {
            self.need("::")?;
            let at = self.place();
            let name = self.name()?;
            if !self.functions.contains(&name) {
                return Err((at, format!("unknown reference [this::{name}]: the script has no such function")));
            }
            return Ok(Some(Reference::Function(name)));
        }
        let Some(class) = self.class_name() else { return Ok(None) };
        if !self.take_sign("::") {
            self.at = start;
            return Ok(None);
        }
        let at = self.place();
        let Kind::Word(name) = self.kind().clone() else { return self.unexpected("a method's name") };
        self.at += 1;
        let makes = name == "new" && statics::known_constructor(class, 0);
        let calls = (0..3).any(|count| methods::known(&name, count) || statics::known(class, &name, count));
        if !makes && !calls {
            return Err((at, format!("reference [{}::{name}] is not supported", class.full_name())));
        }
        Ok(Some(Reference::Class(class, name)))
    }
}
