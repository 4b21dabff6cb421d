//! `chandler provision` and `chandler endpoints`, as a person types them, against doubles of the platforms.

mod cloud_run;
mod command;
mod docker;
mod google;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(feature = "kubernetes")]
mod kubernetes_documents;
#[cfg(feature = "kubernetes")]
mod kubernetes_trouble;
mod process;
mod runpod;
mod vast;
mod vertex;
mod wanted;
mod worker;
