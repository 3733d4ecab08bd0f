//! The definitions in deploy/crd are what `mobula crd` prints. `MOBULA_REWRITE_GOLDEN=1` writes them anew.
// A test asks the environment whether to rewrite; helpers of tests may fail loudly.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use mobula_api::Kind;

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mobula")).arg("crd").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_definitions_in_the_repository_are_up_to_date() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crd");
    for kind in Kind::ALL {
        let file = directory.join(format!("ray.io_{}.yaml", kind.plural()));
        let printed = printed(&[kind.as_str()]);
        if std::env::var_os("MOBULA_REWRITE_GOLDEN").is_some() {
            fs::write(&file, &printed).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == printed, "{} is stale: run `mobula crd {}`", file.display(), kind.as_str());
    }
}

#[test]
fn yaml_and_json_say_the_same() {
    let yaml: Vec<serde_json::Value> = serde_saphyr::from_multiple(&printed(&[])).unwrap();
    let json: serde_json::Value = serde_json::from_str(&printed(&["-o", "json"])).unwrap();
    assert_eq!(json["items"].as_array().unwrap(), &yaml);
    let expected: Vec<_> = Kind::ALL.iter().map(|kind| kind.definition()).collect();
    assert_eq!(yaml, expected);
}
