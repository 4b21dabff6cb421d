//! What a pipeline is, for everybody above and below it: inputs, events, errors and the step machine's trait.
//! Apart from the modalities and from the engine so that the two sides meet here and nowhere else; knows no tensor and no HTTP.

pub mod error;
pub mod event;
pub mod form;
pub mod image;
pub mod input;
pub mod pipeline;
pub mod random;
pub mod speech;

#[cfg(feature = "testing")]
pub mod contract;
#[cfg(feature = "testing")]
pub mod mock;

pub use error::{ErrorKind, LoadError, RequestError, StepError};
pub use event::{
    Collected, Event, Events, FinishReason, RowOutput, TextDelta, Token, ToolCall, ToolCallDelta,
    Usage,
};
pub use form::{Constraint, Reasoning, ToolChoice};
pub use image::{
    Control, Denoising, Drawn, Guidance, ImageInput, Micro, Picture, Preview, Prompts, Recipe,
    Refining, Start,
};
pub use input::{Chat, Content, Input, Limits, Message, Part, Prompt, Sampling, Task, TextInput};
pub use pipeline::{
    Activity, Admission, CacheSize, CancelFlag, Cost, Footprint, ModelInfo, Occupancy, Parked,
    Pipeline, Prepare, Prepared, RequestId, Step, Tally, Ticket,
};
pub use speech::{
    Audio, Belief, Heard, HeardLanguage, Hints, LongForm, Search, SpeechInput, SpeechTask,
    SpokenSegment, SpokenWord, Times, Transcript, VoiceActivity,
};
