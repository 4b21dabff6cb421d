//! What the worker tells others by itself: that it loads, is ready, has failed or is stopping, with the times of its cold
//! start; and, in local mode, a job's result to the address that the job named. Apart from the front doors because nobody
//! asks for it.
//!
//! A message is `POST`ed as JSON ([`Notice`]) with these headers:
//!
//! | header | |
//! |---|---|
//! | `X-Chandler-Event-Id` | the message's id; the same on every attempt, so that it can be counted once |
//! | `X-Chandler-Attempt` | 1 on the first attempt |
//! | `X-Chandler-Signature` | `t=<seconds>,v1=<hex>`: HMAC-SHA256 of `<seconds>.<body>` with the secret, when one is set |
//!
//! Any 2xx takes it. Connection errors, 408, 425, 429 and 5xx are tried again, five times in all; other answers are final.
//! Messages come in order.
//!
//! A gateway is told in the same way, and with the same headers, what this worker offers ([`Offer`]): when its state changes, again
//! and again so that one which was started anew learns of it, and at the end with `DELETE URL/{worker_id}`, whose body says the
//! same as the message that is posted where that is answered with 404, 405 or 501.

mod courier;
mod notice;
mod place;
mod readiness;
mod registration;
mod result;
mod signature;

#[cfg(test)]
mod tests;

pub use courier::{Courier, Patience, Target};
pub use notice::{ColdStart, Event, Notice, StageTime, Subject};
pub use place::Place;
pub use readiness::Readiness;
pub use registration::{Limits, Offer, Registration, Routes};
pub use result::deliver_result;
pub use signature::{SIGNATURE, sign};
