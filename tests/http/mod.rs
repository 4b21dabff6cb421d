//! The HTTP front door.

mod adapters;
mod audio;
mod audio_limits;
mod audio_predict;
mod audio_streams;
mod auth;
mod bad_input;
mod clients;
mod cloud_run;
mod conformance;
mod documents;
mod generate;
mod health;
mod hub;
mod limits;
mod load_balancer;
mod messages;
mod openai;
mod predict;
mod reasoning;
mod responses;
mod streams;
mod structure;
mod tools;
mod vertex;
pub mod worker;
