//! Amounts of resources, exact in Ray's own resolution.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of one resource in 1/10,000 of a unit (Ray's fixed point). Bytes of memory fit up to 9.2e14.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(i64);

impl Amount {
    /// Fixed-point steps in one unit.
    pub const STEPS_PER_UNIT: i64 = 10_000;
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// From 1/10,000 units.
    pub const fn from_steps(steps: i64) -> Self {
        Amount(steps)
    }

    /// From whole units, saturating.
    pub const fn from_units(units: i64) -> Self {
        Amount(units.saturating_mul(Self::STEPS_PER_UNIT))
    }

    /// The nearest amount to `units`; `None` for NaN, infinities and what 64 bits of 1/10,000 can't hold.
    pub fn from_f64(units: f64) -> Option<Self> {
        let steps = (units * Self::STEPS_PER_UNIT as f64).round();
        (steps.is_finite() && steps.abs() < i64::MAX as f64).then_some(Amount(steps as i64))
    }

    /// In 1/10,000 units.
    pub const fn steps(self) -> i64 {
        self.0
    }

    /// In units, as Ray's Python code sees it: the double nearest to the decimal.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::STEPS_PER_UNIT as f64
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % Self::STEPS_PER_UNIT == 0 {
            serializer.serialize_i64(self.0 / Self::STEPS_PER_UNIT)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let units = f64::deserialize(deserializer)?;
        Amount::from_f64(units).ok_or_else(|| serde::de::Error::custom(format!("{units} is not a resource amount")))
    }
}

/// Resource name → amount. A name that is absent means 0 (implicit resources, whose name starts
/// `node:__internal_implicit_resource_`, mean 1).
pub type Resources = BTreeMap<String, Amount>;

/// Label key → value.
pub type Labels = BTreeMap<String, String>;
