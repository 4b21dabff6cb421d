//! The variables that the platform gives a worker, with the templates as production writes them.

use crate::options::Options;

/// Names and values; `base` is `http://host:port`.
pub fn of_worker(options: &Options, base: &str, worker: &str) -> Vec<(String, String)> {
    let (endpoint, gpu) = (&options.endpoint, &options.gpu);
    let template = |path: &str| format!("{base}/v2/{endpoint}/{path}?gpu={gpu}");
    let interval = options.ping_interval.as_millis().to_string();
    [
        ("RUNPOD_WEBHOOK_GET_JOB", template("job-take/$ID")),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            template("job-done/$RUNPOD_POD_ID/$ID"),
        ),
        (
            "RUNPOD_WEBHOOK_POST_STREAM",
            template("job-stream/$RUNPOD_POD_ID/$ID"),
        ),
        ("RUNPOD_WEBHOOK_PING", template("ping/$RUNPOD_POD_ID")),
        ("RUNPOD_PING_INTERVAL", interval),
        ("RUNPOD_AI_API_KEY", options.worker_key.clone()),
        ("RUNPOD_POD_ID", worker.to_owned()),
        ("RUNPOD_POD_HOSTNAME", format!("{worker}-host")),
        ("RUNPOD_ENDPOINT_ID", endpoint.clone()),
        ("RUNPOD_GPU_TYPE_ID", gpu.replace('+', " ")),
        // A test machine has no GPU, little memory, and perhaps no way out.
        ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true".to_owned()),
        ("RUNPOD_SKIP_GPU_CHECK", "true".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
