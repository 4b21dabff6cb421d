//! CTC models as a step machine of the house: requests in, segments out. Apart from the model, which knows utterances and no requests.

mod adapters;
mod load;
mod pipeline;
mod prepare;
mod prepared;
mod underway;

pub use pipeline::CtcPipeline;
pub use prepare::CtcPreparer;
pub use prepared::CtcPrepared;
