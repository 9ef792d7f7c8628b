//! What it costs a database to keep what it was: `history DIR [SECONDS]`, a few rounds with rotating order.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use skep_d1::{D1Database, D1Store, Param, ResultsFormat, Retention, Statement};
use skep_runtime::Clock;

const ROUNDS: usize = 5;
const FILL: &str = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000) \
    INSERT INTO users SELECT x, 'user ' || x, x % 90 FROM c";
/// Name, writers at once, statements of a call, SQL with one number.
const LOADS: &[(&str, usize, usize, &str)] = &[
    ("insert, 1", 1, 1, "INSERT INTO log (t) VALUES ('a line of text ' || ?)"),
    ("insert, 32", 32, 1, "INSERT INTO log (t) VALUES ('a line of text ' || ?)"),
    ("update, 32", 32, 1, "UPDATE users SET age = age + 1 WHERE id = 1 + ? * 7919 % 20000"),
    ("batch of 50 inserts, 8", 8, 50, "INSERT INTO log (t) VALUES ('a line of text ' || ?)"),
];

/// Clock ticks of this process, of which there are 100 in a second.
fn ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum()
}

async fn run(
    database: &Arc<D1Database>,
    load: &(&str, usize, usize, &'static str),
    time: Duration,
) -> (f64, f64) {
    let (_, writers, statements, sql) = *load;
    let (started, before) = (Instant::now(), ticks());
    let writers = (0..writers).map(|writer| {
        let database = database.clone();
        async move {
            let mut calls = 0usize;
            while started.elapsed() < time {
                let number = Param::Number((writer * 1_000_003 + calls) as f64);
                let one = Statement { sql: sql.into(), params: vec![number] };
                if database.run(vec![one; statements], ResultsFormat::Objects).await.is_err() {
                    break;
                }
                calls += 1;
            }
            calls
        }
    });
    let calls: usize = join_all(writers).await.into_iter().sum();
    (calls as f64 / started.elapsed().as_secs_f64(), (ticks() - before) * 10_000.0 / calls as f64)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: history DIR [SECONDS]")?;
    let time = Duration::from_secs_f64(args.next().map_or(Ok(2.0), |n| n.parse())?);
    let plain = D1Store::open(&Path::new(&dir).join("plain"))?;
    let kept =
        D1Store::open_with_history(&Path::new(&dir).join("kept"), Retention::default(), Clock::system())?;
    let mut databases = Vec::new();
    for store in [&plain, &kept] {
        let database = store.database("db")?;
        for sql in [
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, age INTEGER)",
            "CREATE TABLE log (t TEXT)",
            FILL,
        ] {
            database.run(vec![Statement::new(sql)], ResultsFormat::Objects).await?;
        }
        databases.push(database);
    }
    println!(
        "{:24} {:>12} {:>12} {:>7} {:>10} {:>10}",
        "calls/s (CPU us a call)", "without", "with", "ratio", "without", "with"
    );
    for load in LOADS {
        let mut sums = [(0.0, 0.0); 2];
        for round in 0..ROUNDS {
            for turn in 0..2 {
                let which = (turn + round) % 2;
                let (rate, cpu) = run(&databases[which], load, time).await;
                sums[which].0 += rate / ROUNDS as f64;
                sums[which].1 += cpu / ROUNDS as f64;
            }
        }
        let [(plain, plain_cpu), (kept, kept_cpu)] = sums;
        println!(
            "{:24} {plain:>12.0} {kept:>12.0} {:>7.3} {plain_cpu:>10.1} {kept_cpu:>10.1}",
            load.0,
            kept / plain
        );
    }
    let bookmark = databases[1].bookmark();
    drop(databases);
    println!("{bookmark}; {}", kept.tidy()?);
    Ok(())
}
