//! An image model as the engine sees it: requests are prepared off its thread, and whatever is of one size denoises together.
//! Apart from the models below, which know no request.

mod adapters;
mod coder;
mod controls;
mod decode;
mod denoise;
mod drawing;
mod encoders;
mod families;
mod frame;
mod guidance;
mod legs;
mod load;
mod pipeline;
mod plan;
mod prepare;
mod preview;
mod reading;
mod refiner;
mod safety;
mod sizes;
mod start;
mod turns;

pub use drawing::ImagePrepared;
pub use load::{ImageOptions, Usual};
pub use pipeline::ImagePipeline;
pub use prepare::ImagePreparer;
