//! The arguments of `ray start`, and the command of the Ray container.

use std::collections::BTreeMap;

use mobula_api::{Compat, FieldError, Quantity, keys};
use serde_json::Value;

use super::{draft::ContainerDraft, group::Group, resources};
use crate::config::Config;

/// Port of the dashboard's agent on every node.
const AGENT_PORT: &str = "52365";
/// Arguments that take `true` and `false` as values.
const WITH_BOOLEAN: [&str; 2] = ["log-color", "include-dashboard"];
/// Since 1.7 one more.
const WITH_BOOLEAN_1_7: &str = "include-log-monitor";
/// Container resources that Ray knows under names of its own.
const ACCELERATORS: [(&str, &str); 2] = [("aws.amazon.com/neuroncore", "neuron_cores"), (keys::GOOGLE_TPU, "TPU")];

/// Arguments of `ray start` before the container's resources are looked at: the group's own, what its `resources` and
/// `labels` say, and what every node needs.
pub(super) fn start_params(group: &Group<'_>, gcs_address: &str) -> BTreeMap<String, String> {
    let mut params = group.params.clone();
    add_declared_resources(&mut params, group.resources);
    if !group.labels.is_empty() {
        let labels: Vec<String> = group.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        params.insert("labels".to_owned(), labels.join(","));
    }
    let mut default = |name: &str, value: &str| {
        params.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    };
    if group.is_head {
        default("dashboard-host", "0.0.0.0");
    } else {
        default("address", gcs_address);
    }
    default("metrics-export-port", "8080");
    default("dashboard-agent-listen-port", AGENT_PORT);
    params.insert("block".to_owned(), "true".to_owned());
    params
}

/// The group's `resources` as arguments. What is no quantity is passed over, as KubeRay does.
fn add_declared_resources(params: &mut BTreeMap<String, String>, declared: &BTreeMap<String, String>) {
    let mut custom = BTreeMap::new();
    for (name, text) in declared {
        let Ok(quantity) = text.parse::<Quantity>() else { continue };
        let param = match name.to_lowercase().as_str() {
            "cpu" => "num-cpus",
            "memory" => "memory",
            lower if resources::is_gpu(lower) => "num-gpus",
            _ => {
                custom.insert(name.clone(), quantity.as_f64());
                continue;
            }
        };
        params.insert(param.to_owned(), quantity.ceil_units().to_string());
    }
    if !custom.is_empty() {
        params.insert("resources".to_owned(), quoted_json(&custom));
    }
}

/// Adds what the limits of the Ray container say about CPUs, memory and accelerators.
pub(super) fn add_container_resources(
    params: &mut BTreeMap<String, String>,
    path: &str,
    ray: &ContainerDraft,
) -> Result<(), FieldError> {
    let (limits, requests) = (resources::of(path, ray, "limits")?, resources::of(path, ray, "requests")?);
    let some = |list: &BTreeMap<String, Quantity>, name: &str| list.get(name).copied().filter(|q| !q.is_zero());
    let mut default = |name: &str, quantity: Option<Quantity>| {
        if let (false, Some(quantity)) = (params.contains_key(name), quantity) {
            params.insert(name.to_owned(), quantity.ceil_units().to_string());
        }
    };
    default("num-cpus", some(&limits, "cpu").or_else(|| some(&requests, "cpu")));
    default("memory", some(&limits, "memory"));

    // KubeRay derives neither GPUs nor accelerators beside `resources` that it can't read.
    let Some(mut custom) = custom_resources(params) else { return Ok(()) };
    let gpus = limits.iter().find(|(name, quantity)| resources::is_gpu(name) && !quantity.is_zero());
    if let (false, Some((_, quantity))) = (params.contains_key("num-gpus"), gpus) {
        params.insert("num-gpus".to_owned(), quantity.ceil_units().to_string());
    }
    if ACCELERATORS.iter().any(|(_, ray_name)| custom.contains_key(*ray_name)) {
        return Ok(());
    }
    let accelerators = limits.iter().filter(|(_, quantity)| !quantity.is_zero());
    let known = accelerators.filter_map(|(name, quantity)| {
        ACCELERATORS.iter().find(|(known, _)| known == name).map(|(_, ray_name)| (*ray_name, quantity))
    });
    if let Some((name, quantity)) = known.into_iter().next() {
        custom.insert(name.to_owned(), quantity.as_f64());
        params.insert("resources".to_owned(), quoted_json(&custom));
    }
    Ok(())
}

