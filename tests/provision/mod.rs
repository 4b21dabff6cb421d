//! `chandler provision` and `chandler endpoints`, as a person types them, against doubles of the platforms.

mod command;
mod docker;
mod process;
