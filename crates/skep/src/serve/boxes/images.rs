//! Images of a node in the engine: each has a name of Skep's own there, by which it is found again when nobody needs it any more.
//! Images that others have put into the engine have no such name, and those that both have lose ours alone.

use std::collections::HashSet;

use skep_api::{ContainerApplication, own_image};
use skep_containers::{Engine, EngineError};
use skep_registry::USER;

use super::{Boxes, tag};
use crate::serve::tenant::Tenant;

/// How long the password of a pull is good for.
const PULL_MINUTES: u64 = 60;

/// Where the images of a node's account are, by name; of all accounts, if that is `*`.
fn repository(node: &str, account: Option<&str>) -> String {
    let account = account.map_or_else(|| "*".to_owned(), |account| tag(node, account));
    format!("skep-{}/{account}", tag(node, ""))
}

/// What the image with this digest is called.
fn name(node: &str, account: &str, digest: &str) -> String {
    let hash = digest.split_once(':').map_or(digest, |(_, hash)| hash);
    format!("{}:{hash}", repository(node, Some(account)))
}

impl Boxes {
    /// The engine's id of an image of the account, which it gets if it has not got it yet; for the containers of a class.
    pub(super) async fn image(
        &self,
        tenant: &Tenant,
        unique_key: &str,
        image: &str,
    ) -> Result<String, String> {
        let (repository, reference) = own_image(&tenant.id, image)
            .ok_or_else(|| format!("the image {image} is not in this node's registry"))?;
        let manifest = tenant.images.manifest(&repository, &reference).map_err(|e| e.to_string())?;
        let digest = manifest.ok_or_else(|| format!("the image {image} is not there: push it first"))?.digest;
        let own = name(&self.node, &tenant.id, &digest.to_string());
        let mut given = self.given.lock().await;
        let said = |e: EngineError| format!("the image {image}: {e}");
        if !self.engine.has_image(&own).await.map_err(said)? {
            let pinned = format!("{}/{}/{repository}@{digest}", self.registry, tenant.id);
            let password = self.credentials.issue(&tenant.id, false, true, PULL_MINUTES);
            self.engine.pull(&pinned, Some((USER, &password))).await.map_err(said)?;
            self.engine.name(&pinned, &own).await.map_err(said)?;
            self.engine.unname(&pinned).await.map_err(said)?;
        }
        let id = self.engine.image_id(&own).await.map_err(said)?;
        given.insert((tenant.id.clone(), unique_key.to_owned()), own);
        Ok(id)
    }

    /// Takes the images of an account out of the engine that none of its applications, versions and containers needs.
    pub async fn tidy(&self, tenant: &Tenant) -> Result<String, String> {
        let in_use = ContainerApplication::images_in_use(tenant, &tenant.id);
        let in_use = in_use
            .map_err(|error| error.errors.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; "))?;
        let digests = in_use.iter().filter_map(|own| own.split_once('@'));
        let mut keep: HashSet<String> =
            digests.map(|(_, digest)| name(&self.node, &tenant.id, digest)).collect();
        let given = self.given.lock().await;
        keep.extend(
            given.iter().filter(|((account, _), _)| *account == tenant.id).map(|(_, own)| own.clone()),
        );
        let there = self.engine.names(&repository(&self.node, Some(&tenant.id))).await;
        let mut removed = 0;
        for own in there.map_err(|e| e.to_string())?.iter().filter(|own| !keep.contains(*own)) {
            // What a container still has goes when that has ended.
            removed += usize::from(self.engine.unname(own).await.map_err(|e| e.to_string())?);
        }
        Ok(format!("{removed} removed"))
    }
}

/// Takes all images of a node out of the engine.
pub(super) async fn remove_all(engine: &Engine, node: &str) -> Result<(), EngineError> {
    for own in engine.names(&repository(node, None)).await? {
        engine.unname(&own).await?;
    }
    Ok(())
}
