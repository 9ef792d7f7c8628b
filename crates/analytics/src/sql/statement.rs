//! What is asked for, and how the answer is to be written.

use sqlparser::ast::{Query, Statement as Parsed};
use sqlparser::dialect::ClickHouseDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::output::Format;
use super::{QueryError, invalid};

/// The longest query, in bytes.
const LONGEST: usize = 256 << 10;

/// The operators of a query, at most: `1+1+1…` is as deep as it is long, and whatever looks at it goes as deep.
const OPERATORS: usize = 500;

/// A statement.
pub(super) enum Statement {
    Tables,
    Timezones,
    Timezone,
    Select(Box<Query>),
}

/// Reads a query.
pub(super) fn parse(text: &str) -> Result<(Statement, Format), QueryError> {
    if text.len() > LONGEST {
        return invalid(format!("the query is longer than {LONGEST} bytes"));
    }
    if let Some(shown) = show(text)? {
        return Ok(shown);
    }
    let dialect = ClickHouseDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let mut tokens = tokens.map_err(|e| QueryError::Invalid(e.to_string()))?;
    if tokens.iter().filter(|token| is_operator(&token.token)).count() > OPERATORS {
        return invalid(format!("the query has more than {OPERATORS} operators"));
    }
    let format = format(&mut tokens)?;
    let parsed = Parser::new(&dialect).with_tokens_with_locations(tokens).parse_statements();
    let parsed = parsed.map_err(|error| {
        QueryError::Invalid(error.to_string().trim_start_matches("sql parser error: ").to_owned())
    })?;
    let mut parsed = parsed.into_iter();
    match (parsed.next(), parsed.next()) {
        (Some(Parsed::Query(query)), None) => Ok((Statement::Select(query), format)),
        (None, _) => invalid("the query is empty"),
        (Some(_), Some(_)) => invalid("only one statement is supported in a query"),
        (Some(_), None) => invalid("unsupported statement: only SELECT and SHOW are supported"),
    }
}

/// `FORMAT …` at the end of a query, which is taken off: the parser takes the word for a name where there could be one.
fn format(tokens: &mut Vec<TokenWithSpan>) -> Result<Format, QueryError> {
    let says =
        |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    let words = tokens.iter().filter(says).count();
    let mut last = tokens.iter().enumerate().filter(|(_, token)| says(token)).skip(words.saturating_sub(2));
    let (Some((at, first)), Some((_, second))) = (last.next(), last.next()) else { return Ok(Format::Json) };
    let format = match (&first.token, &second.token) {
        (Token::Word(word), Token::Word(name))
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("format") =>
        {
            Format::named(&name.value)?
        }
        _ => return Ok(Format::Json),
    };
    tokens.truncate(at);
    Ok(format)
}

/// Whether a token may make an expression deeper without a parenthesis; all but those that cannot.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => {
            use Keyword::{
                AND, BETWEEN, DIV, GLOB, ILIKE, IN, IS, LIKE, NOT, OR, REGEXP, RLIKE, SIMILAR, UNION, XOR,
            };
            let operators =
                [AND, BETWEEN, DIV, GLOB, ILIKE, IN, IS, LIKE, NOT, OR, REGEXP, RLIKE, SIMILAR, UNION, XOR];
            operators.contains(&word.keyword)
                || matches!(word.keyword, Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS)
        }
        Token::Comma
        | Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

/// `SHOW …`, which is too short to be parsed by anything.
fn show(text: &str) -> Result<Option<(Statement, Format)>, QueryError> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let words: Vec<&str> =
        words.iter().map(|word| word.trim_end_matches(';')).filter(|w| !w.is_empty()).collect();
    let is = |n: usize, word: &str| words.get(n).is_some_and(|found: &&str| found.eq_ignore_ascii_case(word));
    if !is(0, "show") {
        return Ok(None);
    }
    let statement = match () {
        () if is(1, "tables") => Statement::Tables,
        () if is(1, "timezones") => Statement::Timezones,
        () if is(1, "timezone") => Statement::Timezone,
        () => {
            return invalid(
                "unsupported statement: SHOW TABLES, SHOW TIMEZONES and SHOW TIMEZONE are supported",
            );
        }
    };
    match words.len() {
        2 => Ok(Some((statement, Format::Json))),
        4 if is(2, "format") => Ok(Some((statement, Format::named(words[3])?))),
        _ => invalid(format!("unexpected text after {} {}", words[0], words[1])),
    }
}
