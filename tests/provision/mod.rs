//! `chandler provision` and `chandler endpoints`, as a person types them, against doubles of the platforms.

mod cloud_run;
mod command;
mod docker;
mod google;
mod process;
mod vertex;
