//! Expressions, typed, as SQLite is to be asked.

use std::collections::BTreeMap;

use sqlparser::ast::{BinaryOperator, CeilFloorKind, Expr, InTarget, UnaryOperator, Value};

use super::select::{Field, quoted};
use super::types::{Type, Unit};
use super::{QueryError, invalid};

/// The longest translation, in bytes: aliases within aliases can double with each.
const LONGEST: usize = 1 << 20;

/// How deep expressions may nest, with the aliases that are named in them.
const DEEPEST: usize = 1000;

/// An expression that was translated.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    pub sql: String,
    pub kind: Type,
    /// A column that is neither in an aggregate nor grouped by.
    pub bare: Option<String>,
    pub aggregates: bool,
    /// Whether it is the same for every row.
    pub constant: bool,
}

/// What names mean, and where.
pub(super) struct Context<'a> {
    fields: &'a [Field],
    aliases: &'a BTreeMap<String, Expr>,
    /// Aliases that are being looked into: within, their name is a column's.
    within: Vec<String>,
    depth: usize,
    /// What is grouped by.
    pub groups: Vec<String>,
    /// What rows of a single group are ordered by, and whether downwards.
    pub arrival: Option<(String, bool)>,
    pub now: i64,
}

impl Typed {
    pub fn constant(sql: impl Into<String>, kind: Type) -> Self {
        Self { sql: sql.into(), kind, bare: None, aggregates: false, constant: true }
    }

    /// An expression of others.
    pub fn of(sql: String, kind: Type, parts: &[&Self]) -> Self {
        Self {
            sql,
            kind,
            bare: parts.iter().find_map(|part| part.bare.clone()),
            aggregates: parts.iter().any(|part| part.aggregates),
            constant: parts.iter().all(|part| part.constant),
        }
    }
}

impl<'a> Context<'a> {
    pub fn new(fields: &'a [Field], aliases: &'a BTreeMap<String, Expr>, now: i64) -> Self {
        Self { fields, aliases, within: Vec::new(), depth: 0, groups: Vec::new(), arrival: None, now }
    }

    /// Whether a name is that of a column of the result.
    pub fn is_alias(&self, name: &str) -> bool {
        self.aliases.contains_key(name)
    }

    /// Translates an expression.
    pub fn translate(&mut self, expr: &Expr) -> Result<Typed, QueryError> {
        self.depth += 1;
        let typed = if self.depth > DEEPEST { None } else { Some(self.any(expr)?) };
        self.depth -= 1;
        let Some(mut typed) = typed.filter(|typed| typed.sql.len() <= LONGEST) else {
            return invalid("the query is too complicated");
        };
        if self.groups.contains(&typed.sql) {
            typed.bare = None;
        }
        Ok(typed)
    }

    /// Translates a column of the result: in it, its name is that of a column of the source.
    pub fn item(&mut self, alias: Option<&String>, expr: &Expr) -> Result<Typed, QueryError> {
        self.within.extend(alias.cloned());
        let typed = self.translate(expr);
        self.within.truncate(self.within.len() - usize::from(alias.is_some()));
        typed
    }

    /// An expression that is true or false.
    pub fn condition(&mut self, expr: &Expr, clause: &str) -> Result<Typed, QueryError> {
        let typed = self.translate(expr)?;
        match typed.kind.is_number() {
            true => Ok(typed),
            false => invalid(format!("{clause} needs a condition, and {expr} is of type {}", typed.kind)),
        }
    }

    /// An expression that is compared with a time.
    pub fn moment(&mut self, expr: &Expr) -> Result<Typed, QueryError> {
        let typed = self.translate(expr)?;
        Ok(to_time(typed, "UTC"))
    }

