//! Whose a host name is. All accounts answer behind the same doors, so a name is the account's that named it first.
//!
//! A name is that of a custom domain or of a bucket's, or the host of a route: `shop.example.com`, `*.example.com`. A
//! claim comes before the row in the account's catalog that needs it and goes after it, so that what a catalog says of a
//! name without a claim is worth nothing.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension, Transaction};
use skep_store::StoreError;

use crate::{Catalog, CatalogError, Registry};

fn holder(t: &Transaction<'_>, name: &str) -> Result<Option<String>, StoreError> {
    let mut query = t.prepare_cached("SELECT account FROM claim WHERE name = ?")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

fn insert(t: &Transaction<'_>, name: &str, account: &str) -> Result<(), StoreError> {
    t.prepare_cached("INSERT INTO claim VALUES (?, ?) ON CONFLICT DO NOTHING")?.execute([name, account])?;
    Ok(())
}

/// The labels that stand right before one of `domains` in `name`: the subdomains that it is, or is beneath.
fn subdomains<'a>(name: &'a str, domains: &[String]) -> impl Iterator<Item = &'a str> {
    domains
        .iter()
        .filter_map(move |domain| name.strip_suffix(domain.as_str())?.strip_suffix('.')?.rsplit('.').next())
}

/// Whether `name`, or what a pattern of it begins with, is one of `domains` or in it.
fn is_within(name: &str, domains: &[String]) -> bool {
    let name = name.trim_start_matches(['*', '.']);
    let mut rests = domains.iter().filter_map(|domain| name.strip_suffix(domain.as_str()));
    rests.any(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether another account has a name that is beneath the account's `subdomain`.
pub(crate) fn is_occupied(
    c: &Connection,
    account: &str,
    subdomain: &str,
    domains: &[String],
) -> Result<bool, StoreError> {
    let mut query = c.prepare_cached("SELECT name FROM claim WHERE account <> ?")?;
    let names = query.query_map([account], |row| row.get::<_, String>(0))?;
    for name in names {
        if subdomains(&name?, domains).any(|own| own == subdomain) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Registry {
    /// Makes names the account's own, all or none; [`CatalogError::Taken`] says which one is another account's, beneath the subdomain of
    /// one, or elsewhere in a domain below which accounts answer: that is the operator's, whose account is the first.
    pub async fn claim(&self, account: &str, names: Vec<String>) -> Result<(), CatalogError> {
        let own = self.claims_of(account)?;
        if names.iter().all(|name| own.contains(name)) {
            return Ok(());
        }
        let account = account.to_owned();
        let domains = self.domains();
        let taken = self.db.write(move |t| {
            let mut all = t.prepare_cached("SELECT id, subdomain FROM account ORDER BY created, id")?;
            let all = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let all = all.collect::<Result<Vec<(String, String)>, _>>()?;
            let is_operator = all.first().is_some_and(|(first, _)| *first == account);
            let of: HashMap<&str, &str> = all.iter().map(|(id, subdomain)| (&**subdomain, &**id)).collect();
            for name in &names {
                let owner = subdomains(name, &domains).find_map(|subdomain| of.get(subdomain));
                let is_free = match owner {
                    Some(owner) => *owner == account,
                    None => is_operator || !is_within(name, &domains),
                };
                if !is_free || holder(t, name)?.is_some_and(|holder| holder != account) {
                    return Ok(Some(name.clone()));
                }
            }
            names.iter().try_for_each(|name| insert(t, name, &account))?;
            Ok::<_, StoreError>(None)
        });
        taken.await?.map_or(Ok(()), |name| Err(CatalogError::Taken(name)))
    }

    /// Gives up names; those that the account does not have stay whose they are.
    pub async fn release(&self, account: &str, names: Vec<String>) -> Result<(), CatalogError> {
        let account = account.to_owned();
        let released = self.db.write(move |t| {
            let mut delete = t.prepare_cached("DELETE FROM claim WHERE name = ? AND account = ?")?;
            names.iter().try_for_each(|name| delete.execute([name, &account]).map(drop))?;
            Ok::<_, StoreError>(())
        });
        Ok(released.await?)
    }

    /// All names, with the accounts that have them.
    pub fn claims(&self) -> Result<HashMap<String, String>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT name, account FROM claim")?;
            Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
        })
    }

    /// The names of an account.
    pub fn claims_of(&self, account: &str) -> Result<BTreeSet<String>, CatalogError> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT name FROM claim WHERE account = ?")?;
            Ok(query.query_map([account], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })
    }

    /// Brings the claims in line with what the catalogs say, at a moment when nobody changes them: claims without use,
    /// as a crash leaves them, go. Where two accounts use a name, who has claimed it keeps it, else who comes first; the
    /// others are returned with the name.
    pub async fn adopt(
        &self,
        used: Vec<(String, BTreeSet<String>)>,
    ) -> Result<Vec<(String, String)>, CatalogError> {
        let adopted = self.db.write(move |t| {
            let rows = "SELECT name, account FROM claim";
            let claimed: Vec<(String, String)> = t
                .prepare(rows)?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let mut delete = t.prepare_cached("DELETE FROM claim WHERE name = ?")?;
            for (name, account) in claimed {
                if !used.iter().any(|(user, names)| *user == account && names.contains(&name)) {
                    delete.execute([name])?;
                }
            }
            let mut without = Vec::new();
            for (account, names) in used {
                for name in names {
                    insert(t, &name, &account)?;
                    if holder(t, &name)?.is_some_and(|holder| holder != account) {
                        without.push((account.clone(), name));
                    }
                }
            }
            Ok::<_, StoreError>(without)
        });
        Ok(adopted.await?)
    }
}

