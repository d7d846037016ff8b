//! The API server → labels of the pods whose logs are read. One request a pod, never one a record.
//!
//! A file waits for its pod's labels, at most [`WAIT_MAX`]: then it is read without them. What is known of a pod is asked
//! again for a file that is found [`KEPT`] later.

use super::Container;
use anyhow::{Context as _, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use service::clock::monotonic;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for an answer, with all tries.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an answer counts for files that are found later.
const KEPT: Duration = Duration::from_secs(600);
/// The same for having got none.
const KEPT_WITHOUT: Duration = Duration::from_secs(30);
/// More answers than this are looked through for old ones.
const ANSWERS: usize = 1_000;
/// Where Kubernetes mounts what a pod may show the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The API server. YAML: `kubernetes.api`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// `https://HOST:PORT`.
    pub url: String,
    /// A file with the bearer token, read for each request, as Kubernetes replaces it. Default: the service account's.
    #[serde(default = "token_file")]
    pub token_file: PathBuf,
    /// Certificates that the server's is signed by, PEM. Default: the service account's.
    #[serde(default = "ca_file")]
    pub ca_file: PathBuf,
}

fn token_file() -> PathBuf {
    Path::new(ACCOUNT).join("token")
}

fn ca_file() -> PathBuf {
    Path::new(ACCOUNT).join("ca.crt")
}

impl ApiConfig {
    /// That of the cluster whose pod the agent is. `None` outside of one.
    fn of_cluster() -> Option<Self> {
        let host = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty())?;
        let port = std::env::var("KUBERNETES_SERVICE_PORT").ok()?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let (token_file, ca_file) = (token_file(), ca_file());
        token_file.exists().then(|| Self { url: format!("https://{host}:{port}"), token_file, ca_file })
    }

    /// Errors: a token would travel in the clear.
    fn check(&self) -> anyhow::Result<()> {
        let url = reqwest::Url::parse(&self.url).with_context(|| format!("{:?}", self.url))?;
        let is_near = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_near);
        ensure!(is_safe, "{:?}: https:// is needed, the token would travel in the clear", self.url);
        Ok(())
    }
}

/// What is known of pods.
#[derive(Debug)]
pub(crate) struct Pods {
    api: ApiConfig,
    client: OnceLock<reqwest::Client>,
    known: Mutex<HashMap<Name, Known>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    namespace: String,
    pod: String,
}

#[derive(Debug, Clone)]
enum Known {
    Asked(Instant),
    Answered(Instant, Option<Arc<Pod>>),
}

/// What the API server tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pod {
    uid: Option<String>,
    pub(crate) node: Option<String>,
    /// With `_` in place of the dots in their names, as Filebeat has them.
    pub(crate) labels: Map<String, Value>,
}

impl Pods {
    /// `None` if there is no API server to ask. Errors: a URL that cannot be used.
    pub(crate) fn new(api: Option<&ApiConfig>) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(api) = api.cloned().or_else(ApiConfig::of_cluster) else { return Ok(None) };
        api.check().context("kubernetes.api.url")?;
        Ok(Some(Arc::new(Self { api, client: OnceLock::new(), known: Mutex::new(HashMap::new()) })))
    }

    /// True if all is known of the pod that will ever be; else it is asked for. Only within a tokio runtime.
    pub(super) fn is_known(self: &Arc<Self>, container: &Container) -> bool {
        let (now, name) = (monotonic(), Name::of(container));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&name) {
            Some(Known::Answered(at, _)) if now.duration_since(*at) > KEPT => {}
            Some(Known::Answered(at, None)) if now.duration_since(*at) > KEPT_WITHOUT => {}
            Some(Known::Answered(..)) => return true,
            Some(Known::Asked(at)) => return now.duration_since(*at) > WAIT_MAX,
            None => {}
        }
        if known.len() >= ANSWERS {
            known.retain(|_, known| matches!(known, Known::Answered(at, _) if now.duration_since(*at) <= KEPT));
        }
        known.insert(name.clone(), Known::Asked(now));
        drop(known);
        tokio::spawn(self.clone().ask(name));
        false
    }

    /// What is known of the pod of `container`.
    pub(super) fn pod_of(&self, container: &Container) -> Option<Arc<Pod>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Known::Answered(_, Some(pod))) = known.get(&Name::of(container)) else { return None };
        // Another one may have had its name. A path without a uid leaves no doubt that could be cleared.
        let is_it = container.pod_uid.is_none() || pod.uid.is_none() || container.pod_uid == pod.uid;
        is_it.then(|| pod.clone())
    }

    async fn ask(self: Arc<Self>, name: Name) {
        let pod = self.answer(&name).await.unwrap_or_else(|error| {
            let error = format!("{error:#}");
            tracing::warn!(error, "no labels of a pod: its logs are shipped without");
            None
        });
        let answer = Known::Answered(monotonic(), pod.map(Arc::new));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, answer);
    }

    /// `None` if there is no such pod any more. Errors: none in time, or one that a second try does not help.
    async fn answer(&self, name: &Name) -> anyhow::Result<Option<Pod>> {
        let url = format!("{}/api/v1/namespaces/{}/pods/{}", self.api.url, name.namespace, name.pod);
        let deadline = monotonic() + WAIT_MAX;
        loop {
            let failure = match self.client()?.get(&url).bearer_auth(self.token()?).send().await {
                Ok(response) => match response.status().as_u16() {
                    200 => {
                        let body: Value = response.json().await.with_context(|| format!("the answer of {url}"))?;
                        return Ok(Some(Pod::of(&body)));
                    }
                    404 => return Ok(None),
                    status @ (401 | 403) => {
                        bail!("{url}: {status}: the service account needs the verb \"get\" on the resource \"pods\"")
                    }
                    status if status == 429 || status >= 500 => anyhow!("{url}: {status}"),
                    status => bail!("{url}: {status}"),
                },
                Err(error) if error.is_builder() => return Err(error).context(url),
                Err(error) => anyhow::Error::new(error),
            };
            if monotonic() >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn token(&self) -> anyhow::Result<String> {
        let file = &self.api.token_file;
        let token = std::fs::read_to_string(file).with_context(|| format!("the token {}", file.display()))?;
        Ok(token.trim().to_owned())
    }

    fn client(&self) -> anyhow::Result<reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let mut client = reqwest::Client::builder().timeout(ANSWER_WAIT_MAX).no_proxy();
        if self.api.url.starts_with("https:") {
            let file = &self.api.ca_file;
            let pem = std::fs::read(file).with_context(|| format!("the certificates {}", file.display()))?;
            client = client.tls_built_in_root_certs(false);
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).context("kubernetes.api.ca_file")? {
                client = client.add_root_certificate(certificate);
            }
        }
        let client = client.build().context("a client for the API server")?;
        Ok(self.client.get_or_init(|| client).clone())
    }
}

impl Name {
    fn of(container: &Container) -> Self {
        Self { namespace: container.namespace.clone(), pod: container.pod.clone() }
    }
}

impl Pod {
    fn of(body: &Value) -> Self {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let labels = body.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        Self {
            // The kubelet names the folder of a static pod by the hash of its file, not by its uid in the API.
            uid: text("/metadata/annotations/kubernetes.io~1config.hash").or_else(|| text("/metadata/uid")),
            node: text("/spec/nodeName"),
            labels: labels.map(|(name, value)| (name.replace('.', "_"), value.clone())).collect(),
        }
    }
}
