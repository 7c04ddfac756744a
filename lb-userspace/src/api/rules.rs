//! What a service asks of the planes, as it is written in configuration.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::ProxyRules;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesView {
    /// `auto`, `ebpf` or `proxy`.
    pub plane: String,
    /// `hash` or `least-connections`.
    pub algorithm: String,
    /// `v1` or `v2`: how tasks are told of their clients, where they are.
    pub send: Option<String>,
    pub accept: Vec<IpNet>,
    pub transparent: bool,
}

impl From<&ProxyRules> for RulesView {
    fn from(rules: &ProxyRules) -> Self {
        Self {
            plane: rules.plane.label().into(),
            algorithm: rules.algorithm.label().into(),
            send: rules.send.map(|version| version.label().into()),
            accept: rules.accept.clone(),
            transparent: rules.transparent,
        }
    }
}

impl Default for RulesView {
    fn default() -> Self {
        Self::from(&ProxyRules::default())
    }
}
