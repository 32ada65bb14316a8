//! A namespace, its node, and an operator that watches it.

use crate::hollow::{Load, Node};
use crate::operator::Operator;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config, ResourceExt};
use reranker_operator::crd::{RerankerDeployment, definition};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard};

/// A cluster takes so long for what it does in a second when the machine is busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// What the chart lets the operator do.
const RULES: &str = include_str!("../../../charts/reranker-operator/files/rules.yaml");

const VARIABLE: &str = "RERANKER_TEST_KUBECONFIG";
const IMAGE: &str = "RERANKER_TEST_IMAGE";

/// A test's own part of the cluster.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) load: Arc<Load>,
    stage: Stage,
    kubeconfig: PathBuf,
    folder: tempfile::TempDir,
    operators: AtomicU32,
    _shares: Option<RwLockReadGuard<'static, ()>>,
}

/// Held by every test that others may run beside; whoever wants the cluster alone takes it for writing.
pub(crate) static CLUSTER: RwLock<()> = RwLock::const_new(());

/// What pods run on.
enum Stage {
    /// A node of the test's own.
    Hollow(Box<Node>),
    /// The cluster's nodes and this image of the server.
    Real(String),
}

/// Says that a behaviour was shown.
#[expect(clippy::print_stdout, reason = "a line for each behaviour is the report")]
pub(crate) fn shown(what: &str) {
    println!("cluster: {what}");
}

impl World {
    /// A new namespace with a node of so many GPUs; none: there is no cluster here.
    pub(crate) async fn new(name: &str, gpus: u32) -> Option<Self> {
        let shares = CLUSTER.read().await;
        let world = Self::alone(name, gpus).await?;
        Some(Self { _shares: Some(shares), ..world })
    }

    /// The same, for whoever holds [`CLUSTER`].
    pub(crate) async fn alone(name: &str, gpus: u32) -> Option<Self> {
        let (base, client) = cluster(name).await?;
        let namespace = format!("{name}-{:x}", std::process::id());
        let node = Node::start(&client, &namespace, gpus).await;
        Some(Self::make(base, client, namespace, json!({}), Stage::Hollow(Box::new(node))).await)
    }

    /// A new namespace for pods that really run, under the strictest of the cluster's policies.
    pub(crate) async fn real(name: &str) -> Option<Self> {
        let shares = CLUSTER.read().await;
        let (base, client) = cluster(name).await?;
        let Ok(image) = std::env::var(IMAGE) else {
            shown(&format!("{name} is skipped: {IMAGE} names no image that nodes here can run"));
            return None;
        };
        let namespace = format!("{name}-{:x}", std::process::id());
        let labels = json!({
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/enforce-version": "latest",
        });
        let world = Self::make(base, client, namespace, labels, Stage::Real(image)).await;
        Some(Self { _shares: Some(shares), ..world })
    }

    async fn make(
        base: Kubeconfig,
        client: Client,
        namespace: String,
        labels: Value,
        stage: Stage,
    ) -> Self {
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        let object: Namespace = serde_json::from_value(object).expect("is one");
        Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .expect("a namespace");
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("kubeconfig");
        let own = restricted(&client, &namespace, base).await;
        std::fs::write(&kubeconfig, serde_saphyr::to_string(&own).expect("is YAML"))
            .expect("written");
        let load = Load::start().await;
        let operators = AtomicU32::new(0);
        Self { client, namespace, load, stage, kubeconfig, folder, operators, _shares: None }
    }

