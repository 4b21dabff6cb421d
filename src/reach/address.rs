//! Which IP addresses are on the public internet: the tables of the IANA special-purpose registries (RFC 6890 and its
//! successors), and the metadata addresses of clouds that lie outside of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address and prefix length of what is not public (iana-ipv4-special-registry).
const PRIVATE_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10), // carrier-grade NAT; Alibaba's metadata is 100.100.100.200
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure's WireServer, on a public address
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link-local, and most clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24), // protocol assignments; Oracle's metadata is 192.0.0.192
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4), // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4), // reserved, and broadcast
];

/// What is not public within 2000::/3, the only part of IPv6 that is handed out (iana-ipv6-special-registry).
const PRIVATE_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo among them
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// Whether an address is on the public internet. An IPv6 address that carries an IPv4 one is judged by that.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !PRIVATE_V4.iter().any(|block| within_v4(v4, *block)),
        IpAddr::V6(v6) => match carried(v6) {
            Some(v4) => is_public(IpAddr::V4(v4)),
            None => {
                within_v6(v6, GLOBAL_UNICAST)
                    && !PRIVATE_V6.iter().any(|block| within_v6(v6, *block))
            }
        },
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped, behind NAT64, or 6to4.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, a, b, .., y, z] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    if within_v6(address, NAT64) {
        Some(v4(y, z))
    } else if within_v6(address, SIX_TO_FOUR) {
        Some(v4(a, b))
    } else {
        address.to_ipv4_mapped()
    }
}

/// Whether an address lies in a block.
pub(super) fn within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => within_v4(address, (network, length)),
        (IpAddr::V6(address), IpAddr::V6(network)) => within_v6(address, (network, length)),
        // As operating systems have it: ::ffff:10.0.0.1 is 10.0.0.1.
        (IpAddr::V6(address), IpAddr::V4(network)) => address
            .to_ipv4_mapped()
            .is_some_and(|v4| within_v4(v4, (network, length))),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

fn within_v4(address: Ipv4Addr, (network, length): (Ipv4Addr, u32)) -> bool {
    let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
    address.to_bits() & mask == network.to_bits() & mask
}

fn within_v6(address: Ipv6Addr, (network, length): (Ipv6Addr, u32)) -> bool {
    let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
    address.to_bits() & mask == network.to_bits() & mask
}
