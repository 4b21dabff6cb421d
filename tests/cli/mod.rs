//! The program's commands, as somebody types them.

mod bench;
#[cfg(all(feature = "text", target_os = "linux"))]
mod plan_memory;
mod run;
mod run_image;
