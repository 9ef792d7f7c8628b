use std::time::{Duration, Instant};

use proptest::prelude::*;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::*;

/// A connection with ours, and one with SQLite's own.
fn both() -> [Connection; 2] {
    let own = Connection::open_in_memory().unwrap();
    install(&own, 1_000).unwrap();
    let plain = Connection::open_in_memory().unwrap();
    for connection in [&own, &plain] {
        connection.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_LENGTH, 1_000).unwrap();
    }
    [own, plain]
}

/// What a statement gives, or says. Texts need not be UTF-8.
fn asked(connection: &Connection, sql: &str, values: &[Value]) -> Result<(String, Vec<u8>), String> {
    let values = params_from_iter(values);
    let sql = format!("SELECT typeof(x), CAST(x AS BLOB) FROM (SELECT {sql} x)");
    let row = connection
        .prepare_cached(&sql)
        .unwrap()
        .query_row(values, |row| Ok((row.get(0)?, row.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default())));
    row.map_err(|error| error.to_string())
}

/// Pieces of which texts are made that have much in common, some of them no UTF-8.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 16] = [
        b"",
        b"a",
        b"aa",
        b"ab",
        b"1",
        b"F0",
        b" ",
        b"\0",
        "é".as_bytes(),
        "€".as_bytes(),
        "😀".as_bytes(),
        b"\xc3",
        b"\xa9",
        b"\x82",
        b"\xff\xbf",
        b"-1.5",
    ];
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..8).prop_map(|pieces| pieces.concat())
}

/// A value and the SQL that gives it its type: texts of any bytes are bound as BLOBs.
fn value() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        6 => bytes().prop_map(|bytes| ("CAST(? AS TEXT)", Value::Blob(bytes))),
        2 => bytes().prop_map(|bytes| ("?", Value::Blob(bytes))),
        1 => Just(("?", Value::Null)),
        1 => prop::sample::select(&[0, -1, 11, 1123, i64::MIN][..]).prop_map(|n| ("?", Value::Integer(n))),
        1 => prop::sample::select(&[0.0, -1.5, 1e300, 0.1, 11.0, f64::INFINITY][..]).prop_map(|n| ("?", Value::Real(n))),
    ]
}

/// A piece of JSON, mostly objects whose members have names in common.
fn json() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(&["null", "1", "1.0e2", "\"a\\u0062\"", "[1, null]", "{}", "bad", "'é'"][..]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        let name = prop::sample::select(&["\"a\"", "\"b\"", "\"\\u0061\"", "'a'", "c"][..]);
        prop::collection::vec((name, inner), 0..4).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            format!("{{{}}}", members.join(", "))
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn they_give_what_those_of_sqlite_give(values in prop::collection::vec(value(), 3)) {
        let [own, plain] = both();
        for (name, count) in [("replace", 3), ("instr", 2), ("trim", 2), ("ltrim", 2), ("rtrim", 2), ("unhex", 2)] {
            let values = &values[..count];
            let made: Vec<_> = values.iter().map(|(sql, _)| *sql).collect();
            let sql = format!("{name}({})", made.join(", "));
            let values: Vec<_> = values.iter().map(|(_, value)| value.clone()).collect();
            prop_assert_eq!(asked(&own, &sql, &values), asked(&plain, &sql, &values), "{}", sql);
        }
    }

    #[test]
    fn patches_are_those_of_sqlite(document in json(), patch in json()) {
        let [own, plain] = both();
        let values = [Value::Text(document), Value::Text(patch)];
        for sql in ["json_patch(?, ?)", "jsonb_patch(?, ?)", "json_array(json_patch(?, ?))", "jsonb_patch(jsonb(?), jsonb(?))"] {
            prop_assert_eq!(asked(&own, sql, &values), asked(&plain, sql, &values), "{}", sql);
        }
    }
}

#[test]
fn what_is_too_long_is_refused_as_by_sqlite() {
    let [own, plain] = both();
    for (text, by) in [(400, 3), (500, 2), (501, 2), (999, 1)] {
        let values = ["a".repeat(text), "b".repeat(by)].map(Value::Text);
        let sql = "replace(?, 'a', ?)";
        assert_eq!(asked(&own, sql, &values), asked(&plain, sql, &values), "{text} {by}");
    }
    assert!(asked(&own, "replace(?, 'a', 'bb')", &[Value::Text("a".repeat(501))]).is_err());
}

/// The longest that a call takes which is as large as D1 lets it be. SQLite's own take from half a minute to days.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn the_largest_values_take_a_moment() {
    let most = usize::try_from(crate::session::LENGTH).unwrap();
    let connection = Connection::open_in_memory().unwrap();
    install(&connection, most).unwrap();
    let zeros = "0".repeat(most / 2);
    let needle = format!("{}1", "0".repeat(most / 4));
    let signs: String = (0x1000..0xd000).chain(0x1_0000..0x6_0000).filter_map(char::from_u32).collect();
    let last = signs.chars().next_back().unwrap().to_string().repeat(most / 4);
    // Beginnings of one another, and a text that none of them is.
    let runs: Vec<u8> = (1..1_500).flat_map(|long| [&[0xc3][..], &vec![0x80; long]].concat()).collect();
    let run = [&[0xc3][..], &vec![0x80; 1_500]].concat().repeat(1_000);
    let text = |text: &str| Value::Text(text.to_owned());
    for (sql, values) in [
        ("replace(?1, ?2, '')", vec![text(&zeros), text(&needle)]),
        ("instr(?1, ?2)", vec![text(&zeros), text(&needle)]),
        ("trim(?1, ?2)", vec![text(&last), text(&signs)]),
        ("ltrim(?1, ?2)", vec![text(&last), text(&signs)]),
        ("rtrim(?1, ?2)", vec![text(&last), text(&signs)]),
        ("trim(?1, ?2)", vec![Value::Blob(run.clone()), Value::Blob(runs.clone())]),
        ("rtrim(?1, ?2 || char(128))", vec![Value::Blob(run), Value::Blob(runs)]),
        ("unhex(?1, ?2)", vec![text(&last), text(&signs)]),
    ] {
        let start = Instant::now();
        asked(&connection, sql, &values).unwrap();
        assert!(start.elapsed() < LONGEST, "{sql}: {:?}", start.elapsed());
    }
}

#[test]
fn a_patch_that_would_take_a_minute_is_refused_at_once() {
    let connection = Connection::open_in_memory().unwrap();
    install(&connection, 2_000_000).unwrap();
    let members = |count: usize, name: &str| {
        let members: Vec<_> = (0..count).map(|n| format!("\"{name}{n}\":1")).collect();
        Value::Text(format!("{{{}}}", members.join(",")))
    };
    let start = Instant::now();
    let patch = |document, patch| asked(&connection, "json_patch(?, ?)", &[document, patch]);
    let refused = patch(members(60_000, "a"), members(60_000, "b")).unwrap_err();
    assert!(refused.contains("exceeded timeout"), "{refused}");
    let refused =
        asked(&connection, "jsonb_patch(jsonb(?), jsonb(?))", &[members(60_000, "a"), members(60_000, "b")]);
    assert!(refused.is_err());
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
    // What does not compare much may be as long.
    let long = Value::Text(format!("{{\"a\":\"{}\"}}", "x:".repeat(400_000)));
    assert!(patch(long.clone(), members(100, "b")).is_ok());
    assert!(patch(members(60_000, "a"), members(100, "b")).is_ok());
}
