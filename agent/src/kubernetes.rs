//! The path of a container's log → which pod and container wrote it, as fields of its records. Once a file, never once a record.
//!
//! The kubelet makes both forms: `containers/POD_NAMESPACE_CONTAINER-ID.log`, a link to `pods/NAMESPACE_POD_UID/CONTAINER/N.log`,
//! where N counts the container's restarts. None of the names may hold a `_`, so they can be taken apart. What no path tells, the pod's labels, the API server
//! does, where it can be reached.

mod pods;

pub use pods::ApiConfig;

use pods::{Pod, Pods};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// What a path does not tell. YAML: `kubernetes` of an input; `{}` turns it on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KubernetesConfig {
    /// `kubernetes.node.name` of its records. Default: none.
    pub node: Option<String>,
    /// `orchestrator.cluster.name` of its records. Default: none.
    pub cluster: Option<String>,
    /// The pod's labels as `kubernetes.labels`, asked of the API server. Default: true, if there is one to be asked.
    pub labels: bool,
    /// The API server. Default: that of the cluster whose pod the agent is, with its service account.
    pub api: Option<ApiConfig>,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        Self { node: None, cluster: None, labels: true, api: None }
    }
}

/// What an input knows of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Kubernetes {
    config: KubernetesConfig,
    pods: Option<Arc<Pods>>,
}

/// Whose log it is. What its path does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Container {
    namespace: String,
    pod: String,
    pod_uid: Option<String>,
    name: String,
    id: Option<String>,
    restarts: Option<u32>,
}

impl Kubernetes {
    /// Errors: an API server that cannot be used.
    pub(crate) fn new(config: &KubernetesConfig) -> anyhow::Result<Self> {
        let pods = if config.labels { Pods::new(config.api.as_ref())? } else { None };
        Ok(Self { config: config.clone(), pods })
    }

    /// True if all that [`fields_of`](Self::fields_of) will tell is known; else it is asked for. Only within a tokio runtime.
    pub(crate) fn knows(&self, path: &Path) -> bool {
        let Some(pods) = &self.pods else { return true };
        Container::at(path).is_none_or(|container| pods.is_known(&container))
    }

    /// The fields of the records of the file at `path`, as JSON members without braces; empty if it has no such path.
    pub(crate) fn fields_of(&self, path: &Path) -> String {
        let Some(container) = Container::at(path) else { return String::new() };
        let pod = self.pods.as_ref().and_then(|pods| pods.pod_of(&container));
        render(&self.config, container, pod.as_deref())
    }
}

impl Container {
    /// What the path tells, and the one that it is a link to.
    fn at(path: &Path) -> Option<Self> {
        let mut container = Self::of(path)?;
        // The link names the pod's uid and the count of restarts, its own name the container's id.
        if let Some(target) = fs::read_link(path).ok().and_then(|target| Self::of(&target)) {
            container.pod_uid = container.pod_uid.or(target.pod_uid);
            container.restarts = container.restarts.or(target.restarts);
        }
        Some(container)
    }

    fn of(path: &Path) -> Option<Self> {
        let mut names = path.iter().rev().map(|name| name.to_str().unwrap_or_default());
        let (file, folder) = (names.next()?, names.next()?);
        if folder == "containers" {
            return Self::of_link(file);
        }
        let (pod, pods) = (names.next()?, names.next()?);
        if pods == "pods" { Self::of_pod(pod, folder, file) } else { None }
    }

    /// `POD_NAMESPACE_CONTAINER-ID.log`
    fn of_link(file: &str) -> Option<Self> {
        let [pod, namespace, rest] = parts(file.strip_suffix(".log")?)?;
        let (name, id) = rest.rsplit_once('-').filter(|(name, id)| !name.is_empty() && is_hex(id))?;
        let [namespace, pod, name] = [namespace, pod, name].map(str::to_owned);
        Some(Self { namespace, pod, pod_uid: None, name, id: Some(id.to_owned()), restarts: None })
    }

    /// `NAMESPACE_POD_UID`, `CONTAINER`, and `N.log` or a rotated `N.log.20261123-011233`, packed or not.
    fn of_pod(folder: &str, container: &str, file: &str) -> Option<Self> {
        let [namespace, pod, uid] = parts(folder)?;
        let (restarts, _) = file.split_once(".log").filter(|(_, rest)| rest.is_empty() || rest.starts_with('.'))?;
        let restarts = restarts.parse().ok()?;
        let [namespace, pod, uid, name] = [namespace, pod, uid, container].map(str::to_owned);
        Some(Self { namespace, pod, pod_uid: Some(uid), name, id: None, restarts: Some(restarts) })
    }
}

