//! Accounts, the tokens that speak for them, and the log of who changed what. Which names are whose: `claims`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rusqlite::{OptionalExtension, Row, params};
use sha2::{Digest, Sha256};
use skep_store::{Database, Schema, StoreError};

use crate::CatalogError;
use crate::claims::is_occupied;
use crate::seal::random;

pub(crate) const SCHEMA: Schema = Schema(&[
    "
    CREATE TABLE account(
        id TEXT PRIMARY KEY, name TEXT NOT NULL, subdomain TEXT NOT NULL UNIQUE, created INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE token(
        id TEXT PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE,
        permissions TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER, revoked INTEGER)
        STRICT, WITHOUT ROWID;
    CREATE TABLE audit(
        sequence INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, account TEXT NOT NULL,
        token TEXT NOT NULL, action TEXT NOT NULL, outcome INTEGER NOT NULL) STRICT;
    CREATE INDEX audit_account ON audit(account, sequence);
    ",
    "
    ALTER TABLE token ADD COLUMN not_before INTEGER;
    ALTER TABLE token ADD COLUMN modified INTEGER;
    ALTER TABLE token ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE token ADD COLUMN policies TEXT NOT NULL DEFAULT '[]';
    ",
    // Whose a host name is. What earlier formats have is adopted from the catalogs at start.
    "
    CREATE TABLE claim(name TEXT PRIMARY KEY, account TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX claim_account ON claim(account);
    ",
]);

/// Accounts, tokens and the audit log.
#[derive(Debug)]
pub struct Registry {
    pub(crate) db: Database,
    /// Below which accounts answer.
    domains: OnceLock<Arc<[String]>>,
}

/// An account: a name space of scripts and resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// 32 hexadecimal digits.
    pub id: String,
    /// For people.
    pub name: String,
    /// `<script>.<subdomain>.<domain>`; without one, no script has such an address.
    pub subdomain: Option<String>,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

/// A token, without its secret part: only a hash of that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// 32 hexadecimal digits.
    pub id: String,
    /// The account that it speaks for.
    pub account: String,
    /// What it is for and what it may do.
    pub terms: Terms,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When its terms or its secret changed last.
    pub modified_ms: i64,
}

/// What a token is for and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// For people.
    pub name: String,
    /// Ids of permission groups; `*` is all.
    pub permissions: Vec<String>,
    /// How the permissions were asked for, as JSON.
    pub policies: String,
    /// Before then it is worth nothing. Milliseconds since 1970.
    pub not_before_ms: Option<i64>,
    /// From then on it is worth nothing.
    pub expires_ms: Option<i64>,
    /// It is worth nothing for now.
    pub disabled: bool,
}

impl Terms {
    /// All permissions, for ever.
    pub fn everything(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            permissions: vec!["*".to_owned()],
            policies: "[]".into(),
            ..Self::default()
        }
    }
}

/// A change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The account.
    pub account: String,
    /// The token's id.
    pub token: String,
    /// `PUT /accounts/…`
    pub action: String,
    /// The status of the answer.
    pub outcome: u16,
}

/// Stands before the account's id where it has no subdomain: no name begins like that.
const NO_SUBDOMAIN: char = ':';

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    let subdomain: String = row.get(2)?;
    let subdomain = Some(subdomain).filter(|name| !name.starts_with(NO_SUBDOMAIN));
    Ok(Account { id: row.get(0)?, name: row.get(1)?, subdomain, created_ms: row.get(3)? })
}

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    let permissions: String = row.get(3)?;
    let created_ms = row.get(4)?;
    Ok(Token {
        id: row.get(0)?,
        account: row.get(1)?,
        terms: Terms {
            name: row.get(2)?,
            permissions: permissions.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect(),
            expires_ms: row.get(5)?,
            not_before_ms: row.get(6)?,
            disabled: row.get(8)?,
            policies: row.get(9)?,
        },
        created_ms,
        modified_ms: row.get::<_, Option<i64>>(7)?.unwrap_or(created_ms),
    })
}

const TOKEN: &str =
    "SELECT id, account, name, permissions, created, expires, not_before, modified, disabled, policies
    FROM token";

