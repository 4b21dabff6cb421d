//! Which cards a model fits on, in order of cost, and why not on the others.

use serde::Serialize;

use super::line::gib;
use crate::catalog::{Hardware, Platform};

/// The least compute capability that the CUDA image has machine code for (docker/build-cuda.sh, `--capabilities`).
const LEAST_CAPABILITY: (u32, u32) = (7, 5);

/// Whether a model fits on a card.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The card.
    pub hardware: Hardware,
    /// Bytes that it takes there.
    pub needs: u64,
    /// Why it does not fit, whatever the platform.
    pub refused: Option<String>,
}

/// What a card is asked for.
pub(super) struct Wish {
    /// Bytes on a card with bf16, and without.
    pub device: (u64, u64),
    /// Of these, what could stay on the host.
    pub movable: u64,
    /// Whether nothing but bf16 will do.
    pub bf16: bool,
}

impl Fit {
    /// Looks whether a card will do.
    pub(super) fn new(hardware: &Hardware, wish: &Wish) -> Self {
        let needs = match hardware.bf16() {
            true => wish.device.0,
            false => wish.device.1,
        };
        Self {
            refused: refusal(hardware, wish, needs),
            hardware: hardware.clone(),
            needs,
        }
    }

    /// Bytes that stay free.
    pub fn spare(&self) -> u64 {
        self.hardware.memory_bytes().saturating_sub(self.needs)
    }

    /// Whether it will do on a platform.
    pub fn will_do(&self, platform: Platform) -> bool {
        self.hardware.lent_by(platform) && self.refused.is_none()
    }
}

fn refusal(hardware: &Hardware, wish: &Wish, needs: u64) -> Option<String> {
    if wish.bf16 && !hardware.bf16() {
        return Some(format!(
            "it has no bf16 (compute capability {}); --dtype auto or f16 would do",
            hardware.capability
        ));
    }
    let (major, minor) = LEAST_CAPABILITY;
    if capability(&hardware.capability).is_none_or(|own| own < LEAST_CAPABILITY) {
        return Some(format!(
            "its compute capability is {}, and the image begins at {major}.{minor}",
            hardware.capability
        ));
    }
    let memory = hardware.memory_bytes();
    if needs <= memory {
        return None;
    }
    let host = match needs - wish.movable <= memory && wish.movable > 0 {
        true => {
            "; it would do with T5 left in the host's memory, which the worker does by itself and which is slower"
        }
        false => "",
    };
    Some(format!("memory is short by {}{host}", gib(needs - memory)))
}

fn capability(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What there is on a platform.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The platform.
    pub platform: Platform,
    /// The cards that will do, in order of cost.
    pub fits: Vec<Candidate>,
    /// Those that stand before the first of them, or all where none will do, and why not.
    pub not: Vec<Refused>,
}

/// A card that will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The card's id.
    pub hardware: String,
    /// Its memory as it is sold, in GB.
    pub memory_gb: u32,
    /// Bytes that the plan leaves free there.
    pub spare_bytes: u64,
}

/// A card that will not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The card's id.
    pub hardware: String,
    /// Whether the platform lends it at all.
    pub lent: bool,
    /// Why it will not do where it is lent.
    pub why: Option<String>,
}

impl Choice {
    /// Of cards in order of cost.
    pub(super) fn new(platform: Platform, cards: &[Fit]) -> Self {
        let candidate = |fit: &Fit| Candidate {
            hardware: fit.hardware.id.clone(),
            memory_gb: fit.hardware.memory_gb,
            spare_bytes: fit.spare(),
        };
        let fits = cards.iter().filter(|fit| fit.will_do(platform));
        let before = cards.iter().take_while(|fit| !fit.will_do(platform));
        let before = before.map(|fit| {
            let lent = fit.hardware.lent_by(platform);
            Refused {
                hardware: fit.hardware.id.clone(),
                lent,
                why: fit.refused.clone().filter(|_| lent),
            }
        });
        Self {
            platform,
            fits: fits.map(candidate).collect(),
            not: before.collect(),
        }
    }
}
