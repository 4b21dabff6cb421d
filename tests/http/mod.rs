//! The HTTP front door.

mod adapters;
mod auth;
mod bad_input;
mod clients;
mod conformance;
mod documents;
mod generate;
mod health;
mod limits;
mod messages;
mod openai;
mod predict;
mod reasoning;
mod responses;
mod streams;
mod structure;
mod tools;
pub mod worker;
