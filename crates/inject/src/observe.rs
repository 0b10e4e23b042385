//! Facts out of single objects, as the API server has them: what the webhook's caches derive, and what previews read.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{LimitRange, Node, ResourceQuota, Service};

use crate::facts::Kubelet;

/// The node's kubelet.
pub fn kubelet(node: Node) -> Kubelet {
    let version = node.status.and_then(|status| status.node_info).map(|info| info.kubelet_version);
    Kubelet { node: node.metadata.name.unwrap_or_default(), version: version.unwrap_or_default() }
}

/// A quota of CPU limits refuses a container without one.
pub fn limits_cpu(quota: ResourceQuota) -> bool {
    quota.spec.and_then(|spec| spec.hard).is_some_and(|hard| hard.contains_key("limits.cpu"))
}

/// So does a range with a maximum or a ratio for it.
pub fn bounds_cpu(range: LimitRange) -> bool {
    range.spec.is_some_and(|spec| {
        spec.limits.iter().any(|limit| {
            let names_cpu = |bound: &Option<BTreeMap<String, _>>| bound.as_ref().is_some_and(|bound| bound.contains_key("cpu"));
            limit.type_ != "PersistentVolumeClaim" && (names_cpu(&limit.max) || names_cpu(&limit.max_limit_request_ratio))
        })
    })
}

/// `https://IP:PORT` of a Service; agents of host-network pods cannot resolve its name.
pub fn cluster_ip(service: Service) -> Option<Arc<str>> {
    let spec = service.spec?;
    let ip = spec.cluster_ip.filter(|ip| !ip.is_empty() && ip != "None")?;
    let port = spec.ports.as_ref().and_then(|ports| ports.first()).map_or(443, |port| port.port);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
    Some(Arc::from(format!("https://{host}:{port}")))
}
