//! Hyperdrive while one develops: the database that a connection string names, without a pool or a cache before it.
//! <https://developers.cloudflare.com/hyperdrive/configuration/local-development/>

use percent_encoding::percent_decode_str;
use url::Url;

use crate::model::Hyperdrive;
use crate::read::Table;

/// What the variable's name ends in is the binding; the second is the older name.
const VARIABLES: [&str; 2] =
    ["CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_", "WRANGLER_HYPERDRIVE_LOCAL_CONNECTION_STRING_"];

pub(crate) fn read(root: &Table<'_>) -> Vec<Hyperdrive> {
    root.tables("hyperdrive").iter().filter_map(binding).collect()
}

fn binding(table: &Table<'_>) -> Option<Hyperdrive> {
    let binding = table.required("binding");
    let local = table.string("localConnectionString");
    if table.deploying() {
        return None;
    }
    let variables = VARIABLES.iter().filter_map(|prefix| std::env::var(format!("{prefix}{binding}")).ok());
    let Some(text) = variables.chain(local).next() else {
        let message = format!(
            "When developing locally, you should use a local Postgres connection string to emulate Hyperdrive \
             functionality for \"{binding}\""
        );
        let help = format!("add \"localConnectionString\", or set {}{binding}", VARIABLES[0]);
        table.error("binding", message, help);
        return None;
    };
    match of_connection_string(&text) {
        Ok(own) => Some(Hyperdrive { binding, ..own }),
        Err(wrong) => {
            let help = "expected postgresql://user:password@host:5432/database, or mysql://…";
            table.error(
                "localConnectionString",
                format!("\"{}\": {wrong}", table.name("localConnectionString")),
                help,
            );
            None
        }
    }
}

/// The texts are wrangler's.
fn of_connection_string(text: &str) -> Result<Hyperdrive, String> {
    let url = Url::parse(text).map_err(|error| format!("it is no URL: {error}"))?;
    let port = match url.scheme() {
        "postgres" | "postgresql" => 5432,
        "mysql" => 3306,
        _ => {
            return Err(
                "Only PostgreSQL-compatible or MySQL-compatible databases are currently supported.".into()
            );
        }
    };
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(
        "You must provide a hostname or IP address in your connection string - e.g. \
         'user:password@database-hostname.example.com:5432/databasename'",
    )?;
    let database = url.path().trim_start_matches('/');
    for (part, what) in [
        (database, "You must provide a database name as the path component - e.g. /postgres"),
        (
            url.username(),
            "You must provide a username - e.g. 'user:password@database.example.com:port/databasename'",
        ),
        (
            url.password().unwrap_or_default(),
            "You must provide a password - e.g. 'user:password@database.example.com:port/databasename'",
        ),
    ] {
        if part.is_empty() {
            return Err(what.to_owned());
        }
    }
    if let Some((name, value)) = url.query_pairs().find(|(name, value)| asks_for_tls(name, value)) {
        return Err(format!(
            "Skep does not speak TLS to a local database yet ({name}={value}): use one without, or a tunnel to it"
        ));
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Ok(Hyperdrive {
        binding: String::new(),
        scheme: url.scheme().to_owned(),
        address: format!("{host}:{}", url.port().unwrap_or(port)),
        user: decoded(url.username()),
        password: decoded(url.password().unwrap_or_default()),
        database: decoded(database),
    })
}

/// Whether a parameter insists on TLS. `prefer` also does without.
fn asks_for_tls(name: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match name.to_ascii_lowercase().as_str() {
        "sslmode" | "ssl-mode" => {
            ["require", "required", "verify-ca", "verify_ca", "verify-full", "verify_identity"]
                .contains(&value.as_str())
        }
        "ssl" => ["true", "1"].contains(&value.as_str()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_where_and_who() {
        let own = of_connection_string("postgresql://us%40er:p%3Aw@db.local/my%20db?sslmode=prefer").unwrap();
        let parts = [&own.scheme, &own.address, &own.user, &own.password, &own.database].map(String::as_str);
        assert_eq!(parts, ["postgresql", "db.local:5432", "us@er", "p:w", "my db"]);
        let address = |text: &str| of_connection_string(text).unwrap().address;
        assert_eq!(address("mysql://a:b@[::1]/d"), "[::1]:3306");
        assert_eq!(address("postgres://a:b@127.0.0.1:1234/d"), "127.0.0.1:1234");
    }

    #[test]
    fn what_is_missing_or_cannot_be_is_told() {
        for (text, says) in [
            ("http://a:b@h/d", "Only PostgreSQL-compatible"),
            ("postgres://h/d", "You must provide a username"),
            ("postgres://a@h/d", "You must provide a password"),
            ("postgres://a:b@h", "You must provide a database name"),
            ("postgres:///d", "You must provide a hostname"),
            ("nothing", "it is no URL"),
            ("postgres://a:b@h/d?sslmode=verify-full", "(sslmode=verify-full)"),
            ("mysql://a:b@h/d?ssl=true", "(ssl=true)"),
        ] {
            let error = of_connection_string(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
