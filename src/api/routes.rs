//! Which path leads where, and through which layers.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chandler_core::{ErrorKind, RequestError};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::auth::ApiKeys;
use super::error::Dialect;
use super::openai::models;
use super::renaming::Renaming;
use super::settings::ApiSettings;
use super::state::{Api, Shared};
use super::{
    audio, auth, generate, health, images, limits, messages, metrics, observe, openai, openapi,
    predict, responses, room, sleep,
};
use crate::engine::Engine;

/// The same routes for callers within the process, whom another front door has let in: no keys, no browsers, no rate limit
/// of one caller. The limits of bodies and of time stay.
pub fn inner_router(settings: ApiSettings, engine: Engine) -> Router {
    let inner = ApiSettings {
        api_keys: ApiKeys::default(),
        cors_origins: Vec::new(),
        rate_limit: None,
        // What the other front door has taken in is in memory already, and it takes no more than can be worked on.
        upload_memory: None,
        ..settings
    };
    router(inner, engine)
}

/// All routes of the worker, behind keys, limits and timeouts.
pub fn router(settings: ApiSettings, engine: Engine) -> Router {
    router_with(settings, engine, Router::new())
}

/// All routes of the worker, and further ones of other front doors, which stand behind the same keys, limits and timeouts.
pub fn router_with(settings: ApiSettings, engine: Engine, more: Router) -> Router {
    let renaming = Renaming::new(&settings);
    let cors = cors(&settings.cors_origins);
    let api: Api = Arc::new(Shared::new(settings, engine));
    // The layers that are added last run first.
    let mut router = health_routes(Router::new())
        .route("/metrics", get(metrics::scrape))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::page))
        .route("/predict", post(predict::post))
        .route("/generate", post(generate::post))
        .route("/vocab", get(generate::vocab))
        .route("/v1/chat/completions", post(openai::post_chat))
        .route("/v1/completions", post(openai::post_completions))
        .route("/v1/responses", post(responses::post))
        .route("/v1/responses/input_tokens", post(responses::count))
        .route(
            "/v1/responses/{id}",
            get(responses::missing).delete(responses::missing),
        )
        .route("/v1/messages", post(messages::post))
        .route("/v1/messages/count_tokens", post(messages::count))
        .route("/v1/audio/transcriptions", post(audio::transcriptions))
        .route("/v1/audio/translations", post(audio::translations))
        .route("/v1/images/generations", post(images::generations))
        .route("/v1/images/edits", post(images::edits))
        .route("/v1/images/variations", post(images::variations))
        .route("/sleep", post(sleep::sleep))
        .route("/wake_up", post(sleep::wake_up))
        .route("/is_sleeping", get(sleep::is_sleeping))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .merge(more.with_state(()))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), room::bound))
        .layer(from_fn_with_state(api.clone(), limits::announced))
        .layer(from_fn_with_state(api.clone(), limits::time))
        .layer(from_fn_with_state(api.clone(), limits::rate))
        .layer(from_fn_with_state(api.clone(), auth::guard));
    if let Some(cors) = cors {
        router = router.layer(cors);
    }
    renaming.around(router.layer(from_fn(observe::observe)).with_state(api))
}

/// The routes that need no key, alone: for a port of their own.
pub fn health_router(settings: ApiSettings, engine: Engine) -> Router {
    let renaming = Renaming::new(&settings);
    let router = health_routes(Router::new())
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn(observe::observe))
        .with_state(Arc::new(Shared::new(settings, engine)));
    renaming.around(router)
}

fn health_routes(router: Router<Api>) -> Router<Api> {
    router
        .route("/isalive", get(health::isalive))
        .route("/livez", get(health::livez))
        .route("/ping", get(health::ping))
        .route("/health", get(health::health))
}

async fn no_route(method: Method, uri: Uri) -> Response {
    let message = format!(
        "there is no {method} {} here; /openapi.json lists the routes",
        uri.path()
    );
    let error = RequestError::new(ErrorKind::NotFound, message).with_code("unknown_url");
    Dialect::of_path(uri.path()).error(error).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!(
        "{} does not take {method}; /openapi.json lists what it takes",
        uri.path()
    );
    let error = RequestError::new(ErrorKind::BadInput, message).with_code("method_not_allowed");
    let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    Dialect::of_path(uri.path())
        .error_with(status, error)
        .into_response()
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let parsed = origins.iter().filter_map(|origin| {
            HeaderValue::from_str(origin)
                .inspect_err(|_| {
                    tracing::warn!(
                        origin,
                        "this CORS origin cannot be a header and is left out"
                    )
                })
                .ok()
        });
        AllowOrigin::list(parsed)
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
        // Why a mirror: browsers' clients send headers of their own, and `*` does not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([HeaderName::from_static("x-request-id"), header::RETRY_AFTER]);
    Some(layer)
}
