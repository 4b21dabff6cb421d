//! Paths that a platform names, led to our own before they are matched: Vertex's health and predict routes, RunPod's health
//! check, and the prefix under which Vertex's clients call any route. A named path may hold any character, and be ours.

use axum::Router;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{Method, Uri};
use tower::ServiceExt;

use super::settings::ApiSettings;

/// Vertex takes this off before it hands a call on; callers who come past Vertex, or through a gateway, may not.
const INVOKE: &str = "/invoke";

/// What leads where.
#[derive(Debug, Clone)]
pub(super) struct Renaming {
    health: Option<String>,
    ping: Option<String>,
    predict: Option<String>,
}

impl Renaming {
    pub(super) fn new(settings: &ApiSettings) -> Self {
        let foreign = |route: &Option<String>, own: &[&str]| {
            let route = route
                .as_deref()
                .map(str::trim)
                .filter(|route| !route.is_empty())?;
            let route = format!("/{}", route.trim_start_matches('/'));
            (!own.contains(&route.as_str())).then_some(route)
        };
        Self {
            // Our /health is 200 exactly when /isalive is, and says more.
            health: foreign(&settings.health_route, &["/isalive", "/health"]),
            ping: foreign(&settings.ping_route, &["/ping"]),
            predict: foreign(&settings.predict_route, &["/predict"]),
        }
    }

    /// Why around the router: a path must be renamed before it is matched.
    pub(super) fn around(self, router: Router) -> Router {
        let renamed = router.map_request(move |request: Request| self.rename(request));
        Router::new().fallback_service(renamed)
    }

    fn rename(&self, mut request: Request) -> Request {
        let uri = request.uri();
        let path = uri.path().replace("%3A", ":").replace("%3a", ":");
        let is = |route: &Option<String>| route.as_deref() == Some(path.as_str());
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        let ours = if reading && is(&self.ping) {
            Some(Uri::from_static("/ping"))
        } else if reading && is(&self.health) {
            Some(Uri::from_static("/isalive"))
        } else if request.method() == Method::POST && is(&self.predict) {
            Some(Uri::from_static("/predict"))
        } else {
            invoked(uri)
        };
        if let Some(ours) = ours {
            *request.uri_mut() = ours;
        }
        request
    }
}

/// What follows the prefix, if it is a path.
fn invoked(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(INVOKE)?;
    if !rest.starts_with('/') || rest.len() == 1 {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(rest).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn named_paths_lead_to_ours_by_their_method() {
        let renaming = Renaming::new(&ApiSettings {
            health_route: Some("/v1/endpoints/1".into()),
            ping_route: Some("/health".into()),
            predict_route: Some("v1/endpoints/1:predict".into()),
            ..ApiSettings::default()
        });
        let to = |method: Method, uri: &str| {
            let request = Request::builder().method(method).uri(uri);
            let request = renaming.rename(request.body(Body::empty()).unwrap());
            request.uri().to_string()
        };
        assert_eq!(to(Method::GET, "/v1/endpoints/1"), "/isalive");
        assert_eq!(to(Method::POST, "/v1/endpoints/1"), "/v1/endpoints/1");
        assert_eq!(
            to(Method::POST, "/v1/endpoints/1%3Apredict?x=1"),
            "/predict"
        );
        assert_eq!(to(Method::HEAD, "/health"), "/ping");
        assert_eq!(
            to(Method::GET, "/invoke/v1/models?limit=2"),
            "/v1/models?limit=2"
        );
        assert_eq!(
            to(Method::DELETE, "http://h:1/invoke/v1/responses/a"),
            "http://h:1/v1/responses/a"
        );
        for alone in ["/invoke", "/invoke/", "/invoked/v1/models", "/v1/invoke/x"] {
            assert_eq!(to(Method::POST, alone), alone);
        }
    }
}
