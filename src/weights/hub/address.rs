//! Where on the hub something is, and which hosts are the hub's own: the token travels by this, and by nothing else.

use reqwest::Url;

use crate::weights::WeightsError;

/// Hosts that are the hub's, besides the endpoint's. Their subdomains are not: the CDN's bridges are among them.
const HUB_HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];

/// The hub's address.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Without a slash at its path's end.
    endpoint: Url,
}

impl Address {
    pub fn new(endpoint: &str) -> Result<Self, WeightsError> {
        let bad = |reason: &str| WeightsError::Malformed {
            place: "HF_ENDPOINT".to_owned(),
            // Why the value is not shown: it could hold a password.
            reason: format!("{reason}; give an address such as https://huggingface.co"),
        };
        let mut endpoint = Url::parse(endpoint.trim()).map_err(|_| bad("it is no URL"))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(bad("only http and https lead to a hub"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return Err(bad("it must not hold a user name or a password"));
        }
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        let path = endpoint.path().trim_end_matches('/').to_owned();
        endpoint.set_path(&path);
        Ok(Self { endpoint })
    }

    /// For people: `huggingface.co`.
    pub fn name(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        let port = self.endpoint.port().map(|port| format!(":{port}"));
        let path = self.endpoint.path().trim_end_matches('/');
        format!("{host}{}{path}", port.unwrap_or_default())
    }

    /// A page for people, such as the one where a licence is accepted.
    pub fn page(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint.as_str().trim_end_matches('/'))
    }

    pub fn info(&self, repo: &str, revision: &str) -> Result<Url, WeightsError> {
        let parts = ["api", "models"].into_iter().chain(repo.split('/'));
        self.at(parts.chain(["revision", revision]))
    }

    pub fn tree(&self, repo: &str, commit: &str) -> Result<Url, WeightsError> {
        let parts = ["api", "models"].into_iter().chain(repo.split('/'));
        let mut url = self.at(parts.chain(["tree", commit]))?;
        url.set_query(Some("recursive=true&expand=false"));
        Ok(url)
    }

    pub fn file(&self, (repo, commit): (&str, &str), path: &str) -> Result<Url, WeightsError> {
        let parts = repo.split('/').chain(["resolve", commit]);
        self.at(parts.chain(path.split('/')))
    }

    /// Each part is encoded, a slash in it too.
    fn at<'a>(&self, parts: impl Iterator<Item = &'a str>) -> Result<Url, WeightsError> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(parts),
            Err(()) => {
                return Err(WeightsError::Malformed {
                    place: self.name(),
                    reason: "the endpoint's address cannot have paths".to_owned(),
                });
            }
        };
        Ok(url)
    }

    /// Whether the token may go there.
    pub fn is_hub(&self, url: &Url) -> bool {
        let same = |name: fn(&Url) -> Option<&str>| name(url) == name(&self.endpoint);
        let endpoint = same(Url::host_str)
            && url.scheme() == self.endpoint.scheme()
            && url.port_or_known_default() == self.endpoint.port_or_known_default();
        let named = url.host_str().is_some_and(|host| HUB_HOSTS.contains(&host));
        endpoint || (named && url.scheme() == "https" && url.port().is_none())
    }

    /// Whether bytes may be fetched there: with an endpoint by https nothing goes over http.
    pub fn may_lead_to(&self, url: &Url) -> bool {
        let scheme =
            url.scheme() == "https" || (url.scheme() == "http" && self.endpoint.scheme() == "http");
        scheme && url.host_str().is_some() && url.username().is_empty() && url.password().is_none()
    }

    /// An address that the hub gave, on the endpoint: a mirror hands on what says `https://huggingface.co/…`.
    pub fn here(&self, url: Url) -> Option<Url> {
        let endpoint = (
            self.endpoint.host_str(),
            self.endpoint.port_or_known_default(),
        );
        if (url.host_str(), url.port_or_known_default()) == endpoint {
            return self.is_hub(&url).then_some(url);
        }
        if !self.is_hub(&url) {
            return None;
        }
        let mut here = self.endpoint.clone();
        let prefix = here.path().trim_end_matches('/').to_owned();
        here.set_path(&format!("{prefix}{}", url.path()));
        here.set_query(url.query());
        Some(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn every_part_is_encoded_and_a_prefix_is_kept() {
        let hub = Address::new(" https://hub.example:8443/api/hf/ ").unwrap();
        assert_eq!(hub.name(), "hub.example:8443/api/hf");
        assert_eq!(
            hub.info("o/m", "refs/pr/1").unwrap().as_str(),
            "https://hub.example:8443/api/hf/api/models/o/m/revision/refs%2Fpr%2F1"
        );
        let hub = Address::new("https://huggingface.co").unwrap();
        assert_eq!(
            hub.file(("gpt2", "abc"), "sub dir/50%?#ü.txt")
                .unwrap()
                .as_str(),
            "https://huggingface.co/gpt2/resolve/abc/sub%20dir/50%25%3F%23%C3%BC.txt"
        );
        assert_eq!(
            hub.tree("o/m", "abc").unwrap().as_str(),
            "https://huggingface.co/api/models/o/m/tree/abc?recursive=true&expand=false"
        );
        for bad in [
            "",
            "huggingface.co",
            "ftp://x",
            "https://me:secret@hub.example",
        ] {
            let error = Address::new(bad).unwrap_err().to_string();
            assert!(
                error.contains("HF_ENDPOINT") && !error.contains("secret"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_token_goes_to_the_hub_and_nowhere_else() {
        let hub = Address::new("http://127.0.0.1:8080").unwrap();
        for good in [
            "http://127.0.0.1:8080/x",
            "https://huggingface.co/x",
            "https://hf.co/x",
        ] {
            assert!(hub.is_hub(&url(good)), "{good}");
        }
        for bad in [
            "http://127.0.0.1:8081/x",
            "https://127.0.0.1:8080/x",
            "http://localhost:8080/x",
            "http://huggingface.co/x",
            "https://huggingface.co:8443/x",
            "https://cdn-lfs.huggingface.co/x",
            "https://cas-bridge.xethub.hf.co/x",
            "https://huggingface.co.example/x",
            "https://huggingface.co@example/x",
        ] {
            assert!(!hub.is_hub(&url(bad)), "{bad}");
        }
    }

    #[test]
    fn what_a_mirror_hands_on_is_asked_of_the_mirror() {
        let mirror = Address::new("https://mirror.example/hf").unwrap();
        let given = url("https://huggingface.co/api/models/o/m/tree/c?cursor=2");
        assert_eq!(
            mirror.here(given).unwrap().as_str(),
            "https://mirror.example/hf/api/models/o/m/tree/c?cursor=2"
        );
        let own = url("https://mirror.example/hf/api/x?cursor=2");
        assert_eq!(mirror.here(own.clone()), Some(own));
        for foreign in ["https://other.example/x", "http://mirror.example/hf/x"] {
            assert_eq!(mirror.here(url(foreign)), None);
        }
        assert!(!mirror.may_lead_to(&url("http://cdn.example/x")));
        assert!(mirror.may_lead_to(&url("https://cdn.example/x")));
    }
}
