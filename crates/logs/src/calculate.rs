//! Calculations over events: counts, sums, percentiles. Pure.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value as Json;

use crate::field::get;
use crate::filter::kind_named;
use crate::query::{BadQuery, bad};

/// The names of all calculations, those from before included.
pub const CALCULATIONS: [&str; 38] = [
    "uniq",
    "count",
    "max",
    "min",
    "sum",
    "avg",
    "median",
    "p001",
    "p01",
    "p05",
    "p10",
    "p25",
    "p75",
    "p90",
    "p95",
    "p99",
    "p999",
    "stddev",
    "variance",
    "COUNT_DISTINCT",
    "COUNT",
    "MAX",
    "MIN",
    "SUM",
    "AVG",
    "MEDIAN",
    "P001",
    "P01",
    "P05",
    "P10",
    "P25",
    "P75",
    "P90",
    "P95",
    "P99",
    "P999",
    "STDDEV",
    "VARIANCE",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Count,
    Uniq,
    Max,
    Min,
    Sum,
    Avg,
    Stddev,
    Variance,
    /// A share of the values is not above it.
    Percentile(f64),
}

/// Something to calculate.
#[derive(Clone, Debug)]
pub struct Calculation {
    operator: Operator,
    /// As it was asked for.
    pub(crate) name: String,
    pub(crate) alias: Option<String>,
    key: Option<String>,
}

impl Calculation {
    pub(crate) fn read(calculation: &Json) -> Result<Self, BadQuery> {
        let name = calculation["operator"].as_str().unwrap_or_default();
        let operator = match name.to_ascii_lowercase().as_str() {
            _ if !CALCULATIONS.contains(&name) => {
                return bad(format!(
                    "the operator {name:?} of a calculation is not one of {}",
                    CALCULATIONS.join(", ")
                ));
            }
            "count" => Operator::Count,
            "uniq" | "count_distinct" => Operator::Uniq,
            "max" => Operator::Max,
            "min" => Operator::Min,
            "sum" => Operator::Sum,
            "avg" => Operator::Avg,
            "stddev" => Operator::Stddev,
            "variance" => Operator::Variance,
            "median" => Operator::Percentile(0.5),
            percentile => {
                let digits = percentile.trim_start_matches('p');
                Operator::Percentile(match digits {
                    "001" => 0.001,
                    "999" => 0.999,
                    _ => digits.parse::<f64>().unwrap_or(50.0) / 100.0,
                })
            }
        };
        let key = match &calculation["key"] {
            Json::Null => None,
            Json::String(key) => Some(key.clone()).filter(|key| !key.is_empty()),
            _ => return bad("the key of a calculation must be a string"),
        };
        if key.is_none() && operator != Operator::Count {
            return bad(format!("the calculation {name} needs a key"));
        }
        if !calculation["keyType"].is_null() {
            kind_named(&calculation["keyType"], "the keyType of a calculation")?;
        }
        let alias = match &calculation["alias"] {
            Json::Null => None,
            Json::String(alias) => Some(alias.clone()),
            _ => return bad("the alias of a calculation must be a string"),
        };
        Ok(Self { operator, name: name.to_owned(), alias, key })
    }

    /// Whether `name` means it in an order or a condition.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.alias.as_deref() == Some(name) || self.name.eq_ignore_ascii_case(name)
    }
}

/// What was seen of one calculation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Events that counted.
    pub count: u64,
    mean: f64,
    squares: f64,
    sum: f64,
    least: Option<f64>,
    most: Option<f64>,
    values: Vec<f64>,
    distinct: HashSet<u64>,
}

impl Tally {
    pub fn add(&mut self, calculation: &Calculation, event: &Json) {
        let value = match &calculation.key {
            None => {
                self.count += 1;
                return;
            }
            Some(key) => get(event, key).filter(|value| !value.is_null()),
        };
        let Some(value) = value else { return };
        match calculation.operator {
            Operator::Count => self.count += 1,
            Operator::Uniq => {
                self.count += 1;
                let mut hasher = DefaultHasher::new();
                value.to_string().hash(&mut hasher);
                self.distinct.insert(hasher.finish());
            }
            operator => {
                let Some(number) = value.as_f64() else { return };
                self.count += 1;
                // Welford's way keeps the variance exact where values are large and near each other.
                let off = number - self.mean;
                self.mean += off / self.count as f64;
                self.squares += off * (number - self.mean);
                self.sum += number;
                self.least = Some(self.least.map_or(number, |least| least.min(number)));
                self.most = Some(self.most.map_or(number, |most| most.max(number)));
                if matches!(operator, Operator::Percentile(_)) {
                    self.values.push(number);
                }
            }
        }
    }

    /// What came of it; `None` where there was nothing to calculate with.
    pub fn value(&mut self, calculation: &Calculation) -> Option<f64> {
        match calculation.operator {
            Operator::Count => Some(self.count as f64),
            Operator::Uniq => Some(self.distinct.len() as f64),
            _ if self.count == 0 => None,
            Operator::Max => self.most,
            Operator::Min => self.least,
            Operator::Sum => Some(self.sum),
            Operator::Avg => Some(self.mean),
            Operator::Variance => Some(self.squares / self.count as f64),
            Operator::Stddev => Some((self.squares / self.count as f64).sqrt()),
            Operator::Percentile(share) => {
                self.values.sort_by(f64::total_cmp);
                percentile(&self.values, share)
            }
        }
    }
}

/// The value that `share` of sorted values is not above, between two neighbours where need be.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[(at.ceil() as usize).min(last)]);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(operator: &str, values: &[Json]) -> Option<f64> {
        let calculation = Calculation::read(&json!({ "operator": operator, "key": "n" })).unwrap();
        let mut tally = Tally::default();
        values.iter().for_each(|n| tally.add(&calculation, &json!({ "source": { "n": n } })));
        tally.value(&calculation)
    }

    #[test]
    fn each_calculation_gives_its_number() {
        let values: Vec<Json> = (1..=5).map(Json::from).chain([json!("text"), Json::Null]).collect();
        for (operator, expected) in [
            ("count", 6.0),
            ("uniq", 6.0),
            ("max", 5.0),
            ("MIN", 1.0),
            ("sum", 15.0),
            ("avg", 3.0),
            ("median", 3.0),
            ("p25", 2.0),
            ("p90", 4.6),
            ("p001", 1.004),
            ("p999", 4.996),
            ("p01", 1.04),
            ("variance", 2.0),
            ("VARIANCE", 2.0),
        ] {
            let found = value(operator, &values).unwrap();
            assert!((found - expected).abs() < 1e-9, "{operator}: {found}");
        }
        assert!((value("stddev", &values).unwrap() - 2f64.sqrt()).abs() < 1e-9);
        assert_eq!(
            (value("avg", &[]), value("count", &[]), value("p99", &[json!("x")])),
            (None, Some(0.0), None)
        );
    }

    #[test]
    fn what_cannot_be_calculated_is_said() {
        for wrong in [
            json!({}),
            json!({ "operator": "p50", "key": "n" }),
            json!({ "operator": "avg" }),
            json!({ "operator": "count", "keyType": "text" }),
            json!({ "operator": "count", "alias": 1 }),
        ] {
            assert!(Calculation::read(&wrong).is_err(), "{wrong}");
        }
        for name in CALCULATIONS {
            assert!(Calculation::read(&json!({ "operator": name, "key": "n" })).is_ok(), "{name}");
        }
    }
}
