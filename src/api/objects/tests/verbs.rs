//! Every kind of write, and what it answers.

use serde_json::{Value, json};

use super::*;
use crate::manifest::FaultKind;
use crate::manifest::fields::LAST_APPLIED;
use crate::model::API_VERSION;
use crate::store::MAX_WISH;

impl Bench {
    fn body(&self, spec: Value) -> Value {
        let image = json!({ "iso": self.dir.path().join("i.iso") });
        let mut spec = spec;
        spec["template"]["image"] = image;
        json!({ "apiVersion": API_VERSION, "kind": "ContainerPool", "metadata": { "name": "a" }, "spec": spec })
    }

    fn request(&self, verb: Verb, body: Value) -> Request {
        let terms = Terms { field_manager: Some("me".into()), ..Terms::default() };
        Request { terms, ..Request::new(self.pool(0).object_ref(), verb, body) }
    }

    async fn send(&self, verb: Verb, body: Value) -> Result<Written, ObjectError> {
        self.objects.write(&self.request(verb, body)).await
    }

    async fn created(&self) -> Value {
        self.send(Verb::Create, self.body(json!({ "maxContainers": 9 }))).await.unwrap().object
    }
}

fn strict(request: Request) -> Request {
    let terms = Terms { field_validation: FieldValidation::Strict, ..request.terms };
    Request { terms, ..request }
}

fn status(error: &ObjectError) -> (u16, &'static str) {
    error.status()
}

#[tokio::test]
async fn what_is_made_gets_its_name_and_leaves_out_what_is_not_its_writers() {
    let bench = Bench::new();
    let mut body = bench.body(json!({ "maxContainers": 9 }));
    body["metadata"] = json!({
        "generateName": "a-", "uid": "x", "creationTimestamp": null, "generation": 7, "managedFields": [],
        "labels": null,
    });
    body["status"] = json!({ "containers": 5 });
    let nameless = ObjectRef { name: String::new(), ..bench.pool(0).object_ref() };
    let request = Request::new(nameless, Verb::Create, body);
    let (one, other) = (bench.objects.write(&request).await.unwrap(), bench.objects.write(&request).await.unwrap());
    let name = one.object["metadata"]["name"].as_str().unwrap();
    assert!(
        name.starts_with("a-") && name.len() == 7 && one.object["metadata"]["name"] != other.object["metadata"]["name"]
    );
    let metadata = &one.object["metadata"];
    assert!(metadata["uid"] != "x" && metadata["generation"] == 1 && metadata["creationTimestamp"].is_string());
    assert_eq!((&metadata["generateName"], &one.object["status"]["containers"]), (&"a-".into(), &0.into()));
    let mut given = request.clone();
    given.body["metadata"] = json!({ "name": "b", "resourceVersion": "3" });
    assert_eq!(status(&bench.objects.write(&given).await.unwrap_err()), (400, "BadRequest"));
    given.body["metadata"] = json!({});
    assert_eq!(status(&bench.objects.write(&given).await.unwrap_err()), (422, "Invalid"));
    given.body["metadata"] = json!({ "name": "Not A Name" });
    assert_eq!(status(&bench.objects.write(&given).await.unwrap_err()), (422, "Invalid"));
}

#[tokio::test]
async fn a_merge_patch_changes_what_it_names_and_takes_away_what_is_null() {
    let bench = Bench::new();
    bench.created().await;
    let patch = json!({ "metadata": { "labels": { "x": "1" } }, "spec": { "refill": { "perMinute": 5 } } });
    let written = bench.send(Verb::MergePatch, patch.clone()).await.unwrap();
    assert_eq!((written.outcome, &written.object["spec"]["refill"]["perMinute"]), (Outcome::Configured, &5.into()));
    assert_eq!(written.object["metadata"]["generation"], 2);
    assert_eq!(bench.send(Verb::MergePatch, patch).await.unwrap().outcome, Outcome::Unchanged);
    let less = json!({ "metadata": { "labels": { "x": null } }, "spec": { "refill": { "perMinute": null } } });
    let written = bench.send(Verb::MergePatch, less).await.unwrap();
    assert!(written.object["spec"]["refill"]["perMinute"].is_null() && written.object["metadata"]["labels"].is_null());
}

