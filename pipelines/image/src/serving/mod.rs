//! An image model as the engine sees it: requests are prepared off its thread, and whatever is of one size denoises together.
//! Apart from the models below, which know no request.

mod coder;
mod conditioning;
mod controls;
mod decode;
mod defaults;
mod denoise;
mod drawing;
mod load;
mod pipeline;
mod prepare;
mod start;
mod turns;

pub use drawing::ImagePrepared;
pub use load::ImageOptions;
pub use pipeline::ImagePipeline;
pub use prepare::ImagePreparer;
