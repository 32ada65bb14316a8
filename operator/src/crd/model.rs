//! What is served: image, models, where their files come from and where they are kept.

use super::schema;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a node pulls an image.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// If the node does not have it.
    #[default]
    IfNotPresent,
    /// At every start.
    Always,
    /// Never: the node must have it.
    Never,
}

impl PullPolicy {
    /// As pods spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::IfNotPresent => "IfNotPresent",
            Self::Always => "Always",
            Self::Never => "Never",
        }
    }
}

/// The image of the server.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.tag) != has(self.digest)")
        .message("an image needs a tag or a digest, not both"),
)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Registry and repository, such as `registry.example.com/reranker`.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Tag of the version to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub tag: Option<String>,
    /// Digest of the version to run, `sha256:` and 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// When a node pulls it.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Secrets with credentials of the registry, at most 8.
    #[serde(default)]
    #[schemars(schema_with = "schema::names")]
    pub pull_secrets: Vec<String>,
}

/// A model to serve.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Name that clients send, such as `zerank-1-small`; names that the server knows bring their prompt and
    /// limits.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub name: String,
    /// Other names for it, at most 8, for clients that fix the name.
    #[serde(default)]
    #[schemars(schema_with = "schema::strings::<8, 64>")]
    pub aliases: Vec<String>,
    /// Where its files come from.
    pub source: Source,
}

/// Where a model's files come from: exactly one of these.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("[has(self.hub), has(self.pvc), has(self.oci), has(self.baked)].filter(x, x).size() == 1")
        .message("a model has one source: set hub, pvc, oci or baked"),
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A repository of the Hugging Face hub, or of what speaks its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<Hub>,
    /// A folder of a claim that is filled already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pvc: Option<Pvc>,
    /// An image that holds the files at its root, mounted as a volume (Kubernetes 1.35, or with the feature
    /// gate `ImageVolume`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<Oci>,
    /// Files inside the server's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked: Option<Baked>,
}

/// A repository of the hub.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Hub {
    /// `ORGANISATION/REPOSITORY`.
    #[schemars(length(max = 200), regex(pattern = "^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$"))]
    pub repo: String,
    /// Commit, tag or branch. A commit never changes: prefer it, so that all pods run the same.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9._/-]+$"))]
    pub revision: String,
    /// Address of a mirror; absent: `https://huggingface.co`. The same for all models of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500), regex(pattern = "^https?://"))]
    pub endpoint: Option<String>,
    /// Token for private repositories. The same for all models of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKey>,
}

/// A key of a Secret in the object's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A folder of a claim.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Pvc {
    /// Name of the `PersistentVolumeClaim`; mounted read-only.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Folder in it with config.json, tokenizer.json and the weights.
    #[serde(default = "root")]
    #[schemars(length(min = 1, max = 500), regex(pattern = "^/"))]
    pub path: String,
}

fn root() -> String {
    "/".to_owned()
}

/// An image that holds a model.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Oci {
    /// Reference of the image.
    #[schemars(length(min = 1, max = 500))]
    pub image: String,
    /// When a node pulls it.
    #[serde(default)]
    pub pull_policy: PullPolicy,
}

/// Files in the server's image.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct Baked {
    /// Folder with the model; absent: what the server holds inside its binary under the model's name, such as
    /// `demo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), regex(pattern = "^/"))]
    pub path: Option<String>,
}

/// What keeps downloaded files.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum CacheType {
    /// Nothing.
    None,
    /// The pod: each new pod downloads anew.
    #[default]
    EmptyDir,
    /// A claim, which new pods find filled.
    Pvc,
}

/// Who downloads.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum CacheFill {
    /// Each pod what it does not find.
    #[default]
    Pod,
    /// A Job, which also checks the scores of each model; pods start when it is done. It runs once for each
    /// set of models and image.
    Job,
}

/// Where downloaded model files are kept.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("(self.type == 'pvc') == has(self.pvc)")
        .message("cache.pvc goes with cache.type `pvc`: set both or neither"),
    validation = Rule::new("self.fill != 'job' || self.type == 'pvc'")
        .message("a Job fills a claim: set cache.type to `pvc`, or cache.fill to `pod`"),
    validation = Rule::new("!has(self.pvc) || self.pvc.accessMode != 'ReadOnlyMany' || (self.fill == 'job' && has(self.pvc.size)) || has(self.pvc.claimName)")
        .message("pods cannot fill a read-only claim: set cache.fill to `job`, or name a filled one as claimName"),
)]
#[serde(rename_all = "camelCase", default = "Cache::default")]
pub struct Cache {
    /// What keeps them.
    #[serde(rename = "type")]
    pub kind: CacheType,
    /// Most that an `emptyDir` may take from the node.
    #[schemars(schema_with = "schema::quantity")]
    pub size_limit: Quantity,
    /// The claim, for type `pvc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<OwnClaim>,
    /// Who downloads.
    pub fill: CacheFill,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            kind: CacheType::default(),
            size_limit: Quantity("20Gi".to_owned()),
            pvc: None,
            fill: CacheFill::default(),
        }
    }
}

/// A claim for the cache: one that exists, or one that the operator makes.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.claimName) != has(self.size)")
        .message("name an existing claim as claimName, or give the size of a new one"),
    validation = Rule::new("!has(oldSelf.size) || !has(self.size) || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0")
        .message("a claim cannot shrink: keep size or raise it"),
    validation = Rule::new("self.accessMode == oldSelf.accessMode && has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storageClassName and accessMode of a claim cannot change: name another claim as claimName in a new object"),
)]
#[serde(rename_all = "camelCase")]
pub struct OwnClaim {
    /// Name of an existing `PersistentVolumeClaim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: Option<String>,
    /// Size of a new one; it may grow where the storage class allows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub size: Option<Quantity>,
    /// Storage class of a new one; absent: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How it may be mounted: `ReadWriteOnce` suits one node, `ReadWriteMany` several.
    #[schemars(schema_with = "access_mode")]
    pub access_mode: String,
    /// Keeps a claim that the operator made when the object is deleted.
    #[serde(default)]
    pub retain: bool,
}

fn access_mode(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "string",
        "enum": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
    })
}
