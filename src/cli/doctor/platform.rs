//! Which platform this is taken for, what follows from it, and what the settings themselves complain of.

use std::path::Path;

use super::finding::Finding;
use crate::config::{Platform, Resolution, Source};

const GROUP: &str = "platform";

pub fn check(resolution: &Resolution) -> Vec<Finding> {
    let mut findings = vec![platform(resolution), process()];
    for warning in &resolution.warnings {
        let finding = Finding::warning(GROUP, "settings", warning.clone());
        findings.push(
            finding.mended_by("`chandler config show` prints every setting and where it came from"),
        );
    }
    findings
}

fn platform(resolution: &Resolution) -> Finding {
    let platform = resolution.platform;
    let expects = match platform {
        Platform::Elsewhere => "requests over HTTP on the port, /isalive and /livez for health",
        Platform::RunPodQueue => "jobs are taken from the endpoint's queue",
        Platform::RunPodLoadBalancer => "requests over HTTP, /ping for health",
        Platform::RunPodPod => "requests over HTTP on the ports that the Pod opens",
        Platform::Vertex => {
            "requests over HTTP on AIP_HTTP_PORT, health and predict routes as AIP_* name them"
        }
        Platform::CloudRun => "requests over HTTP on PORT, SIGKILL 10s after SIGTERM",
    };
    let shown = resolution.settings.shown();
    let follows: Vec<String> = shown
        .iter()
        .filter(|row| matches!(row.source, Source::Platform(_)))
        .map(|row| format!("{} is {}", row.key, row.value))
        .collect();
    let name = match platform {
        Platform::Elsewhere => "none recognised".to_owned(),
        other => other.to_string(),
    };
    let follows = match follows.as_slice() {
        [] => String::new(),
        some => format!("; {}", some.join(", ")),
    };
    Finding::ok(GROUP, "platform", format!("{name}: {expects}{follows}"))
        .with("platform", platform.to_string())
}

/// Who the process is, and in what.
fn process() -> Finding {
    let marks = [
        ("/.dockerenv", "docker"),
        ("/run/.containerenv", "podman"),
        ("/var/run/secrets/kubernetes.io", "Kubernetes"),
    ];
    let container = marks.iter().find(|(path, _)| Path::new(path).exists());
    let place = container.map_or("no container that could be told", |(_, name)| name);
    let user = rustix::process::geteuid().as_raw();
    let root = if user == 0 {
        " (root, which it does not need)"
    } else {
        ""
    };
    Finding::ok(GROUP, "process", format!("user {user}{root}, {place}"))
        .with("user", user)
        .with("container", container.map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::config::{Given, resolve};

    fn found(environment: &[(&str, &str)]) -> Vec<Finding> {
        let given = Given::in_environment(environment);
        check(&resolve(&given).unwrap())
    }

    #[test]
    fn a_platform_is_told_with_what_follows_from_it() {
        let cloud_run = &found(&[("K_SERVICE", "worker"), ("PORT", "8080")])[0];
        assert!(
            cloud_run.found.contains("Cloud Run") && cloud_run.found.contains("drain_grace is 8s"),
            "{}",
            cloud_run.found
        );
        assert_eq!(cloud_run.data["platform"], "Cloud Run");
        assert!(found(&[])[0].found.starts_with("none recognised"));
    }

    #[test]
    fn a_misspelt_variable_is_a_warning() {
        let findings = found(&[("CHANDLER_PROT", "80")]);
        let warning = findings
            .iter()
            .find(|finding| finding.level == Level::Warning)
            .unwrap();
        assert!(warning.found.contains("CHANDLER_PROT"), "{}", warning.found);
    }
}
