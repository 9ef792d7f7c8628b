//! `UPDATE … LIMIT` and `DELETE … LIMIT`, which the engine's SQLite has and the distributed one has not: its
//! parser was generated without them. SQLite itself carries them out as rewritten here.

use crate::split;

/// The same statement without `LIMIT`, for a table with row ids; `None` if it is not such a statement.
///
/// `DELETE FROM t WHERE a ORDER BY b LIMIT c` becomes
/// `DELETE FROM t WHERE _rowid_ IN (SELECT _rowid_ FROM t WHERE a ORDER BY b LIMIT c)`. Parameters keep
/// their order.
pub(crate) fn rewrite(sql: &str) -> Option<String> {
    let sql = sql.trim_end().trim_end_matches(';');
    let words = split::top_words(sql);
    let find = |wanted: &[&str], from: usize| {
        let mut rest = words.iter().enumerate().skip(from);
        rest.find(|(_, (_, word))| wanted.iter().any(|w| w.eq_ignore_ascii_case(word))).map(|(i, _)| i)
    };
    let is =
        |index: usize, wanted: &str| words.get(index).is_some_and(|(_, w)| w.eq_ignore_ascii_case(wanted));
    let start = |index: usize| words.get(index).map(|(at, _)| *at);

    let verb = find(&["update", "delete"], 0)?;
    let deletes = is(verb, "delete");
    let table = match deletes {
        true if is(verb + 1, "from") => start(verb + 1)? + "from".len(),
        true => return None,
        false if is(verb + 1, "or") => start(verb + 2)? + words.get(verb + 2)?.1.len(),
        false => start(verb)? + "update".len(),
    };
    let set = if deletes { verb + 1 } else { find(&["set"], verb)? };
    if !deletes && find(&["from"], set).is_some() {
        return None;
    }
    let limit = find(&["limit"], set)?;
    let tail = find(&["order"], set).filter(|order| *order < limit && is(order + 1, "by")).unwrap_or(limit);
    let returning = find(&["returning"], set).filter(|at| *at < tail).unwrap_or(tail);
    let condition = find(&["where"], set).filter(|at| *at < returning).unwrap_or(returning);

    let (condition, returning, tail) = (start(condition)?, start(returning)?, start(tail)?);
    let table_end = if deletes { condition } else { start(set)? };
    let (returned, limited) = (sql.get(returning..tail)?, sql.get(tail..)?);
    if returned.contains('?') {
        // Its parameters would change places with those of the limit.
        return None;
    }
    Some(format!(
        "{} WHERE _rowid_ IN (SELECT _rowid_ FROM {} {} {limited}\n) {returned}",
        sql.get(..condition)?,
        sql.get(table..table_end)?,
        sql.get(condition..returning)?
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ran(sql: &str) -> Vec<i64> {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (a INTEGER, b INTEGER); INSERT INTO t VALUES (1, 9), (2, 8), (3, 7), (4, 6)",
            )
            .unwrap();
        let rewritten = rewrite(sql).unwrap();
        let mut statement = connection.prepare(&rewritten).unwrap();
        let parameters = statement.parameter_count();
        let mut rows = statement.query(rusqlite::params_from_iter((0..parameters).map(|_| 2))).unwrap();
        while rows.next().unwrap().is_some() {}
        drop(rows);
        let mut left = connection.prepare("SELECT a FROM t ORDER BY a").unwrap();
        left.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn only_the_rows_within_the_limit_change() {
        assert_eq!(ran("DELETE FROM t LIMIT 3"), [4]);
        assert_eq!(ran("delete from t where a > 1 order by b limit ?;"), [1, 2]);
        assert_eq!(
            ran("DELETE FROM main.t AS x WHERE x.a IN (SELECT a FROM t ORDER BY a LIMIT 2) LIMIT 1 OFFSET 1"),
            [1, 3, 4]
        );
        assert_eq!(ran("DELETE FROM t WHERE a > ? RETURNING a, b ORDER BY a LIMIT 1 -- end"), [1, 2, 4]);
        assert_eq!(ran("UPDATE t SET a = a + 10, b = ? WHERE a > 2 ORDER BY a DESC LIMIT 1"), [1, 2, 3, 14]);
        assert_eq!(ran("UPDATE OR IGNORE t SET a = 7 LIMIT 1"), [2, 3, 4, 7]);
        assert_eq!(
            ran("WITH x(y) AS (SELECT 3) DELETE FROM t WHERE a >= (SELECT y FROM x) LIMIT 1"),
            [1, 2, 4]
        );
    }

    #[test]
    fn what_is_not_limited_is_left_alone() {
        for sql in [
            "DELETE FROM t",
            "SELECT 1 LIMIT 1",
            "UPDATE t SET a = 1 FROM u LIMIT 1",
            "DELETE t LIMIT 1",
            "",
            "DELETE FROM t RETURNING ? LIMIT ?",
            "DELETE FROM t WHERE a IN (SELECT 1 LIMIT 1)",
        ] {
            assert_eq!(rewrite(sql), None, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(sql in "((update|delete|from|set|where|order|by|limit|returning|or|é|'x'|\\(|\\)|;|-- )[ ]?){0,12}") {
            let _ = rewrite(&sql);
        }
    }
}
