//! `chandler provision` and `chandler endpoints`, as a person types them, against doubles of the platforms.

mod command;
mod docker;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "kubernetes")]
mod kubernetes_trouble;
mod process;
mod vast;
mod wanted;
mod worker;
