//! Weights: sources, transfer, cache, and what a user sees of them.

mod hub;
