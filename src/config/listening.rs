//! Where the worker listens and who may call it from a web page, as types that cannot be wrong.

use std::net::{IpAddr, Ipv4Addr};

use super::value::Value;

/// An address to listen on; `localhost` is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host(pub IpAddr);

impl Value for Host {
    fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("localhost") {
            return Ok(Self(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let wanted = "give an address such as 0.0.0.0, 127.0.0.1, :: or localhost";
        bare.parse().map(Self).map_err(|_| wanted.to_owned())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// A path that a platform wants a route at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route(pub String);

impl Value for Route {
    fn parse(text: &str) -> Result<Self, String> {
        let whole = text.starts_with('/') && !text.contains(['?', '#', ' ', '{', '}', '*']);
        whole
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| "give a path that begins with /, such as /health".to_owned())
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A web page's origin that may call this worker from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub String);

impl Value for Origin {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "give * or origins such as https://app.example.com, with commas between them";
        let host = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        match host {
            Some(host) if !host.is_empty() && !host.contains('/') => Ok(Self(text.to_owned())),
            None if text == "*" => Ok(Self(text.to_owned())),
            _ => Err(wanted.to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_routes_and_origins_are_checked() {
        assert_eq!(Host::parse("localhost").unwrap().show(), "127.0.0.1");
        assert_eq!(Host::parse("[::]").unwrap().show(), "::");
        assert!(Route::parse("health").is_err());
        assert!(Route::parse("/v1/endpoints/12/deployedModels/34:predict").is_ok());
        assert!(Vec::<Origin>::parse("https://a.example, http://b.example:8080").is_ok());
        assert!(Vec::<Origin>::parse("a.example").is_err());
    }
}
