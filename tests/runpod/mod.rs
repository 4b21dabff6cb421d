//! The RunPod front door: jobs of every dialect, the local API, and the queue worker against the platform on loopback. What the
//! official SDK does badly has a test each that it is done well here.

mod chaos;
mod cold_start;
mod dialects;
mod drain;
mod heartbeat;
mod jobs;
mod local;
mod pictures;
mod process;
mod queue;
mod results;
mod serving;
mod speech;
mod streams;
mod trouble;
mod work;
mod worker;