#[tokio::test]
async fn a_json_patch_is_done_wholly_or_not_at_all() {
    let bench = Bench::new();
    bench.created().await;
    let finalizer = json!([
        { "op": "test", "path": "/metadata/finalizers", "value": null },
        { "op": "add", "path": "/metadata/finalizers", "value": ["example.org/a"] },
    ]);
    let written = bench.send(Verb::JsonPatch, finalizer.clone()).await.unwrap();
    assert_eq!(written.object["metadata"]["finalizers"], json!(["example.org/a"]));
    assert_eq!(status(&bench.send(Verb::JsonPatch, finalizer).await.unwrap_err()), (422, "Invalid"));
    let half = json!([
        { "op": "replace", "path": "/spec/replicas", "value": 3 },
        { "op": "remove", "path": "/spec/none" },
    ]);
    assert_eq!(status(&bench.send(Verb::JsonPatch, half).await.unwrap_err()), (422, "Invalid"));
    assert_eq!(bench.read::<ContainerPool>("a").spec.replicas, 0);
    for nonsense in [json!({}), json!([{ "op": "dance" }])] {
        assert_eq!(status(&bench.send(Verb::JsonPatch, nonsense).await.unwrap_err()), (400, "BadRequest"));
    }
}

#[tokio::test]
async fn a_patch_meets_a_conflict_only_if_it_says_of_what_it_is() {
    let bench = Bench::new();
    let created = bench.created().await;
    let old = created["metadata"]["resourceVersion"].clone();
    bench.send(Verb::MergePatch, json!({ "spec": { "replicas": 1 } })).await.unwrap();
    bench.send(Verb::MergePatch, json!({ "spec": { "replicas": 2 } })).await.unwrap();
    let of = |revision: &Value| json!({ "metadata": { "resourceVersion": revision }, "spec": { "replicas": 3 } });
    assert_eq!(status(&bench.send(Verb::MergePatch, of(&old)).await.unwrap_err()), (409, "Conflict"));
    assert_eq!(status(&bench.send(Verb::MergePatch, of(&"x".into())).await.unwrap_err()), (400, "BadRequest"));
    let other = json!({ "metadata": { "uid": "3f2504e0-4f89-11d3-9a0c-0305e82c3301" } });
    assert_eq!(status(&bench.send(Verb::MergePatch, other).await.unwrap_err()), (409, "Conflict"));
    let renamed = json!({ "metadata": { "name": "b" } });
    assert_eq!(status(&bench.send(Verb::MergePatch, renamed).await.unwrap_err()), (400, "BadRequest"));
}

#[tokio::test]
async fn who_replaces_says_what_they_read_and_leaves_out_what_is_to_go() {
    let bench = Bench::new();
    bench.send(Verb::MergePatch, json!({})).await.unwrap_err();
    let mut object = bench.created().await;
    object["metadata"]["finalizers"] = json!(["example.org/a"]);
    object["metadata"]["labels"] = json!({ "x": "1" });
    object["status"]["containers"] = 7.into();
    let mut object = bench.send(Verb::Replace, object).await.unwrap().object;
    assert_eq!((&object["metadata"]["labels"]["x"], &object["status"]["containers"]), (&"1".into(), &0.into()));
    for gone in ["finalizers", "labels"] {
        object["metadata"].as_object_mut().unwrap().shift_remove(gone);
    }
    let object = bench.send(Verb::Replace, object).await.unwrap().object;
    assert!(object["metadata"]["finalizers"].is_null() && object["metadata"]["labels"].is_null());
    // Clients cut times to seconds as they pass through, and have changed nothing by that.
    let mut cut = object.clone();
    for entry in cut["metadata"]["managedFields"].as_array_mut().unwrap() {
        entry["time"] = "2001-01-01T00:00:00Z".into();
    }
    assert_eq!(bench.send(Verb::Replace, cut).await.unwrap().outcome, Outcome::Unchanged);
    let missing = bench.send(Verb::Replace, bench.body(json!({ "maxContainers": 9 }))).await.unwrap_err();
    assert_eq!((status(&missing), missing.causes()[0].reason), ((422, "Invalid"), "FieldValueRequired"));
}