/// What `resources` among the arguments says: a JSON object of numbers, quoted for the shell.
fn custom_resources(params: &BTreeMap<String, String>) -> Option<BTreeMap<String, f64>> {
    let Some(text) = params.get("resources") else { return Some(BTreeMap::new()) };
    let text = text.trim_matches(['\'', '"', '`', ' ']);
    // As Go reads it, null is a map without entries, and a number that is null is zero.
    let read: Option<BTreeMap<String, Option<f64>>> = serde_json::from_str(text).ok()?;
    Some(read.unwrap_or_default().into_iter().map(|(name, number)| (name, number.unwrap_or_default())).collect())
}

fn quoted_json(numbers: &BTreeMap<String, f64>) -> String {
    let members: Vec<String> =
        numbers.iter().map(|(name, number)| format!("{}:{}", go_string(name), go_number(*number))).collect();
    format!("'{{{}}}'", members.join(","))
}

/// A JSON string as Go writes it: HTML is escaped.
fn go_string(text: &str) -> String {
    let escaped = |c: char| match c {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        other => other.to_string(),
    };
    Value::from(text).to_string().chars().map(escaped).collect()
}

/// A JSON number as Go writes it: `4`, `0.5`, and an exponent for what is very large or very small.
fn go_number(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return if size >= 1e21 { text.replacen('e', "e+", 1) } else { text };
    }
    format!("{number}")
}

/// `ray start …`, with the arguments in order and KubeRay's spaces.
pub(super) fn ray_start(config: &Config, is_head: bool, params: &BTreeMap<String, String>) -> String {
    let takes_boolean =
        |name: &str| WITH_BOOLEAN.contains(&name) || (config.compat >= Compat::V1_7 && name == WITH_BOOLEAN_1_7);
    let flag = |(name, value): (&String, &String)| match value.to_lowercase().as_str() {
        "true" if !takes_boolean(name) => format!(" --{name} "),
        "false" if !takes_boolean(name) => String::new(),
        _ => format!(" --{name}={value} "),
    };
    let flags: String = params.iter().map(flag).collect();
    format!("ray start {}{flags}", if is_head { "--head " } else { "" })
}

/// The shell that the operator's commands run in.
pub(super) fn shell(config: &Config) -> Vec<String> {
    let flag = if config.pods.login_shell { "-cl" } else { "-c" };
    ["/bin/bash", flag, "--"].map(str::to_owned).to_vec()
}

