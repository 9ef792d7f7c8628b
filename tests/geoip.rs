//! Where visitors are, by a database of the operator's.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::serve::{run, serve_in};

const CODE: &str = r#"export default {
  fetch: (request) => Response.json({ cf: request.cf, country: request.headers.get("cf-ipcountry") }),
};"#;

/// A value in the data section of a MaxMind DB; what kind of number it is goes by its name.
/// <https://maxmind.github.io/MaxMind-DB/#output-data-section>
fn field(name: &str, value: &Value, out: &mut Vec<u8>) {
    let head = |kind: u8, size: usize, out: &mut Vec<u8>| {
        let (first, size) = match size {
            0..29 => (size as u8, None),
            _ => (29, Some(u8::try_from(size - 29).unwrap())),
        };
        match kind {
            0..8 => out.push(kind << 5 | first),
            _ => out.extend([first, kind - 7]),
        }
        out.extend(size);
    };
    match value {
        Value::String(text) => {
            head(2, text.len(), out);
            out.extend(text.as_bytes());
        }
        Value::Number(number) if number.is_f64() => {
            head(3, 8, out);
            out.extend(number.as_f64().unwrap().to_be_bytes());
        }
        Value::Number(number) => {
            let (kind, size) = match name {
                "record_size" | "ip_version" | "metro_code" => (5, 2),
                "binary_format_major_version" | "binary_format_minor_version" => (5, 2),
                "build_epoch" => (9, 8),
                _ => (6, 4),
            };
            head(kind, size, out);
            out.extend(&number.as_u64().unwrap().to_be_bytes()[8 - size..]);
        }
        Value::Object(fields) => {
            head(7, fields.len(), out);
            for (name, value) in fields {
                field("", &json!(name), out);
                field(name, value, out);
            }
        }
        Value::Array(all) => {
            head(11, all.len(), out);
            all.iter().for_each(|value| field("", value, out));
        }
        Value::Bool(is) => head(14, usize::from(*is), out),
        Value::Null => panic!("there is no such value"),
    }
}

/// A database that has `entry` for 127.0.0.0/8 and nothing else.
fn database(path: &Path, entry: &Value) {
    const NODES: u32 = 8;
    let mut file = Vec::new();
    for bit in 0..NODES {
        // 127 is a 0 and seven 1s. A record that is as large as the tree leads to nothing, one 16 above it to the first entry.
        let next = if bit == NODES - 1 { NODES + 16 } else { bit + 1 };
        let records = if bit == 0 { [next, NODES] } else { [NODES, next] };
        records.iter().for_each(|record| file.extend(&record.to_be_bytes()[1..]));
    }
    file.extend([0; 16]);
    field("", entry, &mut file);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = json!({
        "node_count": NODES, "record_size": 24, "ip_version": 4, "database_type": "Test", "languages": ["en"],
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1,
        "description": { "en": "Test" },
    });
    field("", &metadata, &mut file);
    std::fs::write(path, file).unwrap();
}

#[test]
fn workers_see_where_a_visitor_is_by_the_operators_databases() {
    let dir = tempfile::tempdir().unwrap();
    let (city, network) = (dir.path().join("city.mmdb"), dir.path().join("asn.mmdb"));
    let place = json!({
        "continent": { "code": "EU" }, "country": { "iso_code": "AT", "is_in_european_union": true, "geoname_id": 1 },
        "subdivisions": [{ "iso_code": "6", "names": { "de": "Steiermark", "en": "Styria" } }, { "iso_code": "x" }],
        "city": { "names": { "en": "Fürstenfeld" } }, "postal": { "code": "8280" },
        "location": { "latitude": 47.05, "longitude": 16.083_333, "metro_code": 7, "time_zone": "Europe/Vienna", "accuracy_radius": 5 },
    });
    database(&city, &place);
    database(
        &network,
        &json!({
            "autonomous_system_number": 64496, "autonomous_system_organization": "Example", "country": { "iso_code": "DE" },
        }),
    );
    let files = [city.to_str().unwrap(), network.to_str().unwrap()];
    let node = serve_in(tempfile::tempdir().unwrap(), &["--geoip", files[0], "--geoip", files[1]]);
    let metadata = json!({ "main_module": "index.js", "compatibility_date": "2026-07-01" });
    assert_eq!(node.upload("where", &metadata, CODE).status, 200);
    let seen: Value = serde_json::from_str(&node.get("where.main.localhost", "/").text()).unwrap();
    assert_eq!(seen["country"], "AT");
    let expected = json!({
        "continent": "EU", "country": "AT", "isEUCountry": "1", "region": "Styria", "regionCode": "6", "city": "Fürstenfeld",
        "postalCode": "8280", "latitude": "47.05000", "longitude": "16.08333", "timezone": "Europe/Vienna", "metroCode": "7",
        "asn": 64496, "asOrganization": "Example", "colo": "LOC",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen["cf"][name], value, "{name} of {seen}");
    }

    let elsewhere = dir.path().join("elsewhere.mmdb");
    database(&elsewhere, &json!({}));
    let node = serve_in(tempfile::tempdir().unwrap(), &["--geoip", elsewhere.to_str().unwrap()]);
    assert_eq!(node.upload("where", &metadata, CODE).status, 200);
    let seen: Value = serde_json::from_str(&node.get("where.main.localhost", "/").text()).unwrap();
    assert_eq!((&seen["country"], &seen["cf"]["country"]), (&json!("XX"), &Value::Null));
}

#[test]
fn a_file_that_is_no_database_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("places.mmdb");
    std::fs::write(&file, "no database").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command
        .args(["serve", "--api", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(dir.path().join("data"));
    let ran = run(command.arg("--geoip").arg(&file));
    assert!(!ran.success);
    let said = format!("{} is no database of addresses that can be read", file.display());
    assert!(ran.text.contains(&said), "{}", ran.text);
}