    fn any(&mut self, expr: &Expr) -> Result<Typed, QueryError> {
        match expr {
            Expr::Nested(inner) => self.translate(inner),
            Expr::Identifier(name) => self.name(&name.value),
            Expr::CompoundIdentifier(parts) => match parts.last() {
                Some(name) => self.column(&name.value),
                None => invalid("a name is empty"),
            },
            Expr::Value(value) => literal(&value.value),
            Expr::Interval(interval) => {
                let unit = interval.leading_field.as_ref().map(ToString::to_string);
                let unit = unit.as_deref().and_then(Unit::named);
                let count = match &*interval.value {
                    Expr::Value(value) => match &value.value {
                        Value::SingleQuotedString(text) | Value::Number(text, _) => {
                            text.trim().parse::<i64>().ok()
                        }
                        _ => None,
                    },
                    _ => None,
                };
                match (unit, count) {
                    (Some(unit), Some(count)) => Ok(Typed::constant(count.to_string(), Type::Interval(unit))),
                    _ => invalid(format!("unsupported interval: {expr}; expected INTERVAL '<n>' <unit>")),
                }
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                let of = self.number(expr)?;
                let kind = match &of.kind {
                    Type::Int(_, bits) => Type::Int(true, *bits),
                    kind => kind.clone(),
                };
                Ok(Typed::of(format!("(-{})", of.sql), kind, &[&of]))
            }
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.number(expr),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let of = self.number(expr)?;
                Ok(Typed::of(format!("(NOT {})", of.sql), Type::BOOL, &[&of]))
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::Between { expr, negated, low, high } => {
                let (of, low, high) = (self.translate(expr)?, self.translate(low)?, self.translate(high)?);
                let (of, low) = comparable(of, low)?;
                let (of, high) = comparable(of, high)?;
                let not = if *negated { "NOT " } else { "" };
                let sql = format!("({} {not}BETWEEN {} AND {})", of.sql, low.sql, high.sql);
                Ok(Typed::of(sql, Type::BOOL, &[&of, &low, &high]))
            }
            Expr::In { expr, target: InTarget::List(list), negated, global: false } => {
                let mut of = self.translate(expr)?;
                let mut among = Vec::new();
                for one in list {
                    let one = self.translate(one)?;
                    let (left, right) = comparable(of, one)?;
                    of = left;
                    among.push(right);
                }
                let list: Vec<&str> = among.iter().map(|one| one.sql.as_str()).collect();
                let not = if *negated { "NOT " } else { "" };
                let sql = format!("({} {not}IN ({}))", of.sql, list.join(", "));
                let parts: Vec<&Typed> = among.iter().chain([&of]).collect();
                Ok(Typed::of(sql, Type::BOOL, &parts))
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false)
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true)
            }
            Expr::Position { expr, r#in } => {
                let (needle, text) = (self.text(expr)?, self.text(r#in)?);
                let sql = format!("instr({}, {})", text.sql, needle.sql);
                Ok(Typed::of(sql, Type::COUNT, &[&needle, &text]))
            }
            Expr::Extract { field, expr, .. } => {
                let at = self.moment(expr)?;
                let Some(unit) = Unit::named(&field.to_string()).filter(|unit| *unit != Unit::Week) else {
                    return invalid(format!("unsupported part of a time: {field}"));
                };
                let sql = format!("ae_part({}, '{}', {})", at.sql, unit.name(), quoted(at.kind.zone()));
                Ok(Typed::of(sql, Type::Int(false, 16), &[&at]))
            }
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let (text, from) = (self.text(expr)?, self.number(from)?);
                let length = substring_for.as_ref().map(|length| self.number(length)).transpose()?;
                // What begins at 0 is nothing, as in ClickHouse.
                let rest =
                    length.as_ref().map(|length| format!(", max({}, 0)", length.sql)).unwrap_or_default();
                let sql = format!("iif({from} = 0, '', substr({}, {from}{rest}))", text.sql, from = from.sql);
                let parts: Vec<&Typed> = [&text, &from].into_iter().chain(&length).collect();
                Ok(Typed::of(sql, Type::String, &parts))
            }
            Expr::Ceil { expr, field } => self.scaled("ae_ceil", expr, field),
            Expr::Floor { expr, field } => self.scaled("ae_floor", expr, field),
            Expr::Function(call) => self.call(call),
            Expr::Case { .. } => {
                invalid(format!("unsupported expression type: {expr}; use if(condition, then, else)"))
            }
            other => invalid(format!("unsupported expression type: {other}")),
        }
    }

    /// What a name means: a column of the result, or else one of the source.
    fn name(&mut self, name: &str) -> Result<Typed, QueryError> {
        if self.within.iter().any(|within| within == name) {
            return self.column(name);
        }
        let aliases = self.aliases;
        match aliases.get(name) {
            Some(expr) => self.item(Some(&name.to_owned()), expr),
            None => self.column(name),
        }
    }

    fn column(&self, name: &str) -> Result<Typed, QueryError> {
        match self.fields.iter().find(|field| field.name == name) {
            Some(field) => Ok(Typed {
                sql: field.sql.clone(),
                kind: field.kind.clone(),
                bare: Some(name.to_owned()),
                aggregates: false,
                constant: false,
            }),
            None => invalid(format!("unable to find type of column: {name}")),
        }
    }

    /// An expression that is a number, or a time as one.
    pub fn number(&mut self, expr: &Expr) -> Result<Typed, QueryError> {
        let typed = self.translate(expr)?;
        match typed.kind.is_number() || typed.kind.is_time() {
            true => Ok(typed),
            false => invalid(format!("expected a number: {expr} is of type {}", typed.kind)),
        }
    }

    pub fn text(&mut self, expr: &Expr) -> Result<Typed, QueryError> {
        let typed = self.translate(expr)?;
        match typed.kind {
            Type::String => Ok(typed),
            kind => invalid(format!("expected a string: {expr} is of type {kind}")),
        }
    }

    fn like(
        &mut self,
        expr: &Expr,
        pattern: &Expr,
        negated: bool,
        any_case: bool,
    ) -> Result<Typed, QueryError> {
        let (text, pattern) = (self.text(expr)?, self.text(pattern)?);
        let not = if negated { "NOT " } else { "" };
        let sql = format!("({not}ae_like({}, {}, {}))", pattern.sql, text.sql, u8::from(any_case));
        Ok(Typed::of(sql, Type::BOOL, &[&text, &pattern]))
    }

    fn scaled(&mut self, function: &str, expr: &Expr, field: &CeilFloorKind) -> Result<Typed, QueryError> {
        let of = self.number(expr)?;
        let digits = match field {
            CeilFloorKind::Scale(value) => literal(&value.value)?.sql,
            CeilFloorKind::DateTimeField(_) => "0".to_owned(),
        };
        Ok(Typed::of(format!("{function}({}, {digits})", of.sql), of.kind.clone(), &[&of]))
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Typed, QueryError> {
        use BinaryOperator as Op;
        let (a, b) = (self.translate(left)?, self.translate(right)?);
        let compares = match op {
            Op::Eq => Some("="),
            Op::NotEq => Some("<>"),
            Op::Lt => Some("<"),
            Op::LtEq => Some("<="),
            Op::Gt => Some(">"),
            Op::GtEq => Some(">="),
            _ => None,
        };
        if let Some(op) = compares {
            let (a, b) = comparable(a, b)?;
            return Ok(Typed::of(format!("({} {op} {})", a.sql, b.sql), Type::BOOL, &[&a, &b]));
        }
        match op {
            Op::And | Op::Or if a.kind.is_number() && b.kind.is_number() => {
                let op = if *op == Op::And { "AND" } else { "OR" };
                Ok(Typed::of(format!("({} {op} {})", a.sql, b.sql), Type::BOOL, &[&a, &b]))
            }
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo => arithmetic(a, op, b),
            _ => invalid(format!(
                "unsupported expression type: {left} {op} {right}, with types {} and {}",
                a.kind, b.kind
            )),
        }
    }
}