impl Catalog {
    /// The names that need a claim: of custom domains of scripts and buckets, and the hosts of routes.
    pub fn names(&self) -> Result<BTreeSet<String>, CatalogError> {
        let scripts = self.domains()?.into_iter().map(|domain| domain.hostname);
        let buckets = self.bucket_domains()?.into_iter().map(|domain| domain.hostname);
        let routes = self.routes()?.into_iter().map(|route| route.host().to_owned());
        Ok(scripts.chain(buckets).chain(routes).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    fn set(all: &[&str]) -> BTreeSet<String> {
        names(all).into_iter().collect()
    }

    #[tokio::test]
    async fn a_name_is_of_one_account_however_many_claim_it_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("r.sqlite")).unwrap();
        for round in 0..20 {
            let name = format!("{round}.test");
            let both = vec![name.clone(), "*.both.test".to_owned()];
            let (a, b) = tokio::join!(registry.claim("a", both.clone()), registry.claim("b", both.clone()));
            let refused = if a.is_ok() { b } else { a };
            assert!(matches!(refused, Err(CatalogError::Taken(taken)) if both.contains(&taken)));
        }
        let claims = registry.claims().unwrap();
        assert_eq!((claims.len(), claims.values().collect::<BTreeSet<_>>().len()), (21, 1), "{claims:?}");
    }

    #[tokio::test]
    async fn claims_are_made_all_or_none_and_given_up_by_their_holder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("r.sqlite")).unwrap();
        registry.claim("a", names(&["x.test", "y.test"])).await.unwrap();
        registry.claim("a", names(&["y.test", "z.test"])).await.unwrap();
        let refused = registry.claim("b", names(&["free.test", "y.test"])).await;
        assert!(matches!(refused, Err(CatalogError::Taken(name)) if name == "y.test"));
        assert!(registry.claims_of("b").unwrap().is_empty());
        registry.release("b", names(&["x.test"])).await.unwrap();
        registry.release("a", names(&["y.test"])).await.unwrap();
        assert_eq!(registry.claims_of("a").unwrap(), set(&["x.test", "z.test"]));
        registry.claim("b", names(&["free.test", "y.test"])).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_beneath_a_subdomain_is_its_account_s_alone() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("r.sqlite")).unwrap();
        registry.answer_below(names(&["apps.test", "localhost"]));
        let a = registry.add_account("A", "a", 1).await.unwrap().id;
        let b = registry.add_account("B", "b", 2).await.unwrap().id;
        for name in ["b.localhost", "x.b.localhost", "x.y.b.apps.test", "*.b.apps.test"] {
            let refused = registry.claim(&a, names(&["free.test", name])).await;
            assert!(matches!(refused, Err(CatalogError::Taken(taken)) if taken == name), "{name}");
        }
        let free = ["ab.localhost", "b.test", "x.a.localhost", "*.localhost", "b.c.apps.test", "apps.test"];
        registry.claim(&a, names(&free)).await.unwrap();
        // What is nobody's there is the operator's.
        for name in ["localhost", "x.localhost", "*.apps.test", "*apps.test", "r2.apps.test", "y.c.apps.test"]
        {
            let refused = registry.claim(&b, names(&[name])).await;
            assert!(matches!(refused, Err(CatalogError::Taken(_))), "{name}");
        }
        registry.claim(&b, names(&["myapps.test", "x.b.localhost"])).await.unwrap();
        // Nobody takes a subdomain beneath which another one has a name.
        assert!(matches!(registry.set_subdomain(&b, Some("c")).await, Err(CatalogError::Exists(_))));
        registry.set_subdomain(&a, Some("c")).await.unwrap();
        registry.release(&a, names(&["x.a.localhost"])).await.unwrap();
        registry.set_subdomain(&b, Some("a")).await.unwrap();
    }

    #[tokio::test]
    async fn what_catalogs_say_is_adopted_and_what_none_says_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("r.sqlite")).unwrap();
        registry.claim("gone", names(&["old.test"])).await.unwrap();
        registry.claim("b", names(&["never-written.test", "mine.test"])).await.unwrap();
        let used = vec![
            ("a".to_owned(), set(&["both.test", "mine.test"])),
            ("b".to_owned(), set(&["both.test", "mine.test"])),
        ];
        let without = registry.adopt(used).await.unwrap();
        let pair = |account: &str, name: &str| (account.to_owned(), name.to_owned());
        assert_eq!(without, [pair("a", "mine.test"), pair("b", "both.test")]);
        let claims = registry.claims().unwrap();
        assert_eq!(claims, [pair("both.test", "a"), pair("mine.test", "b")].into());
    }
}
