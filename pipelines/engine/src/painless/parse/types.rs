//! The types in a script: `def`, `int[]`, `Map.Entry`, `java.util.List`.

use super::{Kind, Parser, Wrong, class_of};
use crate::painless::ast::Type;
use crate::painless::class::Class;

impl Parser {
    /// Reads a type, brackets and all.
    pub(super) fn type_name(&mut self) -> Result<Type, Wrong> {
        let kind = match self.plain_type() {
            Some(kind) => kind,
            None => return self.unexpected("a type that is known"),
        };
        let mut array = false;
        while self.is_sign("[") && matches!(self.peek(1), Kind::Sign("]")) {
            self.at += 2;
            array = true;
        }
        Ok(if array { Type::Array } else { kind })
    }

    /// Reads a type without brackets; nothing is read if it is none.
    pub(super) fn plain_type(&mut self) -> Option<Type> {
        let Kind::Word(word) = self.kind() else { return None };
        let primitive = match word.as_str() {
            "def" => Some(Type::Def),
            "boolean" => Some(Type::Boolean),
            "byte" => Some(Type::Byte),
            "short" => Some(Type::Short),
            "char" => Some(Type::Char),
            "int" => Some(Type::Int),
            "long" => Some(Type::Long),
            "float" => Some(Type::Float),
            "double" => Some(Type::Double),
            "void" => Some(Type::Void),
            _ => None,
        };
        if primitive.is_some() {
            self.at += 1;
            return primitive;
        }
        self.class_name().map(|class| match class {
            Class::Object => Type::Def,
            class => Type::Class(class),
        })
    }

    /// Reads the name of a class, the longest that is known: `Map.Entry`, `java.util.List`.
    pub(super) fn class_name(&mut self) -> Option<Class> {
        let Kind::Word(first) = self.kind() else { return None };
        if self.variable(first).is_some() {
            return None;
        }
        let mut name = first.to_string();
        let mut found = class_of(&name).map(|class| (class, 1));
        let mut ahead = 1;
        while ahead <= 12
            && matches!(self.peek(ahead), Kind::Sign("."))
            && let Kind::Word(next) = self.peek(ahead + 1)
        {
            name.push('.');
            name.push_str(next);
            ahead += 2;
            if let Some(class) = class_of(&name) {
                found = Some((class, ahead));
            }
        }
        let (class, tokens) = found?;
        self.at += tokens;
        Some(class)
    }

    /// True before `type name`.
    pub(super) fn at_declaration(&mut self) -> bool {
        let start = self.at;
        let found = self.type_name().is_ok() && self.name().is_ok();
        self.at = start;
        found
    }
}
