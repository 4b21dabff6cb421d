//! Makes a thing exactly once, although the answer to the request that makes it may be lost.

use std::time::Duration;

use super::ProvisionError;

/// How long after a lost answer the thing is looked for again: a platform may still be making it, and its lists lag behind.
const SETTLE: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];
/// How often it is made anew after the last lost answer was followed by nothing.
const TRIES: u32 = 3;

/// What there is, and whether this run made it.
///
/// Looks first; makes it when nothing is found; and after a lost answer looks again, several times, before it makes another.
///
/// # Errors
/// What looking or making says, and [`ProvisionError::Ambiguous`] when every answer was lost.
pub async fn ensure<T>(
    pace: f64,
    look: impl AsyncFn() -> Result<Option<T>, ProvisionError>,
    make: impl AsyncFn() -> Result<T, ProvisionError>,
) -> Result<(T, bool), ProvisionError> {
    if let Some(found) = look().await? {
        return Ok((found, false));
    }
    let mut tries = 1;
    loop {
        let lost = match make().await {
            Ok(made) => return Ok((made, true)),
            Err(error) if error.is_ambiguous() => error,
            Err(error) => return Err(error),
        };
        for pause in SETTLE {
            tokio::time::sleep(pause.mul_f64(pace)).await;
            if let Some(found) = look().await? {
                return Ok((found, true));
            }
        }
        if tries == TRIES {
            return Err(lost);
        }
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn lost() -> ProvisionError {
        ProvisionError::Ambiguous {
            platform: "test",
            purpose: "make it".to_owned(),
            reason: "the connection was closed".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_lost_answer_made_is_found_and_not_made_twice() {
        let made = Cell::new(0);
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            // It shows up in the list at the third look after it was made.
            Ok((made.get() > 0 && looks.get() > 3).then_some(7))
        };
        let make = async || {
            made.set(made.get() + 1);
            Err(lost())
        };
        assert_eq!(ensure(1.0, look, make).await.unwrap(), (7, true));
        assert_eq!(made.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_never_made_is_made_again_and_not_for_ever() {
        let made = Cell::new(0);
        let make = async || {
            made.set(made.get() + 1);
            match made.get() {
                2 => Ok(1),
                _ => Err(lost()),
            }
        };
        assert_eq!(
            ensure(1.0, async || Ok(None), make).await.unwrap(),
            (1, true)
        );
        made.set(2);
        let error = ensure(1.0, async || Ok(None), make).await.unwrap_err();
        assert!(error.is_ambiguous());
        assert_eq!(made.get(), 5);
    }

    #[tokio::test]
    async fn what_is_there_is_left_alone() {
        let make = async || Err(lost());
        assert_eq!(
            ensure(1.0, async || Ok(Some(3)), make).await.unwrap(),
            (3, false)
        );
    }
}
