//! Weights from their sources, against real counterparts.

mod gs;
mod mirror;
mod s3;
mod stores;
