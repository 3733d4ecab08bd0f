//! The lists of openb, a data centre of Alibaba with GPUs that pods share.
//!
//! Nodes: `sn,cpu_milli,memory_mib,gpu,model`. Pods: `name,cpu_milli,memory_mib,num_gpu,gpu_milli`, and where models of GPUs are
//! asked for `gpu_spec`, alternatives with `|` between them. Other columns, and the order of columns, do not matter.

use mobula_planner::placement::{BadShape, GpuNode, GpuRequest};

pub use crate::lines::BadLine;
use crate::lines::{Line, Lines};

/// Start of the name of a list of pods; the name of the trace follows.
pub const PODS_PREFIX: &str = "openb_pod_list_";
/// The list of the nodes that have GPUs.
pub const NODES_FILE: &str = "openb_node_list_gpu_node.csv";

/// A pod of a trace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// What it asks for.
    pub request: GpuRequest,
}

/// The nodes in a list.
pub fn nodes(csv: &[u8]) -> Result<Vec<GpuNode>, BadLine> {
    let lines = Lines::read(csv, &["cpu_milli", "memory_mib", "gpu", "model"])?;
    let node = |line: Line<'_>| {
        let node = GpuNode::new(
            line.number("cpu_milli")?,
            line.number("memory_mib")?,
            line.number("gpu")?,
            line.text("model"),
        );
        node.map_err(|bad| line.bad("gpu", bad))
    };
    lines.iter().map(node).collect()
}

/// The pods in a list.
pub fn pods(csv: &[u8]) -> Result<Vec<Pod>, BadLine> {
    let lines = Lines::read(csv, &["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"])?;
    let pod = |line: Line<'_>| {
        let [cpu_milli, memory_mib] = [line.number("cpu_milli")?, line.number("memory_mib")?];
        let [gpus, gpu_milli] = [line.number("num_gpu")?, line.number("gpu_milli")?];
        let models = line.text("gpu_spec").split('|').map(str::trim).filter(|model| !model.is_empty());
        let request = GpuRequest::new(cpu_milli, memory_mib, gpus, gpu_milli, models.map(str::to_owned).collect());
        let field = |bad: BadShape| if bad.is_about_gpus() { "num_gpu" } else { "gpu_milli" };
        let request = request.map_err(|bad| line.bad(field(bad), bad))?;
        Ok(Pod { name: line.text("name").to_owned(), request })
    };
    lines.iter().map(pod).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos\n";

    fn bad_pods(lines: &str) -> String {
        pods(format!("{POD_HEADER}{lines}").as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn nodes_are_read_whatever_the_order_of_columns() {
        let list = "\u{feff}model,gpu,sn,memory_mib,cpu_milli\r\nP100,2,a,262144,64000\r\n,0,b,1,2\r\n";
        let expected = [GpuNode::new(64_000, 262_144, 2, "P100"), GpuNode::new(2, 1, 0, "")].map(Result::unwrap);
        assert_eq!(nodes(list.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn pods_are_read_with_and_without_models_asked_for() {
        let models = ["V100M16".to_owned(), "V100M32".to_owned()].into();
        let listed = pods(format!("{POD_HEADER}a,1,2,1,460,V100M32|V100M16,LS\nb,3,4,0,0,,BE\n").as_bytes()).unwrap();
        assert_eq!(listed[0].request, GpuRequest::new(1, 2, 1, 460, models).unwrap());
        assert_eq!((listed[1].name.as_str(), listed.len()), ("b", 2));
        let short = pods(b"name,cpu_milli,memory_mib,num_gpu,gpu_milli\nc,5,6,2,1000\n").unwrap();
        assert_eq!(short[0].request, GpuRequest::new(5, 6, 2, 1_000, Default::default()).unwrap());
    }

    #[test]
    fn what_is_wrong_is_named_with_line_field_and_value() {
        assert_eq!(
            bad_pods("a,1,1,0,0,,\nb,-1,1,0,0,,\n"),
            "line 3: cpu_milli: -1: must be a whole number from 0 to 4294967295"
        );
        assert_eq!(
            bad_pods("a,1,1,2,500,,\n"),
            "line 2: gpu_milli: 500: must be 1000 where several GPUs are asked for"
        );
        assert_eq!(bad_pods("a,1,1,17,1000,,\n"), "line 2: num_gpu: 17: must be from 0 to 16");
        assert_eq!(bad_pods("a,1,1\n"), "line 2: fields: 3: must be as many as in the header, 7");
        let nodes = nodes(b"sn,cpu_milli,memory_mib,gpu\na,1,1,1\n").unwrap_err();
        assert_eq!(nodes.to_string(), "line 1: header: sn,cpu_milli,memory_mib,gpu: there must be a column model");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let list = [POD_HEADER.as_bytes(), b"a,1,1,0,0,\xff,\n"].concat();
        assert_eq!(pods(&list).unwrap_err().to_string(), "line 2: field: 6: must be UTF-8");
        assert!(pods(b"").unwrap_err().to_string().contains("there must be a column name"));
    }
}
