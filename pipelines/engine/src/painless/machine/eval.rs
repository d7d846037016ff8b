//! Expressions at work.

use super::{DEPTH_MAX, Eval, Given, Machine, default_of};
use crate::painless::ast::{Arg, Const, Expr, Op, Target, Type};
use crate::painless::class::Class;
use crate::painless::thrown::{Thrown, throw};
use crate::painless::value::{Map, Obj, Order, Text, Val};
use crate::painless::{access, methods, ops, regex, statics};
use std::cell::RefCell;

impl<'e> Machine<'e> {
    pub(in crate::painless) fn eval(&mut self, expr: &'e Expr) -> Eval<'e> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Thrown::fatal(format!("expressions stand in each other deeper than {DEPTH_MAX}")));
        }
        let result = self.eval_inside(expr);
        self.depth -= 1;
        result
    }

    fn eval_inside(&mut self, expr: &'e Expr) -> Eval<'e> {
        match expr {
            Expr::Const(constant) => Ok(match constant {
                Const::Null => Val::Null,
                Const::Bool(flag) => Val::Bool(*flag),
                Const::Int(number) => Val::Int(*number),
                Const::Long(number) => Val::Long(*number),
                Const::Float(number) => Val::Float(*number),
                Const::Double(number) => Val::Double(*number),
                Const::Text(text) => ops::text_ref(text),
                Const::Regex(pattern) => Val::object(Obj::Pattern(pattern.clone())),
            }),
            Expr::Local(slot) => Ok(self.local(*slot).clone()),
            Expr::Ctx => Ok(self.ctx.clone()),
            Expr::Params => Ok(self.params.clone()),
            Expr::Field { of, name, safe } => match self.eval(of)? {
                Val::Null if *safe => Ok(Val::Null),
                of => access::field(self, &of, name),
            },
            Expr::Index { of, key } => {
                let (of, key) = (self.eval(of)?, self.eval(key)?);
                access::index(self, &of, &key)
            }
            Expr::Call { of, name, args, safe } => self.call(of, name, args, *safe),
            Expr::Unary(op, value) => ops::unary(*op, &self.eval(value)?),
            Expr::Binary(op @ (Op::Find | Op::Match), text, pattern) => {
                let (text, pattern) = (self.eval(text)?, self.eval(pattern)?);
                regex::operator(*op, &text, &pattern)
            }
            Expr::Concat(left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                let mut text = left.to_text();
                text.push_str(&right.to_text());
                self.charge(text.len())?;
                Ok(Val::text(text))
            }
            Expr::Binary(op, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                self.binary(*op, &left, &right)
            }
            Expr::And(all) => self.row(all, true),
            Expr::Or(all) => self.row(all, false),
            Expr::Elvis(left, right) => match self.eval(left)? {
                Val::Null => self.eval(right),
                value => Ok(value),
            },
            Expr::Ternary(condition, then, otherwise) => {
                if self.truth(condition)? {
                    self.eval(then)
                } else {
                    self.eval(otherwise)
                }
            }
            Expr::InstanceOf(value, kind) => {
                let value = self.eval(value)?;
                Ok(Val::Bool(match kind {
                    Type::Class(class) => ops::is_instance(&value, *class),
                    Type::Def => !matches!(value, Val::Null),
                    kind => !matches!(value, Val::Null) && ops::cast(value, *kind, false).is_ok(),
                }))
            }
            Expr::Cast(kind, value) => ops::cast(self.eval(value)?, *kind, true),
            Expr::Assign(target, value) => self.assign(target, value),
            Expr::Compound { target, op, value, before } => self.compound(target, *op, value, *before),
            other => self.make(other),
        }
    }

    /// `of.name(args)`. By itself, as what follows, so that the frame of what nests most is small.
    #[inline(never)]
    fn call(&mut self, of: &'e Expr, name: &str, args: &'e [Arg], safe: bool) -> Eval<'e> {
        let of = match self.eval(of)? {
            Val::Null if safe => return Ok(Val::Null),
            Val::Null => return Err(Thrown::null(name)),
            of => of,
        };
        self.step(0)?;
        let mut given: [Given<'e>; methods::ARGUMENTS_MAX] = Default::default();
        for (place, arg) in given.iter_mut().zip(args) {
            *place = self.given(arg)?;
        }
        methods::call(self, &of, name, &given[..args.len()])
    }

    /// What makes something: objects, lists, calls of functions.
    #[inline(never)]
    fn make(&mut self, expr: &'e Expr) -> Eval<'e> {
        match expr {
            Expr::StaticField(class, name) => statics::field(*class, name),
            Expr::Static { class, name, args } => {
                self.step(0)?;
                let args: Result<Vec<_>, _> = args.iter().map(|arg| self.given(arg)).collect();
                statics::call(self, *class, name, &args?)
            }
            Expr::User { function, args } => {
                let args: Result<Vec<_>, _> = args.iter().map(|arg| self.eval(arg)).collect();
                self.function(usize::from(*function), args?)
            }
            Expr::New { class, args } => {
                let args: Result<Vec<_>, _> = args.iter().map(|arg| self.eval(arg)).collect();
                statics::construct(self, *class, &args?)
            }
            Expr::NewArray(kind, lengths) => {
                let lengths: Result<Vec<_>, _> = lengths.iter().map(|length| self.eval(length)).collect();
                self.new_array(*kind, &lengths?)
            }
            Expr::Array(values) => Ok(Val::object(Obj::Array(RefCell::new(self.all(values)?)))),
            Expr::List(values) => Ok(Val::list(self.all(values)?)),
            Expr::Map(members) => {
                self.charge_elements(members.len())?;
                let mut map = Map { members: Vec::with_capacity(members.len()), order: Order::Hash };
                for (key, value) in members {
                    let (key, value) = (self.eval(key)?, self.eval(value)?);
                    map.put(key, value);
                }
                Ok(Val::object(Obj::Map(RefCell::new(map))))
            }
            _ => Ok(Val::Null),
        }
    }

    /// Looks at conditions until one is not `wanted`.
    fn row(&mut self, all: &'e [Expr], wanted: bool) -> Eval<'e> {
        for condition in all {
            if self.truth(condition)? != wanted {
                return Ok(Val::Bool(!wanted));
            }
        }
        Ok(Val::Bool(wanted))
    }

    fn all(&mut self, values: &'e [Expr]) -> Result<Vec<Val<'e>>, Box<Thrown>> {
        self.charge_elements(values.len())?;
        values.iter().map(|value| self.eval(value)).collect()
    }

    fn binary(&mut self, op: Op, left: &Val<'e>, right: &Val<'e>) -> Eval<'e> {
        let result = ops::binary(op, left, right)?;
        if let Val::Text(Text::Own(text)) = &result {
            self.charge(text.len())?;
        }
        Ok(result)
    }

    fn given(&mut self, arg: &'e Arg) -> Result<Given<'e>, Box<Thrown>> {
        match arg {
            Arg::Value(value) => self.eval(value).map(Given::Value),
            Arg::Lambda(lambda) => Ok(Given::Lambda(lambda)),
        }
    }

    fn assign(&mut self, target: &'e Target, value: &'e Expr) -> Eval<'e> {
        match target {
            Target::Local(slot, kind) => {
                let value = ops::cast(self.eval(value)?, *kind, false)?;
                *self.local(*slot) = value.clone();
                Ok(value)
            }
            Target::Field(of, name) => {
                let (of, value) = (self.eval(of)?, self.eval(value)?);
                access::set_field(self, &of, name, value.clone())?;
                Ok(value)
            }
            Target::Index(of, key) => {
                let (of, key) = (self.eval(of)?, self.eval(key)?);
                let value = self.eval(value)?;
                access::set_index(self, &of, key, value.clone())?;
                Ok(value)
            }
        }
    }

    fn compound(&mut self, target: &'e Target, op: Op, value: &'e Expr, before: bool) -> Eval<'e> {
        let (old, new) = match target {
            Target::Local(slot, kind) => {
                let old = self.local(*slot).clone();
                let value = self.eval(value)?;
                // What is declared with a type is cast back to it: `int x; x += 1.5`.
                let kind = if matches!(kind, Type::Class(_)) { Type::Def } else { *kind };
                let new = ops::cast(same_class(self.binary(op, &old, &value)?, &old)?, kind, true)?;
                *self.local(*slot) = new.clone();
                (old, new)
            }
            Target::Field(of, name) => {
                let of = self.eval(of)?;
                let old = access::field(self, &of, name)?;
                let value = self.eval(value)?;
                let new = same_class(self.binary(op, &old, &value)?, &old)?;
                access::set_field(self, &of, name, new.clone())?;
                (old, new)
            }
            Target::Index(of, key) => {
                let (of, key) = (self.eval(of)?, self.eval(key)?);
                let old = access::index(self, &of, &key)?;
                let value = self.eval(value)?;
                let new = same_class(self.binary(op, &old, &value)?, &old)?;
                access::set_index(self, &of, key, new.clone())?;
                (old, new)
            }
        };
        Ok(if before { old } else { new })
    }

    fn new_array(&mut self, kind: Type, lengths: &[Val<'e>]) -> Eval<'e> {
        let Some((length, inner)) = lengths.split_first() else { return Ok(default_of(kind)) };
        let length = match ops::cast(length.clone(), Type::Int, false)? {
            Val::Int(length) => length,
            _ => 0,
        };
        let Ok(count) = usize::try_from(length) else {
            return Err(Thrown::named("java.lang.NegativeArraySizeException", length.to_string()));
        };
        self.charge_elements(count)?;
        let values: Result<Vec<_>, _> = (0..count).map(|_| self.new_array(kind, inner)).collect();
        Ok(Val::object(Obj::Array(RefCell::new(values?))))
    }
}

/// An assignment with an operator keeps the class of what it changes: `def n = 1; n += 1.5` leaves 2.
fn same_class<'e>(new: Val<'e>, old: &Val<'e>) -> Eval<'e> {
    let kind = match old {
        Val::Byte(_) => Type::Byte,
        Val::Short(_) => Type::Short,
        Val::Char(_) => Type::Char,
        Val::Int(_) => Type::Int,
        Val::Long(_) => Type::Long,
        Val::Float(_) => Type::Float,
        Val::Double(_) => Type::Double,
        _ => return Ok(new),
    };
    match new {
        Val::Text(_) => throw(
            Class::ClassCastException,
            format!("cannot implicitly cast def [{}] to java.lang.String", old.type_name()),
        ),
        new => ops::cast(new, kind, true),
    }
}