#[tokio::test]
async fn an_unknown_field_is_refused_told_or_dropped_as_asked() {
    let bench = Bench::new();
    let body = bench.body(json!({ "maxContainers": 9, "replicsa": 1, "template": { "bogus": { "deep": 1 } } }));
    let request = bench.request(Verb::Create, body);
    let refused = bench.objects.write(&strict(request.clone())).await.unwrap_err();
    assert_eq!(status(&refused), (400, "BadRequest"));
    let said = "strict decoding error: unknown field \"spec.replicsa\" (did you mean replicas?), \
                unknown field \"spec.template.bogus\"";
    assert_eq!(refused.to_string(), said);
    let dry = Request { terms: Terms { dry_run: true, ..Terms::default() }, ..request.clone() };
    let warnings = bench.objects.write(&dry).await.unwrap().warnings;
    assert_eq!(warnings[1], "unknown field \"spec.template.bogus\"");
    let terms = Terms { field_validation: FieldValidation::Ignore, ..Terms::default() };
    let dropped = bench.objects.write(&Request { terms, ..request }).await.unwrap();
    assert!(dropped.warnings.is_empty() && dropped.object["spec"]["replicsa"].is_null());
    for verb in [Verb::MergePatch, Verb::Apply { force: true }] {
        let patch = strict(bench.request(verb, json!({ "spec": { "bogus": 1 } })));
        assert_eq!(status(&bench.objects.write(&patch).await.unwrap_err()), (400, "BadRequest"), "{verb:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_field_by_field() {
    let bench = Bench::new();
    let spec = json!({ "replicas": -4, "updateStrategy": { "type": "Sometimes" }, "template": { "vcpus": "x" } });
    let refused = bench.send(Verb::Create, bench.body(spec)).await.unwrap_err();
    let causes = refused.causes();
    let told: Vec<_> = causes.iter().map(|cause| (cause.field.as_str(), cause.reason)).collect();
    assert_eq!(
        told,
        [
            ("spec.replicas", "FieldValueInvalid"),
            ("spec.updateStrategy.type", "FieldValueNotSupported"),
            ("spec.template.vcpus", "FieldValueInvalid"),
            ("spec.maxContainers", "FieldValueRequired"),
        ]
    );
    assert_eq!((status(&refused), refused.object().unwrap().name.as_str()), ((422, "Invalid"), "a"));
    let owner = json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "", "uid": "u" }] });
    let mut body = bench.body(json!({ "maxContainers": 9 }));
    body["metadata"].as_object_mut().unwrap().extend(owner.as_object().unwrap().clone());
    body["metadata"]["finalizers"] = json!(["bare"]);
    let told: Vec<_> = bench.send(Verb::Create, body).await.unwrap_err().causes();
    assert_eq!(
        told.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(),
        ["metadata.finalizers[0]", "metadata.ownerReferences[0].name"]
    );
}

#[tokio::test]
async fn bodies_of_the_wrong_form_are_refused_and_never_panic() {
    let bench = Bench::new();
    bench.created().await;
    let bodies = [
        json!(null),
        json!(7),
        json!([]),
        json!("x"),
        json!({}),
        json!({ "metadata": 7 }),
        json!({ "spec": [] }),
        json!({ "kind": "Pod" }),
        json!({ "apiVersion": "v2" }),
        json!({ "metadata": { "name": 7 } }),
        json!({ "metadata": { "labels": [] } }),
        json!({ "metadata": { "resourceVersion": {} } }),
        json!({ "metadata": { "managedFields": 3 } }),
        json!({ "metadata": { "ownerReferences": [3] } }),
        json!({ "metadata": { "finalizers": [{}] } }),
        json!({ "status": 3 }),
        json!({ "status": { "conditions": [3] } }),
    ];
    let verbs =
        [Verb::Create, Verb::Replace, Verb::Describe, Verb::MergePatch, Verb::JsonPatch, Verb::Apply { force: true }];
    for body in &bodies {
        for verb in verbs {
            for subresource in [None, Some(Subresource::Status), Some(Subresource::Scale)] {
                let request = Request { subresource, ..bench.request(verb, body.clone()) };
                if let Err(error) = bench.objects.write(&request).await {
                    let (code, _) = status(&error);
                    assert!((400..500).contains(&code), "{verb:?} {subresource:?} {body}: {code} {error}");
                }
            }
        }
    }
    let pool: ContainerPool = bench.read("a");
    assert_eq!(pool.spec.max_containers, 9);
}

