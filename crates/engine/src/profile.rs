//! The profile of one run, as ONNX Runtime reports it: which provider ran which operators, and for
//! how long.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The profile of one run, by operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Profile {
    /// The slowest first. On a GPU the times are those of kernel launches, not of the computation.
    pub operators: Vec<OperatorProfile>,
}

/// All nodes of one operator that one provider ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorProfile {
    /// As in the graph: `MatMul`, `Attention`.
    pub operator: String,
    /// `CPUExecutionProvider`, `CUDAExecutionProvider`, …
    pub provider: String,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Their time together.
    pub microseconds: u64,
}

impl Profile {
    /// Returns the number of nodes by provider.
    pub fn nodes(&self) -> BTreeMap<&str, usize> {
        let mut nodes = BTreeMap::new();
        for operator in &self.operators {
            *nodes.entry(operator.provider.as_str()).or_default() += operator.nodes;
        }
        nodes
    }

    /// Reads the profile from the directory that a run wrote it to.
    pub(super) fn read(directory: &Path) -> std::io::Result<Self> {
        let mut operators: BTreeMap<(String, String), (usize, u64)> = BTreeMap::new();
        for entry in std::fs::read_dir(directory)? {
            let events: Vec<Event> = serde_json::from_slice(&std::fs::read(entry?.path())?)?;
            // A node has further events, of waiting and of its kernel's parts, without a provider.
            for Event { dur, args } in events {
                if let Some(Arguments { op_name: Some(operator), provider: Some(provider) }) = args
                {
                    let (nodes, microseconds) = operators.entry((operator, provider)).or_default();
                    *nodes += 1;
                    *microseconds += dur.unwrap_or_default();
                }
            }
        }
        let named = |((operator, provider), (nodes, microseconds))| OperatorProfile {
            operator,
            provider,
            nodes,
            microseconds,
        };
        let mut operators: Vec<OperatorProfile> = operators.into_iter().map(named).collect();
        operators.sort_by_key(|operator| std::cmp::Reverse(operator.microseconds));
        Ok(Self { operators })
    }
}

/// `CUDAExecutionProvider 61 nodes (Attention 12, MatMul 37, …), CPUExecutionProvider 2 nodes (…)`.
impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (provider, nodes)) in self.nodes().into_iter().enumerate() {
            let mut operators: Vec<&OperatorProfile> =
                self.operators.iter().filter(|operator| operator.provider == provider).collect();
            operators.sort_by(|a, b| a.operator.cmp(&b.operator));
            let operators: Vec<String> = operators
                .iter()
                .map(|operator| format!("{} {}", operator.operator, operator.nodes))
                .collect();
            write!(
                f,
                "{}{provider} {nodes} nodes ({})",
                if place > 0 { ", " } else { "" },
                operators.join(", ")
            )?;
        }
        Ok(())
    }
}

/// An event of Chrome's trace format, which ONNX Runtime writes.
#[derive(Deserialize)]
struct Event {
    /// Microseconds.
    dur: Option<u64>,
    args: Option<Arguments>,
}

#[derive(Deserialize)]
struct Arguments {
    op_name: Option<String>,
    provider: Option<String>,
}
