use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::point::{COLUMNS, Point};
use crate::{AnalyticsStore, rows};

/// 2025-11-01 12:00:00.
const NOW: i64 = 1_761_998_400;

/// A database with readings: city, unit, temperature, minutes before [`NOW`].
fn readings(points: &[(&str, &str, f64, i64)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    drop(AnalyticsStore::open(dir.path()).unwrap());
    let file = dir.path().join("analytics.sqlite");
    let mut db = Connection::open(&file).unwrap();
    let t = db.transaction().unwrap();
    for (city, unit, temperature, minutes) in points {
        let mut point = Point {
            timestamp: (NOW - minutes * 60) * 1_000_000_000 + 5,
            index1: city.as_bytes().to_vec(),
            blobs: [const { None }; COLUMNS],
            doubles: [0.0; COLUMNS],
        };
        point.blobs[0] = Some(city.as_bytes().to_vec());
        point.blobs[1] = Some(unit.as_bytes().to_vec()).filter(|unit| !unit.is_empty());
        point.doubles[0] = *temperature;
        rows::add(&t, "weather", &point).unwrap();
    }
    t.commit().unwrap();
    (dir, file)
}

const POINTS: &[(&str, &str, f64, i64)] = &[
    ("Oslo", "c", 4.5, 10),
    ("Oslo", "c", 6.5, 70),
    ("Rome", "c", 21.0, 10),
    ("Rome", "f", 68.0, 130),
    ("it's", "", f64::NAN, 1500),
];

fn ask(query: &str) -> Result<Json, String> {
    let (_dir, file) = readings(POINTS);
    let answered = answer(&file, query, NOW).map_err(|e| e.to_string())?;
    assert_eq!(answered.format, Format::Json);
    Ok(serde_json::from_str(&answered.body).unwrap())
}

/// The rows of an answer, each an array.
fn rows_of(query: &str) -> Json {
    let answer = ask(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let names: Vec<&str> =
        answer["meta"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    let row = |row: &Json| names.iter().map(|name| row[name].clone()).collect::<Json>();
    answer["data"].as_array().unwrap().iter().map(row).collect()
}

/// The only value of an answer.
fn one(expression: &str) -> Json {
    rows_of(&format!("SELECT {expression} AS x"))[0][0].clone()
}

fn kind(expression: &str) -> String {
    ask(&format!("SELECT {expression} AS x FROM weather")).unwrap()["meta"][0]["type"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_answer_is_as_documented() {
    let hello = ask("SELECT 'Hello Workers Analytics Engine' AS message").unwrap();
    assert_eq!(
        hello,
        json!({ "meta": [{ "name": "message", "type": "String" }], "data": [{ "message": "Hello Workers Analytics Engine" }], "rows": 1 })
    );
    let (_dir, file) = readings(POINTS);
    let text = |query: &str| answer(&file, query, NOW).unwrap();
    let lines =
        text("SELECT blob1, double1 FROM weather ORDER BY timestamp, blob1 LIMIT 2 FORMAT JSONEachRow");
    assert_eq!(lines.body, "{\"blob1\":\"it's\",\"double1\":null}\n{\"blob1\":\"Rome\",\"double1\":68}\n");
    let tabs = text(
        "SELECT 'a\tb', timestamp, count() FROM weather GROUP BY timestamp ORDER BY 2 LIMIT 1 FORMAT TabSeparated",
    );
    assert_eq!(tabs.body, "a\\tb\t2025-10-31 11:00:00\t1\n");
    assert_eq!(text("show tables format JSONEachRow;").body, "{\"dataset\":\"weather\"}\n");
    assert_eq!(
        text("SHOW TIMEZONE").body,
        r#"{"meta":[{"name":"timezone","type":"String"}],"data":[{"timezone":"Etc/UTC"}],"rows":1}"#
    );
    assert!(text("SHOW TIMEZONES").body.contains("\"Europe/Oslo\""));
    let all = ask("SELECT * FROM weather LIMIT 1").unwrap();
    assert_eq!(all["meta"].as_array().unwrap().len(), 44);
    assert_eq!(all["rows_before_limit_at_least"], 1);
    assert_eq!(all["meta"][1], json!({ "name": "timestamp", "type": "DateTime" }));
    assert_eq!(rows_of("SELECT * FROM nothing"), json!([]));
}

#[test]
fn cloudflares_examples_are_answered() {
    assert_eq!(
        rows_of("SELECT blob1 AS city, SUM(_sample_interval * double1) / SUM(_sample_interval) AS average_temp FROM weather
                 WHERE timestamp > NOW() - INTERVAL '1' DAY GROUP BY city ORDER BY city"),
        json!([["Oslo", 5.5], ["Rome", 44.5]])
    );
    assert_eq!(
        rows_of("SELECT intDiv(toUInt32(timestamp), 3600) * 3600 AS t, blob1 AS label, count() FROM weather
                 WHERE timestamp <= NOW() AND timestamp > NOW() - INTERVAL '1' DAY GROUP BY blob1, t ORDER BY t, label"),
        json!([["1761987600", "Rome", "1"], ["1761991200", "Oslo", "1"], ["1761994800", "Oslo", "1"], ["1761994800", "Rome", "1"]])
    );
    assert_eq!(
        rows_of("SELECT toStartOfInterval(timestamp, INTERVAL '1' HOUR) AS hour, sum(_sample_interval) AS count FROM weather
                 GROUP BY hour ORDER BY hour ASC LIMIT 2"),
        json!([["2025-10-31 11:00:00", "1"], ["2025-11-01 09:00:00", "1"]])
    );
    assert_eq!(
        rows_of("SELECT probe_name, num_readings FROM (SELECT blob1 AS probe_name, count() as num_readings FROM weather GROUP BY probe_name)
                 WHERE num_readings > 1 ORDER BY probe_name DESC"),
        json!([["Rome", "2"], ["Oslo", "2"]])
    );
    assert_eq!(
        rows_of(
            "SELECT blob1 AS city, avg(double1) AS avg_temp, count() AS readings FROM weather GROUP BY city
                 HAVING avg_temp > 20 AND readings >= 2"
        ),
        json!([["Rome", 44.5, "2"]])
    );
    assert_eq!(
        rows_of("SELECT count() FROM weather WHERE if(blob2 = 'f', (double1-32)/1.8, double1) <= 20"),
        json!([["3"]])
    );
    assert_eq!(rows_of("SELECT first_value(blob1) FROM weather ORDER BY timestamp ASC"), json!([["it's"]]));
    assert_eq!(rows_of("SELECT last_value(double1) FROM weather ORDER BY timestamp DESC"), json!([[null]]));
    assert_eq!(rows_of("SELECT first_value(double1) FROM weather ORDER BY double1 DESC"), json!([[68]]));
}

#[test]
fn aggregates_are_those_of_clickhouse() {
    let aggregate = |expression: &str| {
        rows_of(&format!("SELECT {expression} FROM weather WHERE blob1 != 'it''s'"))[0][0].clone()
    };
    assert_eq!(aggregate("quantileExactWeighted(0.5)(double1, _sample_interval)"), 6.5);
    assert_eq!(aggregate("QUANTILEWEIGHTED(0.95, double1, _sample_interval)"), 68);
    assert_eq!(aggregate("argMax(blob1, double1)"), "Rome");
    assert_eq!(aggregate("argMin(timestamp, double1)"), "2025-11-01 11:50:00");
    assert_eq!(aggregate("topK(1)(blob2)"), json!(["c"]));
    assert_eq!(aggregate("topK(blob1)"), json!(["Oslo", "Rome"]));
    assert_eq!(aggregate("topKWeighted(blob1, double1)"), json!(["Rome", "Oslo"]));
    assert_eq!(aggregate("topKWeighted(2)(double1, _sample_interval)"), json!([4.5, 6.5]));
    assert_eq!(aggregate("count(DISTINCT blob1)"), "2");
    assert_eq!(aggregate("countIf(double1 > 6)"), "3");
    assert_eq!(aggregate("sumIf(double1, blob1 = 'Oslo')"), 11);
    assert_eq!(
        aggregate("avgIf(double1, blob2 = 'c')").as_f64().map(|x| (x * 1000.0).round()),
        Some(10_667.0)
    );
    assert_eq!(aggregate("max(timestamp)"), "2025-11-01 11:50:00");
    assert_eq!(aggregate("sum(DISTINCT _sample_interval)"), "1");
    assert_eq!(
        rows_of("SELECT count(*), sum(double1), max(blob1), topK(blob1) FROM nothing"),
        json!([["0", 0, "", []]])
    );
    for (expression, name) in [
        ("count()", "UInt64"),
        ("sum(_sample_interval)", "UInt64"),
        ("sum(double1)", "Float64"),
        ("min(blob1)", "String"),
        ("topK(timestamp)", "Array(DateTime)"),
        ("max(toStartOfDay(timestamp))", "DateTime"),
        ("avg(_sample_interval)", "Float64"),
    ] {
        assert_eq!(kind(expression), name, "{expression}");
    }
}

#[test]
fn functions_and_operators_are_those_of_the_reference() {
    for (expression, value) in [
        (
            "formatDateTime(toDateTime('2022-12-01 16:17:00', 'America/New_York'), '%Y-%m-%d %H')",
            json!("2022-12-01 16"),
        ),
        (
            "formatDateTime(toDateTime('2022-12-01 23:17:00', 'America/New_York'), '%Y-%m-%d', 'Etc/UTC')",
            json!("2022-12-02"),
        ),
        ("toDateTime(355924804)", json!("1981-04-12 12:00:04")),
        ("toDateTime('355924804')", json!("1981-04-12 12:00:04")),
        ("toDateTime(355924804, 'Europe/Berlin')", json!("1981-04-12 14:00:04")),
        ("now()", json!("2025-11-01 12:00:00")),
        ("today()", json!("2025-11-01")),
        ("toYear(now())", json!(2025)),
        ("toMonth(now())", json!(11)),
        ("toDayOfWeek(toDateTime('2025-11-02 00:00:00'))", json!(7)),
        ("toYYYYMM(now())", json!(202_511)),
        ("toUnixTimestamp(now())", json!(NOW)),
        ("toStartOfInterval(now(), INTERVAL '15' MINUTE)", json!("2025-11-01 12:00:00")),
        (
            "toStartOfInterval(toDateTime('2025-11-01 02:00:00'), INTERVAL '1' DAY, 'America/New_York')",
            json!("2025-10-31 00:00:00"),
        ),
        ("toStartOfWeek(toDateTime('2025-10-29 00:00:00'))", json!("2025-10-27 00:00:00")),
        ("toStartOfTenMinutes(toDateTime('2025-10-27 16:55:25'))", json!("2025-10-27 16:50:00")),
        ("toStartOfFifteenMinutes(toDateTime('2025-10-27 16:55:25'))", json!("2025-10-27 16:45:00")),
        ("toStartOfMonth(toDateTime('2025-10-27 00:00:00'))", json!("2025-10-01 00:00:00")),
        ("now() - INTERVAL '1' MONTH", json!("2025-10-01 12:00:00")),
        ("now() + INTERVAL '2' YEAR", json!("2027-11-01 12:00:00")),
        ("now() - toDateTime('2025-11-01 11:59:50')", json!(10)),
        ("now() > '2025-11-01 11:00:00'", json!(1)),
        ("extract(SECOND from toDateTime('2022-06-06 11:30:15'))", json!(15)),
        ("length('naïve')", json!("5")),
        ("empty('')", json!(1)),
        ("lower('ÀB')", json!("Àb")),
        ("lowerUTF8('ÀB')", json!("àb")),
        ("toUpper('straße')", json!("STRASSE")),
        ("startsWith('prefix ...', 'prefix')", json!(1)),
        ("endsWith('prefix suffix', 'prefix')", json!(0)),
        ("position(':' IN 'hello: world')", json!("6")),
        ("substring('hello world', 6)", json!(" world")),
        ("substring('hello: world', 1, position(':' IN 'hello: world')-1)", json!("hello")),
        ("format('a {} b {}', 'x', now())", json!("a x b 2025-11-01 12:00:00")),
        ("'a.JPG' ILIKE '%.jpg'", json!(1)),
        ("'a.JPG' LIKE '%.jpg'", json!(0)),
        ("'log12' NOT LIKE 'log__'", json!(0)),
        ("2 IN (1, 2)", json!(1)),
        ("'c' NOT IN ('a', 'b')", json!(1)),
        ("5 BETWEEN 1 AND 5", json!(1)),
        ("NOT (1 = 1 AND 2 > 3)", json!(1)),
        ("7 / 2", json!(3.5)),
        ("intDiv(7, 2)", json!(3)),
        ("7 % 4", json!(3)),
        ("-42", json!(-42)),
        ("true", json!(1)),
        ("log(1)", json!(0)),
        ("pow(3, 2)", json!(9)),
        ("round(5.5)", json!(6)),
        ("round(3.14, 1)", json!(3.1)),
        ("floor(5.5)", json!(5)),
        ("floor(3.14, 1)", json!(3.1)),
        ("ceil(3.14, 1)", json!(3.2)),
        ("bitAnd(1, 3)", json!(1)),
        ("bitHammingDistance(3, 0)", json!(2)),
        ("bitNot(1)", json!(254)),
        ("bitXor(1, 2)", json!(3)),
        ("bitRotateLeft(128, 1)", json!(1)),
        ("bitRotateRight(12, 2)", json!(3)),
        ("bitShiftLeft(128, 1)", json!(0)),
        ("bitTest(3, 1)", json!(1)),
        ("bitCount(toUInt32(7.9))", json!(3)),
        ("bin(1)", json!("00000001")),
        ("hex('abc')", json!("616263")),
        ("hex(258)", json!("0102")),
        ("toUInt8(257)", json!(1)),
        ("toUInt32('42')", json!(42)),
        ("if(2 > 1, 'warm', 'cold')", json!("warm")),
    ] {
        assert_eq!(one(expression), value, "{expression}");
    }
}

#[test]
fn names_mean_the_columns_of_the_result_first() {
    assert_eq!(
        rows_of(
            "SELECT double1 * 2 AS double1, double1 + 1 AS more FROM weather WHERE double1 > 40 ORDER BY double1"
        ),
        json!([[42, 43], [136, 137]])
    );
    assert_eq!(
        rows_of(
            "SELECT toStartOfDay(timestamp) AS timestamp, count() FROM weather GROUP BY timestamp ORDER BY timestamp"
        ),
        json!([["2025-10-31 00:00:00", "1"], ["2025-11-01 00:00:00", "4"]])
    );
    assert_eq!(rows_of("SELECT blob1 AS `a city` FROM weather WHERE blob1 = 'it\\'s'"), json!([["it's"]]));
    assert_eq!(rows_of("SELECT DISTINCT blob2 FROM weather ORDER BY 1 LIMIT 1 OFFSET 1"), json!([["c"]]));
}

#[test]
fn what_is_not_understood_is_said() {
    for (query, error) in [
        ("", "Input was invalid: the query is empty"),
        ("SELECT", "Input was invalid: "),
        ("SELECT nothing FROM weather", "unable to find type of column: nothing"),
        ("SELECT coalesce(blob1, '') FROM weather", "unknown function call: coalesce"),
        ("SELECT CASE WHEN 1 = 1 THEN 1 ELSE 2 END", "unsupported expression type: CASE WHEN"),
        ("SELECT a FROM weather JOIN other", "JOIN is not supported"),
        ("SELECT 1 UNION ALL SELECT 2", "without UNION"),
        ("DELETE FROM weather", "only SELECT and SHOW are supported"),
        ("DROP TABLE points", "only SELECT and SHOW are supported"),
        ("SELECT 1; SELECT 2", "only one statement"),
        ("SELECT 1 FORMAT CSV", "unsupported format: CSV"),
        ("SHOW GRANTS", "unsupported statement"),
        ("SHOW TABLES LIKE 'x'", "unexpected text"),
        ("SELECT blob1, count() FROM weather", "column blob1 is not under aggregate function"),
        ("SELECT blob2 FROM weather GROUP BY blob1", "column blob2 is not under aggregate function"),
        ("SELECT count() FROM weather WHERE count() > 1", "not allowed in WHERE"),
        ("SELECT sum(count()) FROM weather", "aggregate function in the arguments"),
        ("SELECT blob1 > 1 FROM weather", "cannot compare String with UInt8"),
        ("SELECT blob1 + 1 FROM weather", "cannot calculate String + UInt8"),
        ("SELECT toDateTime('yesterday')", "a time is none"),
        ("SELECT toDateTime('2025-01-01 00:00:00', 'Mars/Olympus')", "unknown time zone: Mars/Olympus"),
        ("SELECT if(1, 'a', 2)", "if has two types of results"),
        ("SELECT round()", "round takes 1 to 2 arguments, not 0"),
        ("SELECT quantileExactWeighted(2)(double1, double2) FROM weather", "a level from 0 to 1"),
        ("SELECT format('{}')", "more {} than arguments"),
        ("SELECT 1 FROM sqlite_schema.points", "a name of one part"),
        ("SELECT (SELECT 1)", "unsupported expression type"),
        ("SELECT load_extension('x')", "unknown function call: load_extension"),
        ("SELECT a AS b, b AS a FROM weather", "unable to find type of column"),
        ("SELECT blob1 LIMIT 1 BY blob1", "Input was invalid: "),
    ] {
        let said = ask(query).unwrap_err();
        assert!(said.starts_with("Input was invalid: ") && said.contains(error), "{query}: {said}");
    }
    // A dataset is a value, not a name of SQLite's.
    assert_eq!(rows_of("SELECT count() FROM points"), json!([["0"]]));
    assert_eq!(rows_of("SELECT count() FROM `x'; DROP TABLE points; --`"), json!([["0"]]));
}

#[test]
fn a_query_has_its_limits() {
    let doubling: String = (1..40).map(|n| format!(", x{} + x{} AS x{n}", n - 1, n - 1)).collect();
    let said = ask(&format!("SELECT 1 AS x0{doubling}")).unwrap_err();
    assert!(said.contains("too complicated"), "{said}");
    let said = ask(&format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))).unwrap_err();
    assert!(said.contains("recursion limit"), "{said}");
    let said = ask(&format!("SELECT 1{}", "+1".repeat(3000))).unwrap_err();
    assert!(said.starts_with("Input was invalid: "), "{said}");
    let said = ask(&format!("SELECT '{}'", "x".repeat(300_000))).unwrap_err();
    assert!(said.contains("longer than"), "{said}");

    let many: Vec<(String, &str, f64, i64)> =
        (0..3000).map(|n| (format!("city {n}"), "c", f64::from(n), 1)).collect();
    let many: Vec<(&str, &str, f64, i64)> =
        many.iter().map(|(city, unit, t, m)| (city.as_str(), *unit, *t, *m)).collect();
    let (_dir, file) = readings(&many);
    let text = "x".repeat(15_000);
    let long = format!("SELECT format('{{}}{text}', blob1) AS x FROM weather");
    let said = answer(&file, &long, NOW).unwrap_err().to_string();
    assert_eq!(said, "Query exceeded a limit: the answer is longer than 32 MiB");
    let top = format!("SELECT topK(format('{{}}{{}}', blob1, '{text}{text}')) FROM weather");
    let said = answer(&file, &top, NOW).unwrap_err().to_string();
    assert!(said.contains("too much memory"), "{said}");
}

#[test]
fn points_are_found_by_their_time() {
    let query = |sql: &str| {
        let (Statement::Select(query), _) = statement::parse(sql).unwrap() else { panic!("{sql}") };
        select::translate(&query, NOW).unwrap().sql
    };
    let sql = query(
        "SELECT blob1 FROM weather WHERE timestamp > now() - INTERVAL '1' DAY AND (timestamp <= '2025-11-01 00:00:00' AND blob1 = 'x')",
    );
    let (_dir, file) = readings(POINTS);
    let db = open(&file).unwrap();
    let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let steps: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert!(
        steps.iter().any(|step| step.contains("points_by_time (dataset=? AND timestamp>? AND timestamp<?)")),
        "{steps:?}"
    );
    // Not where the name means something else, or the other side is no constant.
    for other in [
        "SELECT double1 AS timestamp FROM weather WHERE timestamp > 5",
        "SELECT 1 FROM weather WHERE timestamp > double1",
    ] {
        assert!(!query(other).contains("p.timestamp"), "{other}");
    }
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("blob1".to_owned()),
        Just("double1".to_owned()),
        Just("timestamp".to_owned()),
        Just("'text'".to_owned()),
        Just("'2025-01-01'".to_owned()),
        Just("now()".to_owned()),
        (-5..300i64).prop_map(|n| n.to_string()),
        Just("INTERVAL '2' MONTH".to_owned()),
        Just("1.5".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let functions = [
            "if",
            "length",
            "round",
            "toStartOfDay",
            "bitShiftLeft",
            "bitRotateLeft",
            "hex",
            "format",
            "substring",
            "toDateTime",
            "sum",
            "topK",
            "argMax",
            "toUInt8",
            "pow",
            "intDiv",
            "toYear",
            "toStartOfInterval",
            "formatDateTime",
            "max",
        ];
        prop_oneof![
            (inner.clone(), "[-+*/%<>=]| AND | LIKE | IN ", inner.clone())
                .prop_map(|(a, op, b)| format!("({a}{op}{b})")),
            (proptest::sample::select(functions.to_vec()), proptest::collection::vec(inner, 0..4))
                .prop_map(|(name, args)| format!("{name}({})", args.join(", "))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What is taken is SQL that SQLite takes, and no query makes anything panic.
    #[test]
    fn whatever_is_asked_is_answered_or_refused(expression in expression(), group: bool) {
        let tail = if group { " GROUP BY x ORDER BY x" } else { " ORDER BY x LIMIT 3" };
        if let Err(said) = ask(&format!("SELECT {expression} AS x FROM weather{tail}")) {
            prop_assert!(said.starts_with("Input was invalid: ") && !said.contains("syntax error") && !said.contains("no such"), "{}: {}", expression, said);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(SELECT|SHOW|FROM|WHERE|[a-z0-9'\"`(),.*; \\-])( |[a-z0-9'\"`(),.*;\\-]{0,3}| FROM weather | WHERE | GROUP BY |INTERVAL ){0,20}") {
        let _ = ask(&text);
    }
}
