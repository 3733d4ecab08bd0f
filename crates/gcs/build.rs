//! Turns `proto/*.proto` into Rust: messages (prost), their protobuf JSON (pbjson), and one typed constant a method.
//! Everything is compiled by Rust code: no `protoc` is needed.
#![allow(clippy::disallowed_methods)] // a build script is told where to write by the environment

use std::error::Error;
use std::path::Path;

/// Types that exist as protobuf JSON too: what a user can hand in as a file.
const JSON: [&str; 5] = [
    ".ray.rpc.autoscaler",
    ".ray.rpc.LabelSelector",
    ".ray.rpc.LabelSelectorConstraint",
    ".ray.rpc.LabelSelectorOperator",
    ".ray.rpc.PlacementStrategy",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let files = ["autoscaler.proto", "gcs_service.proto", "health.proto"];
    let descriptors = protox::compile(files, [folder])?;

    let mut json = pbjson_build::Builder::new();
    for file in &descriptors.file {
        json.register_file_descriptor(file.clone());
    }
    json.btree_map(["."]).ignore_unknown_fields().ignore_unknown_enum_variants().build(&JSON)?;

    prost_build::Config::new()
        .btree_map(["."])
        .service_generator(Box::new(MethodConstants))
        .compile_fds(descriptors)?;
    Ok(())
}

/// For each service a module with one `Method<Request, Reply>` a method, so that a path and its types can't disagree.
struct MethodConstants;

impl prost_build::ServiceGenerator for MethodConstants {
    fn generate(&mut self, service: prost_build::Service, buf: &mut String) {
        let module = snake_case(&service.name);
        buf.push_str(&format!("pub mod {module} {{\n    use crate::method::Method;\n"));
        for method in &service.methods {
            let name = method.name.to_uppercase();
            let path = format!("/{}.{}/{}", service.package, service.proto_name, method.proto_name);
            let (input, output) = (&method.input_type, &method.output_type);
            buf.push_str(&format!(
                "    pub const {name}: Method<super::{input}, super::{output}> = Method::new(\"{path}\");\n"
            ));
        }
        buf.push_str("}\n");
    }
}

/// `AutoscalerStateService` → `autoscaler_state_service`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
