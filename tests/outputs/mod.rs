//! What the worker sends by itself: outputs to object stores, and the readiness webhook of a whole process.

mod pictures;
mod stores;
mod webhook;
