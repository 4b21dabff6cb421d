//! What an address says by itself of the endpoint behind it: how it is to be asked, and where its routes begin.

use reqwest::Url;

use super::BenchError;
use crate::reach;

const WANTED: &str = "give an address such as http://localhost:8080, http://localhost:8080/v1, \
    https://HOST/v1/…/endpoints/ID:predict or https://api.runpod.ai/v2/ENDPOINT_ID, without user name and password";

/// How an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// OpenAI's routes under `/v1`.
    OpenAi,
    /// Vertex's `{"instances": […]}` on one path.
    Predict,
    /// Jobs of a RunPod queue.
    RunPod,
}

/// Routes that people copy together with what they are below, and what they give away.
const OPENAI_ROUTES: [&str; 5] = [
    "/chat/completions",
    "/audio/transcriptions",
    "/images/generations",
    "/images/edits",
    "/models",
];
const RUNPOD_ROUTES: [&str; 3] = ["/runsync", "/run", "/health"];

/// An address that was read, before anybody was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As far as the address says it.
    pub kind: Option<Kind>,
    /// What the routes are below; with [`Kind::Predict`], the one route itself.
    pub base: Url,
}

impl Address {
    /// Reads what a person typed; a host and port alone are taken for http.
    ///
    /// # Errors
    /// [`BenchError::Address`].
    pub fn read(text: &str) -> Result<Self, BenchError> {
        let text = text.trim();
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let is_host = |url: &Url| {
            let host = url.host_str().unwrap_or_default();
            // A bare word is a name, and nothing here knows names.
            text.contains("://")
                || host.contains('.')
                || host == "localhost"
                || url.port().is_some()
        };
        let url = Url::parse(&whole).ok().filter(is_host);
        let url = url.ok_or_else(|| BenchError::Address {
            given: text.split(['?', '@']).next().unwrap_or_default().to_owned(),
            wanted: WANTED,
        })?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none();
        if !plain {
            return Err(BenchError::Address {
                given: reach::place(&url),
                wanted: WANTED,
            });
        }
        Ok(Self::of(url))
    }

    fn of(mut url: Url) -> Self {
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_owned();
        let (kind, path) = told(&path);
        url.set_path(&path);
        Self { kind, base: url }
    }

    /// The base of a kind that somebody named or that was found out.
    pub(super) fn base_of(&self, kind: Kind) -> Url {
        let path = self.base.path().trim_end_matches('/');
        match kind {
            Kind::OpenAi if !path.ends_with("/v1") => below(&self.base, "/v1"),
            Kind::Predict if path.is_empty() => below(&self.base, "/predict"),
            _ => self.base.clone(),
        }
    }
}

/// What a path gives away, and the part of it that other routes are below.
fn told(path: &str) -> (Option<Kind>, String) {
    let kept = |kind: Kind, base: &str| (Some(kind), base.to_owned());
    for route in OPENAI_ROUTES {
        if let Some(base) = path
            .strip_suffix(route)
            .filter(|base| base.ends_with("/v1"))
        {
            return kept(Kind::OpenAi, base);
        }
    }
    if path.ends_with("/v1") {
        return kept(Kind::OpenAi, path);
    }
    if path.ends_with("/predict") || path.ends_with(":predict") {
        return kept(Kind::Predict, path);
    }
    let base = RUNPOD_ROUTES
        .iter()
        .find_map(|route| path.strip_suffix(route));
    let is_endpoint = |path: &str| {
        let mut parts = path.rsplit('/');
        parts.next().is_some_and(|id| !id.is_empty()) && parts.next() == Some("v2")
    };
    match base {
        _ if is_endpoint(path) => kept(Kind::RunPod, path),
        // Others have a route for health, too.
        Some(base) if path.ends_with("/health") && !is_endpoint(base) => (None, base.to_owned()),
        Some(base) => kept(Kind::RunPod, base),
        None => (None, path.to_owned()),
    }
}

/// The address of a route below a base; what is asked for in the base's query stays.
pub(super) fn below(base: &Url, route: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{route}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_it_is_asked() {
        use Kind::{OpenAi, Predict, RunPod};
        for (text, kind, base) in [
            ("http://localhost:8080", None, "http://localhost:8080/"),
            ("localhost:8080/", None, "http://localhost:8080/"),
            ("10.0.0.1/v1/", Some(OpenAi), "http://10.0.0.1/v1"),
            (
                "https://a.example/v1/chat/completions?x=1",
                Some(OpenAi),
                "https://a.example/v1?x=1",
            ),
            ("http://a:81/predict", Some(Predict), "http://a:81/predict"),
            (
                "https://9.us-central1-1.prediction.vertexai.goog/v1/projects/p/locations/l/endpoints/9:predict",
                Some(Predict),
                "https://9.us-central1-1.prediction.vertexai.goog/v1/projects/p/locations/l/endpoints/9:predict",
            ),
            (
                "https://api.runpod.ai/v2/abc",
                Some(RunPod),
                "https://api.runpod.ai/v2/abc",
            ),
            (
                "https://api.runpod.ai/v2/abc/runsync",
                Some(RunPod),
                "https://api.runpod.ai/v2/abc",
            ),
            (
                "https://api.runpod.ai/v2/abc/openai/v1",
                Some(OpenAi),
                "https://api.runpod.ai/v2/abc/openai/v1",
            ),
            (
                "http://localhost:80/runsync",
                Some(RunPod),
                "http://localhost/",
            ),
            ("http://localhost/health", None, "http://localhost/"),
        ] {
            let read = Address::read(text).unwrap();
            assert_eq!((read.kind, read.base.as_str()), (kind, base), "{text}");
        }
    }

    #[test]
    fn the_routes_of_a_kind_are_found_below_a_bare_address() {
        let base = |text: &str, kind| Address::read(text).unwrap().base_of(kind).to_string();
        assert_eq!(base("http://a:1", Kind::OpenAi), "http://a:1/v1");
        assert_eq!(base("http://a:1/x/v1", Kind::OpenAi), "http://a:1/x/v1");
        assert_eq!(base("http://a:1", Kind::Predict), "http://a:1/predict");
        assert_eq!(base("http://a:1/own", Kind::Predict), "http://a:1/own");
        assert_eq!(base("http://a:1", Kind::RunPod), "http://a:1/");
        let url = below(&Url::parse("http://a/v1?key=x").unwrap(), "/models");
        assert_eq!(url.as_str(), "http://a/v1/models?key=x");
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_secrets() {
        for wrong in [
            "sd-turbo",
            "ftp://a.example",
            "http://u:hush@a.example",
            "http://",
            "",
        ] {
            let error = Address::read(wrong).unwrap_err().to_string();
            assert!(
                error.contains("give an address") && !error.contains("hush"),
                "{error}"
            );
        }
    }
}
