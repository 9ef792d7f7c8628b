//! Files of every earlier format are opened, with what is in them.

use rusqlite::Connection;
use skep_store::Schema;

use crate::{Catalog, Namespace, Registry};

/// A file as an earlier version left it: so many steps, then rows.
fn file(path: &std::path::Path, schema: Schema, steps: usize, rows: &[&str]) {
    let connection = Connection::open(path).unwrap();
    schema.0[..steps].iter().chain(rows).for_each(|sql| connection.execute_batch(sql).unwrap());
    connection.pragma_update(None, "user_version", steps as i64).unwrap();
}

fn shape(path: &std::path::Path) -> Vec<(String, String)> {
    let connection = Connection::open(path).unwrap();
    let mut query =
        connection.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_catalog_of_any_earlier_format_is_opened_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("fresh.sqlite");
    drop(Catalog::open(&fresh).unwrap());
    // What each format has beside that of the one before. A format without a line here fails the test.
    let rows: &[&[&str]] = &[
        &[],
        &[
            "INSERT INTO namespace VALUES ('shop-Cart', 'shop', 'Cart', 1)",
            "INSERT INTO migration_tag VALUES ('shop', 'v1')",
            "INSERT INTO doomed VALUES ('old-Thing')",
        ],
        &[],
        &["INSERT INTO moved VALUES ('till', 'Cart', 'shop-Cart')"],
        &["INSERT INTO bucket_domain VALUES ('cdn.test', 'files', 'z', 1, '1.0')"],
        &["INSERT INTO awaited VALUES ('kiosk', 'Cart', 'shop')"],
    ];
    assert_eq!(rows.len(), crate::SCHEMA.0.len() + 1, "a format without sample rows");
    for steps in 0..crate::SCHEMA.0.len() {
        let path = dir.path().join(format!("{steps}.sqlite"));
        file(&path, crate::SCHEMA, steps, &rows[..=steps].concat());
        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.doomed().unwrap().len(), usize::from(steps >= 1));
        assert!(catalog.scripts().unwrap().is_empty());
        if steps >= 1 {
            let known = catalog.namespaces("shop").unwrap();
            let cart = Namespace { unique_key: "shop-Cart".into(), sqlite: true };
            assert_eq!(known.get("Cart"), Some(&cart));
            let home = catalog.home_of("shop", "Cart").unwrap();
            assert_eq!(home, Some(("shop".into(), "Cart".into(), cart)));
            assert_eq!(catalog.home_of("till", "Cart").unwrap().is_some(), steps >= 3);
            assert_eq!(catalog.awaited("kiosk").unwrap().len(), usize::from(steps >= 5));
        }
        drop(catalog);
        assert_eq!(shape(&path), shape(&fresh), "format {steps}");
        drop(Catalog::open(&path).unwrap());
    }
}

#[test]
fn a_registry_of_any_earlier_format_is_opened_with_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let fresh = dir.path().join("fresh.sqlite");
    drop(Registry::open(&fresh).unwrap());
    let rows: &[&[&str]] = &[
        &[],
        &[
            "INSERT INTO account VALUES ('a1', 'Main', 'main', 5)",
            "INSERT INTO token(id, account, name, hash, permissions, created)
                 VALUES ('t1', 'a1', 'first', x'00', '*', 5)",
            "INSERT INTO audit VALUES (1, 6, 'a1', 't1', 'PUT /x', 200)",
        ],
        &[],
        &["INSERT INTO claim VALUES ('shop.test', 'a1')"],
    ];
    assert_eq!(rows.len(), crate::registry::SCHEMA.0.len() + 1, "a format without sample rows");
    for steps in 0..crate::registry::SCHEMA.0.len() {
        let path = dir.path().join(format!("{steps}.sqlite"));
        file(&path, crate::registry::SCHEMA, steps, &rows[..=steps].concat());
        let registry = Registry::open(&path).unwrap();
        let accounts = registry.accounts().unwrap();
        assert_eq!(accounts.len(), usize::from(steps >= 1));
        if steps >= 1 {
            let tokens = registry.tokens("a1").unwrap();
            assert_eq!(
                (tokens.len(), tokens[0].terms.permissions.as_slice()),
                (1, ["*".to_owned()].as_slice())
            );
        }
        assert!(registry.claims().unwrap().is_empty());
        drop(registry);
        let columns = |path: &std::path::Path| -> Vec<String> {
            let connection = Connection::open(path).unwrap();
            let mut query = connection
                .prepare("SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c ORDER BY 1")
                .unwrap();
            query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(columns(&path), columns(&fresh), "format {steps}");
    }
}
