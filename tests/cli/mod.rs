//! The program's commands, as somebody types them.

mod bench;
mod run;
mod run_image;
