//! The HTTP front door: translates protocols into the engine's inputs and its events into answers, and knows no model.
//! This file puts the routes and layers together; each dialect is a file of its own.

mod artifacts;
mod audio;
mod auth;
mod dialogue;
mod error;
mod generate;
mod health;
mod images;
mod json;
mod limits;
mod messages;
pub mod metrics;
mod multipart;
mod observe;
mod openai;
mod openapi;
mod predict;
#[cfg(test)]
mod properties;
mod renaming;
mod responses;
mod room;
mod routes;
mod sent;
mod serve;
mod settings;
mod sleep;
mod sse;
mod state;
mod trace;

pub use artifacts::{Artifacts, NewArtifact};
pub use auth::ApiKeys;
pub use routes::{health_router, inner_router, router, router_with};
pub use serve::serve;
pub use settings::ApiSettings;
