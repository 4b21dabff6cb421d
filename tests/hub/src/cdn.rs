//! The CDN: bytes for who has a signed link, and for nobody who brings a token.

use axum::http::request::Parts;

use crate::answer::Answer;
use crate::double::State;
use crate::faults::Fault;
use crate::links::Refused;

pub fn answer(state: &State, parts: &Parts, fault: Option<&Fault>) -> Answer {
    if parts.headers.contains_key("authorization") {
        // As S3 says it of two ways to sign; here it is also what a test fails by when a token has leaked.
        let only = "Only one auth mechanism allowed; the Authorization header must not be sent with a signed address";
        return Answer::xml(400, "InvalidArgument", only);
    }
    if !matches!(parts.method.as_str(), "GET" | "HEAD") {
        return Answer::xml(405, "MethodNotAllowed", "GET or HEAD");
    }
    if fault == Some(&Fault::Expired) {
        return expired();
    }
    let query = parts.uri.query().unwrap_or_default();
    match state.links().follow(parts.uri.path(), query) {
        Ok(content) => {
            // Not the file's digest: the store behind the CDN has names of its own, and clients must not mix them up.
            let etag = format!("\"{}-7\"", &content.sha256()[32..]);
            Answer::file(&content, &etag, &parts.headers, fault)
                .with("cache-control", "public, max-age=604800, immutable")
        }
        Err(Refused::Expired) => expired(),
        Err(Refused::BadSignature) => {
            let differs =
                "The request signature we calculated does not match the signature you provided";
            Answer::xml(403, "SignatureDoesNotMatch", differs)
        }
    }
}

fn expired() -> Answer {
    Answer::xml(403, "AccessDenied", "Request has expired")
}
