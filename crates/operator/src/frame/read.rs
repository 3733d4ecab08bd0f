//! How answers of the API server are read: without what nobody looks at.

use std::{fmt::Debug, marker::PhantomData};

use mobula_api::sparse::{MANAGED_FIELDS, Omit, POD_WORK, Sparse};
use serde::{Deserialize, Deserializer, de::DeserializeSeed as _};
use serde_json::Value;

/// What of an object is left out.
pub trait Reads: Clone + Debug + Send + Sync + 'static {
    /// The fields.
    const OMIT: &'static [Omit];
}

/// Objects of any kind.
#[derive(Clone, Debug)]
pub struct AnyKind;

impl Reads for AnyKind {
    const OMIT: &'static [Omit] = MANAGED_FIELDS;
}

/// Pods: of them there are most, and reconcilers look at little of one.
#[derive(Clone, Debug)]
pub struct Pods;

impl Reads for Pods {
    const OMIT: &'static [Omit] = POD_WORK;
}

/// An object without what is left out.
#[derive(Clone, Debug)]
pub struct Json<R> {
    /// What there is.
    pub value: Value,
    reads: PhantomData<R>,
}

impl<'de, R: Reads> Deserialize<'de> for Json<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Json { value: Sparse(R::OMIT).deserialize(deserializer)?, reads: PhantomData })
    }
}
