//! What a pod of each group costs, from a file that the user writes.
//!
//! ```yaml
//! cpu: 0.4                                     # price of one pod (host) an hour, in any currency
//! gpu: {price_per_hour: 3.2, capacity_type: spot, zone: eu-1}
//! big:                                         # several ways to get capacity
//!   offerings:
//!   - {price_per_hour: 9.8, capacity_type: on-demand}
//!   - {price_per_hour: 3.1, capacity_type: spot}
//! ```

mod file;

use std::collections::BTreeMap;

use mobula_api::FieldError;
use mobula_planner::{CapacityType, Offering};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::yaml::{self, error};

pub use file::{PriceFile, Refreshed};

/// Highest price an hour. More is a slip of the pen, and sums of less stay exact enough.
const MOST_PER_HOUR: f64 = 1e9;
/// Most offerings of one group.
const MOST_OFFERINGS: usize = 100;

/// Ways to get capacity for the pods of each group, by group name. A group that is absent has no known price.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prices(pub BTreeMap<String, Vec<Offering>>);

impl Prices {
    /// Reads the text of a price file: one document of YAML or JSON.
    ///
    /// # Errors
    /// Says what is no YAML, or names group, field and value that can't be used.
    pub fn from_text(text: &str) -> Result<Prices, FieldError> {
        Prices::from_value(&yaml::one_document(text)?)
    }

    /// Reads a price file that was parsed already.
    ///
    /// # Errors
    /// Names group, field and value that can't be used.
    pub fn from_value(document: &Value) -> Result<Prices, FieldError> {
        let Some(groups) = document.as_object() else {
            return Err(error("", document, "must be a map from group name to price"));
        };
        let read = |(group, value): (&String, &Value)| Ok((group.clone(), offerings_of_group(group, value)?));
        groups.iter().map(read).collect::<Result<_, _>>().map(Prices)
    }
}

fn offerings_of_group(group: &str, value: &Value) -> Result<Vec<Offering>, FieldError> {
    let members = match value {
        Value::Object(members) => members,
        number => return Ok(vec![Offering { price_per_hour: price(group, number)?, ..Offering::default() }]),
    };
    let Some(list) = members.get("offerings") else { return Ok(vec![offering(group, members)?]) };
    if let Some((key, other)) = members.iter().find(|(key, _)| *key != "offerings") {
        return Err(error(
            &format!("{group}.{key}"),
            other,
            "must not stand beside offerings: write it into each of them",
        ));
    }
    let path = format!("{group}.offerings");
    let items = list.as_array().filter(|items| (1..=MOST_OFFERINGS).contains(&items.len()));
    let Some(items) = items else {
        return Err(error(&path, list, &format!("must be a list of 1 to {MOST_OFFERINGS} offerings")));
    };
    let read = |(index, item): (usize, &Value)| {
        let path = format!("{path}[{index}]");
        let problem = "must be a map with price_per_hour, and with capacity_type and zone if you like";
        offering(&path, item.as_object().ok_or_else(|| error(&path, item, problem))?)
    };
    items.iter().enumerate().map(read).collect()
}

fn offering(path: &str, members: &Map<String, Value>) -> Result<Offering, FieldError> {
    let mut offering = Offering::default();
    for (key, value) in members {
        let path = format!("{path}.{key}");
        match key.as_str() {
            "price_per_hour" => offering.price_per_hour = price(&path, value)?,
            "capacity_type" => {
                // The names are those of the planner's own words.
                offering.capacity_type = CapacityType::deserialize(value)
                    .map_err(|_| error(&path, value, "must be reserved, on-demand or spot"))?;
            }
            "zone" => {
                let zone = value.as_str().filter(|zone| !zone.is_empty());
                let zone = zone.ok_or_else(|| error(&path, value, "must be the name of a zone, or left out"))?;
                offering.zone = Some(zone.to_owned());
            }
            _ => {
                let problem = "is not known: must be price_per_hour, capacity_type, zone or offerings";
                return Err(error(&path, value, problem));
            }
        }
    }
    if members.contains_key("price_per_hour") {
        Ok(offering)
    } else {
        Err(FieldError::missing(format!("{path}.price_per_hour"), "is required: the price of one pod an hour"))
    }
}

