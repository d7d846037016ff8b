//! What flowed between two ends → its Community ID.
//!
//! Specified by https://github.com/corelight/community-id-spec, version 1.

use crate::digest::Digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP_V6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// The types of ICMP messages that ask, with those that answer: together they are one flow.
const ICMP_PAIRS: &[(u16, u16)] = &[(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)];
const ICMP_V6_PAIRS: &[(u16, u16)] = &[(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];

/// The two ends of a connection and what is spoken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Flow {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Source and destination; of ICMP, type and the type of the answer or the code. `None` where there are no ports.
    pub(super) ports: Option<(u16, u16)>,
    /// A message of ICMP that has no answer keeps its direction.
    pub(super) is_one_way: bool,
}

/// The type that answers a message of this type, or asks for it.
pub(super) fn icmp_counterpart(protocol: u8, kind: u16) -> Option<u16> {
    let pairs = if protocol == ICMP { ICMP_PAIRS } else { ICMP_V6_PAIRS };
    pairs.iter().find_map(|&(asks, answers)| match kind {
        _ if kind == asks => Some(answers),
        _ if kind == answers => Some(asks),
        _ => None,
    })
}

impl Flow {
    /// `1:` and the digest in Base64.
    pub(super) fn id(&self, seed: u16) -> String {
        let (source_port, destination_port) = self.ports.unwrap_or_default();
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let ends = [(number(self.source), source_port), (number(self.destination), destination_port)];
        let mut ends_bytes = [(self.source, source_port), (self.destination, destination_port)];
        if ends[0] >= ends[1] && !self.is_one_way {
            ends_bytes.swap(0, 1);
        }
        let mut bytes = seed.to_be_bytes().to_vec();
        for (address, _) in ends_bytes {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.extend([self.protocol, 0]);
        if self.ports.is_some() {
            bytes.extend(ends_bytes.iter().flat_map(|(_, port)| port.to_be_bytes()));
        }
        format!("1:{}", STANDARD.encode(Digest::Sha1.of(&bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(protocol: u8, source: &str, destination: &str, ports: Option<(u16, u16)>, expected: &str) {
        let address = |text: &str| text.parse().expect("an address");
        let is_one_way = protocol == ICMP && ports.is_some_and(|(kind, _)| icmp_counterpart(ICMP, kind).is_none());
        let flow = Flow { source: address(source), destination: address(destination), protocol, ports, is_one_way };
        assert_eq!(flow.id(0), expected, "{flow:?}");
        if !is_one_way {
            let back = Flow {
                source: flow.destination,
                destination: flow.source,
                ports: ports.map(|(source, destination)| (destination, source)),
                ..flow
            };
            assert_eq!(back.id(0), expected, "{back:?}");
        }
    }

    /// Of the specification's baseline.
    #[test]
    fn ids_are_those_of_the_specification() {
        let (a, b) = ("128.232.110.120", "66.35.250.204");
        check(TCP, a, b, Some((34855, 80)), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        check(UDP, "192.168.1.52", "8.8.8.8", Some((54585, 53)), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        check(SCTP, "192.168.170.8", "192.168.170.56", Some((7, 80)), "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ=");
        check(ICMP, "192.168.0.89", "192.168.0.1", Some((8, 0)), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        check(ICMP, "192.168.0.89", "192.168.0.1", Some((20, 0)), "1:3o2RFccXzUgjl7zDpqmY7yJi8rI=");
    }
}
