//! How a receiver knows that a message is ours, and not an old one sent again.

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The header.
pub const SIGNATURE: &str = "x-chandler-signature";

/// The header's value: `t=<seconds>,v1=<hex>`. The time is signed with the body, so that a receiver can refuse what is old.
/// `None` for an empty secret, which would sign nothing.
pub fn sign(secret: &SecretString, seconds: u64, body: &[u8]) -> Option<String> {
    let key = secret.expose_secret().as_bytes();
    if key.is_empty() {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("t={seconds},v1={hex}"))
}