fn price(path: &str, value: &Value) -> Result<f64, FieldError> {
    let price = value.as_f64().filter(|price| (0.0..=MOST_PER_HOUR).contains(price));
    // Adding zero makes -0 the 0 that it equals.
    price
        .map(|price| price + 0.0)
        .ok_or_else(|| error(path, value, "must be the price of one pod an hour: a number from 0 to 1000000000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_demand(price_per_hour: f64) -> Offering {
        Offering { price_per_hour, ..Offering::default() }
    }

    #[test]
    fn the_short_and_the_long_form_may_be_mixed() {
        let text = "
            cpu: 0.4
            gpu: {price_per_hour: 3.2, capacity_type: spot, zone: eu-1}
            big:
              offerings:
              - price_per_hour: 9
              - {price_per_hour: 0, capacity_type: reserved}
        ";
        let spot = Offering { price_per_hour: 3.2, capacity_type: CapacityType::Spot, zone: Some("eu-1".to_owned()) };
        let reserved = Offering { capacity_type: CapacityType::Reserved, ..on_demand(0.0) };
        let expected = [
            ("cpu".to_owned(), vec![on_demand(0.4)]),
            ("gpu".to_owned(), vec![spot]),
            ("big".to_owned(), vec![on_demand(9.0), reserved]),
        ];
        assert_eq!(Prices::from_text(text).unwrap(), Prices(expected.into()));
    }

    #[test]
    fn json_is_read_as_well_and_no_group_is_no_price() {
        assert_eq!(Prices::from_text("{\"a\": 1e-3}\n").unwrap().0["a"], [on_demand(0.001)]);
        assert_eq!(Prices::from_text("{}").unwrap(), Prices::default());
    }

    #[test]
    fn what_can_not_be_used_is_named_with_group_field_and_value() {
        let number = "must be the price of one pod an hour: a number from 0 to 1000000000";
        let cases = [
            ("gpu: -3", format!("gpu: -3: {number}")),
            ("gpu: '3.2'", format!("gpu: 3.2: {number}")),
            ("gpu: 1e10", format!("gpu: 10000000000.0: {number}")),
            ("gpu:", format!("gpu: nothing: {number}")),
            ("gpu: [3]", format!("gpu: [3]: {number}")),
            ("gpu: {price_per_hour: free}", format!("gpu.price_per_hour: free: {number}")),
            (
                "gpu: {price_per_hour: 1, capacity_type: preemptible}",
                "gpu.capacity_type: preemptible: must be reserved, on-demand or spot".to_owned(),
            ),
            (
                "gpu: {price_per_hour: 1, capacity-type: spot}",
                "gpu.capacity-type: spot: is not known: must be price_per_hour, capacity_type, zone or offerings"
                    .to_owned(),
            ),
            ("gpu: {price_per_hour: 1, zone: 7}", "gpu.zone: 7: must be the name of a zone, or left out".to_owned()),
            ("gpu: {capacity_type: spot}", "gpu.price_per_hour: is required: the price of one pod an hour".to_owned()),
            ("gpu: {offerings: []}", "gpu.offerings: []: must be a list of 1 to 100 offerings".to_owned()),
            (
                "gpu: {offerings: [{price_per_hour: 1}, {price_per_hour: -1}]}",
                format!("gpu.offerings[1].price_per_hour: -1: {number}"),
            ),
            (
                "gpu: {offerings: [{price_per_hour: 1}], zone: a}",
                "gpu.zone: a: must not stand beside offerings: write it into each of them".to_owned(),
            ),
            ("- 3", "the document: [3]: must be a map from group name to price".to_owned()),
            ("a: 1\n---\nb: 2", "the document: holds 2 documents: must be one".to_owned()),
            ("", "the document: is empty".to_owned()),
        ];
        for (text, expected) in cases {
            assert_eq!(Prices::from_text(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_no_finite_number_or_named_twice_is_refused_with_its_place() {
        for (text, part) in
            [("gpu: {", "not YAML"), ("cpu: 1\ngpu: .nan", ".nan"), ("gpu: .inf", ".inf"), ("gpu: 1\ngpu: 2", "gpu")]
        {
            let error = Prices::from_text(text).unwrap_err().to_string();
            assert!(error.starts_with("the document: not YAML: ") && error.contains("line "), "{error}");
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn prices_come_out_of_a_recording_as_they_went_in() {
        let prices = Prices::from_text("a: 0.1\nb: 3.0000000000000004\nc: 123456.78901234567").unwrap();
        let again: Prices = serde_json::from_str(&serde_json::to_string(&prices).unwrap()).unwrap();
        assert_eq!(again, prices);
    }
}
