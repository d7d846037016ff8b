//! `network_direction`: inbound, outbound, internal or external, by which of two addresses are of the own networks.

use crate::failure::Problem;
use crate::options::{Options, Wrong, missing};
use crate::pipeline::{Flow, Run, Step};
use compact_str::CompactString;
use event::{Event, FieldPath, Value};
use std::net::IpAddr;

pub(crate) const OPTIONS: &[&str] =
    &["destination_ip", "ignore_missing", "internal_networks", "internal_networks_field", "source_ip", "target_field"];

/// Names of networks and what they stand for.
const NAMED: &[(&str, &[&str])] = &[
    ("loopback", &["127.0.0.0/8", "::1/128"]),
    ("private", &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"]),
    ("multicast", &["224.0.0.0/4", "ff00::/8"]),
    ("global_unicast", &[]),
    ("unicast", &[]),
    ("link_local_unicast", &["169.254.0.0/16", "fe80::/10"]),
    ("interface_local_multicast", &["ff01::/16"]),
    ("link_local_multicast", &["224.0.0.0/24", "ff02::/16"]),
    ("unspecified", &["0.0.0.0/32", "::/128"]),
    ("public", &[]),
];

#[derive(Debug)]
struct NetworkDirection {
    source: FieldPath,
    destination: FieldPath,
    target: FieldPath,
    networks: Networks,
    ignore_missing: bool,
}

#[derive(Debug)]
enum Networks {
    Fixed(Vec<CompactString>),
    Field(FieldPath),
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let path = |options: &mut Options<'_>, name: &str, default: &str| {
        let text = options.text_if_set(name)?.unwrap_or(default.into());
        options.parse_path(name, &text)
    };
    let (source, destination) =
        (path(options, "source_ip", "source.ip")?, path(options, "destination_ip", "destination.ip")?);
    let target = path(options, "target_field", "network.direction")?;
    let networks = match (options.has("internal_networks"), options.has("internal_networks_field")) {
        (true, true) => {
            return Err("[internal_networks] and [internal_networks_field] cannot both be used in the same processor"
                .to_owned());
        }
        (false, false) => return Err(missing("internal_networks")),
        (true, false) => Networks::Fixed(options.texts("internal_networks")?),
        (false, true) => Networks::Field(options.path("internal_networks_field")?),
    };
    let ignore_missing = options.flag("ignore_missing", true)?;
    Ok(Box::new(NetworkDirection { source, destination, target, networks, ignore_missing }))
}

impl Step for NetworkDirection {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        match self.direction(event) {
            Ok(direction) => {
                event.set(&self.target, Value::from(direction))?;
                Ok(Flow::Continue)
            }
            Err(None) if self.ignore_missing => Ok(Flow::Continue),
            Err(None) => Err(Problem::new("unable to calculate network direction from document")),
            Err(Some(problem)) => Err(problem),
        }
    }
}

impl NetworkDirection {
    /// Errors: nothing if an address or the networks are missing, else what is wrong.
    fn direction(&self, event: &Event) -> Result<&'static str, Option<Box<Problem>>> {
        let from_field: Vec<CompactString>;
        let networks = match &self.networks {
            Networks::Fixed(networks) => networks,
            Networks::Field(path) => {
                let Some(Value::Array(values)) = event.get(path) else { return Err(None) };
                from_field = values.iter().filter_map(Value::as_text).map(CompactString::from).collect();
                &from_field
            }
        };
        let address = |path: &FieldPath| {
            let text = event.get(path).and_then(Value::as_text).ok_or(None)?;
            let wrong = || Some(Problem::new(format!("'{text}' is not an IP string literal.")));
            text.parse::<IpAddr>().map_err(|_| wrong())
        };
        let (source, destination) = (address(&self.source)?, address(&self.destination)?);
        let is_internal = |address: IpAddr| {
            for network in networks {
                if is_in(address, network).map_err(|wrong| Some(Problem::new(wrong)))? {
                    return Ok(true);
                }
            }
            Ok::<_, Option<Box<Problem>>>(false)
        };
        Ok(match (is_internal(source)?, is_internal(destination)?) {
            (true, true) => "internal",
            (true, false) => "outbound",
            (false, true) => "inbound",
            (false, false) => "external",
        })
    }
}

/// True if `address` is in `network`, a name or `10.0.0.0/8`.
fn is_in(address: IpAddr, network: &str) -> Result<bool, String> {
    let any = |networks: &[&str]| networks.iter().any(|network| is_in_cidr(address, network) == Some(true));
    if let Some((_, networks)) = NAMED.iter().find(|(name, _)| *name == network) {
        return Ok(match network {
            "global_unicast" | "unicast" => {
                !any(&[
                    "224.0.0.0/4",
                    "ff00::/8",
                    "127.0.0.0/8",
                    "::1/128",
                    "0.0.0.0/32",
                    "::/128",
                    "169.254.0.0/16",
                    "fe80::/10",
                ]) && address != IpAddr::from([255, 255, 255, 255])
            }
            "public" => {
                let own = |name: &&str| is_in(address, name) == Ok(true);
                !["private", "loopback", "unspecified", "multicast", "link_local_unicast"].iter().any(own)
            }
            _ => any(networks),
        });
    }
    is_in_cidr(address, network).ok_or_else(|| format!("'{network}' is not an IP string literal."))
}

/// `None` if `network` is none.
fn is_in_cidr(address: IpAddr, network: &str) -> Option<bool> {
    let (base, prefix) = network.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    Some(match (address, base.parse::<IpAddr>().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(base)) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix)?).unwrap_or(0);
            u32::from(address) & mask == u32::from(base) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(base)) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix)?).unwrap_or(0);
            u128::from(address) & mask == u128::from(base) & mask
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_known_by_name_and_by_prefix() {
        for (address, network, expected) in [
            ("10.1.2.3", "private", Ok(true)),
            ("8.8.8.8", "private", Ok(false)),
            ("8.8.8.8", "public", Ok(true)),
            ("192.168.1.1", "192.168.0.0/16", Ok(true)),
            ("192.169.1.1", "192.168.0.0/16", Ok(false)),
            ("fd12::1", "private", Ok(true)),
            ("::1", "loopback", Ok(true)),
            ("1.2.3.4", "0.0.0.0/0", Ok(true)),
            ("1.2.3.4", "nonsense", Err("'nonsense' is not an IP string literal.".to_owned())),
            ("1.2.3.4", "10.0.0.0/33", Err("'10.0.0.0/33' is not an IP string literal.".to_owned())),
        ] {
            assert_eq!(is_in(address.parse().expect("an address"), network), expected, "{address} {network}");
        }
    }
}
