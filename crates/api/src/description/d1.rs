//! D1.

use serde_json::Value as Json;

use super::schema::{
    self, count, either, fields, flag, may, must, named, null, number, object, one_of, opt, pattern, text,
    whole,
};
use super::{About, BYTES, about};

/// What the file of an export or an import is.
const SQL: &str = "application/sql";

pub fn list() -> About {
    about("List databases").query([may("name", text())]).gives_pages_of(named("Database"))
}

pub fn create() -> About {
    about("Create a database")
        .takes_json(object([must("name", pattern("^[A-Za-z0-9_. -]{1,63}$"))]))
        .gives(named("Database"))
}

pub fn get() -> About {
    about("Get a database").gives(named("Database"))
}

pub fn update() -> About {
    let replication = object([may("mode", one_of(&["disabled"]))]);
    about("Change a database")
        .takes_json(object([opt("read_replication", replication)]))
        .gives(named("Database"))
}

pub fn delete() -> About {
    about("Delete a database").gives(fields())
}

fn parameter() -> Json {
    either([null(), number(), text(), flag(), schema::list(whole(0, 255))])
}

fn statement() -> Json {
    object([must("sql", text()), opt("params", schema::list(parameter()))])
}

fn statements() -> Json {
    either([statement(), object([must("batch", schema::list(statement()))])])
}

fn results(results: Json) -> Json {
    schema::list(object([must("success", flag()), must("meta", fields()), must("results", results)]))
}

pub fn query() -> About {
    about("Run SQL: rows as objects").takes_json(statements()).gives(results(schema::list(fields())))
}

pub fn raw() -> About {
    let rows = object([
        must("columns", schema::list(text())),
        must("rows", schema::list(schema::list(schema::any()))),
    ]);
    about("Run SQL: rows as lists").takes_json(statements()).gives(results(rows))
}

pub fn export() -> About {
    let options =
        object([may("no_schema", flag()), may("no_data", flag()), may("tables", schema::list(text()))]);
    let ended = object([must("filename", text()), must("signed_url", text())]);
    about("Export a database as SQL").takes_json(object([opt("dump_options", options)])).gives(object([
        must("success", flag()),
        must("type", one_of(&["export"])),
        must("at_bookmark", text()),
        must("status", one_of(&["complete"])),
        must("result", ended),
    ]))
}

pub fn import() -> About {
    let with_etag = |action: &str| object([must("action", one_of(&[action])), must("etag", text())]);
    let poll = object([must("action", one_of(&["poll"])), opt("current_bookmark", text())]);
    about("Import SQL: say what comes, then take it in")
        .takes_json(either([with_etag("init"), with_etag("ingest"), poll]))
        .gives(object([
            must("success", flag()),
            must("type", one_of(&["import"])),
            may("upload_url", text()),
            may("filename", text()),
            may("at_bookmark", text()),
            may("status", one_of(&["complete"])),
            may("result", object([must("num_queries", count()), must("final_bookmark", text())])),
        ]))
}

pub fn download() -> About {
    about("Read the file of an export").gives_raw(SQL).open()
}

pub fn upload() -> About {
    about("Send the file of an import").takes(BYTES, schema::any()).answers(http::StatusCode::OK, None).open()
}
