//! The tests of the text pipeline against what public libraries gave, as one binary so that candle is linked once.

mod batching;
mod chat;
mod parity;
mod sampling;
mod tokenizer;
