//! Schedulers: which noise levels a run goes through, and the step from one to the next.