/// Calculates. <https://clickhouse.com/docs/sql-reference/functions/arithmetic-functions>
fn arithmetic(a: Typed, op: &BinaryOperator, b: Typed) -> Result<Typed, QueryError> {
    use BinaryOperator as Op;
    let plain = |sign: &str| format!("({} {sign} {})", a.sql, b.sql);
    let (sql, kind) = match (&a.kind, op, &b.kind) {
        (time, Op::Plus | Op::Minus, Type::Interval(unit)) if time.is_time() => {
            (later(&a, *op == Op::Minus, &b.sql, *unit), time.clone())
        }
        (Type::Interval(unit), Op::Plus, time) if time.is_time() => {
            (later(&b, false, &a.sql, *unit), time.clone())
        }
        (x, Op::Minus, y) if x.is_time() && y.is_time() => (plain("-"), Type::Int(true, 32)),
        (x, Op::Plus, y) if x.is_time() && y.is_number() => (plain("+"), x.clone()),
        (x, Op::Minus, y) if x.is_time() && y.is_number() => (plain("-"), x.clone()),
        (x, Op::Plus, y) if x.is_number() && y.is_time() => (plain("+"), y.clone()),
        (x, Op::Divide, y) if x.is_number() && y.is_number() => {
            (format!("(CAST({} AS REAL) / {})", a.sql, b.sql), Type::Float)
        }
        (Type::Int(signed, _), Op::Modulo, Type::Int(_, bits)) => (plain("%"), Type::Int(*signed, *bits)),
        (x, Op::Modulo, y) if x.is_number() && y.is_number() => {
            (format!("ae_mod({}, {})", a.sql, b.sql), Type::Float)
        }
        (Type::Int(x, bits), Op::Plus | Op::Minus | Op::Multiply, Type::Int(y, more)) => {
            let kind = Type::Int(*x || *y || *op == Op::Minus, bits.max(more).saturating_mul(2).min(64));
            (plain(&op.to_string()), kind)
        }
        (x, Op::Plus | Op::Minus | Op::Multiply, y) if x.is_number() && y.is_number() => {
            (plain(&op.to_string()), Type::Float)
        }
        (x, op, y) => return invalid(format!("cannot calculate {x} {op} {y}")),
    };
    Ok(Typed::of(sql, kind, &[&a, &b]))
}

