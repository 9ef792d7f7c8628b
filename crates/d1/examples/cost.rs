//! What a call costs inside this crate, without socket and engine: `cost DIR [ROWS]`.

use std::path::Path;
use std::time::Instant;

use skep_d1::D1Store;
use skep_wire::Service;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: cost DIR [ROWS]")?;
    let rows: u64 = args.next().map_or(Ok(10_000), |n| n.parse())?;
    let database = D1Store::open(Path::new(&dir))?.database("cost")?;
    let call = |body: String| {
        let request = http::Request::post("http://d1/query?resultsFormat=ROWS_AND_COLUMNS");
        let request = request.body(skep_wire::full(body));
        let database = &database;
        async move { Ok::<_, http::Error>(database.call(request?).await) }
    };
    call(r#"[{"sql":"CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)"},{"sql":"CREATE TABLE log (t TEXT)"}]"#.into()).await?;
    call(format!(r#"{{"sql":"WITH RECURSIVE c(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM c WHERE x < {rows}) INSERT INTO users SELECT x, 'user ' || x, x % 90 FROM c"}}"#)).await?;
    for (name, calls, body) in [
        ("point read", 200_000, r#"{"sql":"SELECT id, name, age FROM users WHERE id = ?","params":[#]}"#),
        ("ten rows", 50_000, r#"{"sql":"SELECT * FROM users WHERE id > ? LIMIT 10","params":[#]}"#),
        (
            "insert, one at a time",
            2_000,
            r#"{"sql":"INSERT INTO log VALUES (?)","params":["a line of text"]}"#,
        ),
    ] {
        let started = Instant::now();
        for i in 0..calls {
            call(body.replace('#', &(i * 7919 % rows).to_string())).await?;
        }
        println!("{name}: {:.2} us", started.elapsed().as_secs_f64() * 1e6 / calls as f64);
    }
    Ok(())
}
