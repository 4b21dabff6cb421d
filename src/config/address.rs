//! Addresses as settings write them: web addresses, places in object stores, and hosts that may be reached. Apart from
//! `value` because these are about what lies outside the worker.

use std::fmt;

use reqwest::Url;

use super::value::{MASK, Value};
use crate::reach::Allowed;

/// An address that the worker sends to. Whatever follows the host may be a secret and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(pub Url);

impl Value for HttpUrl {
    const PRIVATE: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || {
            "give an address such as https://example.com/hook, without user name and password"
                .to_owned()
        };
        let url = Url::parse(text).map_err(|_| wanted())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none();
        plain.then_some(Self(url)).ok_or_else(wanted)
    }

    fn show(&self) -> String {
        let port = self
            .0
            .port()
            .map_or_else(String::new, |port| format!(":{port}"));
        let rest = match (self.0.path(), self.0.query()) {
            ("/" | "", None) => "",
            _ => MASK,
        };
        let host = self.0.host_str().unwrap_or_default();
        format!("{}://{host}{port}/{rest}", self.0.scheme())
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

/// A bucket, and what all keys in it begin with: `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// Without a slash at either end; may be empty.
    pub prefix: String,
}

impl Value for S3Place {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "give s3://bucket or s3://bucket/prefix".to_owned();
        let rest = text.strip_prefix("s3://").ok_or_else(wanted)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err(wanted());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }

    fn show(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }
}

impl Value for Allowed {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_address_shows_its_host_only() {
        let url = HttpUrl::parse("https://hooks.example/T0/secret?token=x").unwrap();
        assert_eq!(url.show(), "https://hooks.example/********");
        assert_eq!(format!("{url:?}"), "https://hooks.example/********");
        assert_eq!(
            HttpUrl::parse("http://a:81").unwrap().show(),
            "http://a:81/"
        );
        for wrong in [
            "a.example",
            "ftp://a",
            "https://",
            "https://u:p@a",
            "https://u@a",
        ] {
            let error = HttpUrl::parse(wrong).unwrap_err();
            assert!(error.starts_with("give an address"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_place_is_a_bucket_and_a_prefix() {
        for (text, bucket, prefix) in [
            ("s3://results", "results", ""),
            ("s3://results/", "results", ""),
            ("s3://results/a/b/", "results", "a/b"),
        ] {
            let place = S3Place::parse(text).unwrap();
            assert_eq!(
                (place.bucket.as_str(), place.prefix.as_str()),
                (bucket, prefix)
            );
        }
        assert_eq!(S3Place::parse("s3://a/b").unwrap().show(), "s3://a/b");
        for wrong in ["results", "s3://", "s3:///a", "https://a/b", "s3://a b/c"] {
            assert!(S3Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_that_may_be_reached_read_back() {
        let text = "minio.internal,localhost:9000,10.0.0.0/8,[::1]:9000,fd00::/8,127.0.0.1";
        let hosts = Vec::<Allowed>::parse(text).unwrap();
        assert_eq!(hosts.show(), text);
        assert_eq!(Vec::<Allowed>::parse(&hosts.show()).unwrap(), hosts);
        for wrong in ["http://a", "a:b", "10.0.0.0/33", "a/8", "a b"] {
            assert!(Vec::<Allowed>::parse(wrong).is_err(), "{wrong}");
        }
    }
}
