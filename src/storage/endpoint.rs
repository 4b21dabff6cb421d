//! What a store's address says besides its host: the region, and a bucket in front of the host or in the path. People write
//! all of these, and RunPod's own documentation asks for an address that includes the bucket.

use reqwest::Url;

/// A store's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Without bucket and path.
    pub url: Url,
    /// The bucket, where the address names one.
    pub bucket: Option<String>,
    /// What follows the bucket in the path.
    pub prefix: String,
}

const R2: &str = ".r2.cloudflarestorage.com";
const AWS: &str = ".amazonaws.com";
const SPACES: &str = ".digitaloceanspaces.com";

impl Endpoint {
    /// Takes an address apart. `bucket` is the one that is named elsewhere, if it is.
    pub(super) fn read(mut url: Url, bucket: Option<&str>) -> Self {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let mut found = None;
        let in_front = match bucket {
            Some(bucket) => host.strip_prefix(&format!("{}.", bucket.to_ascii_lowercase())),
            None => behind_bucket(&host),
        };
        if let Some(rest) = in_front.map(str::to_owned) {
            let length = host.len() - rest.len() - 1;
            let name = host.get(..length).map(str::to_owned);
            // Why the check: an address that cannot take the shorter host keeps the longer one.
            if url.set_host(Some(&rest)).is_ok() {
                found = name;
            }
        }
        let path = url.path().trim_matches('/').to_owned();
        let (first, rest) = path.split_once('/').unwrap_or((&path, ""));
        let named_first = match (bucket, &found) {
            (Some(bucket), _) => first == bucket,
            (None, None) => !first.is_empty(),
            (None, Some(_)) => false,
        };
        let prefix = if named_first {
            found = Some(first.to_owned());
            rest.to_owned()
        } else {
            path.clone()
        };
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
        Self {
            url,
            bucket: bucket.map(str::to_owned).or(found),
            prefix,
        }
    }

    /// The region to sign for, where the host tells it; stores that know no regions take `us-east-1`.
    pub(super) fn region(&self) -> String {
        region_of(&self.url.host_str().unwrap_or_default().to_ascii_lowercase())
    }
}

/// The host behind a bucket that stands in front of it.
fn behind_bucket(host: &str) -> Option<&str> {
    if host.ends_with(AWS) {
        let at = host.find(".s3.").or_else(|| host.find(".s3-"))?;
        return host.get(at + 1..);
    }
    if let Some(front) = host.strip_suffix(R2) {
        // ACCOUNT, or BUCKET.ACCOUNT, each with .eu and the like behind it; an account is 32 hexadecimal digits.
        let (first, rest) = front.split_once('.')?;
        return (!is_account(first) && is_account(rest.split('.').next()?))
            .then(|| host.get(first.len() + 1..))
            .flatten();
    }
    if let Some(front) = host.strip_suffix(SPACES) {
        let (bucket, region) = front.rsplit_once('.')?;
        return (!bucket.is_empty() && !region.is_empty())
            .then(|| host.get(bucket.len() + 1..))
            .flatten();
    }
    None
}

fn is_account(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn region_of(host: &str) -> String {
    const USUAL: &str = "us-east-1";
    if host.ends_with(R2) || host == "storage.googleapis.com" {
        return "auto".to_owned();
    }
    // A network volume is signed for with the data centre's id, which is written in capitals: s3api-eu-ro-1 is EU-RO-1.
    if let Some(data_center) = host.strip_prefix("s3api-") {
        let id = data_center.split('.').next().unwrap_or_default();
        return id.to_ascii_uppercase();
    }
    if let Some(front) = host.strip_suffix(SPACES) {
        return front.rsplit('.').next().unwrap_or(USUAL).to_owned();
    }
    // s3.REGION.amazonaws.com, s3-REGION.amazonaws.com, s3.dualstack.REGION.…, and stores that copied the form.
    let known = [AWS, ".backblazeb2.com", ".wasabisys.com", ".scw.cloud"];
    let Some(front) = known.iter().find_map(|suffix| host.strip_suffix(suffix)) else {
        return USUAL.to_owned();
    };
    let front = front
        .strip_prefix("s3.")
        .or_else(|| front.strip_prefix("s3-"))
        .unwrap_or("");
    let region = front.strip_prefix("dualstack.").unwrap_or(front);
    if region.is_empty() {
        USUAL.to_owned()
    } else {
        region.to_owned()
    }
}

/// Whether the host is Amazon's own, where a bucket stands in front of the host.
pub(super) fn is_aws(url: &Url) -> bool {
    url.host_str()
        .is_some_and(|host| host.to_ascii_lowercase().ends_with(AWS))
}
