//! A document's fields → what flowed, as Elasticsearch's `community_id` reads them.

use super::Fields;
use super::flow::{Flow, ICMP, ICMP_V6, SCTP, TCP, UDP, icmp_counterpart};
use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use crate::text::java_text;
use event::{Event, FieldPath, Value};
use std::net::IpAddr;

/// Names of protocols.
const TRANSPORTS: &[(&str, u8)] = &[
    ("icmp", ICMP),
    ("igmp", 2),
    ("tcp", TCP),
    ("udp", UDP),
    ("gre", 47),
    ("ipv6-icmp", ICMP_V6),
    ("icmpv6", ICMP_V6),
    ("eigrp", 88),
    ("ospf", 89),
    ("pim", 103),
    ("sctp", SCTP),
];

pub(super) fn fields(options: &mut Options<'_>) -> Result<Fields, Wrong> {
    let mut path = |name: &str, default: &str| options.path_or_text(name, default).map(Some);
    Ok(Fields {
        source_ip: path("source_ip", "source.ip")?,
        source_port: path("source_port", "source.port")?,
        destination_ip: path("destination_ip", "destination.ip")?,
        destination_port: path("destination_port", "destination.port")?,
        iana_number: path("iana_number", "network.iana_number")?,
        transport: path("transport", "network.transport")?,
        icmp_type: path("icmp_type", "icmp.type")?,
        icmp_code: path("icmp_code", "icmp.code")?,
    })
}

/// `None` if something is missing and may be.
pub(super) fn flow(event: &Event, fields: &Fields, ignore_missing: bool) -> Result<Option<Flow>, Box<Problem>> {
    match ends(event, fields, ignore_missing)? {
        Some(flow) => Ok(Some(flow)),
        None if ignore_missing => Ok(None),
        None => Err(Problem::new("unable to construct flow from document")),
    }
}

fn ends(event: &Event, fields: &Fields, ignore_missing: bool) -> Result<Option<Flow>, Box<Problem>> {
    let optional = |path: &Option<FieldPath>| path.as_ref().and_then(|path| event.get(path));
    let required = |path: &Option<FieldPath>| match path {
        Some(path) if !ignore_missing => event.resolve(path).map(Some).map_err(Box::<Problem>::from),
        path => Ok(optional(path)),
    };
    let address = |path: &Option<FieldPath>| {
        let Some(path) = path else { return Ok(None) };
        match required(&Some(path.clone()))? {
            None | Some(Value::Null) => Ok(None),
            Some(_) => text_at(event, path, ignore_missing),
        }
    };
    let (source, destination) = (address(&fields.source_ip)?, address(&fields.destination_ip)?);
    let (Some(source), Some(destination)) = (source, destination) else { return Ok(None) };
    let parse = |text: &str| {
        let parsed = text.parse::<IpAddr>().map(|address| address.to_canonical());
        parsed.map_err(|_| Problem::new(format!("'{text}' is not an IP string literal.")))
    };
    let (source, destination) = (parse(source)?, parse(destination)?);
    let is_there = |value: &&Value| **value != Value::Null;
    let spoken = match optional(&fields.iana_number).filter(is_there) {
        Some(number) => Some(number),
        None => required(&fields.transport)?.filter(is_there),
    };
    let Some(spoken) = spoken else { return Ok(None) };
    let protocol = protocol(spoken)?;
    let mut is_one_way = false;
    let ports = match protocol {
        TCP | UDP | SCTP => {
            let port = |path, name: &str| port(required(path)?, name);
            Some((port(&fields.source_port, "source port")?, port(&fields.destination_port, "destination port")?))
        }
        ICMP | ICMP_V6 => {
            let kind = number(optional(&fields.icmp_type), "icmp type")?;
            let code = number(optional(&fields.icmp_code), "icmp code")?;
            // Two answers have no question in the original's table.
            let counterpart = u16::try_from(kind)
                .ok()
                .filter(|kind| !matches!((protocol, kind), (ICMP, 16) | (ICMP_V6, 131)))
                .and_then(|kind| icmp_counterpart(protocol, kind));
            is_one_way = counterpart.is_none();
            Some((two_bytes(kind)?, counterpart.map_or_else(|| two_bytes(code), Ok)?))
        }
        _ => None,
    };
    Ok(Some(Flow { source, destination, protocol, ports, is_one_way }))
}

fn port(value: Option<&Value>, name: &str) -> Result<u16, Box<Problem>> {
    let port = number(value, name)?;
    let shown = || value.map(java_text).unwrap_or_default();
    u16::try_from(port).map_err(|_| Problem::new(format!("invalid {name} [{}]", shown())))
}

/// The number as Java's `Number.intValue` has it; what is missing is 0.
fn number(value: Option<&Value>, name: &str) -> Result<i32, Box<Problem>> {
    let wrong = |shown: &str| Problem::new(format!("unable to parse {name} [{shown}]"));
    match value {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Int(number)) => Ok(*number),
        Some(Value::Long(number)) => Ok(*number as i32),
        Some(Value::Float(number)) => Ok(*number as i32),
        Some(Value::Double(number)) => Ok(*number as i32),
        Some(Value::Text(text)) => text.parse().map_err(|_| wrong(text)),
        Some(other) => Err(wrong(&java_text(other))),
    }
}

fn two_bytes(number: i32) -> Result<u16, Box<Problem>> {
    u16::try_from(number).map_err(|_| {
        let reason = format!("number [{number}] must be a value between 0 and 65535");
        Box::new(Problem { kind: "illegal_state_exception", reason, cause: None })
    })
}

fn protocol(value: &Value) -> Result<u8, Box<Problem>> {
    let of_number = |number: i32| match u8::try_from(number) {
        Ok(number) if number < u8::MAX => Ok(number),
        _ => Err(Problem::new(format!("invalid transport protocol number [{number}]"))),
    };
    match value {
        Value::Text(text) => match TRANSPORTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            Some((_, number)) => Ok(*number),
            None => text.parse().map_or_else(
                |_| Err(Problem::new(format!("could not convert string [{text}] to transport protocol"))),
                of_number,
            ),
        },
        Value::Int(_) | Value::Long(_) | Value::Float(_) | Value::Double(_) => of_number(number(Some(value), "")?),
        other => {
            let class = other.java_class();
            Err(Problem::new(format!("could not convert value of type [{class}] to transport protocol")))
        }
    }
}
