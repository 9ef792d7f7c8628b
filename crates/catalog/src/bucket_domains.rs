//! Custom domains of R2 buckets. A host name is a script's or a bucket's, never both.

use rusqlite::{Row, Transaction, params};

use crate::{Catalog, CatalogError};

/// A custom domain of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketDomain {
    /// The host name.
    pub hostname: String,
    /// The bucket's id.
    pub bucket: String,
    /// The id of the zone that it was made in.
    pub zone: String,
    /// Whether the bucket is public there.
    pub enabled: bool,
    /// The oldest version of TLS that was asked for: `1.0`.
    pub min_tls: String,
}

fn domain(row: &Row<'_>) -> rusqlite::Result<BucketDomain> {
    Ok(BucketDomain {
        hostname: row.get(0)?,
        bucket: row.get(1)?,
        zone: row.get(2)?,
        enabled: row.get(3)?,
        min_tls: row.get(4)?,
    })
}

/// Whether a bucket has this host name.
pub(crate) fn has(t: &Transaction<'_>, hostname: &str) -> Result<bool, CatalogError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM bucket_domain WHERE hostname = ?)";
    Ok(t.query_row(sql, [hostname], |row| row.get(0))?)
}

impl Catalog {
    /// Those of all buckets, by host name.
    pub fn bucket_domains(&self) -> Result<Vec<BucketDomain>, CatalogError> {
        self.db.read(|c| {
            let sql = "SELECT hostname, bucket, zone, enabled, min_tls FROM bucket_domain ORDER BY hostname";
            let mut query = c.prepare_cached(sql)?;
            Ok(query.query_map([], domain)?.collect::<Result<_, _>>()?)
        })
    }

    /// Adds one; [`CatalogError::Exists`] if a script or a bucket has the host name.
    pub async fn add_bucket_domain(&self, made: BucketDomain) -> Result<(), CatalogError> {
        self.change(move |t| {
            let sql = "SELECT EXISTS(SELECT 1 FROM domain WHERE hostname = ?)";
            let script: bool = t.query_row(sql, [&made.hostname], |row| row.get(0))?;
            if script || has(t, &made.hostname)? {
                return Err(CatalogError::Exists(made.hostname));
            }
            let values = params![made.hostname, made.bucket, made.zone, made.enabled, made.min_tls];
            t.execute("INSERT INTO bucket_domain VALUES (?, ?, ?, ?, ?)", values)?;
            Ok(())
        })
        .await
    }

    /// Changes what is given of one; `None` if the bucket does not have it.
    pub async fn change_bucket_domain(
        &self,
        bucket: &str,
        hostname: &str,
        enabled: Option<bool>,
        min_tls: Option<String>,
    ) -> Result<Option<BucketDomain>, CatalogError> {
        let (bucket, hostname) = (bucket.to_owned(), hostname.to_owned());
        self.change(move |t| {
            let mut query = t.prepare_cached(
                "UPDATE bucket_domain SET enabled = coalesce(?3, enabled), min_tls = coalesce(?4, min_tls)
                 WHERE bucket = ?1 AND hostname = ?2 RETURNING hostname, bucket, zone, enabled, min_tls",
            )?;
            let changed = query.query_map(params![bucket, hostname, enabled, min_tls], domain)?.next();
            Ok(changed.transpose()?)
        })
        .await
    }

    /// Removes one; false if the bucket does not have it.
    pub async fn remove_bucket_domain(&self, bucket: &str, hostname: &str) -> Result<bool, CatalogError> {
        let (bucket, hostname) = (bucket.to_owned(), hostname.to_owned());
        let sql = "DELETE FROM bucket_domain WHERE bucket = ? AND hostname = ?";
        self.change(move |t| Ok(t.execute(sql, [&bucket, &hostname])? > 0)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Resource};

    #[tokio::test]
    async fn a_host_name_is_a_buckets_until_it_or_the_bucket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("c.sqlite")).unwrap();
        for id in ["a", "b"] {
            let made =
                Resource { id: id.into(), name: id.into(), created_ms: 1, settings: serde_json::json!({}) };
            catalog.add_resource(Kind::R2, made).await.unwrap();
        }
        let made = |bucket: &str| BucketDomain {
            hostname: "cdn.test".into(),
            bucket: bucket.into(),
            zone: "z".into(),
            enabled: true,
            min_tls: "1.0".into(),
        };
        catalog.add_bucket_domain(made("a")).await.unwrap();
        for bucket in ["a", "b"] {
            let twice = catalog.add_bucket_domain(made(bucket)).await;
            assert!(matches!(twice, Err(CatalogError::Exists(host)) if host == "cdn.test"));
        }
        let changed = catalog.change_bucket_domain("a", "cdn.test", Some(false), None).await.unwrap();
        assert_eq!(changed, Some(BucketDomain { enabled: false, ..made("a") }));
        assert_eq!(catalog.change_bucket_domain("b", "cdn.test", None, None).await.unwrap(), None);
        assert!(!catalog.remove_bucket_domain("b", "cdn.test").await.unwrap());
        assert!(catalog.remove_bucket_domain("a", "cdn.test").await.unwrap());
        catalog.add_bucket_domain(made("b")).await.unwrap();
        catalog.remove_resource(Kind::R2, "b").await.unwrap();
        assert_eq!(catalog.bucket_domains().unwrap(), []);
    }
}