const TOKEN_AND_HASH: &str =
    "SELECT id, account, name, permissions, created, expires, not_before, modified, disabled, policies, hash
    FROM token";
/// Is worth something at `?2`.
const VALID: &str = "revoked IS NULL AND disabled = 0 AND (expires IS NULL OR expires > ?2)
    AND (not_before IS NULL OR not_before <= ?2)";

impl Registry {
    /// Opens or creates the registry in the file at `path`.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self { db: Database::open(path, SCHEMA)?, domains: OnceLock::new() })
    }

    /// All accounts, the oldest first.
    pub fn accounts(&self) -> Result<Vec<Account>, CatalogError> {
        self.db.read(|c| {
            let mut query =
                c.prepare_cached("SELECT id, name, subdomain, created FROM account ORDER BY created, id")?;
            Ok(query.query_map([], account)?.collect::<Result<_, _>>()?)
        })
    }

    /// Makes an account. [`CatalogError::Exists`] if its subdomain is taken.
    pub async fn add_account(
        &self,
        name: &str,
        subdomain: &str,
        now_ms: i64,
    ) -> Result<Account, CatalogError> {
        let account = Account {
            id: uuid::Uuid::new_v4().simple().to_string(),
            name: name.to_owned(),
            subdomain: Some(subdomain.to_owned()),
            created_ms: now_ms,
        };
        let row = account.clone();
        let made = self
            .db
            .write(move |t| {
                let sql = "INSERT INTO account VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
                Ok(t.execute(sql, params![row.id, row.name, row.subdomain, row.created_ms])?)
            })
            .await?;
        match made {
            0 => Err(CatalogError::Exists(subdomain.to_owned())),
            _ => Ok(account),
        }
    }

    /// Says below which domains accounts answer, once: a name beneath an account's subdomain is for no other account.
    pub fn answer_below(&self, domains: Vec<String>) {
        let _ = self.domains.set(domains.into());
    }

    pub(crate) fn domains(&self) -> Arc<[String]> {
        self.domains.get().cloned().unwrap_or_default()
    }

    /// Whether an account could have this subdomain.
    pub fn is_subdomain_free(&self, account: &str, subdomain: &str) -> Result<bool, CatalogError> {
        let domains = self.domains();
        self.db.read(|c| {
            let sql = "SELECT EXISTS (SELECT 1 FROM account WHERE subdomain = ?)";
            let taken: bool = c.prepare_cached(sql)?.query_row([subdomain], |row| row.get(0))?;
            Ok(!taken && !is_occupied(c, account, subdomain, &domains)?)
        })
    }

    /// Gives an account another subdomain, or none. [`CatalogError::Exists`] if it is taken, or another account has a name beneath it.
    pub async fn set_subdomain(&self, account: &str, subdomain: Option<&str>) -> Result<(), CatalogError> {
        let wanted = subdomain.map_or_else(|| format!("{NO_SUBDOMAIN}{account}"), str::to_owned);
        let (id, taken, domains) = (account.to_owned(), wanted.clone(), self.domains());
        let changed = self
            .db
            .write(move |t| {
                if is_occupied(t, &id, &wanted, &domains)? {
                    return Ok(0);
                }
                Ok(t.execute("UPDATE OR IGNORE account SET subdomain = ? WHERE id = ?", [wanted, id])?)
            })
            .await?;
        match changed {
            0 => Err(CatalogError::Exists(taken)),
            _ => Ok(()),
        }
    }

    /// Makes a token; the secret is returned once and kept nowhere.
    pub async fn add_token(
        &self,
        account: &str,
        terms: Terms,
        now_ms: i64,
    ) -> Result<(Token, String), CatalogError> {
        let secret = new_secret()?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let token = Token { id, account: account.to_owned(), terms, created_ms: now_ms, modified_ms: now_ms };
        let (row, hash) = (token.clone(), hash(&secret));
        self.db
            .write(move |t| {
                let terms = row.terms;
                t.execute(
                    "INSERT INTO token(id, account, hash, created, modified, name, permissions, policies, not_before,
                     expires, disabled) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    params![
                        row.id,
                        row.account,
                        hash,
                        row.created_ms,
                        row.modified_ms,
                        terms.name,
                        terms.permissions.join(","),
                        terms.policies,
                        terms.not_before_ms,
                        terms.expires_ms,
                        terms.disabled,
                    ],
                )?;
                Ok(())
            })
            .await?;
        Ok((token, secret))
    }

    /// Gives a token other terms; false if there is none of that id.
    pub async fn change_token(
        &self,
        account: &str,
        id: &str,
        terms: Terms,
        now_ms: i64,
    ) -> Result<bool, CatalogError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        let sql = "UPDATE token SET modified = ?, name = ?, permissions = ?, policies = ?, not_before = ?,
                   expires = ?, disabled = ? WHERE account = ? AND id = ? AND revoked IS NULL";
        let changed = self.db.write(move |t| {
            let permissions = terms.permissions.join(",");
            Ok(t.execute(
                sql,
                params![
                    now_ms,
                    terms.name,
                    permissions,
                    terms.policies,
                    terms.not_before_ms,
                    terms.expires_ms,
                    terms.disabled,
                    account,
                    id
                ],
            )?)
        });
        Ok(changed.await? > 0)
    }

    /// Gives a token another secret, which is returned once; the earlier one is worth nothing. `None` if there is no
    /// token of that id.
    pub async fn roll_token(
        &self,
        account: &str,
        id: &str,
        now_ms: i64,
    ) -> Result<Option<String>, CatalogError> {
        let secret = new_secret()?;
        let (account, id, hash) = (account.to_owned(), id.to_owned(), hash(&secret));
        let sql = "UPDATE token SET hash = ?, modified = ? WHERE account = ? AND id = ? AND revoked IS NULL";
        let rolled = self.db.write(move |t| Ok(t.execute(sql, params![hash, now_ms, account, id])?)).await?;
        Ok((rolled > 0).then_some(secret))
    }

    /// The token that `secret` is, if it is worth something now. Found by a hash of 256 bits: how long it
    /// takes says nothing about the secret.
    pub fn token(&self, secret: &str, now_ms: i64) -> Result<Option<Token>, CatalogError> {
        self.db.read(|c| {
            let sql = format!("{TOKEN} WHERE hash = ?1 AND {VALID}");
            let mut query = c.prepare_cached(&sql)?;
            Ok(query.query_row(params![hash(secret), now_ms], token).optional()?)
        })
    }

    /// The token of that id, if it is worth something now, and the SHA-256 of its secret: by that the S3 API knows who has the secret
    /// without being sent it (<https://developers.cloudflare.com/r2/api/tokens/>).
    pub fn token_by_id(&self, id: &str, now_ms: i64) -> Result<Option<(Token, [u8; 32])>, CatalogError> {
        self.db.read(|c| {
            let sql = format!("{TOKEN_AND_HASH} WHERE id = ?1 AND {VALID}");
            let mut query = c.prepare_cached(&sql)?;
            let found = query.query_row(params![id, now_ms], |row| Ok((token(row)?, row.get(10)?)));
            Ok(found.optional()?)
        })
    }

    /// The tokens of an account that are not revoked, the oldest first.
    pub fn tokens(&self, account: &str) -> Result<Vec<Token>, CatalogError> {
        self.db.read(|c| {
            let sql = format!("{TOKEN} WHERE account = ? AND revoked IS NULL ORDER BY created, id");
            let mut query = c.prepare_cached(&sql)?;
            Ok(query.query_map([account], token)?.collect::<Result<_, _>>()?)
        })
    }

    /// Makes a token worthless; false if there is none of that id.
    pub async fn revoke_token(&self, account: &str, id: &str, now_ms: i64) -> Result<bool, CatalogError> {
        let (account, id) = (account.to_owned(), id.to_owned());
        let sql = "UPDATE token SET revoked = ? WHERE account = ? AND id = ? AND revoked IS NULL";
        let revoked = self.db.write(move |t| Ok(t.execute(sql, params![now_ms, account, id])?)).await?;
        Ok(revoked > 0)
    }

    /// Notes a change.
    pub async fn audit(&self, entry: AuditEntry) -> Result<(), CatalogError> {
        let AuditEntry { at_ms, account, token, action, outcome } = entry;
        let write = self.db.write(move |t| {
            let sql = "INSERT INTO audit(at, account, token, action, outcome) VALUES (?, ?, ?, ?, ?)";
            t.prepare_cached(sql)?.execute(params![at_ms, account, token, action, outcome])?;
            Ok::<_, StoreError>(())
        });
        Ok(write.await?)
    }

    /// The last changes of an account, newest first.
    pub fn audited(&self, account: &str, limit: u64) -> Result<Vec<AuditEntry>, CatalogError> {
        self.db.read(|c| {
            let sql = "SELECT at, account, token, action, outcome FROM audit WHERE account = ?
                       ORDER BY sequence DESC LIMIT ?";
            let mut query = c.prepare_cached(sql)?;
            let rows = query.query_map(params![account, limit as i64], |row| {
                Ok(AuditEntry {
                    at_ms: row.get(0)?,
                    account: row.get(1)?,
                    token: row.get(2)?,
                    action: row.get(3)?,
                    outcome: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

fn new_secret() -> Result<String, CatalogError> {
    let secret = random::<30>().map_err(|e| CatalogError::Invalid(e.to_string()))?;
    Ok(format!("skep_{}", hex::encode(secret)))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_good_until_it_expires_or_is_revoked_and_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.sqlite");
        let registry = Registry::open(&path).unwrap();
        let account = registry.add_account("Me", "me", 1).await.unwrap();
        let (token, secret) = registry
            .add_token(&account.id, Terms { expires_ms: Some(100), ..Terms::everything("t") }, 1)
            .await
            .unwrap();
        assert_eq!(registry.token(&secret, 99).unwrap(), Some(token.clone()));
        assert_eq!(registry.token(&secret, 100).unwrap(), None);
        assert_eq!(registry.token(&secret[..secret.len() - 1], 99).unwrap(), None);
        assert_eq!(registry.token_by_id(&token.id, 99).unwrap(), Some((token.clone(), hash(&secret))));
        assert_eq!(registry.token_by_id(&token.id, 100).unwrap(), None);
        for file in ["r.sqlite", "r.sqlite-wal"] {
            let bytes = std::fs::read(dir.path().join(file)).unwrap();
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
        }
        let rolled = registry.roll_token(&account.id, &token.id, 40).await.unwrap().unwrap();
        assert_eq!(registry.token(&secret, 60).unwrap(), None);
        let terms = Terms {
            not_before_ms: Some(60),
            permissions: vec!["a".into(), "b".into()],
            ..token.terms.clone()
        };
        assert!(registry.change_token(&account.id, &token.id, terms.clone(), 50).await.unwrap());
        assert_eq!(registry.token(&rolled, 59).unwrap(), None);
        assert_eq!(registry.token(&rolled, 60).unwrap().unwrap().terms, terms);
        let disabled = Terms { disabled: true, ..terms };
        assert!(registry.change_token(&account.id, &token.id, disabled, 50).await.unwrap());
        assert_eq!(registry.token(&rolled, 60).unwrap(), None);
        assert!(!registry.change_token("another", &token.id, Terms::everything("x"), 50).await.unwrap());
        assert!(registry.revoke_token(&account.id, &token.id, 50).await.unwrap());
        assert_eq!(registry.token(&secret, 60).unwrap(), None);
        assert_eq!(registry.tokens(&account.id).unwrap(), []);
    }

    #[tokio::test]
    async fn subdomains_are_unique() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&dir.path().join("r.sqlite")).unwrap();
        let a = registry.add_account("A", "a", 1).await.unwrap();
        registry.add_account("B", "b", 2).await.unwrap();
        assert!(registry.add_account("C", "b", 2).await.is_err());
        assert!(registry.set_subdomain(&a.id, Some("b")).await.is_err());
        registry.set_subdomain(&a.id, Some("c")).await.unwrap();
        assert_eq!(registry.accounts().unwrap()[0].subdomain.as_deref(), Some("c"));
        registry.set_subdomain(&a.id, None).await.unwrap();
        assert_eq!(registry.accounts().unwrap()[0].subdomain, None);
    }
}
