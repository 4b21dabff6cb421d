//! GGUF: llama.cpp's file of a whole model, quantised or not, with its configuration and vocabulary as metadata.
//! Read without copying and without believing it; written only for the cache of models that were quantised here.

mod cursor;
mod file;
mod header;
mod types;
mod value;
mod write;

pub use file::GgufFile;
pub use header::{Entry, Header};
pub use types::GgmlType;
pub use value::{Metadata, Value};
pub use write::{Announced, Writer};
