//! Prompts: tokens, their weights, and chunks of as many as the encoder reads.
