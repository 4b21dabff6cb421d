//! A Hugging Face hub and its CDN on loopback, on two host names: model info, trees in pages, resolve, signed links that
//! expire, ranges, access, rate limits. It breaks on purpose when asked, and remembers every request, so that a test can
//! assert what travelled to which host.
//!
//! It knows nothing of chandler: the official `huggingface_hub` client runs against it too, which is what proves it.

mod answer;
mod cdn;
mod content;
mod control;
mod double;
mod faults;
mod hub;
mod links;
mod random;
mod ranges;
mod record;
mod repo;
mod resolve;
mod route;
mod server;
mod spec;

pub use content::Content;
pub use double::{Double, Options, User};
pub use faults::{Fault, Kind, Rates};
pub use links::LinkRules;
pub use record::{Seen, Side};
pub use repo::{Access, Kept, Repo, RepoFile};
pub use spec::Spec;
