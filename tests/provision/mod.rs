//! `chandler provision` against doubles of the platforms, through the real program where it can be.

mod runpod;
