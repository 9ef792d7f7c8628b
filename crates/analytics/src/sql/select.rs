//! `SELECT`, as SQLite is to be asked.

use std::collections::BTreeMap;
use std::fmt::Write;

use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Ident, LimitClause, OrderByExpr, OrderByKind, OrderBySort, Query, Select,
    SelectItem, SetExpr, TableFactor, Value, ValueWithSpan,
};

use super::expression::{Context, Typed};
use super::types::Type;
use super::{Column, QueryError, invalid};
use crate::point::COLUMNS;

/// A query that was translated.
pub(super) struct Selected {
    /// It has the columns `c0`, `c1` …
    pub sql: String,
    pub columns: Vec<Column>,
    /// Whether it says how many rows it wants.
    pub limited: bool,
}

/// A column that a query can name.
#[derive(Clone)]
pub(super) struct Field {
    pub name: String,
    pub sql: String,
    pub kind: Type,
}

/// What a query reads from.
#[derive(Default)]
struct Source {
    sql: String,
    fields: Vec<Field>,
    /// Whether it is the points themselves, which are found by time.
    is_table: bool,
}

/// Translates a query that is asked at `now`.
pub(super) fn translate(query: &Query, now: i64) -> Result<Selected, QueryError> {
    let plain = query.with.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none()
        && query.settings.is_none()
        && query.pipe_operators.is_empty();
    if !plain {
        return invalid("unsupported clause: WITH, FETCH, SETTINGS and others are not supported");
    }
    let SetExpr::Select(select) = &*query.body else {
        return invalid("unsupported query: only SELECT is supported, without UNION and the like");
    };
    check(select)?;
    let source = source(select, now)?;
    let items = items(select, &source)?;
    let named = |item: &Item| item.alias.as_ref().map(|alias| (alias.clone(), item.expr.clone()));
    let aliases: BTreeMap<String, Expr> = items.iter().filter_map(named).collect();
    let mut context = Context::new(&source.fields, &aliases, now);
    let mut order = order(query)?;
    context.arrival = arrival(select, &items, &order, &mut context)?;
    if context.arrival.is_some() {
        order.clear();
    }

    let filter = select.selection.as_ref().map(|filter| context.condition(filter, "WHERE")).transpose()?;
    if filter.as_ref().is_some_and(|filter| filter.aggregates) {
        return invalid("aggregate functions are not allowed in WHERE: HAVING filters groups");
    }
    let mut groups = Vec::new();
    for group in grouped_by(select)? {
        let group = positional(&mut context, group, &items)?;
        if group.aggregates {
            return invalid("aggregate functions are not allowed in GROUP BY");
        }
        groups.push(group.sql);
    }
    context.groups.clone_from(&groups);

    let mut chosen = Vec::new();
    for item in &items {
        chosen.push(context.item(item.alias.as_ref(), &item.expr)?);
    }
    let having = select.having.as_ref().map(|having| context.condition(having, "HAVING")).transpose()?;
    let mut sorted = Vec::new();
    for by in &order {
        let key = positional(&mut context, &by.expr, &items)?;
        // SQLite would take a number for the place of a column.
        if !key.constant {
            sorted.push((key, matches!(by.options.sort, Some(OrderBySort::Desc))));
        }
    }
    let all = || chosen.iter().chain(&having).chain(sorted.iter().map(|(key, _)| key));
    if !groups.is_empty() || all().any(|typed| typed.aggregates) {
        if let Some(bare) = all().find_map(|typed| typed.bare.as_ref()) {
            return invalid(format!("column {bare} is not under aggregate function and not in GROUP BY"));
        }
    } else if having.is_some() {
        return invalid("HAVING needs GROUP BY or an aggregate function: WHERE filters rows");
    }

    let mut sql = "SELECT ".to_owned();
    if matches!(select.distinct, Some(Distinct::Distinct)) {
        sql.push_str("DISTINCT ");
    }
    let list: Vec<String> =
        chosen.iter().enumerate().map(|(n, typed)| format!("{} AS c{n}", typed.sql)).collect();
    sql.push_str(&list.join(", "));
    if !source.sql.is_empty() {
        let times = match &select.selection {
            Some(filter) if source.is_table => between(filter, &mut context)?,
            _ => String::new(),
        };
        let _ = write!(sql, " FROM {}{times})", source.sql);
    }
    if let Some(filter) = filter {
        let _ = write!(sql, " WHERE {}", filter.sql);
    }
    if !groups.is_empty() {
        // SQLite would take a number for the place of a column.
        let groups = groups.iter().map(|group| format!("ifnull({group}, NULL)")).collect::<Vec<_>>();
        let _ = write!(sql, " GROUP BY {}", groups.join(", "));
    }
    if let Some(having) = having {
        let _ = write!(sql, " HAVING {}", having.sql);
    }
    if !sorted.is_empty() {
        let keys =
            sorted.iter().map(|(key, down)| format!("{}{}", key.sql, if *down { " DESC" } else { "" }));
        let _ = write!(sql, " ORDER BY {}", keys.collect::<Vec<_>>().join(", "));
    }
    let (limit, limited) = limit(query)?;
    sql.push_str(&limit);
    let columns =
        items.into_iter().zip(chosen).map(|(item, typed)| Column { name: item.name, kind: typed.kind });
    Ok(Selected { sql, columns: columns.collect(), limited })
}

