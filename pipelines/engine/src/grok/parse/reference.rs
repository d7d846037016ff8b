//! `%{NAME:field:type}` in, its parts out.

/// `NAME}`, `NAME:field}`, `NAME:field:type}`, `NAME=definition}` after the opening `%{`.
pub(super) struct Reference<'p> {
    pub(super) name: &'p str,
    /// With its type, if it has one.
    pub(super) field: Option<&'p str>,
    pub(super) definition: Option<&'p str>,
    /// What stands after the closing brace.
    pub(super) rest: &'p str,
}

impl<'p> Reference<'p> {
    /// `None`: it is no reference, and stands for itself as in the original.
    pub(super) fn parse(text: &'p str) -> Option<Self> {
        let name_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))?;
        let (name, mut rest) = text.split_at(name_end);
        if name.is_empty() {
            return None;
        }
        let mut field = None;
        if let Some(after) = rest.strip_prefix(':') {
            let end =
                after.find(|c: char| !(c.is_alphanumeric() || matches!(c, '@' | '[' | ']' | '_' | ':' | '.' | '-')))?;
            let (written, after) = after.split_at(end);
            field = Some(written).filter(|written| !written.is_empty());
            // Logstash's sets write `[a][b]?`; what is left before the brace says nothing.
            rest = after.strip_prefix('?').unwrap_or(after);
        }
        let mut definition = None;
        if let Some(after) = rest.strip_prefix('=') {
            let end = definition_end(after)?;
            let (written, after) = after.split_at(end);
            definition = Some(written);
            rest = after;
        }
        Some(Self { name, field, definition, rest: rest.strip_prefix('}')? })
    }
}

/// Where an inline definition ends: at the brace that closes the reference.
fn definition_end(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
