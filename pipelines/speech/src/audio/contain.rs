//! Third-party decoders on bytes from strangers. They are fuzzed by their authors and still index past an end or
//! overflow now and then; such a panic must cost the one file and not the worker, so every call into them passes here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`, and gives a panic's message as an error.
///
/// `AssertUnwindSafe`, because what a panic leaves behind is never used again: the caller must drop the decoder.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| format!("the decoder gave up: {}", message(&*panic)))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("it panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_says_what_happened() {
        assert_eq!(contained(|| 3), Ok(3));
        let lost: Result<(), String> = contained(|| panic!("index {} out of range", 7));
        assert_eq!(
            lost.unwrap_err(),
            "the decoder gave up: index 7 out of range"
        );
    }
}
