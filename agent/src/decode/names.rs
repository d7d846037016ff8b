//! The words of the config: encodings, line ends, and what becomes of long lines and invalid bytes.

use encoding_rs as e;
use serde::{Deserialize, Deserializer, de};

/// Encoding of an input's files. YAML: `encoding`, a name of the WHATWG standard or of Filebeat.
///
/// UTF-16 is little endian unless the name or a BOM says otherwise. As in the standard, `latin1` and `ascii` are
/// windows-1252. A BOM of the encoding is never part of the text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Encoding {
    /// A BOM decides between UTF-8 and UTF-16; without one UTF-8.
    #[default]
    Auto,
    /// This one.
    Is(&'static e::Encoding),
}

/// Filebeat's names, and common spellings, that are not in the standard.
const NAMES: &[(&str, &e::Encoding)] = &[
    ("iso8859-6e", e::ISO_8859_6),
    ("iso8859-6i", e::ISO_8859_6),
    ("iso8859-8e", e::ISO_8859_8),
    ("iso8859-8i", e::ISO_8859_8_I),
    ("koi8r", e::KOI8_R),
    ("koi8u", e::KOI8_U),
    ("latin-1", e::WINDOWS_1252),
    ("macintosh-cyrillic", e::X_MAC_CYRILLIC),
    ("nop", e::UTF_8),
    ("plain", e::UTF_8),
    ("utf-16-be", e::UTF_16BE),
    ("utf-16-bom", e::UTF_16LE),
    ("utf-16-le", e::UTF_16LE),
    ("utf-16be-bom", e::UTF_16BE),
    ("utf-16le-bom", e::UTF_16LE),
    ("utf-8-bom", e::UTF_8),
    ("windows1250", e::WINDOWS_1250),
    ("windows1251", e::WINDOWS_1251),
    ("windows1252", e::WINDOWS_1252),
    ("windows1253", e::WINDOWS_1253),
    ("windows1254", e::WINDOWS_1254),
    ("windows1255", e::WINDOWS_1255),
    ("windows1256", e::WINDOWS_1256),
    ("windows1257", e::WINDOWS_1257),
    ("windows1258", e::WINDOWS_1258),
    ("windows874", e::WINDOWS_874),
];

impl TryFrom<String> for Encoding {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        if lower == "auto" {
            return Ok(Self::Auto);
        }
        let listed = NAMES.iter().find(|(listed, _)| *listed == lower).map(|(_, encoding)| *encoding);
        let found = listed.or_else(|| e::Encoding::for_label_no_replacement(lower.as_bytes()));
        let usable = found.filter(|&encoding| encoding != e::X_USER_DEFINED).map(Self::Is);
        usable.ok_or_else(|| format!("encoding {name:?} is not known: auto, or a name of encoding.spec.whatwg.org"))
    }
}

/// What ends a line. YAML: `line_terminator`, one of Filebeat's names, or `{custom: "…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenTerminator")]
pub enum LineTerminator {
    /// LF; a CR before it belongs to it.
    #[default]
    Auto,
    /// Exactly this.
    Text(String),
}

enum WrittenTerminator {
    Name(String),
    Custom(Custom),
}

impl<'de> Deserialize<'de> for WrittenTerminator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Not an untagged enum, whose errors say nothing of what is wrong.
struct Written;

