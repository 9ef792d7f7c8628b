//! D1 databases.
