//! The HTTP client that ranges want, for sources to build theirs from: it is the transfer that knows why it is made so.

use std::time::Duration;

use reqwest::redirect::Policy;

/// A builder for [`crate::weights::remote::Source::client`], which a source may add to (a resolver, a proxy).
///
/// - HTTP/1.1 only: with HTTP/2 all ranges would share one connection, its one congestion window and its one core.
/// - No redirects: a token must not travel to another host, so each redirect is the source's to judge.
/// - No referer, and no limit on idle connections; they are dropped before S3 does it (after about 5 s), since a request on a
///   connection that has just been closed fails.
/// - No time limit on a whole answer: the transfer has one from byte to byte.
pub fn client_builder(connect_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .pool_idle_timeout(Duration::from_secs(4))
        .user_agent(concat!("chandler/", env!("CARGO_PKG_VERSION")))
}
