//! Small adapters between columns and the domain's types.

use std::error::Error;
use std::str::FromStr;
use tokio_postgres::types::{FromSql, Type};

/// A text column that holds a value of an enumeration.
pub(crate) struct Word<T>(pub(crate) T);

impl<'a, T> FromSql<'a> for Word<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(<&str as FromSql>::from_sql(ty, raw)?.parse()?))
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}

/// A bytea column that holds a SHA-256.
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl<'a> FromSql<'a> for Digest {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(<&[u8] as FromSql>::from_sql(ty, raw)?.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        <&[u8] as FromSql>::accepts(ty)
    }
}