/// A time some units later, or earlier.
fn later(time: &Typed, earlier: bool, count: &str, unit: Unit) -> String {
    let sign = if earlier { "-" } else { "" };
    match unit.seconds() {
        Some(seconds) => format!("({} {} {count} * {seconds})", time.sql, if earlier { "-" } else { "+" }),
        None => {
            format!("ae_add({}, {sign}({count}), '{}', {})", time.sql, unit.name(), quoted(time.kind.zone()))
        }
    }
}

/// A text as the time that it says; other types as they are.
pub(super) fn to_time(typed: Typed, zone: &str) -> Typed {
    match typed.kind {
        Type::String => {
            let sql = format!("ae_parse({}, {})", typed.sql, quoted(zone));
            Typed::of(sql, Type::UTC, &[&typed])
        }
        _ => typed,
    }
}

/// Both, as they can be compared.
fn comparable(a: Typed, b: Typed) -> Result<(Typed, Typed), QueryError> {
    let zone = if a.kind.is_time() { a.kind.zone() } else { b.kind.zone() }.to_owned();
    let (a, b) = match (a.kind.is_time(), b.kind.is_time()) {
        (true, false) => (a, to_time(b, &zone)),
        (false, true) => (to_time(a, &zone), b),
        _ => (a, b),
    };
    let number = |typed: &Typed| typed.kind.is_number() || typed.kind.is_time();
    match a.kind == b.kind || (number(&a) && number(&b)) {
        true => Ok((a, b)),
        false => invalid(format!("cannot compare {} with {}", a.kind, b.kind)),
    }
}

fn literal(value: &Value) -> Result<Typed, QueryError> {
    match value {
        Value::Number(text, _) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => {
                let bits = match number {
                    0..0x100 => 8,
                    0x100..0x1_0000 => 16,
                    0x1_0000..0x1_0000_0000 => 32,
                    _ => 64,
                };
                Ok(Typed::constant(number.to_string(), Type::Int(false, bits)))
            }
            (_, Ok(number)) if number.is_finite() => Ok(Typed::constant(format!("{number:e}"), Type::Float)),
            _ => invalid(format!("{text} is no number")),
        },
        Value::SingleQuotedString(text) => Ok(Typed::constant(quoted(text), Type::String)),
        Value::Boolean(is) => Ok(Typed::constant(u8::from(*is).to_string(), Type::BOOL)),
        other => invalid(format!("unsupported literal: {other}")),
    }
}
