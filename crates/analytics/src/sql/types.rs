//! Types of values, as ClickHouse names them.

use std::fmt;

/// A type. Times are kept as seconds since 1970 and shown in their time zone; truth is 1 or 0 in a `UInt8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    /// An integer: whether it has a sign, and its bits.
    Int(bool, u8),
    Float,
    /// With its time zone, where that is not UTC.
    DateTime(Option<String>),
    Date,
    Interval(Unit),
    Array(Box<Type>),
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Type {
    pub const BOOL: Self = Self::Int(false, 8);
    pub const COUNT: Self = Self::Int(false, 64);
    pub const UTC: Self = Self::DateTime(None);

    pub fn is_number(&self) -> bool {
        matches!(self, Self::Int(..) | Self::Float)
    }

    pub fn is_time(&self) -> bool {
        matches!(self, Self::DateTime(_) | Self::Date)
    }

    /// The type that both can be; `None` if there is none.
    pub fn common(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (a, b) if a == b => Some(a.clone()),
            (Self::Float, b) if b.is_number() => Some(Self::Float),
            (a, Self::Float) if a.is_number() => Some(Self::Float),
            (Self::Int(a, bits), Self::Int(b, more)) => Some(Self::Int(*a || *b, *bits.max(more))),
            (Self::DateTime(_), b) if b.is_time() => Some(self.clone()),
            (Self::Date, Self::DateTime(_)) => Some(other.clone()),
            _ => None,
        }
    }

    /// What an aggregate over no rows comes to, in SQL.
    pub fn default(&self) -> &'static str {
        match self {
            Self::String => "''",
            Self::Array(_) => "'[]'",
            _ => "0",
        }
    }

    /// As [`Self::default`], where no value may also be a double that is no number.
    pub fn no_value(&self) -> &'static str {
        match self {
            Self::Float => "NULL",
            kind => kind.default(),
        }
    }

    /// The time zone in which it is shown.
    pub fn zone(&self) -> &str {
        match self {
            Self::DateTime(Some(zone)) => zone,
            _ => "UTC",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String => f.write_str("String"),
            Self::Int(signed, bits) => write!(f, "{}Int{bits}", if *signed { "" } else { "U" }),
            Self::Float => f.write_str("Float64"),
            Self::DateTime(None) => f.write_str("DateTime"),
            Self::DateTime(Some(zone)) => write!(f, "DateTime('{zone}')"),
            Self::Date => f.write_str("Date"),
            Self::Interval(unit) => write!(f, "Interval{unit:?}"),
            Self::Array(of) => write!(f, "Array({of})"),
        }
    }
}

impl Unit {
    /// Its length in seconds; `None` where that differs.
    pub fn seconds(self) -> Option<i64> {
        match self {
            Self::Second => Some(1),
            Self::Minute => Some(60),
            Self::Hour => Some(3600),
            Self::Day => Some(86_400),
            Self::Week => Some(7 * 86_400),
            Self::Month | Self::Year => None,
        }
    }

    /// By its name, in any case, as one or as many.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        match name.strip_suffix('s').unwrap_or(&name) {
            "second" => Some(Self::Second),
            "minute" => Some(Self::Minute),
            "hour" => Some(Self::Hour),
            "day" => Some(Self::Day),
            "week" => Some(Self::Week),
            "month" => Some(Self::Month),
            "year" => Some(Self::Year),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}
