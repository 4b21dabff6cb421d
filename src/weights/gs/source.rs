//! The bucket's prefix as a source: its listing by Google's JSON API, and the bytes by generation, so that a file that is
//! replaced in between is a missing one and not a mixture.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;

use super::refusal::refused;
use super::{GOOGLE, GsOptions};
use crate::google::{Asked, Scope, TokenOptions, Tokens};
use crate::reach;
use crate::weights::WeightsError;
use crate::weights::listed::{self, Object};
use crate::weights::manifest::{self, MOST_BYTES, MOST_FILES, Manifest};
use crate::weights::names;
use crate::weights::remote::{BoxFuture, Link, Listing, RemoteFile, Source};

/// An object's name is one part of the path: its slashes are escaped, too.
const NAME: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Pages of a listing, so that a server that always has another one comes to an end.
const PAGES: usize = 1000;
/// A page of 1,000 names of 1,024 bytes is smaller.
const PAGE_BYTES: usize = 8 << 20;

/// A prefix of a bucket in Google Cloud Storage.
pub struct GsSource {
    bucket: String,
    prefix: String,
    endpoint: Url,
    http: reqwest::Client,
    tokens: Tokens,
    tries: u32,
    /// Which version of each file was listed.
    generations: Mutex<HashMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    /// A number, written as a text.
    size: String,
    generation: String,
    #[serde(default)]
    md5_hash: Option<String>,
    #[serde(default)]
    crc32c: Option<String>,
}

impl GsSource {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// A bucket or a prefix that is no name, and a credentials file that cannot be used.
    pub fn new(bucket: &str, prefix: &str, options: &GsOptions) -> Result<Self, WeightsError> {
        let unusable = |reason: String| WeightsError::Unreachable {
            place: format!("gs://{bucket}"),
            reason,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty()
            || bucket.len() > 222
            || !bucket.chars().all(plain)
            || bucket.contains("..")
        {
            return Err(unusable(
                "a bucket's name has letters, digits, dots, dashes and underscores only".to_owned(),
            ));
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() {
            names::file_path(prefix)?;
        }
        let google = || Url::parse(GOOGLE).map_err(|error| unusable(error.to_string()));
        let endpoint = options.endpoint.clone().map_or_else(google, Ok)?;
        let tokens = Tokens::new(&TokenOptions {
            login: options.login.clone(),
            metadata_host: options.metadata_host.clone(),
            tries: options.tries,
            scope: Scope::ReadStorage,
        });
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint,
            http: reach::Client::downloads().map_err(|error| unusable(error.to_string()))?,
            tokens: tokens.map_err(|error| refused(error, true))?,
            tries: options.tries,
            generations: Mutex::new(HashMap::new()),
        })
    }

