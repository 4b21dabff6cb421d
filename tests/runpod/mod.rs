//! The RunPod front door.

mod dialects;
mod local;
