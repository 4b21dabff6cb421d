//! What an operator lets URLs reach besides the public internet: hosts, hosts with a port, and networks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use reqwest::Url;

use super::address::{is_public, within};

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// A name, on one port or on all.
    Host {
        /// In lower case.
        name: String,
        /// `None` for all.
        port: Option<u16>,
    },
    /// An address, on one port or on all.
    Address {
        /// The address.
        address: IpAddr,
        /// `None` for all.
        port: Option<u16>,
    },
    /// A network.
    Network {
        /// Its first address.
        address: IpAddr,
        /// Bits that its addresses share.
        length: u32,
    },
}

/// What would do.
const WANTED: &str = "give hosts (minio.internal), hosts with a port (localhost:9000) or networks (10.0.0.0/8), with commas \
                      between them";

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || WANTED.to_owned();
        if let Some((address, length)) = text.split_once('/') {
            let address: IpAddr = bare(address).parse().map_err(|_| wanted())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = length.parse().ok().filter(|length| *length <= most);
            return Ok(Self::Network {
                address,
                length: length.ok_or_else(wanted)?,
            });
        }
        if let Ok(address) = bare(text).parse() {
            return Ok(Self::Address {
                address,
                port: None,
            });
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::Address {
                address: socket.ip(),
                port: Some(socket.port()),
            });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| wanted())?)),
            None => (text, None),
        };
        let whole = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        whole
            .then(|| Self::Host {
                name: plain(name),
                port,
            })
            .ok_or_else(wanted)
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port: None } => f.write_str(name),
            Self::Host {
                name,
                port: Some(port),
            } => write!(f, "{name}:{port}"),
            Self::Address {
                address,
                port: None,
            } => write!(f, "{address}"),
            Self::Address {
                address,
                port: Some(port),
            } => write!(f, "{}", SocketAddr::new(*address, *port)),
            Self::Network { address, length } => write!(f, "{address}/{length}"),
        }
    }
}

/// The brackets of an IPv6 address in a URL are not part of it.
fn bare(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text)
}

/// `Host.` and `host` are the same.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// The whole list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedHosts {
    /// The entries.
    pub entries: Vec<Allowed>,
    /// Whether every address may be reached, private ones too.
    pub everything: bool,
}

impl AllowedHosts {
    /// Whether the URL's host was named, so that wherever it leads is the operator's own choice.
    pub(super) fn names(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let host = url.host_str().unwrap_or_default();
        let literal: Option<IpAddr> = bare(host).parse().ok();
        self.everything
            || self.entries.iter().any(|entry| match (entry, literal) {
                (Allowed::Host { name, port: only }, None) => {
                    *name == plain(host) && (only.is_none() || *only == port)
                }
                (
                    Allowed::Address {
                        address,
                        port: only,
                    },
                    Some(literal),
                ) => *address == literal && (only.is_none() || *only == port),
                _ => false,
            })
    }

    /// Whether a connection may go to an address whose host was not named.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        self.everything
            || is_public(address)
            || self.entries.iter().any(|entry| match entry {
                Allowed::Network {
                    address: network,
                    length,
                } => within(address, *network, *length),
                _ => false,
            })
    }
}
