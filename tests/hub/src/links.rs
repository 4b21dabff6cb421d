//! Signed addresses on the CDN: each is issued for one file, and good for a time or for a number of requests.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::content::{Content, hex};
use crate::random::Random;

/// How long the links that are issued from now on are good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkRules {
    /// For so many seconds; `None` for ever.
    pub seconds: Option<f64>,
    /// For so many requests; `None` for any number.
    pub uses: Option<u64>,
}

#[derive(Debug)]
struct Link {
    sha256: String,
    content: Content,
    until: Option<Instant>,
    uses_left: Option<u64>,
}

#[derive(Debug)]
pub struct Links {
    pub rules: LinkRules,
    random: Random,
    issued: HashMap<String, Link>,
}

/// Why a link leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    BadSignature,
    Expired,
}

impl Links {
    pub fn new(seed: u64) -> Self {
        Self {
            rules: LinkRules::default(),
            random: Random::new(seed ^ 0x11_4B5),
            issued: HashMap::new(),
        }
    }

    /// Path and query of a new link.
    pub fn issue(&mut self, repo: &str, content: &Content) -> String {
        let bytes = [self.random.next(), self.random.next()].map(u64::to_be_bytes);
        let signature = hex(&bytes.concat());
        let sha256 = content.sha256().to_owned();
        let link = Link {
            sha256: sha256.clone(),
            content: content.clone(),
            until: self
                .rules
                .seconds
                .map(|s| Instant::now() + Duration::from_secs_f64(s)),
            uses_left: self.rules.uses,
        };
        self.issued.insert(signature.clone(), link);
        let place = &Content::from(repo.to_owned()).sha256()[..16].to_owned();
        let seconds = self.rules.seconds.unwrap_or(3600.0).ceil();
        format!(
            "/repos/{place}/{sha256}?response-content-disposition=inline%3B&X-Amz-Expires={seconds}&X-Amz-Signature={signature}"
        )
    }

    /// The bytes that a link leads to; one of its uses is gone.
    pub fn follow(&mut self, path: &str, query: &str) -> Result<Content, Refused> {
        let mut parts = query.split('&');
        let signature = parts.find_map(|part| part.strip_prefix("X-Amz-Signature="));
        let link = signature.and_then(|signature| self.issued.get_mut(signature));
        let link = link.ok_or(Refused::BadSignature)?;
        if path.rsplit('/').next() != Some(link.sha256.as_str()) {
            return Err(Refused::BadSignature);
        }
        if link.until.is_some_and(|until| Instant::now() >= until) || link.uses_left == Some(0) {
            return Err(Refused::Expired);
        }
        link.uses_left = link.uses_left.map(|left| left - 1);
        Ok(link.content.clone())
    }

    /// Every link that was issued is good no more.
    pub fn expire(&mut self) {
        for link in self.issued.values_mut() {
            link.uses_left = Some(0);
        }
    }
}
