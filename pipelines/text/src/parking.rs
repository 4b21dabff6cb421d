//! A language model leaves its device and comes back: its weights as they were, its cache empty. Apart from the pipeline because nothing
//! of a step is here; whatever else holds an address on the device has to be let go of here, too.

use chandler_core::{Parked, StepError};
use chandler_nn::device::failure;

use crate::pipeline::{TextPipeline, empty_batch};

impl TextPipeline {
    /// Does a piece of parking; with the last one the cache's memory goes, and what is known of its contents.
    pub(crate) fn leave_device(&mut self) -> Result<Parked, StepError> {
        // Nobody is inside: what is under way is nobody's.
        self.launched = None;
        let parked = self.parking.park()?;
        if parked == Parked::Wholly {
            // They know where weights and cache lie.
            self.recordings.clear();
            self.cache.give_up();
            self.forget_cached()?;
            failure::recover(&self.device)?;
        }
        Ok(parked)
    }

    /// Brings the weights back and takes an empty cache: both, or the model is as parked as before.
    pub(crate) fn return_to_device(&mut self) -> Result<(), StepError> {
        self.parking.wake_with(|| self.cache.take_up())
    }

    /// A batch over a cache of which nothing is known; it counts on.
    pub(crate) fn forget_cached(&mut self) -> Result<(), StepError> {
        let batch = empty_batch(self.cache.shape(), self.limits)
            .map_err(|error| StepError::Fatal(error.to_string()))?;
        self.batch = batch.counting_from(self.batch.tally());
        Ok(())
    }
}
