//! Aggregates that SQLite lacks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Result};

use super::output::json;
use super::scalar::wrong;

/// Bytes that the aggregates of a query may hold.
const HOLDS: usize = 64 << 20;

/// What the aggregates of a query hold together, in bytes.
type Held = Arc<AtomicUsize>;

/// Makes the aggregates known to a connection, which is for one query.
pub(crate) fn register(db: &Connection) -> Result<()> {
    let (held, flags) = (Held::default(), FunctionFlags::SQLITE_UTF8);
    db.create_aggregate_function("ae_quantile", 3, flags, Quantile(held.clone()))?;
    db.create_aggregate_function("ae_top", 3, flags, Top(held))?;
    for (name, better) in [("ae_argmax", 1), ("ae_argmin", -1), ("ae_first", 0), ("ae_last", 2)] {
        db.create_aggregate_function(name, 2, flags, Arg(better))?;
    }
    Ok(())
}

fn hold(held: &Held, bytes: usize) -> Result<()> {
    match held.fetch_add(bytes, Ordering::Relaxed) + bytes > HOLDS {
        true => {
            Err(wrong("the query needs too much memory: it has too many values to tell apart or to sort"))
        }
        false => Ok(()),
    }
}

fn number(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Integer(value) => Some(value as f64),
        ValueRef::Real(value) => Some(value),
        _ => None,
    }
}

/// `ae_quantile(level, value, weight)`: the first value, in order, up to which that part of the weight lies.
struct Quantile(Held);

#[derive(Default)]
struct Weighed {
    level: f64,
    values: Vec<(f64, f64)>,
}

impl Aggregate<Weighed, Option<f64>> for Quantile {
    fn init(&self, _: &mut Context<'_>) -> Result<Weighed> {
        Ok(Weighed::default())
    }

    fn step(&self, c: &mut Context<'_>, all: &mut Weighed) -> Result<()> {
        all.level = number(c.get_raw(0)).unwrap_or_default();
        if let (Some(value), Some(weight)) = (number(c.get_raw(1)), number(c.get_raw(2))) {
            hold(&self.0, 16)?;
            all.values.push((value, weight));
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, all: Option<Weighed>) -> Result<Option<f64>> {
        let Some(Weighed { level, mut values }) = all else { return Ok(None) };
        values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = (values.iter().map(|(_, weight)| weight).sum::<f64>() * level).ceil();
        let mut weight = 0.0;
        let reached = values.iter().find(|(_, more)| {
            weight += more;
            weight >= wanted
        });
        Ok(reached.or(values.last()).map(|(value, _)| *value))
    }
}

/// `ae_top(n, value, weight)`: the values with the most weight, the heaviest first, as JSON.
struct Top(Held);

#[derive(Default)]
struct Counted {
    most: i64,
    values: HashMap<Key, f64>,
}

/// A value that can be told from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Integer(i64),
    /// The bits of a double.
    Real(u64),
    Text(String),
}

impl Aggregate<Counted, String> for Top {
    fn init(&self, _: &mut Context<'_>) -> Result<Counted> {
        Ok(Counted::default())
    }

    fn step(&self, c: &mut Context<'_>, all: &mut Counted) -> Result<()> {
        all.most = c.get(0)?;
        let key = match c.get_raw(1) {
            ValueRef::Null => return Ok(()),
            ValueRef::Integer(value) => Key::Integer(value),
            ValueRef::Real(value) => Key::Real(value.to_bits()),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                Key::Text(String::from_utf8_lossy(text).into_owned())
            }
        };
        let weight = number(c.get_raw(2)).unwrap_or_default();
        if let Some(sum) = all.values.get_mut(&key) {
            *sum += weight;
            return Ok(());
        }
        hold(&self.0, 64 + if let Key::Text(text) = &key { text.len() } else { 0 })?;
        all.values.insert(key, weight);
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, all: Option<Counted>) -> Result<String> {
        let Counted { most, values } = all.unwrap_or_default();
        let mut values: Vec<(Key, f64)> = values.into_iter().collect();
        values.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        values.truncate(usize::try_from(most).unwrap_or_default());
        let shown: Vec<String> = values
            .into_iter()
            .map(|(key, _)| match key {
                Key::Integer(value) => value.to_string(),
                Key::Real(bits) => json(ValueRef::Real(f64::from_bits(bits))),
                Key::Text(text) => json(ValueRef::Text(text.as_bytes())),
            })
            .collect();
        Ok(format!("[{}]", shown.join(",")))
    }
}

/// `ae_argmax(value, by)` and its like: a value of the row with the largest (1) or smallest (−1) `by`, or of the first (0) or
/// last (2) row.
struct Arg(i8);

impl Aggregate<Option<(Value, Value)>, Value> for Arg {
    fn init(&self, _: &mut Context<'_>) -> Result<Option<(Value, Value)>> {
        Ok(None)
    }

    fn step(&self, c: &mut Context<'_>, best: &mut Option<(Value, Value)>) -> Result<()> {
        let by: Value = c.get(1)?;
        let better = match (&*best, self.0) {
            (None, _) | (_, 2) => true,
            (_, 0) => false,
            (Some((_, top)), 1) => order(&by, top).is_gt(),
            (Some((_, top)), _) => order(&by, top).is_lt(),
        };
        if better {
            *best = Some((c.get(0)?, by));
        }
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, best: Option<Option<(Value, Value)>>) -> Result<Value> {
        Ok(best.flatten().map_or(Value::Null, |(value, _)| value))
    }
}

fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (a, b) => {
            let of = |value: &Value| number(ValueRef::from(value)).unwrap_or(f64::NEG_INFINITY);
            of(a).total_cmp(&of(b))
        }
    }
}
