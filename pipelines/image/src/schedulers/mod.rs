//! Schedulers: which noise levels a run goes through, and the step from one to the next, as plain arithmetic on the host for one
//! sample. Apart from the models, which are told a timestep a sample and know nothing of the run: samples at different steps share a
//! call. A [`SchedulerConfig`] is read once a model and changed by a request, and plans a [`Sampler`] for each sample.
//!
//! Mirrors diffusers 0.42 step by step, in f32 with its tables' rounding.

mod arrays;
mod asked;
mod beta_quantile;
mod betas;
mod class;
mod config;
mod ddim;
mod ddpm;
mod dpm_singlestep;
mod dpm_solver;
mod dpm_step;
mod euler;
mod file;
mod flow_match;
mod heun;
mod lcm;
mod lms;
mod multistep;
mod names;
mod pndm;
mod prediction;
mod reader;
mod sampler;
mod sigmas;
mod solver;
mod spacing;
mod unipc;
mod unipc_step;

pub use asked::{Asked, Begin, flux_sigmas};
pub use class::Class;
pub use config::SchedulerConfig;
pub use names::known as known_names;
pub use sampler::{Call, Sampler};
