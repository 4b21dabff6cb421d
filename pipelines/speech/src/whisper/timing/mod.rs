//! When each word was said: how tokens lie on the audio (`align`), and what is made of that for words of segments (`words`).

pub mod align;
mod path;
pub mod words;

pub use align::token_positions;
pub use path::arrivals;
pub use words::{Punctuation, WordTiming, place_words, time_words};
