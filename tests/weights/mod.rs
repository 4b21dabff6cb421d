//! Weights from their sources, against real counterparts.

mod boto3;
mod gs;
mod mirror;
mod s3;
mod stores;
