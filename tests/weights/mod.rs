//! Fetched models: what several processes make of one cache, and what Python makes of ours.

mod cache;
mod cache_python;
