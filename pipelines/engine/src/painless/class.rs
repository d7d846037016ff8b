//! The classes that a script may name, and what they are to each other.

/// A class of Java's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "they are called as Java calls them")]
pub(super) enum Class {
    Object,
    String,
    CharSequence,
    Number,
    Integer,
    Long,
    Double,
    Float,
    Short,
    Byte,
    Boolean,
    Character,
    Math,
    Iterable,
    Collection,
    List,
    ArrayList,
    Set,
    HashSet,
    Map,
    HashMap,
    LinkedHashMap,
    TreeMap,
    Entry,
    Iterator,
    Collections,
    Collectors,
    Arrays,
    Objects,
    Locale,
    StringBuilder,
    StringTokenizer,
    Pattern,
    Matcher,
    Instant,
    ZonedDateTime,
    ZoneId,
    ZoneOffset,
    DateTimeFormatter,
    ChronoUnit,
    ChronoField,
    Duration,
    Processors,
    Throwable,
    Exception,
    RuntimeException,
    IllegalArgumentException,
    IllegalStateException,
    NumberFormatException,
    ArithmeticException,
    IndexOutOfBoundsException,
    NullPointerException,
    ClassCastException,
    UnsupportedOperationException,
    DateTimeParseException,
    NoSuchElementException,
}

/// Name with its package and the class, alphabetical by package.
const CLASSES: &[(&str, Class)] = &[
    ("java.lang.ArithmeticException", Class::ArithmeticException),
    ("java.lang.Boolean", Class::Boolean),
    ("java.lang.Byte", Class::Byte),
    ("java.lang.CharSequence", Class::CharSequence),
    ("java.lang.Character", Class::Character),
    ("java.lang.ClassCastException", Class::ClassCastException),
    ("java.lang.Double", Class::Double),
    ("java.lang.Exception", Class::Exception),
    ("java.lang.Float", Class::Float),
    ("java.lang.IllegalArgumentException", Class::IllegalArgumentException),
    ("java.lang.IllegalStateException", Class::IllegalStateException),
    ("java.lang.IndexOutOfBoundsException", Class::IndexOutOfBoundsException),
    ("java.lang.Integer", Class::Integer),
    ("java.lang.Iterable", Class::Iterable),
    ("java.lang.Long", Class::Long),
    ("java.lang.Math", Class::Math),
    ("java.lang.NullPointerException", Class::NullPointerException),
    ("java.lang.Number", Class::Number),
    ("java.lang.NumberFormatException", Class::NumberFormatException),
    ("java.lang.Object", Class::Object),
    ("java.lang.RuntimeException", Class::RuntimeException),
    ("java.lang.Short", Class::Short),
    ("java.lang.String", Class::String),
    ("java.lang.StringBuilder", Class::StringBuilder),
    ("java.lang.Throwable", Class::Throwable),
    ("java.lang.UnsupportedOperationException", Class::UnsupportedOperationException),
    ("java.time.Duration", Class::Duration),
    ("java.time.Instant", Class::Instant),
    ("java.time.ZoneId", Class::ZoneId),
    ("java.time.ZoneOffset", Class::ZoneOffset),
    ("java.time.ZonedDateTime", Class::ZonedDateTime),
    ("java.time.format.DateTimeFormatter", Class::DateTimeFormatter),
    ("java.time.format.DateTimeParseException", Class::DateTimeParseException),
    ("java.time.temporal.ChronoField", Class::ChronoField),
    ("java.time.temporal.ChronoUnit", Class::ChronoUnit),
    ("java.util.ArrayList", Class::ArrayList),
    ("java.util.Arrays", Class::Arrays),
    ("java.util.Collection", Class::Collection),
    ("java.util.Collections", Class::Collections),
    ("java.util.HashMap", Class::HashMap),
    ("java.util.HashSet", Class::HashSet),
    ("java.util.Iterator", Class::Iterator),
    ("java.util.LinkedHashMap", Class::LinkedHashMap),
    ("java.util.List", Class::List),
    ("java.util.Locale", Class::Locale),
    ("java.util.Map", Class::Map),
    ("java.util.Map.Entry", Class::Entry),
    ("java.util.NoSuchElementException", Class::NoSuchElementException),
    ("java.util.Objects", Class::Objects),
    ("java.util.Set", Class::Set),
    ("java.util.StringTokenizer", Class::StringTokenizer),
    ("java.util.TreeMap", Class::TreeMap),
    ("java.util.regex.Matcher", Class::Matcher),
    ("java.util.regex.Pattern", Class::Pattern),
    ("java.util.stream.Collectors", Class::Collectors),
    ("org.elasticsearch.ingest.common.Processors", Class::Processors),
    ("org.opensearch.ingest.common.Processors", Class::Processors),
];

impl Class {
    /// The class called `name`, with or without its package.
    pub(super) fn named(name: &str) -> Option<Self> {
        if name == "Entry" {
            return None; // Only `Map.Entry` is known to scripts.
        }
        let fits = |full: &str| full == name || short(full) == name;
        CLASSES.iter().find(|(full, _)| fits(full)).map(|(_, class)| *class)
    }

    /// Its name with the package.
    pub(super) fn full_name(self) -> &'static str {
        CLASSES.iter().find(|(_, class)| *class == self).map_or("java.lang.Object", |(full, _)| full)
    }

    /// The exceptions that scripts know, by their full names.
    pub(super) fn is_exception(self) -> bool {
        matches!(self, Self::Throwable) || self.full_name().ends_with("Exception")
    }

    /// True if a thrown `class` is caught as `self`.
    pub(super) fn catches(self, class: &str) -> bool {
        let runtime = class != Self::Exception.full_name() && class != Self::Throwable.full_name();
        match self {
            Self::Throwable => true,
            Self::Exception => class != Self::Throwable.full_name(),
            Self::RuntimeException => runtime,
            Self::IllegalArgumentException => {
                class == self.full_name() || class == Self::NumberFormatException.full_name()
            }
            Self::IndexOutOfBoundsException => {
                class == self.full_name() || class.ends_with("IndexOutOfBoundsException")
            }
            _ => class == self.full_name(),
        }
    }
}

/// What stands behind the package.
fn short(full: &str) -> &str {
    let start = full.find(|c: char| c.is_ascii_uppercase()).unwrap_or(0);
    full.get(start..).unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_known_by_both_names() {
        assert_eq!(Class::named("Map.Entry"), Some(Class::Entry));
        assert_eq!(Class::named("java.util.Map.Entry"), Some(Class::Entry));
        assert_eq!(Class::named("ArrayList"), Some(Class::ArrayList));
        assert_eq!(Class::named("Entry"), None);
        assert_eq!(Class::named("System"), None);
    }

    #[test]
    fn a_catch_takes_what_is_below_it() {
        assert!(Class::Exception.catches("java.lang.NumberFormatException"));
        assert!(Class::IllegalArgumentException.catches("java.lang.NumberFormatException"));
        assert!(!Class::NumberFormatException.catches("java.lang.IllegalArgumentException"));
        assert!(!Class::RuntimeException.catches("java.lang.Exception"));
    }
}
