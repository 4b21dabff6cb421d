//! What RunPod's refusals mean: it has no field for "no machine" or "too many workers", only sentences.

use crate::provision::ProvisionError;

use super::ID;

/// How it says that there is no machine.
const NO_MACHINE: [&str; 8] = [
    "no capacity",
    "out of capacity",
    "insufficient capacity",
    "insufficient gpu",
    "no gpu",
    "instances available",
    "out of stock",
    "resource exhausted",
];

/// The most workers that the account may have, where a refusal is about that. RunPod says "at most N workers", and "your
/// worker concurrency cannot go beyond the maximum limit of (N)" (runpodctl's issue 117).
pub(super) fn most_workers(error: &ProvisionError) -> Option<u32> {
    let ProvisionError::Refused { message, .. } = error else {
        return None;
    };
    let message = message.to_lowercase();
    if !message.contains("worker") {
        return None;
    }
    let after = ["at most", "maximum limit of", "quota of"]
        .iter()
        .find_map(|words| Some(message.split_once(words)?.1))?;
    let digits: String = after
        .trim_start_matches(|c: char| c.is_whitespace() || c == '(')
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok().filter(|workers| *workers > 0)
}

/// The same error, or that there is no machine.
pub(super) fn read(error: ProvisionError, hardware: &str) -> ProvisionError {
    let ProvisionError::Refused { message, .. } = &error else {
        return error;
    };
    let lower = message.to_lowercase();
    match NO_MACHINE.iter().any(|words| lower.contains(words)) {
        true => ProvisionError::Capacity {
            platform: ID,
            hardware: hardware.to_owned(),
            message: message.clone(),
        },
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> ProvisionError {
        ProvisionError::Refused {
            platform: ID,
            purpose: "create the endpoint".to_owned(),
            status: 400,
            message: message.to_owned(),
        }
    }

    #[test]
    fn sentences_about_workers_and_machines_are_understood_and_others_left_alone() {
        for (message, most) in [
            ("Request failed: at most 3 workers are allowed", Some(3)),
            (
                "Your worker concurrency cannot go beyond the maximum limit of (20). Please contact support",
                Some(20),
            ),
            ("workers.max: must be at most a number", None),
            ("name must have at most 191 characters", None),
        ] {
            assert_eq!(most_workers(&refused(message)), most, "{message}");
        }
        let none = "There are no longer any instances available with the requested specifications.";
        assert!(read(refused(none), "l4").is_capacity());
        assert!(!read(refused("gpu: unknown pool"), "l4").is_capacity());
    }
}