impl<'de> de::Visitor<'de> for Written {
    type Value = WrittenTerminator;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name or {custom: \"…\"}")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(WrittenTerminator::Name(name.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Custom::deserialize(de::value::MapAccessDeserializer::new(map)).map(WrittenTerminator::Custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Custom {
    custom: String,
}

/// Each with the short name where there is one.
const TERMINATORS: &[(&str, &str, &str)] = &[
    ("carriage_return", "cr", "\r"),
    ("carriage_return_line_feed", "crlf", "\r\n"),
    ("form_feed", "ff", "\u{c}"),
    ("line_feed", "lf", "\n"),
    ("line_separator", "ls", "\u{2028}"),
    ("next_line", "nel", "\u{85}"),
    ("null_terminator", "nul", "\0"),
    ("paragraph_separator", "ps", "\u{2029}"),
    ("vertical_tab", "vt", "\u{b}"),
];

impl TryFrom<WrittenTerminator> for LineTerminator {
    type Error = String;

    fn try_from(written: WrittenTerminator) -> Result<Self, String> {
        let name = match written {
            WrittenTerminator::Custom(Custom { custom }) => return Ok(Self::Text(custom)),
            WrittenTerminator::Name(name) if name == "auto" => return Ok(Self::Auto),
            WrittenTerminator::Name(name) => name,
        };
        let named = TERMINATORS.iter().find(|(long, short, _)| [*long, *short].contains(&name.as_str()));
        named.map(|(_, _, text)| Self::Text((*text).to_owned())).ok_or_else(|| {
            let names: Vec<_> = TERMINATORS.iter().flat_map(|(long, short, _)| [*long, *short]).collect();
            format!("line_terminator {name:?} is not one of auto, {}; write {{custom: {name:?}}}", names.join(", "))
        })
    }
}

/// What becomes of a line longer than `line_bytes_max`. YAML: `on_long_line`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLongLine {
    /// Its start is shipped, flagged; the rest is passed over.
    #[default]
    Truncate,
    /// It is shipped in pieces, each with an offset of its own; nothing is lost.
    Split,
    /// It is left out.
    Skip,
}

/// What becomes of bytes that are no character. YAML: `invalid_bytes`. They are counted either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidBytes {
    /// UTF-8 is shipped byte for byte; from other encodings they become U+FFFD.
    #[default]
    Keep,
    /// They become U+FFFD, one for each maximal part, as the WHATWG standard has it.
    Replace,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load<T: serde::de::DeserializeOwned>(yaml: &str) -> anyhow::Result<T> {
        service::load::parse_config("agent.yaml".as_ref(), yaml).map_err(Into::into)
    }

    #[test]
    fn encodings_have_their_names() {
        let check = |name: &str, encoding| {
            assert_eq!(load::<Encoding>(name).expect("is accepted"), Encoding::Is(encoding), "{name}");
        };
        for (name, encoding) in NAMES {
            check(name, encoding);
        }
        check("UTF-8", e::UTF_8);
        check("utf-16", e::UTF_16LE);
        check("utf-16le", e::UTF_16LE);
        check("utf-16be", e::UTF_16BE);
        check("gbk", e::GBK);
        check("GB18030", e::GB18030);
        check("big5", e::BIG5);
        check("euc-jp", e::EUC_JP);
        check("euc-kr", e::EUC_KR);
        check("shift-jis", e::SHIFT_JIS);
        check("iso-2022-jp", e::ISO_2022_JP);
        check("iso-8859-15", e::ISO_8859_15);
        check("iso8859-2", e::ISO_8859_2);
        check("cp1252", e::WINDOWS_1252);
        check("cp866", e::IBM866);
        check("windows-1258", e::WINDOWS_1258);
        check("koi8-r", e::KOI8_R);
        assert_eq!(load::<Encoding>("auto").expect("is accepted"), Encoding::Auto);
    }

    #[test]
    fn an_encoding_that_cannot_be_decoded_is_refused() {
        for name in ["utf-7", "hz-gb-2312", "cp437", "ebcdic-037", "x-user-defined", "''"] {
            let error = format!("{:#}", load::<Encoding>(name).expect_err("is refused"));
            assert!(error.contains("is not known"), "{error}");
        }
    }

    #[test]
    fn line_ends_have_their_names() {
        let check = |yaml: &str, terminator: LineTerminator| {
            assert_eq!(load::<LineTerminator>(yaml).expect("is accepted"), terminator, "{yaml}");
        };
        check("auto", LineTerminator::Auto);
        check("carriage_return_line_feed", LineTerminator::Text("\r\n".into()));
        check("null_terminator", LineTerminator::Text("\0".into()));
        check("nul", LineTerminator::Text("\0".into()));
        check("line_separator", LineTerminator::Text("\u{2028}".into()));
        check("{custom: '||'}", LineTerminator::Text("||".into()));
        load::<LineTerminator>("'||'").expect_err("is refused: neither a name nor custom");
        load::<LineTerminator>("{custom: a, other: b}").expect_err("is refused");
    }
}
