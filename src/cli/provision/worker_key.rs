//! The key that the worker itself asks for, where it asks for one: needed here to prove that it serves.

use secrecy::SecretString;

/// The first of CHANDLER_API_KEYS.
pub(super) fn worker_key() -> Option<SecretString> {
    let keys = std::env::var("CHANDLER_API_KEYS").ok()?;
    let first = keys.split(',').map(str::trim).find(|key| !key.is_empty())?;
    Some(SecretString::from(first.to_owned()))
}