#[tokio::test]
async fn an_apply_makes_shares_gives_up_and_takes_over() {
    let bench = Bench::new();
    let apply = |manager: &str, force, body: Value| {
        let mut request = bench.request(Verb::Apply { force }, body);
        request.terms.field_manager = Some(manager.into());
        request
    };
    let whole = bench.body(json!({ "maxContainers": 9, "replicas": 2 }));
    let made = bench.objects.write(&apply("a", false, whole.clone())).await.unwrap();
    assert_eq!(made.outcome, Outcome::Created);
    let owned = &made.object["metadata"]["managedFields"][0];
    assert_eq!(
        (&owned["manager"], &owned["operation"], &owned["fieldsType"]),
        (&"a".into(), &"Apply".into(), &"FieldsV1".into())
    );
    let revision = bench.revision();
    let again = bench.objects.write(&apply("a", false, whole.clone())).await.unwrap();
    assert_eq!((again.outcome, bench.revision()), (Outcome::Unchanged, revision), "its times do not count");
    let other = json!({ "spec": { "replicas": 3 } });
    let refused = bench.objects.write(&apply("b", false, other.clone())).await.unwrap_err();
    let cause =
        Cause { reason: "FieldManagerConflict", message: "conflict with \"a\"".into(), field: ".spec.replicas".into() };
    assert_eq!((status(&refused), refused.causes()), ((409, "Conflict"), vec![cause]));
    assert_eq!(refused.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let two = json!({ "spec": { "replicas": 3, "maxContainers": 4 } });
    let refused = bench.objects.write(&apply("b", false, two)).await.unwrap_err();
    let said = "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.maxContainers\n- .spec.replicas";
    assert_eq!(refused.to_string(), said);
    let taken = bench.objects.write(&apply("b", true, other)).await.unwrap();
    assert_eq!((&taken.object["spec"]["replicas"], &taken.object["metadata"]["generation"]), (&3.into(), &2.into()));
    let given_up = bench.objects.write(&apply("b", false, json!({}))).await.unwrap();
    assert_eq!(given_up.object["spec"]["replicas"], 0);
    let nobody = Request { terms: Terms::default(), ..apply("a", false, whole) };
    assert_eq!(status(&bench.objects.write(&nobody).await.unwrap_err()), (400, "BadRequest"));
    let mut told = bench.body(json!({}));
    told["metadata"]["managedFields"] = taken.object["metadata"]["managedFields"].clone();
    assert_eq!(status(&bench.objects.write(&apply("a", false, told)).await.unwrap_err()), (400, "BadRequest"));
}

#[tokio::test]
async fn claims_and_containers_are_applied_like_pools() {
    let bench = Bench::new();
    let image = json!({ "iso": bench.dir.path().join("i.iso") });
    let config = |kind: &str, spec: Value| {
        let metadata = json!({ "name": "x", "labels": { "l": "1" } });
        json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec })
    };
    for (kind, body) in [
        (Kind::ContainerClaim, config("ContainerClaim", json!({ "pool": "a", "ttlSeconds": 60 }))),
        (Kind::Container, config("Container", json!({ "template": { "image": image } }))),
    ] {
        let object = ObjectRef { kind, namespace: DEFAULT_NAMESPACE.into(), name: "x".into() };
        let request = Request { object, ..bench.request(Verb::Apply { force: false }, body) };
        assert_eq!(bench.objects.write(&request).await.unwrap().outcome, Outcome::Created);
        assert_eq!(bench.objects.write(&request).await.unwrap().outcome, Outcome::Unchanged, "{kind}");
        let mut less = request.clone();
        less.body["metadata"].as_object_mut().unwrap().shift_remove("labels");
        let written = bench.objects.write(&less).await.unwrap().object;
        assert!(written["metadata"]["labels"]["l"].is_null(), "{written}");
    }
}

