use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, Kind, Object, ObjectMeta, Template};

/// Machines made from one template: warm ones that wait, and bound ones that count against its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPool {
    /// Name and deletion.
    pub metadata: ObjectMeta,
    /// What is wished for.
    pub spec: PoolSpec,
    /// What is.
    #[serde(default)]
    pub status: PoolStatus,
}

impl Object for ContainerPool {
    const KIND: Kind = Kind::ContainerPool;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is wished for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    /// Machines kept Ready and unclaimed.
    #[serde(default)]
    pub replicas: u32,
    /// The most machines at once, of any phase: those that are going away hold their place until they are gone.
    pub max_containers: u32,
    /// Makes no machine and takes none away, as long as it is true. Claims are served from what is there.
    #[serde(default, skip_serializing_if = "is_false")]
    pub paused: bool,
    /// How a changed template reaches machines that wait.
    #[serde(default)]
    pub update_strategy: UpdateStrategy,
    /// How fast members are made.
    #[serde(default)]
    pub refill: Refill,
    /// Seconds without progress after which the condition Progressing is False.
    #[serde(default = "default_progress_deadline")]
    pub progress_deadline_seconds: u32,
    /// What they are made from.
    pub template: Template,
}

impl PoolSpec {
    /// The defaults around a template.
    pub fn of(replicas: u32, max_containers: u32, template: Template) -> Self {
        PoolSpec {
            replicas,
            max_containers,
            paused: false,
            update_strategy: UpdateStrategy::default(),
            refill: Refill::default(),
            progress_deadline_seconds: default_progress_deadline(),
            template,
        }
    }
}

/// How a changed template, or a changed image, reaches machines that wait. Bound ones are never touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateStrategy {
    /// Which way.
    #[serde(rename = "type", default)]
    pub kind: UpdateKind,
    /// For RollingUpdate: how many replicas may be missing meanwhile, at least 1.
    #[serde(default = "default_max_unavailable")]
    pub max_unavailable: u32,
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        UpdateStrategy { kind: UpdateKind::default(), max_unavailable: default_max_unavailable() }
    }
}

/// Which way a changed template reaches machines that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UpdateKind {
    /// A few at a time are replaced.
    #[default]
    RollingUpdate,
    /// All are taken away at once, then made anew.
    Recreate,
    /// They stay until they are claimed; new ones are made from the new template.
    OnReplenish,
}

/// How fast members are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refill {
    /// Milliseconds that the pool waits after a member was taken before it makes another: a burst of claims is not
    /// answered by a burst of boots that steal their time.
    #[serde(default = "default_debounce")]
    pub debounce_milliseconds: u32,
    /// The most members that boot at once.
    #[serde(default = "default_max_starting")]
    pub max_starting: u32,
    /// The most members that are begun in a minute; absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
}

impl Default for Refill {
    fn default() -> Self {
        Refill { debounce_milliseconds: default_debounce(), max_starting: default_max_starting(), per_minute: None }
    }
}

fn default_progress_deadline() -> u32 {
    600
}

fn default_max_unavailable() -> u32 {
    1
}

fn default_debounce() -> u32 {
    100
}

fn default_max_starting() -> u32 {
    8
}

/// What is, as last committed.
///
/// `containers` is exact: it changes only in the transactions that make and remove a container of the pool, and
/// each of them is conditional on the pool's revision. That makes the limit exact under any number of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Records of containers of this pool, of any phase.
    #[serde(default)]
    pub containers: u32,
    /// Those unclaimed, on their way or Ready.
    #[serde(default)]
    pub replicas: u32,
    /// Those Ready and unclaimed.
    #[serde(default)]
    pub ready_replicas: u32,
    /// Those unclaimed and made from the template and the image as they are now.
    #[serde(default)]
    pub updated_replicas: u32,
    /// Those bound.
    #[serde(default)]
    pub bound_containers: u32,
    /// Names template and image as they are now; members bear it in the label `anweddol.io/template-hash`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template_hash: String,
    /// `spec`'s generation these numbers were made for.
    #[serde(default)]
    pub observed_generation: i64,
    /// Members in a row that failed before they were Ready.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Not before then is another one made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// When the last one failed; what becomes Ready after that ends the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
    /// Why the last one failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was last seen that fewer were Ready than before: a claim took one, or it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// What was begun lately, where `refill.perMinute` limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refill_window: Option<RefillWindow>,
    /// The template hash that members are being replaced for; absent: all are made from `templateHash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updating: Option<String>,
    /// When the numbers above last came nearer to what is wished for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progressed_at: Option<Timestamp>,
    /// `Available`, `Progressing`, `Degraded`, `ImageReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A minute in which members were begun. Minutes do not overlap: at the border of two, twice as many may be begun
/// within 60 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefillWindow {
    /// When it began: with the first member after the last window was over.
    pub started_at: Timestamp,
    /// Members begun in it.
    pub made: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
