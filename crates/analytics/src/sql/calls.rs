//! Calls of functions.
//! <https://developers.cloudflare.com/analytics/analytics-engine/sql-reference/>

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Value, ValueWithSpan,
};

use super::dates;
use super::expression::{Context, Typed, to_time};
use super::select::quoted;
use super::types::{Type, Unit};
use super::{QueryError, invalid};

/// The values that `topK` finds where nothing else is said.
const TOP: &str = "10";
/// As many as it may be asked for.
const MOST_TOP: u64 = 65_536;

/// A call, taken apart.
struct Call<'a> {
    name: String,
    args: Vec<&'a Expr>,
    /// Those in parentheses before: `quantileExactWeighted(0.5)(…)`.
    parameters: Vec<&'a Expr>,
    distinct: bool,
}

impl Call<'_> {
    fn arity(&self, least: usize, most: usize) -> Result<(), QueryError> {
        match (least..=most).contains(&self.args.len()) {
            true => Ok(()),
            false if least == most => {
                invalid(format!("{} takes {least} arguments, not {}", self.name, self.args.len()))
            }
            false => {
                invalid(format!("{} takes {least} to {most} arguments, not {}", self.name, self.args.len()))
            }
        }
    }

    /// A number that is written out.
    fn constant(&self, expr: &Expr) -> Result<f64, QueryError> {
        let number = match expr {
            Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => text.parse::<f64>().ok(),
            _ => None,
        };
        number.map_or_else(
            || invalid(format!("{} needs a number that is written out, not {expr}", self.name)),
            Ok,
        )
    }
}

/// The name, the expressions and whether they are distinct.
fn apart(call: &Function) -> Result<Call<'_>, QueryError> {
    let plain = call.filter.is_none()
        && call.over.is_none()
        && call.within_group.is_empty()
        && call.null_treatment.is_none();
    let name = call.name.to_string();
    if !plain {
        return invalid(format!("unsupported form of the call of {name}"));
    }
    let (args, distinct) = list(&call.args, &name)?;
    let (parameters, _) = list(&call.parameters, &name)?;
    Ok(Call { name, args, parameters, distinct })
}

fn list<'a>(args: &'a FunctionArguments, name: &str) -> Result<(Vec<&'a Expr>, bool), QueryError> {
    let FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) = args else {
        return match args {
            FunctionArguments::None => Ok((Vec::new(), false)),
            _ => invalid(format!("unsupported argument of {name}: a query")),
        };
    };
    if !clauses.is_empty() {
        return invalid(format!("unsupported form of the call of {name}"));
    }
    let mut exprs = Vec::new();
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => exprs.push(expr),
            // `count(*)`
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if name.eq_ignore_ascii_case("count") => {}
            _ => return invalid(format!("unsupported argument of {name}: {arg}")),
        }
    }
    Ok((exprs, *duplicate_treatment == Some(DuplicateTreatment::Distinct)))
}

