//! The weight store and its parts against a real hub double and a real S3 server: what a worker fetches, from where, what
//! several processes make of one cache, and what happens when something is in the way.

mod boto3;
mod cache;
mod cache_python;
mod gs;
mod hub;
mod kill_phases;
mod languages;
mod mirror;
mod plan;
mod program;
mod push;
mod s3;
mod setup;
mod store;
mod stores;
#[cfg(feature = "text")]
mod text;
mod transfer;
mod worker;
