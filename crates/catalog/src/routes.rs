//! Where scripts answer: route patterns and custom domains.

use rusqlite::{OptionalExtension, Row, params};

use crate::script::find_script;
use crate::{Catalog, CatalogError, bucket_domains};

/// A route pattern. <https://developers.cloudflare.com/workers/configuration/routing/routes/>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// 32 hexadecimal digits.
    pub id: String,
    /// `example.com/images/*`
    pub pattern: String,
    /// The script; `None` turns scripts off for the pattern.
    pub script: Option<String>,
    /// The zone that it was made in, if one was named.
    pub zone: Option<String>,
}

impl Route {
    /// The host of the pattern, with the `*` that it may begin with.
    pub fn host(&self) -> &str {
        let bare = self.pattern.split_once("://").map_or(self.pattern.as_str(), |(_, rest)| rest);
        bare.split('/').next().unwrap_or_default()
    }
}

/// A custom domain: all of a host name for one script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The host name.
    pub hostname: String,
    /// The script.
    pub script: String,
    /// The zone's name.
    pub zone: String,
    /// Whether it leads to the script.
    pub enabled: bool,
    /// Whether versions have addresses below it.
    pub previews: bool,
}

fn route(row: &Row<'_>) -> rusqlite::Result<Route> {
    Ok(Route { id: row.get(0)?, pattern: row.get(1)?, script: row.get(2)?, zone: row.get(3)? })
}

fn domain(row: &Row<'_>) -> rusqlite::Result<Domain> {
    Ok(Domain {
        id: row.get(0)?,
        hostname: row.get(1)?,
        script: row.get(2)?,
        zone: row.get(3)?,
        enabled: row.get(4)?,
        previews: row.get(5)?,
    })
}

impl Catalog {
    /// All routes, by pattern.
    pub fn routes(&self) -> Result<Vec<Route>, CatalogError> {
        self.db.read(|c| {
            let mut query =
                c.prepare_cached("SELECT id, pattern, script, zone FROM route ORDER BY pattern")?;
            Ok(query.query_map([], route)?.collect::<Result<_, _>>()?)
        })
    }

    /// Puts `routes` in the place of all routes of `script`. [`CatalogError::Exists`] names a pattern that
    /// another script has.
    pub async fn set_routes(&self, script: &str, routes: Vec<Route>) -> Result<(), CatalogError> {
        let script = script.to_owned();
        self.grow(move |t| {
            find_script(t, &script)?.ok_or(CatalogError::NoScript)?;
            t.execute("DELETE FROM route WHERE script = ?", [&script])?;
            for route in routes {
                insert_route(t, &route)?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps a route under its id, new or changed.
    pub async fn put_route(&self, route: Route) -> Result<(), CatalogError> {
        self.grow(move |t| {
            if let Some(script) = &route.script {
                find_script(t, script)?.ok_or(CatalogError::NoScript)?;
            }
            t.execute("DELETE FROM route WHERE id = ?", [&route.id])?;
            insert_route(t, &route)
        })
        .await
    }

    /// Removes a route; false if it is not there.
    pub async fn remove_route(&self, id: &str) -> Result<bool, CatalogError> {
        let id = id.to_owned();
        self.change(move |t| Ok(t.execute("DELETE FROM route WHERE id = ?", [id])? > 0)).await
    }

    /// All custom domains, by host name.
    pub fn domains(&self) -> Result<Vec<Domain>, CatalogError> {
        self.db.read(|c| {
            let sql = "SELECT id, hostname, script, zone, enabled, previews FROM domain ORDER BY hostname";
            let mut query = c.prepare_cached(sql)?;
            Ok(query.query_map([], domain)?.collect::<Result<_, _>>()?)
        })
    }

    /// Puts `domains` in the place of all custom domains of `script`. One that another script has is taken
    /// over if `take` is set, else it is [`CatalogError::Exists`], as is one of a bucket.
    pub async fn set_domains(
        &self,
        script: &str,
        domains: Vec<Domain>,
        take: bool,
    ) -> Result<(), CatalogError> {
        let script = script.to_owned();
        self.grow(move |t| {
            find_script(t, &script)?.ok_or(CatalogError::NoScript)?;
            t.execute("DELETE FROM domain WHERE script = ?", [&script])?;
            domains.iter().try_for_each(|domain| insert_domain(t, domain, take))
        })
        .await
    }

    /// Adds a custom domain.
    pub async fn put_domain(&self, domain: Domain, take: bool) -> Result<(), CatalogError> {
        self.grow(move |t| {
            find_script(t, &domain.script)?.ok_or(CatalogError::NoScript)?;
            t.execute(
                "DELETE FROM domain WHERE hostname = ? AND script = ?",
                [&domain.hostname, &domain.script],
            )?;
            insert_domain(t, &domain, take)
        })
        .await
    }

    /// Removes a custom domain; false if it is not there.
    pub async fn remove_domain(&self, id: &str) -> Result<bool, CatalogError> {
        let id = id.to_owned();
        self.change(move |t| Ok(t.execute("DELETE FROM domain WHERE id = ?", [id])? > 0)).await
    }
}

fn insert_route(t: &rusqlite::Transaction<'_>, route: &Route) -> Result<(), CatalogError> {
    let values = params![route.id, route.pattern, route.script, route.zone];
    match t.execute("INSERT INTO route VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", values)? {
        0 => Err(CatalogError::Exists(route.pattern.clone())),
        _ => Ok(()),
    }
}

fn insert_domain(t: &rusqlite::Transaction<'_>, domain: &Domain, take: bool) -> Result<(), CatalogError> {
    let owner: Option<String> = t
        .query_row("SELECT script FROM domain WHERE hostname = ?", [&domain.hostname], |row| row.get(0))
        .optional()?;
    if owner.is_some() && !take || bucket_domains::has(t, &domain.hostname)? {
        return Err(CatalogError::Exists(domain.hostname.clone()));
    }
    t.execute("DELETE FROM domain WHERE hostname = ?", [&domain.hostname])?;
    let Domain { id, hostname, script, zone, enabled, previews } = domain;
    t.execute(
        "INSERT INTO domain VALUES (?, ?, ?, ?, ?, ?)",
        params![id, hostname, script, zone, enabled, previews],
    )?;
    Ok(())
}