    fn base(&self) -> String {
        match self.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// The objects' address, or that of one of them.
    fn url(&self, object: Option<&str>) -> Result<Url, WeightsError> {
        let endpoint = self.endpoint.as_str().trim_end_matches('/');
        let mut url = format!("{endpoint}/storage/v1/b/{}/o", self.bucket);
        if let Some(object) = object {
            url.push('/');
            url.extend(utf8_percent_encode(object, NAME));
        }
        Url::parse(&url).map_err(|error| WeightsError::Unreachable {
            place: self.name(),
            reason: error.to_string(),
        })
    }

    async fn headers(&self) -> Result<HeaderMap, WeightsError> {
        let mut headers = HeaderMap::new();
        let token = self.tokens.header(&self.http).await;
        let token: Option<HeaderValue> = token.map_err(|error| refused(error, true))?;
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(headers)
    }

    async fn get(&self, url: Url, most: usize) -> Result<bytes::Bytes, WeightsError> {
        let mut request = Request::new(Method::GET, url);
        *request.headers_mut() = self.headers().await?;
        let asked = Asked {
            client: &self.http,
            place: &self.name(),
            tries: self.tries,
            most,
        };
        let known = request.headers().contains_key(AUTHORIZATION);
        let answer = asked.ask(&request).await;
        answer.map_err(|error| refused(error, known))
    }

    async fn items(&self) -> Result<Vec<Item>, WeightsError> {
        let malformed = |reason: String| WeightsError::Malformed {
            place: self.name(),
            reason,
        };
        let too_many = || {
            malformed(format!(
                "there are more than {MOST_FILES} objects under this prefix; name the one that holds the model alone"
            ))
        };
        let (mut items, mut next) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let fields = "items(name,size,generation,md5Hash,crc32c),nextPageToken";
            let base = self.base();
            let mut query = vec![("prefix", base.as_str()), ("fields", fields)];
            if let Some(token) = &next {
                query.push(("pageToken", token));
            }
            let url = asking(self.url(None)?, &query);
            let body = self.get(url, PAGE_BYTES).await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| malformed(format!("the listing makes no sense: {error}")))?;
            items.extend(page.items);
            if items.len() > MOST_FILES {
                return Err(too_many());
            }
            next = page.next_page_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(items);
            }
        }
        Err(too_many())
    }

    async fn manifest(&self, items: &[Item]) -> Result<Option<Manifest>, WeightsError> {
        let key = format!("{}{}", self.base(), manifest::BESIDE);
        let Some(item) = items.iter().find(|item| item.name == key) else {
            return Ok(None);
        };
        let version = [("alt", "media"), ("generation", item.generation.as_str())];
        let url = asking(self.url(Some(&key))?, &version);
        let body = self.get(url, MOST_BYTES).await?;
        Manifest::read(&format!("gs://{}/{key}", self.bucket), &body).map(Some)
    }

    async fn read(&self) -> Result<Listing, WeightsError> {
        let (place, base) = (self.name(), self.base());
        let items = self.items().await?;
        let manifest = self.manifest(&items).await?;
        let (mut objects, mut generations) = (Vec::new(), HashMap::new());
        for item in items {
            let Some(path) = listed::path(&item.name, &base) else {
                continue;
            };
            let wrong = || WeightsError::Malformed {
                place: place.clone(),
                reason: format!("{path} has a size or a generation that is none"),
            };
            let number = item.generation.bytes().all(|byte| byte.is_ascii_digit());
            objects.push(Object {
                path: path.to_owned(),
                size: item
                    .size
                    .parse()
                    .ok()
                    .filter(|_| number)
                    .ok_or_else(wrong)?,
                etag: None, // the generation in the address says more
                mark: mark(&item),
            });
            generations.insert(path.to_owned(), item.generation);
        }
        let listing = listed::listing(&place, objects, manifest)?;
        *self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = generations;
        Ok(listing)
    }

    async fn address(&self, file: &RemoteFile) -> Result<Link, WeightsError> {
        let url = self.url(Some(&format!("{}{}", self.base(), file.path)))?;
        let generation = {
            let known = self
                .generations
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.get(&file.path).cloned()
        };
        let mut query = vec![("alt", "media")];
        if let Some(generation) = &generation {
            query.push(("generation", generation));
        }
        let url = asking(url, &query);
        let headers = self.headers().await?;
        Ok(Link { url, headers })
    }
}

fn asking(mut url: Url, query: &[(&str, &str)]) -> Url {
    url.query_pairs_mut().extend_pairs(query);
    url
}

/// A version's mark: what Google knows of the bytes, so that the same file that was put there again is the same one.
fn mark(item: &Item) -> String {
    let known = [("md5", &item.md5_hash), ("crc32c", &item.crc32c)];
    let known = known.into_iter().find_map(|(name, value)| {
        let bytes = STANDARD.decode(value.as_deref()?).ok()?;
        Some(format!("{name}-{}", listed::hex(&bytes)))
    });
    known.unwrap_or_else(|| format!("generation-{}", item.generation))
}

impl Source for GsSource {
    fn name(&self) -> String {
        match self.prefix.as_str() {
            "" => format!("gs://{}", self.bucket),
            prefix => format!("gs://{}/{prefix}", self.bucket),
        }
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>> {
        Box::pin(self.read())
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>> {
        Box::pin(self.address(file))
    }

    fn client(&self) -> &reqwest::Client {
        &self.http
    }
}
