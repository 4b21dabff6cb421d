//! Device and dtype.