/// Refuses what is not there.
fn check(select: &Select) -> Result<(), QueryError> {
    let plain = select.top.is_none()
        && select.into.is_none()
        && select.lateral_views.is_empty()
        && select.prewhere.is_none()
        && select.connect_by.is_empty()
        && select.cluster_by.is_empty()
        && select.distribute_by.is_empty()
        && select.sort_by.is_empty()
        && select.named_window.is_empty()
        && select.qualify.is_none()
        && !matches!(select.distinct, Some(Distinct::On(_)));
    match plain {
        true => Ok(()),
        false => invalid(
            "unsupported clause: SELECT, FROM, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, OFFSET and FORMAT are supported",
        ),
    }
}

/// A column of the result.
struct Item {
    name: String,
    alias: Option<String>,
    expr: Expr,
}

fn items(select: &Select, source: &Source) -> Result<Vec<Item>, QueryError> {
    let mut items = Vec::new();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                items.push(Item { name: expr.to_string(), alias: None, expr: expr.clone() });
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                let name = alias.value.clone();
                items.push(Item { name: name.clone(), alias: Some(name), expr: expr.clone() });
            }
            SelectItem::Wildcard(_) if source.fields.is_empty() => return invalid("SELECT * needs FROM"),
            SelectItem::Wildcard(_) => items.extend(source.fields.iter().map(|field| Item {
                name: field.name.clone(),
                alias: None,
                expr: Expr::Identifier(Ident::with_quote('`', &field.name)),
            })),
            other => return invalid(format!("unsupported column: {other}")),
        }
    }
    Ok(items)
}

fn source(select: &Select, now: i64) -> Result<Source, QueryError> {
    let from = match &select.from[..] {
        [] => return Ok(Source::default()),
        [from] if from.joins.is_empty() => from,
        _ => return invalid("unsupported FROM: a query reads one table, JOIN is not supported"),
    };
    match &from.relation {
        TableFactor::Derived { subquery, lateral: false, .. } => {
            let Selected { sql, columns, .. } = translate(subquery, now)?;
            let fields = columns.into_iter().enumerate();
            let fields = fields.map(|(n, column)| Field {
                name: column.name,
                sql: format!("c{n}"),
                kind: column.kind,
            });
            // Closed by whoever uses it.
            Ok(Source { sql: format!("({sql}"), fields: fields.collect(), is_table: false })
        }
        TableFactor::Table { name, args: None, .. } => {
            let name = match &name.0[..] {
                [part] => part.as_ident().map(|ident| ident.value.clone()),
                _ => None,
            };
            let Some(name) = name else { return invalid("unsupported FROM: a table has a name of one part") };
            Ok(Source { sql: table(&name), fields: fields(), is_table: true })
        }
        other => invalid(format!("unsupported FROM: {other}")),
    }
}

/// The columns of every table.
fn fields() -> Vec<Field> {
    let field = |name: String, kind| Field { sql: name.clone(), name, kind };
    let mut fields = vec![
        field("dataset".into(), Type::String),
        field("timestamp".into(), Type::UTC),
        field("_sample_interval".into(), Type::Int(false, 32)),
        field("index1".into(), Type::String),
    ];
    fields.extend((1..=COLUMNS).map(|n| field(format!("blob{n}"), Type::String)));
    fields.extend((1..=COLUMNS).map(|n| field(format!("double{n}"), Type::Float)));
    fields
}

/// The points of a dataset with the columns of the API; its `WHERE` can be gone on with.
fn table(name: &str) -> String {
    let mut sql =
        "(SELECT dataset, timestamp / 1000000000 AS timestamp, 1 AS _sample_interval, CAST(index1 AS TEXT) AS index1"
            .to_owned();
    for n in 1..=COLUMNS {
        let _ = write!(sql, ", coalesce(CAST(blob{n} AS TEXT), '') AS blob{n}");
    }
    for n in 1..=COLUMNS {
        let _ = write!(sql, ", double{n}");
    }
    let _ = write!(sql, " FROM points AS p WHERE p.dataset = {}", quoted(name));
    sql
}