/// Exactly three names, none empty, with `_` between.
fn parts(text: &str) -> Option<[&str; 3]> {
    let parts: Vec<_> = text.split('_').collect();
    <[&str; 3]>::try_from(parts).ok().filter(|parts| parts.iter().all(|part| !part.is_empty()))
}

/// The id of a container: SHA-256 in hexadecimal, as all runtimes have it.
fn is_hex(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Names as Filebeat's add_kubernetes_metadata and ECS have them.
fn render(config: &KubernetesConfig, container: Container, known: Option<&Pod>) -> String {
    let Container { namespace, pod, pod_uid, name, id, restarts } = container;
    let all = json!({
        "container": {"id": id},
        "kubernetes": {
            "namespace": namespace,
            "node": {"name": config.node.as_ref().or(known.and_then(|pod| pod.node.as_ref()))},
            "labels": known.map(|pod| &pod.labels),
            "pod": {"name": pod, "uid": pod_uid},
            "container": {"name": name, "restart_count": restarts},
        },
        "orchestrator": {"type": "kubernetes", "namespace": namespace, "cluster": {"name": config.cluster}},
    });
    let text = without_nulls(all).to_string();
    text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or_default().to_owned()
}

/// Leaves out what is not known, and objects that are empty without it.
fn without_nulls(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    let members = members.into_iter().map(|(name, value)| (name, without_nulls(value)));
    let is_empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
    Value::Object(members.filter(|(_, value)| !is_empty(value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "b2f5a0c4-7a53-4a39-8a77-1f9f0b6f6c11";

    /// The fields of a path, as the object they make.
    fn fields(config: &KubernetesConfig, path: &str) -> Value {
        let kubernetes = Kubernetes::new(config).expect("valid");
        let fields = kubernetes.fields_of(Path::new(&path.replace("ID", ID).replace("POD", UID)));
        serde_json::from_str(&format!("{{{fields}}}")).expect("is JSON")
    }

    #[test]
    fn the_path_of_a_container_log_tells_pod_and_container() {
        let config = KubernetesConfig::default();
        let expected = json!({
            "container": {"id": ID},
            "kubernetes": {"namespace": "shop", "pod": {"name": "web-6d4f.x"}, "container": {"name": "side-car"}},
            "orchestrator": {"type": "kubernetes", "namespace": "shop"},
        });
        assert_eq!(fields(&config, "/var/log/containers/web-6d4f.x_shop_side-car-ID.log"), expected);
        let expected = json!({
            "kubernetes": {"namespace": "shop", "pod": {"name": "web", "uid": UID},
                "container": {"name": "nginx", "restart_count": 3}},
            "orchestrator": {"type": "kubernetes", "namespace": "shop"},
        });
        for file in ["3.log", "3.log.20261123-011233", "3.log.20261123-011233.gz"] {
            assert_eq!(fields(&config, &format!("/host/var/log/pods/shop_web_POD/nginx/{file}")), expected);
        }
    }

    #[test]
    fn node_and_cluster_are_told_by_the_configuration() {
        let config = KubernetesConfig { node: Some("n\"1".into()), cluster: Some("prod".into()), ..Default::default() };
        let fields = fields(&config, "/var/log/pods/shop_web_POD/nginx/0.log");
        assert_eq!(
            (&fields["kubernetes"]["node"]["name"], &fields["orchestrator"]["cluster"]["name"]),
            (&json!("n\"1"), &json!("prod"))
        );
    }

    #[test]
    fn another_path_tells_nothing() {
        let config = KubernetesConfig { node: Some("n".into()), ..Default::default() };
        for path in [
            "/var/log/nginx/access.log",
            "/var/log/containers/web_shop_nginx.log",
            "/var/log/containers/web_shop-ID.log",
            "/var/log/containers/a_b_c_d-ID.log",
            "/var/log/containers/web_shop_nginx-ID.txt",
            "/var/log/pods/shop_web_POD/nginx/x.log",
            "/var/log/pods/shop_web_POD/nginx/0.logs",
            "/var/log/pods/shop_web/nginx/0.log",
            "/0.log",
        ] {
            assert_eq!(fields(&config, path), json!({}), "{path}");
        }
    }

    #[test]
    fn a_link_tells_what_its_target_does() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("containers")).expect("made");
        let link = folder.path().join(format!("containers/web_shop_nginx-{ID}.log"));
        std::os::unix::fs::symlink(format!("/var/log/pods/shop_web_{UID}/nginx/2.log"), &link).expect("linked");
        let fields = fields(&KubernetesConfig::default(), &link.display().to_string());
        assert_eq!((&fields["container"]["id"], &fields["kubernetes"]["pod"]["uid"]), (&json!(ID), &json!(UID)));
        assert_eq!(fields["kubernetes"]["container"]["restart_count"], json!(2));
    }
}
