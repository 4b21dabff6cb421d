//! What goes wrong between a client and a platform, and when.

/// What happens instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An answer with this status, and `Retry-After` seconds; the request is not carried out.
    Status(u16, Option<u32>),
    /// The connection is cut; the request is not carried out.
    CutBefore,
    /// The connection is cut; the request was carried out.
    CutAfter,
    /// No answer for ever, so that the client can be killed; the request is not carried out.
    HoldBefore,
    /// No answer for ever, so that the client can be killed; the request was carried out.
    HoldAfter,
}

/// Which request it happens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The request of this number among all, the first being 0.
    Nth(usize),
    /// The next `times` requests of this method whose path holds this text.
    Matching {
        /// The method.
        method: &'static str,
        /// Part of the path.
        path: String,
        /// How often.
        times: u32,
    },
}

impl When {
    /// Whether it is now; counts down.
    pub(crate) fn is_now(&mut self, number: usize, method: &str, path: &str) -> bool {
        match self {
            Self::Nth(nth) => *nth == number,
            Self::Matching {
                method: wanted,
                path: part,
                times,
            } => {
                let now = *times > 0 && *wanted == method && path.contains(part.as_str());
                *times -= u32::from(now);
                now
            }
        }
    }
}
