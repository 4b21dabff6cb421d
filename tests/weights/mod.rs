//! The weight store against a real hub double and a real S3 server: what a worker fetches, from where, and what it does when
//! something is in the way.

mod program;
mod setup;
mod store;
mod worker;