impl Context<'_> {
    /// Translates a call.
    pub(super) fn call(&mut self, call: &Function) -> Result<Typed, QueryError> {
        let call = apart(call)?;
        let name = call.name.to_ascii_lowercase();
        let typed = match self.aggregate(&name, &call)? {
            Some(typed) => typed,
            None => match self.time(&name, &call)? {
                Some(typed) => typed,
                None => match self.bits(&name, &call)? {
                    Some(typed) => typed,
                    None => self.plain(&name, &call)?,
                },
            },
        };
        if !typed.aggregates && (call.distinct || !call.parameters.is_empty()) {
            return invalid(format!("unsupported form of the call of {}", call.name));
        }
        Ok(typed)
    }

    fn aggregate(&mut self, name: &str, call: &Call<'_>) -> Result<Option<Typed>, QueryError> {
        let (least, most) = match name {
            "count" => (0, 1),
            "sum" | "avg" | "min" | "max" | "first_value" | "last_value" | "topk" | "countif" => (1, 1),
            "sumif" | "avgif" | "argmax" | "argmin" | "topkweighted" | "quantileexactweighted" => (2, 2),
            "quantileweighted" => (3, 3),
            _ => return Ok(None),
        };
        call.arity(least, most)?;
        let mut args = Vec::new();
        for arg in &call.args {
            args.push(self.translate(arg)?);
        }
        if args.iter().any(|arg| arg.aggregates) {
            return invalid(format!("aggregate function in the arguments of {}", call.name));
        }
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        let number = |n: usize| match &args[n] {
            arg if arg.kind.is_number() => Ok(arg),
            arg => invalid(format!("{} needs a number, not {}", call.name, arg.kind)),
        };
        let total = |kind: &Type| match kind {
            Type::Int(signed, _) => Type::Int(*signed, 64),
            kind => kind.clone(),
        };
        let (sql, kind) = match name {
            "count" if args.is_empty() => ("count(*)".to_owned(), Type::COUNT),
            "count" => (format!("count({distinct}{})", args[0].sql), Type::COUNT),
            "countif" => (format!("coalesce(sum({} <> 0), 0)", number(0)?.sql), Type::COUNT),
            "sum" => (format!("coalesce(sum({distinct}{}), 0)", number(0)?.sql), total(&args[0].kind)),
            "sumif" => (
                format!("coalesce(sum(iif({}, {}, NULL)), 0)", number(1)?.sql, number(0)?.sql),
                total(&args[0].kind),
            ),
            "avg" => (format!("avg({distinct}{})", number(0)?.sql), Type::Float),
            "avgif" => (format!("avg(iif({}, {}, NULL))", number(1)?.sql, number(0)?.sql), Type::Float),
            "min" | "max" => {
                let kind = args[0].kind.clone();
                (format!("coalesce({name}({}), {})", args[0].sql, kind.default()), kind)
            }
            "argmax" | "argmin" => {
                let kind = args[0].kind.clone();
                (format!("coalesce(ae_{name}({}, {}), {})", args[0].sql, args[1].sql, kind.no_value()), kind)
            }
            "first_value" | "last_value" => {
                let kind = args[0].kind.clone();
                let (function, by) = match (&self.arrival, name) {
                    (None, "first_value") => ("ae_first", "0"),
                    (None, _) => ("ae_last", "0"),
                    (Some((by, down)), first) if (first == "first_value") != *down => {
                        ("ae_argmin", by.as_str())
                    }
                    (Some((by, _)), _) => ("ae_argmax", by.as_str()),
                };
                (format!("coalesce({function}({}, {by}), {})", args[0].sql, kind.no_value()), kind)
            }
            "topk" | "topkweighted" => {
                let most = match call.parameters[..] {
                    [] => TOP.to_owned(),
                    [most] => match call.constant(most)? {
                        most if most >= 1.0 && most <= MOST_TOP as f64 && most.fract() == 0.0 => {
                            format!("{most:.0}")
                        }
                        most => {
                            return invalid(format!(
                                "{} takes 1 to {MOST_TOP} values, not {most}",
                                call.name
                            ));
                        }
                    },
                    _ => return invalid(format!("{} takes one parameter", call.name)),
                };
                let weight = if name == "topk" { "1" } else { &number(1)?.sql };
                (
                    format!("ae_top({most}, {}, {weight})", args[0].sql),
                    Type::Array(Box::new(args[0].kind.clone())),
                )
            }
            _ => {
                let (level, first) = match (name, &call.parameters[..]) {
                    ("quantileexactweighted", [level]) => (call.constant(level)?, 0),
                    ("quantileweighted", []) => (call.constant(call.args[0])?, 1),
                    _ => {
                        return invalid(format!(
                            "expected quantileExactWeighted(q)(column, weight), not {}",
                            call.name
                        ));
                    }
                };
                if !(0.0..=1.0).contains(&level) {
                    return invalid(format!("{} needs a level from 0 to 1, not {level}", call.name));
                }
                let (value, weight) = (&args[first], number(first + 1)?);
                if !value.kind.is_number() && !value.kind.is_time() {
                    return invalid(format!("{} needs numbers, not {}", call.name, value.kind));
                }
                (format!("ae_quantile({level:e}, {}, {})", value.sql, weight.sql), value.kind.clone())
            }
        };
        Ok(Some(Typed { sql, kind, bare: None, aggregates: true, constant: false }))
    }

    /// A time zone that is written out.
    fn zone(&self, call: &Call<'_>, n: usize) -> Result<Option<String>, QueryError> {
        let Some(expr) = call.args.get(n) else { return Ok(None) };
        match expr {
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(name), .. }) => {
                match dates::zone(name) {
                    Some(_) => Ok(Some(name.clone())),
                    None => invalid(format!(
                        "unknown time zone: {name}; SHOW TIMEZONES lists those that there are"
                    )),
                }
            }
            _ => invalid(format!("{} needs a time zone that is written out, not {expr}", call.name)),
        }
    }

    fn time(&mut self, name: &str, call: &Call<'_>) -> Result<Option<Typed>, QueryError> {
        let start = |unit, n: u8| Some((unit, n));
        let starts = match name {
            "tostartofyear" => start(Unit::Year, 1),
            "tostartofmonth" => start(Unit::Month, 1),
            "tostartofweek" => start(Unit::Week, 1),
            "tostartofday" => start(Unit::Day, 1),
            "tostartofhour" => start(Unit::Hour, 1),
            "tostartoffifteenminutes" => start(Unit::Minute, 15),
            "tostartoftenminutes" => start(Unit::Minute, 10),
            "tostartoffiveminutes" => start(Unit::Minute, 5),
            "tostartofminute" => start(Unit::Minute, 1),
            _ => None,
        };
        let part = match name {
            "toyear" => Some(("year", 16)),
            "tomonth" => Some(("month", 8)),
            "todayofmonth" => Some(("day", 8)),
            "todayofweek" => Some(("weekday", 8)),
            "tohour" => Some(("hour", 8)),
            "tominute" => Some(("minute", 8)),
            "tosecond" => Some(("second", 8)),
            "toyyyymm" => Some(("yyyymm", 32)),
            _ => None,
        };
        if let Some((unit, n)) = starts {
            call.arity(1, 2)?;
            let zone = self.zone(call, 1)?;
            return self.start(call.args[0], &n.to_string(), unit, zone).map(Some);
        }
        if let Some((part, bits)) = part {
            call.arity(1, 2)?;
            let (at, zone) = (self.moment(call.args[0])?, self.zone(call, 1)?);
            let zone = quoted(zone.as_deref().unwrap_or(at.kind.zone()));
            let sql = format!("ae_part({}, '{part}', {zone})", at.sql);
            return Ok(Some(Typed::of(sql, Type::Int(false, bits), &[&at])));
        }
        Ok(Some(match name {
            "now" => {
                call.arity(0, 0)?;
                Typed::constant(self.now.to_string(), Type::UTC)
            }
            "today" => {
                call.arity(0, 0)?;
                Typed::constant((self.now.div_euclid(86_400) * 86_400).to_string(), Type::Date)
            }
            "todatetime" => {
                call.arity(1, 2)?;
                let (of, zone) = (self.translate(call.args[0])?, self.zone(call, 1)?);
                let of = to_time(of, zone.as_deref().unwrap_or("UTC"));
                let sql = if of.kind == Type::Float {
                    format!("CAST({} AS INTEGER)", of.sql)
                } else {
                    of.sql.clone()
                };
                Typed::of(sql, Type::DateTime(zone), &[&of])
            }
            "tounixtimestamp" => {
                call.arity(1, 1)?;
                let at = self.moment(call.args[0])?;
                Typed::of(at.sql.clone(), Type::Int(false, 32), &[&at])
            }
            "formatdatetime" => {
                call.arity(2, 3)?;
                let (at, format, zone) =
                    (self.moment(call.args[0])?, self.text(call.args[1])?, self.zone(call, 2)?);
                let zone = quoted(zone.as_deref().unwrap_or(at.kind.zone()));
                let sql = format!("ae_when({}, {}, {zone})", at.sql, format.sql);
                Typed::of(sql, Type::String, &[&at, &format])
            }
            "tostartofinterval" => {
                call.arity(2, 3)?;
                let (interval, zone) = (self.translate(call.args[1])?, self.zone(call, 2)?);
                let Type::Interval(unit) = interval.kind else {
                    return invalid(format!("toStartOfInterval needs an INTERVAL, not {}", interval.kind));
                };
                if interval.sql.parse::<i64>().is_ok_and(|n| n < 1) {
                    return invalid("toStartOfInterval needs an INTERVAL of 1 or more");
                }
                self.start(call.args[0], &interval.sql, unit, zone)?
            }
            _ => return Ok(None),
        }))
    }

    fn start(&mut self, at: &Expr, n: &str, unit: Unit, zone: Option<String>) -> Result<Typed, QueryError> {
        let at = self.moment(at)?;
        let kind = match (&at.kind, zone) {
            (_, Some(zone)) => Type::DateTime(Some(zone)),
            (kind @ Type::DateTime(_), None) => kind.clone(),
            _ => Type::UTC,
        };
        let sql = match (unit.seconds(), kind.zone()) {
            // The most common ones, without a call.
            (Some(seconds), "UTC" | "Etc/UTC") if unit != Unit::Week && n == "1" => {
                format!("({at} - (({at} % {seconds}) + {seconds}) % {seconds})", at = at.sql)
            }
            (_, zone) => format!("ae_start({}, {n}, '{}', {})", at.sql, unit.name(), quoted(zone)),
        };
        Ok(Typed::of(sql, kind, &[&at]))
    }

    fn bits(&mut self, name: &str, call: &Call<'_>) -> Result<Option<Typed>, QueryError> {
        let what = match name {
            "bitand" | "bitor" => name,
            "bitnot" => "not",
            "bitxor" => "xor",
            "bitcount" | "bithammingdistance" => "count",
            "bitrotateleft" => "rotate left",
            "bitrotateright" => "rotate right",
            "bitshiftleft" => "left",
            "bitshiftright" => "right",
            "bittest" => "test",
            _ => return Ok(None),
        };
        let count = if matches!(name, "bitnot" | "bitcount") { 1 } else { 2 };
        call.arity(count, count)?;
        let mut args = Vec::new();
        for arg in &call.args {
            args.push(self.number(arg)?);
        }
        let width = |typed: &Typed| match typed.kind {
            Type::Int(_, bits) => bits,
            _ => 64,
        };
        // Of a double its whole part, as far as nothing else is said.
        let whole = |typed: &Typed| match typed.kind {
            Type::Float => format!("CAST({} AS INTEGER)", typed.sql),
            _ => typed.sql.clone(),
        };
        let a = whole(&args[0]);
        let bits = args.iter().map(width).max().unwrap_or(64);
        let kind = Type::Int(matches!(args[0].kind, Type::Int(true, _)), bits);
        let parts: Vec<&Typed> = args.iter().collect();
        let (sql, kind) = match (name, args.get(1).map(whole)) {
            ("bitand", Some(b)) => (format!("({a} & {b})"), kind),
            ("bitor", Some(b)) => (format!("({a} | {b})"), kind),
            ("bithammingdistance", Some(b)) => (
                format!("ae_bits('count', ae_bits('xor', {a}, {b}, {bits}), 0, {bits})"),
                Type::Int(false, 8),
            ),
            ("bitcount", _) if args[0].kind == Type::Float => {
                let digits = format!("ae_digits(CAST({} AS REAL), 2)", args[0].sql);
                (format!("(length({digits}) - length(replace({digits}, '1', '')))"), Type::Int(false, 8))
            }
            ("bitcount", _) => (format!("ae_bits('count', {a}, 0, {bits})"), Type::Int(false, 8)),
            ("bittest", Some(b)) => (format!("ae_bits('test', {a}, {b}, {})", width(&args[0])), Type::BOOL),
            ("bitxor", Some(b)) => (format!("ae_bits('xor', {a}, {b}, {bits})"), kind),
            (_, b) => {
                let (b, width) = (b.unwrap_or_else(|| "0".into()), width(&args[0]));
                (
                    format!("ae_bits('{what}', {a}, {b}, {width})"),
                    Type::Int(matches!(kind, Type::Int(true, _)), width),
                )
            }
        };
        Ok(Some(Typed::of(sql, kind, &parts)))
    }

    /// All others. `floor`, `ceil`, `substring`, `position` and `extract` have a syntax of their own, and are expressions.
    fn plain(&mut self, name: &str, call: &Call<'_>) -> Result<Typed, QueryError> {
        let arity = match name {
            "if" => (3, 3),
            "intdiv" | "pow" | "startswith" | "endswith" => (2, 2),
            "round" => (1, 2),
            "format" => (1, 64),
            "log" | "ln" | "length" | "empty" | "lower" | "lowerutf8" | "tolower" | "upper" | "upperutf8"
            | "toupper" | "bin" | "hex" | "touint8" | "touint32" => (1, 1),
            _ => return invalid(format!("unknown function call: {}", call.name)),
        };
        call.arity(arity.0, arity.1)?;
        let mut args = Vec::new();
        for (n, arg) in call.args.iter().enumerate() {
            args.push(match (name, n) {
                ("intdiv" | "pow" | "round" | "log" | "ln", _) => self.number(arg)?,
                (
                    "startswith" | "endswith" | "length" | "empty" | "lower" | "lowerutf8" | "tolower"
                    | "upper",
                    _,
                )
                | ("upperutf8" | "toupper", _)
                | ("format", 0) => self.text(arg)?,
                ("if", 0) => self.condition(arg, "if")?,
                _ => self.translate(arg)?,
            });
        }
        let parts: Vec<&Typed> = args.iter().collect();
        let all = |function: &str| {
            let list: Vec<&str> = args.iter().map(|arg| arg.sql.as_str()).collect();
            format!("{function}({})", list.join(", "))
        };
        let first = &args[0];
        let (sql, kind) = match name {
            "if" => {
                let Some(kind) = args[1].kind.common(&args[2].kind) else {
                    return invalid(format!(
                        "if has two types of results: {} and {}",
                        args[1].kind, args[2].kind
                    ));
                };
                (all("iif"), kind)
            }
            "intdiv" => {
                let kind = match (&first.kind, &args[1].kind) {
                    (Type::Int(a, bits), Type::Int(b, _)) => Type::Int(*a || *b, *bits),
                    (time, Type::Int(..)) if time.is_time() => Type::Int(false, 32),
                    _ => Type::Int(true, 64),
                };
                (format!("CAST({} / {} AS INTEGER)", first.sql, args[1].sql), kind)
            }
            "pow" => (all("ae_pow"), Type::Float),
            "log" | "ln" => (all("ae_ln"), Type::Float),
            "round" => {
                let digits = args.get(1).map_or("0", |digits| digits.sql.as_str());
                (format!("ae_round({}, {digits})", first.sql), first.kind.clone())
            }
            "startswith" => (all("ae_starts"), Type::BOOL),
            "endswith" => (all("ae_ends"), Type::BOOL),
            "length" => (all("length"), Type::COUNT),
            "empty" => (format!("({} = '')", first.sql), Type::BOOL),
            "lower" | "upper" => (all(name), Type::String),
            "lowerutf8" | "tolower" => (all("ae_lower"), Type::String),
            "upperutf8" | "toupper" => (all("ae_upper"), Type::String),
            "format" => {
                let list: Vec<String> = args.iter().map(shown).collect();
                (format!("ae_template({})", list.join(", ")), Type::String)
            }
            "bin" => (format!("ae_digits({}, 2)", first.sql), Type::String),
            "hex" => (format!("ae_digits({}, 16)", first.sql), Type::String),
            _ => {
                let (bits, mask) = if name == "touint8" { (8, "255") } else { (32, "4294967295") };
                if !(first.kind.is_number() || first.kind.is_time() || first.kind == Type::String) {
                    return invalid(format!("{} needs a number, not {}", call.name, first.kind));
                }
                (format!("(CAST({} AS INTEGER) & {mask})", first.sql), Type::Int(false, bits))
            }
        };
        Ok(Typed::of(sql, kind, &parts))
    }
}

/// A value as `format()` shows it.
fn shown(typed: &Typed) -> String {
    match &typed.kind {
        Type::DateTime(_) => format!("ae_when({}, '%F %T', {})", typed.sql, quoted(typed.kind.zone())),
        Type::Date => format!("ae_when({}, '%F', 'UTC')", typed.sql),
        _ => typed.sql.clone(),
    }
}