    pub(crate) fn objects(&self) -> Api<RerankerDeployment> {
        self.api()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// An operator that has just started.
    pub(crate) fn operator(&self) -> Operator {
        let number = self.operators.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.path().join(format!("operator-{number}.log"));
        Operator::start(&self.kubeconfig, &self.namespace, &format!("operator-{number}"), log)
    }

    /// An object whose pods run on this test's nodes, with `spec` over the minimal one.
    pub(crate) fn object(&self, name: &str, spec: &Value) -> RerankerDeployment {
        let mut object = crate::cases::minimal();
        object["metadata"] = json!({"name": name, "namespace": self.namespace});
        match &self.stage {
            Stage::Hollow(_) => {
                object["spec"]["pod"] = json!({
                    "nodeSelector": {"hollow": self.namespace},
                    "tolerations": [{"operator": "Exists"}],
                });
                object["spec"]["server"] = json!({"adminPort": self.load.port});
            }
            Stage::Real(image) => {
                let (repository, tag) = image.rsplit_once(':').expect("an image with a tag");
                object["spec"]["image"] = json!({"repository": repository, "tag": tag});
            }
        }
        object["spec"]["autoscaling"] = json!({"sampleSeconds": 1});
        crate::cases::merge(&mut object["spec"], spec);
        serde_json::from_value(object).expect("is an object")
    }

    pub(crate) async fn create(&self, name: &str, spec: &Value) {
        let object = self.object(name, spec);
        self.objects().create(&PostParams::default(), &object).await.expect("is accepted");
    }

    pub(crate) async fn change(&self, name: &str, spec: &Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.objects().patch(name, &PatchParams::default(), &patch).await.expect("is accepted");
    }

    /// Makes the operator pass over the object `times` times without changing it.
    pub(crate) async fn nudge(&self, name: &str, times: usize) {
        for number in 0..times {
            let before = self.passes(name);
            let patch =
                Patch::Merge(json!({"metadata": {"annotations": {"nudge": number.to_string()}}}));
            self.objects().patch(name, &PatchParams::default(), &patch).await.expect("is accepted");
            self.eventually("a pass", async || self.passes(name) > before).await;
        }
    }

    /// Passes over the object that the operators have logged.
    fn passes(&self, name: &str) -> usize {
        let object = format!("/{name}.{}", self.namespace);
        let is_pass = |line: &&str| line.contains("reconciled") && line.contains(&object);
        self.all_logs().iter().flat_map(|log| log.lines()).filter(is_pass).count()
    }

    /// Waits until `is_so` of the object, and returns it.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&RerankerDeployment) -> bool,
    ) -> RerankerDeployment {
        let end = Instant::now() + PATIENCE;
        let objects = self.objects();
        loop {
            let object = objects.get(name).await.expect("the object is there");
            if is_so(&object) {
                return object;
            }
            if Instant::now() > end {
                let status = serde_json::to_string_pretty(&object.status).expect("is JSON");
                panic!("{name} never {what}: {status}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until a look at the cluster says so.
    pub(crate) async fn eventually(&self, what: &str, mut look: impl AsyncFnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !look().await {
            assert!(Instant::now() < end, "never: {what}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn all_logs(&self) -> Vec<String> {
        let count = self.operators.load(Ordering::Relaxed);
        let path = |number: u32| self.folder.path().join(format!("operator-{number}.log"));
        (0..count).map(|number| std::fs::read_to_string(path(number)).unwrap_or_default()).collect()
    }

    fn logs(&self) -> String {
        let all = self.all_logs();
        let lines: Vec<&str> = all.iter().flat_map(|log| log.lines()).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Leaves nothing behind.
    pub(crate) async fn end(self) {
        if let Stage::Hollow(node) = &self.stage {
            node.end().await;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.expect("is deleted");
    }

    /// The same, and waits until all that was in the namespace is gone. A hollow node's pods would stay.
    pub(crate) async fn end_and_wait(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = self.namespace.clone();
        self.end().await;
        let end = Instant::now() + PATIENCE;
        while namespaces.get_opt(&name).await.expect("an answer").is_some() {
            assert!(Instant::now() < end, "{name} is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The status of a condition and its reason, as `True MinimumReplicasAvailable`.
pub(crate) fn condition(object: &RerankerDeployment, kind: &str) -> String {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.into_iter().find(|it| it.type_ == kind);
    found.map_or_else(String::new, |it| format!("{} {}", it.status, it.reason))
}

/// The cluster, with the definition installed; none: there is none here.
async fn cluster(name: &str) -> Option<(Kubeconfig, Client)> {
    let Some(path) = std::env::var_os(VARIABLE) else {
        shown(&format!("{name} is skipped: {VARIABLE} names no kubeconfig"));
        return None;
    };
    let base = Kubeconfig::read_from(&path).expect("a kubeconfig");
    let client = connect(base.clone()).await;
    install(&client).await;
    Some((base, client))
}

async fn connect(kubeconfig: Kubeconfig) -> Client {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

async fn apply(
    client: &Client,
    group: &str,
    kind: &str,
    plural: &str,
    namespace: Option<&str>,
    object: Value,
) {
    let (group, version) = group.rsplit_once('/').unwrap_or(("", group));
    let api_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.clone(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let mut object = object;
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    let params = PatchParams::apply("tests").force();
    api.patch(&name, &params, &Patch::Apply(object)).await.expect("is applied");
}

/// Installs the definition, once.
async fn install(client: &Client) {
    static DONE: OnceCell<()> = OnceCell::const_new();
    let install = async || {
        let object = serde_json::to_value(definition()).expect("is JSON");
        let group = "apiextensions.k8s.io/v1";
        apply(client, group, "CustomResourceDefinition", "customresourcedefinitions", None, object)
            .await;
        let end = Instant::now() + PATIENCE;
        let objects: Api<RerankerDeployment> = Api::all(client.clone());
        while objects.list(&kube::api::ListParams::default()).await.is_err() {
            assert!(Instant::now() < end, "the definition is not served");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    DONE.get_or_init(install).await;
}

/// A kubeconfig of a service account that may do what the operator's role says, and no more.
async fn restricted(client: &Client, namespace: &str, mut base: Kubeconfig) -> Kubeconfig {
    let meta = json!({"name": "operator"});
    apply(
        client,
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        Some(namespace),
        json!({"metadata": meta}),
    )
    .await;
    let rules: Value = serde_saphyr::from_str(RULES).expect("is YAML");
    let rules = ["watched", "own"].map(|part| rules[part].as_array().expect("rules").clone());
    let rules = rules.concat();
    let group = "rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": meta, "rules": rules});
    apply(client, group, "Role", "roles", Some(namespace), role).await;
    let binding = json!({
        "metadata": meta,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
    });
    apply(client, group, "RoleBinding", "rolebindings", Some(namespace), binding).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(7200), ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let token: TokenRequest = accounts
        .create_subresource("token", "operator", &PostParams::default(), &request)
        .await
        .expect("a token");
    let token = token.status.expect("a token").token;
    let user = serde_json::from_value(json!({"token": token})).expect("is a user");
    base.auth_infos[0].auth_info = Some(user);
    base
}

/// The names of all that the operator has made of a kind.
pub(crate) async fn names(world: &World, kind: &reranker_operator::resources::Kind) -> Vec<String> {
    let resource = ApiResource {
        group: kind.group.to_owned(),
        version: kind.version.to_owned(),
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        plural: kind.plural.to_owned(),
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let mine =
        kube::api::ListParams::default().labels("app.kubernetes.io/managed-by=reranker-operator");
    match api.list_metadata(&mine).await {
        Ok(found) => found.items.iter().map(ResourceExt::name_any).collect(),
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}
