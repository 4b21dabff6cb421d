//! The HTTP front door.

mod auth;
mod bad_input;
mod clients;
mod conformance;
mod documents;
mod generate;
mod health;
mod limits;
mod openai;
mod predict;
mod streams;
mod worker;
