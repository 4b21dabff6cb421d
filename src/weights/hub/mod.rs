//! The Hugging Face hub as a source: a revision's commit and tree, and for each file the address that its bytes are had
//! from, which is the hub itself or a signed address on its CDN.
//!
//! The way of a request: `address` says where to, `ask` asks (with redirects, pauses and further attempts), `refusal` puts
//! what the hub refuses into words, `tree` reads what it tells. What Xet would bring (parallel ranges, one copy of equal
//! chunks) the ranges of the transfer bring too, over the bridge that every file on Xet has; so its headers are ignored.

mod address;
mod ask;
mod options;
mod refusal;
mod tree;

use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use tokio::sync::OnceCell;

pub use options::HubOptions;

use self::address::Address;
use self::ask::{Ask, Reply};
use self::refusal::What;
use super::remote::{BoxFuture, Digest, Link, Listing, RemoteFile, Source};
use super::{WeightsError, names};

/// One revision of one repository on the hub.
pub struct HubSource {
    revision: String,
    ask: Ask,
    /// What a branch or a tag points at, asked for once: all files have to be of one commit.
    resolved: OnceCell<Resolved>,
}

/// A revision by the names that do not change.
#[derive(Debug, Clone)]
struct Resolved {
    /// What the repository is called today.
    repo: String,
    commit: String,
}

impl HubSource {
    /// A source that has not asked anything yet. The revision is a branch, a tag or a commit.
    ///
    /// # Errors
    /// [`WeightsError::BadName`], and [`WeightsError::Malformed`] for an endpoint or a token that is none.
    pub fn new(options: &HubOptions, repo: &str, revision: &str) -> Result<Self, WeightsError> {
        names::repository(repo)?;
        names::revision(revision)?;
        let address = Address::new(&options.endpoint)?;
        let place = format!("{}/{repo}@{revision}", address.name());
        Ok(Self {
            revision: revision.to_owned(),
            ask: Ask::new(options, address, place, repo)?,
            resolved: OnceCell::new(),
        })
    }

    /// What `link` has to know. A commit needs no question; an answer to one that renamed the repository is followed.
    async fn resolved(&self) -> Result<&Resolved, WeightsError> {
        let known = is_commit(&self.revision);
        let resolve = async || match known {
            true => Ok(Resolved {
                repo: self.ask.repo.clone(),
                commit: self.revision.to_ascii_lowercase(),
            }),
            false => self.look_up().await,
        };
        self.resolved.get_or_try_init(resolve).await
    }

    /// Asks which commit the revision is, and what the repository is called.
    async fn look_up(&self) -> Result<Resolved, WeightsError> {
        let url = self.ask.address.info(&self.ask.repo, &self.revision)?;
        let what = What::Revision(&self.revision);
        let reply = self.ask.for_json(url, &what).await?;
        let (repo, commit) =
            tree::info(&reply.body).map_err(|reason| self.ask.malformed(reason))?;
        let repo = repo.unwrap_or_else(|| self.ask.repo.clone());
        names::repository(&repo)?;
        Ok(Resolved { repo, commit })
    }

    async fn listing(&self) -> Result<Listing, WeightsError> {
        let resolved = self.resolved().await?;
        let mut tree = tree::Tree::default();
        let mut next = Some(self.ask.address.tree(&resolved.repo, &resolved.commit)?);
        while let Some(url) = next {
            let what = What::Revision(&self.revision);
            let reply = self.ask.for_json(url, &what).await?;
            let added = tree.add(&reply.body);
            added.map_err(|reason| self.ask.malformed(reason))?;
            next = self.ask.next_page(&reply)?;
        }
        let files = tree.files().map_err(|reason| self.ask.malformed(reason))?;
        Ok(Listing {
            commit: resolved.commit.clone(),
            files,
        })
    }

    async fn link_to(&self, file: &RemoteFile) -> Result<Link, WeightsError> {
        names::file_path(&file.path)?;
        let resolved = self.resolved().await?;
        let url = self
            .ask
            .address
            .file((&resolved.repo, &resolved.commit), &file.path)?;
        let what = What::File {
            path: &file.path,
            revision: &self.revision,
        };
        let reply = self.ask.once_more(Method::HEAD, url, &what).await?;
        self.same_file(&reply, file, &resolved.commit)?;
        let mut headers = HeaderMap::new();
        // A proxy that packs the bytes on the way would make nonsense of the ranges.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let url = reply.leads_to.unwrap_or(reply.url);
        self.ask.sign(&url, &mut headers);
        Ok(Link { url, headers })
    }

    /// Whether the hub speaks of the version that was listed. What it does not say is not wrong: the digest decides.
    fn same_file(
        &self,
        reply: &Reply,
        file: &RemoteFile,
        commit: &str,
    ) -> Result<(), WeightsError> {
        let text = |name: &str| reply.headers.get(name)?.to_str().ok();
        if let Some(said) = text("x-repo-commit")
            && !said.eq_ignore_ascii_case(commit)
        {
            return Err(self.ask.malformed(format!(
                "{} is of commit {commit}, and the hub answers for {}",
                file.path,
                refusal::cut(said)
            )));
        }
        let linked = reply.leads_to.is_some();
        let etag = text("x-linked-etag").or_else(|| text("etag").filter(|_| !linked));
        let size = text("x-linked-size").or_else(|| text("content-length").filter(|_| !linked));
        // An ETag that is no digest is another mark, and of no use here.
        let digest =
            etag.and_then(|etag| Digest::parse(etag.trim_start_matches("W/").trim_matches('"')));
        let other = match (digest, file.digest) {
            (Some(said @ Digest::Sha256(_)), Some(listed @ Digest::Sha256(_)))
            | (Some(said @ Digest::GitSha1(_)), Some(listed @ Digest::GitSha1(_))) => {
                said != listed
            }
            _ => false,
        };
        let size = size.and_then(|size| size.parse::<u64>().ok());
        if other || size.is_some_and(|size| size != file.size) {
            return Err(WeightsError::Changed {
                place: self.ask.place.clone(),
                file: file.path.clone(),
            });
        }
        Ok(())
    }
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Source for HubSource {
    fn name(&self) -> String {
        self.ask.place.clone()
    }

    fn list(&self) -> BoxFuture<'_, Result<Listing, WeightsError>> {
        Box::pin(self.listing())
    }

    fn link<'a>(&'a self, file: &'a RemoteFile) -> BoxFuture<'a, Result<Link, WeightsError>> {
        Box::pin(self.link_to(file))
    }

    fn client(&self) -> &reqwest::Client {
        &self.ask.client
    }
}
