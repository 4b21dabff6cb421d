//! The program's commands, as somebody types them.

mod run;
mod run_image;
