//! `mobula operator` beside KubeRay's operator: the same manifests on the same real API server, one after the other.
//!
//! Each line has an API server of its own, with KubeRay's definitions; scheduler and kubelets are stood in for, and their
//! requests are counted nowhere. Requests are what the server's audit log has of the operator; CPU time and memory are what
//! the kernel counts of its process.

mod adoption;
mod field;
mod floor;
mod work;

use std::fmt;

use anyhow::Result;
use mobula_benches::process;

pub use work::Options;
use work::Row;

/// Who reconciles.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// KubeRay's operator as its flags leave it: one reconciler, 100 requests a second.
    KubeRay,
    /// `mobula operator` as its flags leave it.
    Mobula,
}

impl Peer {
    /// Both, in the order in which they run.
    const BOTH: [Peer; 2] = [Peer::KubeRay, Peer::Mobula];

    /// As whom it speaks to the API server.
    fn user(self) -> &'static str {
        match self {
            Peer::KubeRay => "kuberay",
            Peer::Mobula => "mobula",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Peer::KubeRay => "KubeRay 1.6.2",
            Peer::Mobula => "Mobula",
        })
    }
}

/// Prints the table, and what adoption changes.
pub async fn run(options: &Options) -> Result<()> {
    println!("load at the start: {}\n", process::load()?);
    println!("{}", Row::HEADER);
    for clusters in &options.clusters {
        both(|peer| work::clusters(peer, *clusters, options)).await?;
        for under_way in &options.floor {
            println!("{}", work::floor(*clusters, *under_way, options).await?);
        }
    }
    if options.workers > 0 {
        both(|peer| work::one_large(peer, options)).await?;
    }
    if options.adopt > 0 {
        adoption::run(options).await?;
    }
    Ok(())
}

/// The lines of both, and what Mobula needs of what KubeRay needs.
async fn both(run: impl AsyncFn(Peer) -> Result<Vec<Row>>) -> Result<()> {
    let mut lines = Vec::new();
    for peer in Peer::BOTH {
        let rows = run(peer).await?;
        rows.iter().for_each(|row| println!("{row}"));
        lines.push(rows);
    }
    if let [theirs, ours] = lines.as_slice() {
        theirs.iter().zip(ours).for_each(|(theirs, ours)| println!("{}", ours.over(theirs)));
    }
    Ok(())
}
