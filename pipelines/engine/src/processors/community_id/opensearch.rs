//! A document's fields → what flowed, as OpenSearch's `community_id` reads them.

use super::Fields;
use super::flow::{Flow, ICMP, ICMP_V6, SCTP, TCP, UDP, icmp_counterpart};
use crate::failure::Problem;
use crate::options::{Options, Wrong, text_at};
use event::{Event, FieldPath, Value};
use std::net::IpAddr;

/// Names of protocols.
const PROTOCOLS: &[(&str, u8)] =
    &[("icmp", ICMP), ("tcp", TCP), ("udp", UDP), ("icmp_v6", ICMP_V6), ("ipv6-icmp", ICMP_V6), ("sctp", SCTP)];

pub(super) fn fields(options: &mut Options<'_>) -> Result<Fields, Wrong> {
    let mut path = |name: &str| match options.text_if_set(name)?.filter(|text| !text.is_empty()) {
        Some(text) => options.parse_path(name, &text).map(Some),
        None => Ok(None),
    };
    let (source_port, destination_port) = (path("source_port_field")?, path("destination_port_field")?);
    let (iana_number, transport) = (path("iana_protocol_number_field")?, path("protocol_field")?);
    let (icmp_type, icmp_code) = (path("icmp_type_field")?, path("icmp_code_field")?);
    Ok(Fields {
        source_ip: Some(options.path("source_ip_field")?),
        source_port,
        destination_ip: Some(options.path("destination_ip_field")?),
        destination_port,
        iana_number,
        transport,
        icmp_type,
        icmp_code,
    })
}

/// `None` if something is missing and may be.
pub(super) fn flow(event: &Event, fields: &Fields, ignore_missing: bool) -> Result<Option<Flow>, Box<Problem>> {
    let missing = |reason: String| match ignore_missing {
        true => Ok(None),
        false => Err(Problem::new(reason)),
    };
    let Some(protocol) = protocol(event, fields)? else {
        let name = |path: &Option<FieldPath>| path.as_ref().map_or("null".to_owned(), FieldPath::to_string);
        return missing(format!(
            "cannot resolve protocol by neither iana protocol number field [{}] nor protocol name field [{}]",
            name(&fields.iana_number),
            name(&fields.transport)
        ));
    };
    let mut ends = [None; 2];
    for (end, path) in ends.iter_mut().zip([&fields.source_ip, &fields.destination_ip]) {
        let Some(path) = path else { continue };
        let Some(text) = text_at(event, path, true)?.filter(|text| !text.is_empty()) else {
            return missing(format!("ip address in the field [{path}] is null or empty"));
        };
        *end = Some(text.parse::<IpAddr>().map_err(|_| {
            Problem::new(format!("ip address [{text}] in the field [{path}] is not a valid ipv4/ipv6 address"))
        })?);
    }
    let [Some(source), Some(destination)] = ends else { return Ok(None) };
    if source.is_ipv4() != destination.is_ipv4() {
        return Err(Problem::new("source ip and destination ip must have same format"));
    }
    let whole = |ports: Option<(u16, u16)>, is_one_way| Flow { source, destination, protocol, ports, is_one_way };
    if !matches!(protocol, ICMP | ICMP_V6) {
        let mut ports = [0; 2];
        for (port, path) in ports.iter_mut().zip([&fields.source_port, &fields.destination_port]) {
            let Some(path) = path else {
                return missing("both source port and destination port field path cannot be null nor empty".to_owned());
            };
            let what = "both source port and destination port";
            let Some(number) = int_at(event, path)? else {
                return missing(format!("{what} cannot be null, but port in the field path [{path}] is null"));
            };
            *port = u16::try_from(number).map_err(|_| {
                Problem::new(format!(
                    "{what} must be between 0 and 65535, but port in the field path [{path}] is [{number}]"
                ))
            })?;
        }
        return Ok(Some(whole(Some((ports[0], ports[1])), false)));
    }
    let icmp = |path: &Option<FieldPath>, what: &str| {
        let Some(path) = path else {
            return missing(format!("icmp message {what} field path cannot be null nor empty")).map(|_| None);
        };
        match int_at(event, path)? {
            None => missing(format!("icmp message {what} cannot be null")).map(|_| None),
            Some(number) => match u8::try_from(number) {
                Ok(number) => Ok(Some(u16::from(number))),
                Err(_) => Err(Problem::new(format!("invalid icmp message {what} [{number}]"))),
            },
        }
    };
    let Some(kind) = icmp(&fields.icmp_type, "type")? else { return Ok(None) };
    if let Some(counterpart) = icmp_counterpart(protocol, kind) {
        return Ok(Some(whole(Some((kind, counterpart)), false)));
    }
    let Some(code) = icmp(&fields.icmp_code, "code")? else { return Ok(None) };
    Ok(Some(whole(Some((kind, code)), true)))
}

fn protocol(event: &Event, fields: &Fields) -> Result<Option<u8>, Box<Problem>> {
    let number = fields.iana_number.as_ref().map(|path| int_at(event, path)).transpose()?.flatten();
    let name = fields.transport.as_ref().map(|path| text_at(event, path, true)).transpose()?.flatten();
    match (number, name) {
        (Some(number), _) => match u8::try_from(number) {
            Ok(number @ (ICMP | TCP | UDP | ICMP_V6 | SCTP)) => Ok(Some(number)),
            _ => Err(Problem::new(format!("unsupported iana protocol number [{number}]"))),
        },
        (None, Some(name)) => match PROTOCOLS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, number)) => Ok(Some(*number)),
            None => Err(Problem::new(format!("unsupported protocol [{name}]"))),
        },
        (None, None) => Ok(None),
    }
}

/// The integer at `path`; `None` if it is missing or null.
fn int_at(event: &Event, path: &FieldPath) -> Result<Option<i32>, Box<Problem>> {
    match event.get(path) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Int(number)) => Ok(Some(*number)),
        Some(other) => Err(Problem::new(format!(
            "field [{path}] of type [{}] cannot be cast to [java.lang.Integer]",
            other.java_class()
        ))),
    }
}