#[tokio::test]
async fn a_writers_name_has_an_end() {
    let bench = Bench::new();
    bench.created().await;
    for name in ["", "a\nb", &"x".repeat(129)] {
        let mut request = bench.request(Verb::MergePatch, json!({ "spec": { "replicas": 1 } }));
        request.terms.field_manager = Some(name.into());
        assert_eq!(status(&bench.objects.write(&request).await.unwrap_err()), (400, "BadRequest"), "{name:?}");
    }
}

#[tokio::test]
async fn what_nobody_noted_was_there_before_the_first_apply() {
    let bench = Bench::new();
    bench.created().await;
    let mut pool: ContainerPool = bench.read("a");
    pool.metadata.managed_fields.clear();
    bench.put(&pool).await;
    let refused = bench.send(Verb::Apply { force: false }, json!({ "spec": { "replicas": 3 } })).await.unwrap_err();
    assert_eq!(refused.causes()[0].message, "conflict with \"before-first-apply\" using anweddol.io/v1alpha1");
}

/// The requests of `kubectl apply` and then `kubectl apply --server-side`, as they were recorded.
#[tokio::test]
async fn kubectl_goes_over_from_the_clients_side_to_the_servers() {
    let bench = Bench::new();
    let by = |manager: &str, verb, body: &Value| {
        let mut request = strict(bench.request(verb, body.clone()));
        request.terms.field_manager = Some(manager.into());
        request
    };
    let config = bench.body(json!({ "maxContainers": 9, "replicas": 2 }));
    let mut made = config.clone();
    made["metadata"]["annotations"] = json!({ LAST_APPLIED: format!("{config}\n") });
    bench.objects.write(&by("kubectl-client-side-apply", Verb::Create, &made)).await.unwrap();
    let wished = bench.body(json!({ "maxContainers": 9, "replicas": 1 }));
    let apply = Verb::Apply { force: false };
    let applied = bench.objects.write(&by("kubectl", apply, &wished)).await.unwrap().object;
    assert_eq!(applied["spec"]["replicas"], 1);
    let kept: Value = serde_json::from_str(applied["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap()).unwrap();
    assert_eq!(kept["spec"]["replicas"], 1, "for whoever goes back");
    let annotation = json!({ "metadata": { "annotations": { LAST_APPLIED: format!("{config}\n") } } });
    let mut last = bench.body(json!({}));
    last.as_object_mut().unwrap().shift_remove("spec");
    last["metadata"]["annotations"] = annotation["metadata"]["annotations"].clone();
    let forced = by("kubectl-last-applied", Verb::Apply { force: true }, &last);
    let applied = bench.objects.write(&forced).await.unwrap().object;
    let entries = applied["metadata"]["managedFields"].as_array().unwrap().clone();
    let kept: Vec<Value> = entries.into_iter().filter(|entry| entry["operation"] == "Apply").collect();
    let revision = applied["metadata"]["resourceVersion"].clone();
    let patch = json!([
        { "op": "replace", "path": "/metadata/managedFields", "value": kept },
        { "op": "replace", "path": "/metadata/resourceVersion", "value": revision },
    ]);
    let migrated = bench.objects.write(&by("kubectl", Verb::JsonPatch, &patch)).await.unwrap().object;
    let managers: Vec<&str> = migrated["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["manager"].as_str().unwrap())
        .collect();
    assert_eq!(managers, ["kubectl", "kubectl-last-applied"]);
    let again = bench.objects.write(&by("kubectl", apply, &wished)).await.unwrap();
    assert_eq!(again.object["spec"]["replicas"], 1);
}

#[tokio::test]
async fn a_status_takes_other_controllers_conditions_and_nothing_else() {
    let bench = Bench::new();
    bench.created().await;
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let body = json!({
        "metadata": { "labels": { "x": "1" } }, "spec": { "replicas": 5 },
        "status": { "containers": 7, "conditions": [condition("Paid", "True"), condition("Available", "True")] },
    });
    let told = bench.events().len();
    let request = |verb, body| Request { subresource: Some(Subresource::Status), ..bench.request(verb, body) };
    let written = bench.objects.write(&request(Verb::MergePatch, body.clone())).await.unwrap().object;
    assert_eq!(written["status"]["conditions"], json!([condition("Paid", "True")]));
    assert_eq!((&written["status"]["containers"], &written["spec"]["replicas"]), (&0.into(), &0.into()));
    assert!(written["metadata"]["labels"].is_null() && written["metadata"]["generation"] == 1);
    assert_eq!(bench.events().len(), told, "a status is no wish");
    let again = bench.objects.write(&request(Verb::MergePatch, body)).await.unwrap();
    assert_eq!(again.outcome, Outcome::Unchanged);
    // The other way round, who writes the object leaves its status alone.
    let written = bench.send(Verb::MergePatch, json!({ "status": { "conditions": [] }, "spec": { "replicas": 1 } }));
    assert_eq!(written.await.unwrap().object["status"]["conditions"], json!([condition("Paid", "True")]));
    let applied = json!({ "status": { "conditions": [condition("Audited", "False")] } });
    let written = bench.objects.write(&request(Verb::Apply { force: false }, applied)).await.unwrap().object;
    assert_eq!(written["status"]["conditions"], json!([condition("Paid", "True"), condition("Audited", "False")]));
    let wrong = json!({ "status": { "conditions": [{ "type": "Paid" }] } });
    let refused = bench.objects.write(&request(Verb::MergePatch, wrong)).await.unwrap_err();
    assert_eq!((status(&refused), refused.causes()[0].field.as_str()), ((422, "Invalid"), "status.conditions"));
}

#[tokio::test]
async fn a_scale_is_a_pools_replicas_and_nothing_else() {
    let bench = Bench::new();
    bench.created().await;
    let object = bench.pool(0).object_ref();
    let mut scale = bench.objects.scale(&object).unwrap();
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"], &scale["spec"]["replicas"]),
        (&"Scale".into(), &"autoscaling/v1".into(), &0.into())
    );
    let request = |verb, body| Request { subresource: Some(Subresource::Scale), ..bench.request(verb, body) };
    scale["spec"]["replicas"] = 4.into();
    let written = bench.objects.write(&request(Verb::Replace, scale.clone())).await.unwrap();
    assert_eq!((&written.object["kind"], &written.object["spec"]["replicas"]), (&"Scale".into(), &4.into()));
    scale["spec"]["replicas"] = 5.into();
    let stale = bench.objects.write(&request(Verb::Replace, scale)).await.unwrap_err();
    assert_eq!(status(&stale), (409, "Conflict"));
    let patch = json!({ "spec": { "replicas": 3 } });
    let written = bench.objects.write(&request(Verb::MergePatch, patch)).await.unwrap();
    assert_eq!(written.object["spec"]["replicas"], 3);
    let refused = bench.send(Verb::Apply { force: false }, json!({ "spec": { "replicas": 9 } })).await.unwrap_err();
    let said = "conflict with \"me\" with subresource \"scale\" using anweddol.io/v1alpha1";
    assert_eq!(refused.causes()[0].message, said);
    let pool: ContainerPool = bench.read("a");
    assert_eq!(
        (pool.spec.replicas, pool.metadata.managed_fields.last().unwrap().subresource.as_deref()),
        (3, Some("scale"))
    );
    // Clients in Go leave a zero out.
    let test =
        json!([{ "op": "test", "path": "/spec/replicas", "value": 3 }, { "op": "remove", "path": "/spec/replicas" }]);
    assert_eq!(bench.objects.write(&request(Verb::JsonPatch, test)).await.unwrap().object["spec"]["replicas"], 0);
    for wrong in [
        json!({ "spec": { "replicas": -1 } }),
        json!({ "spec": { "replicas": "x" } }),
        json!({ "spec": { "replicas": 10 } }),
    ] {
        let refused = bench.objects.write(&request(Verb::MergePatch, wrong)).await.unwrap_err();
        assert_eq!((status(&refused), refused.causes()[0].field.as_str()), ((422, "Invalid"), "spec.replicas"));
    }
    let claim = ObjectRef { kind: Kind::ContainerClaim, ..object };
    assert_eq!(status(&bench.objects.scale(&claim).unwrap_err()), (404, "NotFound"));
}

#[tokio::test]
async fn what_is_being_deleted_takes_no_new_spec_and_no_new_finalizer() {
    let bench = Bench::new();
    bench.created().await;
    let finalizers = |names: &[&str]| json!({ "metadata": { "finalizers": names } });
    bench.send(Verb::MergePatch, finalizers(&["example.org/a", "example.org/b"])).await.unwrap();
    let object = bench.pool(0).object_ref();
    let deleted = bench.objects.delete(&object, &Deletion::default()).await.unwrap();
    assert!(!deleted.gone && deleted.object["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(deleted.object["metadata"]["generation"], 2, "its end is another wish");
    let late = bench.send(Verb::MergePatch, finalizers(&["example.org/a", "example.org/c"])).await.unwrap_err();
    assert_eq!((status(&late), late.causes()[0].reason), ((422, "Invalid"), FaultKind::Forbidden.reason()));
    let spec = bench.send(Verb::MergePatch, json!({ "spec": { "replicas": 1 } })).await.unwrap_err();
    assert!(matches!(spec, ObjectError::Deleting { .. }));
    let less = bench.send(Verb::MergePatch, finalizers(&["example.org/b"])).await.unwrap().object;
    assert_eq!(less["metadata"]["finalizers"], json!(["example.org/b"]));
    assert_eq!(less["metadata"]["deletionTimestamp"], deleted.object["metadata"]["deletionTimestamp"]);
}

#[tokio::test]
async fn who_deletes_once_more_says_anew_what_becomes_of_dependents() {
    let bench = Bench::new();
    bench.created().await;
    bench.send(Verb::MergePatch, json!({ "metadata": { "finalizers": ["example.org/a"] } })).await.unwrap();
    let object = bench.pool(0).object_ref();
    let mut ended = Value::Null;
    for (propagation, held) in [
        (None, json!(["example.org/a"])),
        (Some(Propagation::Orphan), json!(["example.org/a", "orphan"])),
        (None, json!(["example.org/a", "orphan"])),
        (Some(Propagation::Foreground), json!(["example.org/a", "foregroundDeletion"])),
        (Some(Propagation::Background), json!(["example.org/a"])),
    ] {
        let deletion = Deletion { propagation, ..Deletion::default() };
        let deleted = bench.objects.delete(&object, &deletion).await.unwrap();
        let metadata = &deleted.object["metadata"];
        assert_eq!((deleted.gone, &metadata["finalizers"]), (false, &held));
        assert!(ended.is_null() || ended == metadata["deletionTimestamp"], "it ends once");
        ended = metadata["deletionTimestamp"].clone();
    }
    let told = bench.events().iter().filter(|event| event.kind == EventKind::DeletedObject).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn delete_options_are_conditions_a_policy_and_a_dry_run() {
    let bench = Bench::new();
    let created = bench.created().await;
    let object = bench.pool(0).object_ref();
    let read = |options: Value| Deletion::from_options(&object, &options);
    let revision = bench.revision();
    let dry = read(json!({ "dryRun": ["All"], "propagationPolicy": "Foreground" })).unwrap();
    let shown = bench.objects.delete(&object, &dry).await.unwrap().object;
    assert_eq!((&shown["metadata"]["finalizers"], bench.revision()), (&json!(["foregroundDeletion"]), revision));
    for (conditions, good) in [
        (json!({ "uid": "other" }), false),
        (json!({ "resourceVersion": "1" }), false),
        (json!({ "uid": created["metadata"]["uid"], "resourceVersion": revision.to_string() }), true),
    ] {
        let deletion = read(json!({ "preconditions": conditions })).unwrap();
        match bench.objects.delete(&object, &deletion).await {
            Ok(deleted) => assert!(good && deleted.gone),
            Err(error) => assert!(!good && status(&error) == (409, "Conflict"), "{error}"),
        }
    }
    assert_eq!(read(json!({ "orphanDependents": true })).unwrap().propagation, Some(Propagation::Orphan));
    assert_eq!(read(json!(null)).unwrap(), Deletion::default());
    for wrong in [
        json!({ "propagationPolicy": "Sideways" }),
        json!({ "propagationPolicy": "Orphan", "orphanDependents": true }),
        json!({ "dryRun": ["Some"] }),
        json!({ "preconditions": { "resourceVersion": "x" } }),
    ] {
        assert_eq!(status(&read(wrong).unwrap_err()), (422, "Invalid"));
    }
    assert_eq!(bench.events().last().unwrap().kind, EventKind::DeletedObject);
}

#[tokio::test]
async fn a_pools_machines_are_not_orphaned() {
    let bench = Bench::new();
    bench.created().await;
    let mut pool: ContainerPool = bench.read("a");
    pool.status.containers = 1;
    bench.put(&pool).await;
    let deletion = Deletion { propagation: Some(Propagation::Orphan), ..Deletion::default() };
    let refused = bench.objects.delete(&bench.pool(0).object_ref(), &deletion).await.unwrap_err();
    assert_eq!(refused.causes()[0].field, "propagationPolicy");
}

#[tokio::test]
async fn what_a_client_writes_leaves_room_for_its_end() {
    let bench = Bench::new();
    bench.created().await;
    let annotated = |length: usize| json!({ "metadata": { "annotations": { "a": "x".repeat(length) } } });
    let refused = bench.send(Verb::MergePatch, annotated(MAX_WISH)).await.unwrap_err();
    assert_eq!(status(&refused), (413, "RequestEntityTooLarge"));
    let told = refused.to_string();
    let over = told.split(' ').find_map(|word| word.parse::<usize>().ok()).unwrap() - MAX_WISH;
    let length = MAX_WISH - over;
    assert_eq!(status(&bench.send(Verb::MergePatch, annotated(length + 1)).await.unwrap_err()).0, 413);
    bench.send(Verb::MergePatch, annotated(length)).await.unwrap();
    let more = bench.request(Verb::MergePatch, annotated(MAX_WISH));
    let tried = Request { terms: Terms { dry_run: true, ..more.terms.clone() }, ..more };
    assert_eq!(status(&bench.objects.write(&tried).await.unwrap_err()), (413, "RequestEntityTooLarge"));
    // The operator makes it longer than any client may. They may still make it shorter.
    let mut pool: ContainerPool = bench.read("a");
    pool.status.message = "x".repeat(8192);
    bench.put(&pool).await;
    assert_eq!(status(&bench.send(Verb::MergePatch, annotated(length + 1)).await.unwrap_err()).0, 413);
    bench.send(Verb::MergePatch, annotated(length - 1)).await.unwrap();
    let deletion = Deletion { propagation: Some(Propagation::Foreground), ..Deletion::default() };
    bench.objects.delete(&bench.pool(0).object_ref(), &deletion).await.unwrap();
}

/// Clients that write at the same time, each its own label: none of them meets a conflict, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_and_applies_at_the_same_time_are_all_kept() {
    let bench = Arc::new(Bench::new());
    bench.created().await;
    let writers = (0..24).map(|index| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            let label = json!({ "metadata": { "labels": { format!("l{index}"): "x" } } });
            let verb = if index % 2 == 0 { Verb::MergePatch } else { Verb::Apply { force: false } };
            let mut request = bench.request(verb, label);
            request.terms.field_manager = Some(format!("m{index}"));
            bench.objects.write(&request).await.map(|written| written.outcome)
        })
    });
    for writer in futures::future::join_all(writers).await {
        assert_eq!(writer.unwrap().unwrap(), Outcome::Configured);
    }
    assert_eq!(bench.read::<ContainerPool>("a").metadata.labels.len(), 24);
}