/// A text in SQL.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// What a filter says of `timestamp`, for the index of points by time; as many of them or more as the filter itself lets through.
fn between(filter: &Expr, context: &mut Context<'_>) -> Result<String, QueryError> {
    use sqlparser::ast::BinaryOperator::{And, Gt, GtEq, Lt, LtEq};
    let mut sql = String::new();
    let mut open = vec![filter];
    while let Some(expr) = open.pop() {
        match expr {
            Expr::Nested(inner) => open.push(inner),
            Expr::BinaryOp { left, op: And, right } => open.extend([&**left, &**right]),
            Expr::BinaryOp { left, op: op @ (Gt | GtEq | Lt | LtEq), right } => {
                let is_time = matches!(&**left, Expr::Identifier(name) if name.value == "timestamp");
                if !is_time || context.is_alias("timestamp") {
                    continue;
                }
                let Typed { sql: than, constant: true, .. } = context.moment(right)? else { continue };
                let _ = match op {
                    Gt | GtEq => write!(sql, " AND p.timestamp >= ({than}) * 1000000000"),
                    _ => write!(sql, " AND p.timestamp < (({than}) + 1) * 1000000000"),
                };
            }
            _ => {}
        }
    }
    Ok(sql)
}

fn grouped_by(select: &Select) -> Result<&[Expr], QueryError> {
    match &select.group_by {
        GroupByExpr::Expressions(by, modifiers) if modifiers.is_empty() => Ok(by),
        _ => invalid("unsupported GROUP BY: only expressions are supported"),
    }
}

/// Translates what is grouped or ordered by: `ORDER BY 2` means the second column.
fn positional(context: &mut Context<'_>, expr: &Expr, items: &[Item]) -> Result<Typed, QueryError> {
    let Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) = expr else {
        return context.translate(expr);
    };
    match number.parse::<usize>().ok().and_then(|n| items.get(n.checked_sub(1)?)) {
        Some(item) => context.item(item.alias.as_ref(), &item.expr),
        None => invalid(format!("there is no column {number}")),
    }
}

fn order(query: &Query) -> Result<Vec<OrderByExpr>, QueryError> {
    match query.order_by.as_ref().map(|order| (&order.kind, &order.interpolate)) {
        None => Ok(Vec::new()),
        Some((OrderByKind::Expressions(keys), None)) if keys.iter().all(|key| key.with_fill.is_none()) => {
            Ok(keys.clone())
        }
        Some(_) => invalid("unsupported ORDER BY: only expressions are supported"),
    }
}

/// The order in which rows come to `first_value` and `last_value`: that of a query which is one group, as in Cloudflare's examples.
fn arrival(
    select: &Select,
    items: &[Item],
    order: &[OrderByExpr],
    context: &mut Context<'_>,
) -> Result<Option<(String, bool)>, QueryError> {
    let [by] = order else { return Ok(None) };
    if !grouped_by(select)?.is_empty() {
        return Ok(None);
    }
    let mut one_group = false;
    for item in items {
        one_group |= context.item(item.alias.as_ref(), &item.expr)?.aggregates;
    }
    let key = positional(context, &by.expr, items)?;
    let down = matches!(by.options.sort, Some(OrderBySort::Desc));
    Ok((one_group && !key.aggregates && key.bare.is_some()).then_some((key.sql, down)))
}

fn limit(query: &Query) -> Result<(String, bool), QueryError> {
    let number = |expr: &Expr| match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => {
            number.parse::<i64>().map_err(|_| QueryError::Invalid(format!("{number} is no number of rows")))
        }
        other => invalid(format!("{other} is no number of rows")),
    };
    match &query.limit_clause {
        None => Ok((String::new(), false)),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            let limit = limit.as_ref().map(number).transpose()?;
            let offset = offset.as_ref().map(|offset| number(&offset.value)).transpose()?;
            let sql = format!(" LIMIT {} OFFSET {}", limit.unwrap_or(-1), offset.unwrap_or(0));
            Ok((sql, limit.is_some()))
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
            Ok((format!(" LIMIT {} OFFSET {}", number(limit)?, number(offset)?), true))
        }
        Some(_) => invalid("unsupported LIMIT: LIMIT BY is not supported"),
    }
}