/// Puts `ray start` behind what the user wants to run first, unless the user starts Ray or asks to be left alone.
pub(super) fn set_command(config: &Config, ray: &mut ContainerDraft, ray_start: &str, left_alone: bool) {
    let own: String = ray.command.iter().chain(&ray.args).map(|word| format!(" {word} ")).collect();
    if left_alone || own.contains("ray start") {
        return;
    }
    let files = match config.compat {
        Compat::V1_6 => "65536",
        Compat::V1_7 => "${RAY_START_ULIMIT_OPEN_FILES:-65536}",
    };
    let first = if own.is_empty() { String::new() } else { format!("{own} && ") };
    ray.command = shell(config);
    ray.args = vec![format!("{first}ulimit -n {files}; {ray_start}")];
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn with_limits(pairs: &[(&str, &str)], resources: &Value) -> BTreeMap<String, String> {
        let mut params = params(pairs);
        let ray = ContainerDraft::from_value("c", &json!({ "resources": resources })).unwrap();
        add_container_resources(&mut params, "c", &ray).unwrap();
        params
    }

    #[test]
    fn booleans_are_switches_except_where_they_are_values() {
        let given = params(&[
            ("a", "True"),
            ("b", "FALSE"),
            ("c", ""),
            ("include-log-monitor", "false"),
            ("log-color", "false"),
        ]);
        let mut config = Config::default();
        assert_eq!(ray_start(&config, true, &given), "ray start --head  --a  --c=  --log-color=false ");
        config.compat = Compat::V1_7;
        let with_monitor = "ray start  --a  --c=  --include-log-monitor=false  --log-color=false ";
        assert_eq!(ray_start(&config, false, &given), with_monitor);
    }

    #[test]
    fn limits_become_arguments_rounded_up_and_requests_only_for_cpus() {
        let found = with_limits(&[], &json!({"limits": {"cpu": "1500m", "memory": "1.5Gi", "nvidia.com/gpu": 2}}));
        assert_eq!(found, params(&[("memory", "1610612736"), ("num-cpus", "2"), ("num-gpus", "2")]));
        let found = with_limits(&[], &json!({"requests": {"cpu": "100m", "memory": "1Gi", "nvidia.com/gpu": 2}}));
        assert_eq!(found, params(&[("num-cpus", "1")]));
        let found =
            with_limits(&[("num-cpus", "0"), ("num-gpus", "7")], &json!({"limits": {"cpu": 4, "amd.com/gpu": 1}}));
        assert_eq!(found, params(&[("num-cpus", "0"), ("num-gpus", "7")]));
    }

    #[test]
    fn accelerators_are_added_to_the_resources_once() {
        let tpu = json!({"limits": {"google.com/tpu": "4", "aws.amazon.com/neuroncore": 0}});
        assert_eq!(with_limits(&[], &tpu)["resources"], "'{\"TPU\":4}'");
        assert_eq!(
            with_limits(&[("resources", "'{\"b\":0.5,\"a\":2}'")], &tpu)["resources"],
            "'{\"TPU\":4,\"a\":2,\"b\":0.5}'"
        );
        assert_eq!(with_limits(&[("resources", "\"{\\\"a\\\":1}\"")], &tpu)["resources"], "\"{\\\"a\\\":1}\"");
        assert_eq!(with_limits(&[("resources", "{\"neuron_cores\":1}")], &tpu)["resources"], "{\"neuron_cores\":1}");
        let gpu = json!({"limits": {"nvidia.com/gpu": 1}});
        assert_eq!(with_limits(&[("resources", "null")], &gpu), params(&[("num-gpus", "1"), ("resources", "null")]));
        let both = json!({"limits": {"google.com/tpu": 4, "aws.amazon.com/neuroncore": 2, "nvidia.com/mig-1g.5gb": 3}});
        let found = with_limits(&[], &both);
        assert_eq!((found["resources"].as_str(), found["num-gpus"].as_str()), ("'{\"neuron_cores\":2}'", "3"));
    }

    #[test]
    fn declared_resources_take_the_place_of_arguments() {
        let declared = params(&[("CPU", "500m"), ("Memory", "1Gi"), ("GPU", "2"), ("foo", "1500m"), ("bad", "x")]);
        let mut found = BTreeMap::new();
        add_declared_resources(&mut found, &declared);
        let expected =
            [("memory", "1073741824"), ("num-cpus", "1"), ("num-gpus", "2"), ("resources", "'{\"foo\":1.5}'")];
        assert_eq!(found, params(&expected));
    }

    #[test]
    fn numbers_and_names_are_written_as_go_does() {
        let numbers =
            [(4.0, "4"), (0.5, "0.5"), (0.0, "0"), (1e-9, "1e-9"), (1e21, "1e+21"), (1e20, "100000000000000000000")];
        for (number, text) in numbers {
            assert_eq!(go_number(number), text);
        }
        assert_eq!(go_string("a<b\"&"), "\"a\\u003cb\\\"\\u0026\"");
    }

    #[test]
    fn the_users_command_comes_first_unless_it_starts_ray() {
        let mut config = Config::default();
        let mut ray = ContainerDraft::from_value("c", &json!({"command": ["echo", "hi"], "args": ["there"]})).unwrap();
        let own = ray.clone();
        set_command(&config, &mut ray, "ray start", false);
        assert_eq!(ray.args, [" echo  hi  there  && ulimit -n 65536; ray start"]);
        for (container, left_alone) in
            [(own, true), (ContainerDraft { args: vec!["ray start --head".into()], ..<_>::default() }, false)]
        {
            let mut ray = container.clone();
            set_command(&config, &mut ray, "ray start", left_alone);
            assert_eq!((ray.command, ray.args), (container.command, container.args));
        }
        config.compat = Compat::V1_7;
        config.pods.login_shell = true;
        let mut ray = ContainerDraft::default();
        set_command(&config, &mut ray, "ray start", false);
        assert_eq!(ray.command, ["/bin/bash", "-cl", "--"]);
        assert_eq!(ray.args, ["ulimit -n ${RAY_START_ULIMIT_OPEN_FILES:-65536}; ray start"]);
    }
}
