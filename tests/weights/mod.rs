//! Weights: from sources to files on the disk.

mod transfer;
