//! Kubernetes' own kinds.

use super::*;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

#[tokio::test]
async fn kinds_of_kubernetes_are_patched_as_kubectl_patches_them_and_applied() {
    let bench = Bench::new();
    let patch = async |path: &str, media: &str, body: Value| {
        bench.ask("PATCH", path, &[("content-type", media)], body.to_string()).await
    };
    let named = json!({ "metadata": { "name": "a" } });
    let secret = json!({ "metadata": { "name": "a" }, "data": { "k": "YQ==", "l": "bA==" } });
    assert_eq!(bench.post(SECRETS, &secret).await.code, 201);
    let (path, change) =
        (format!("{SECRETS}/a"), json!({ "$setElementOrder/x": [], "data": { "k": "Yg==", "l": null } }));
    let told = patch(&path, STRATEGIC, change).await;
    assert_eq!((told.code, &told.body["data"]), (200, &json!({ "k": "Yg==" })), "{}", told.text);
    let told = patch(&path, STRATEGIC, json!({ "$patch": "delete" })).await;
    assert_eq!((told.code, &told.body["reason"]), (400, &json!("BadRequest")));

    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    assert_eq!(bench.post(events, &named).await.code, 201);
    let told = patch(&format!("{events}/a"), STRATEGIC, json!({ "note": "n", "deprecatedCount": 2 })).await;
    assert_eq!((told.code, &told.body["note"], &told.body["deprecatedCount"]), (200, &json!("n"), &json!(2)));
    let told = bench.get("/api/v1/namespaces/default/events/a").await;
    assert_eq!((&told.body["message"], &told.body["count"]), (&json!("n"), &json!(2)), "{}", told.text);

    let apply = "application/apply-patch+yaml";
    let (path, wanted) = (format!("{SECRETS}/b"), json!({ "metadata": { "name": "b" }, "stringData": { "k": "b" } }));
    let tried = patch(&format!("{path}?fieldManager=helm&dryRun=All"), apply, wanted.clone()).await;
    assert_eq!((tried.code, bench.get(&path).await.code), (201, 404));
    for (code, data) in [(201, "b"), (200, "c")] {
        let wanted = json!({ "kind": "Secret", "metadata": { "name": "b" }, "stringData": { "k": data } });
        let told = patch(&format!("{path}?fieldManager=helm"), apply, wanted).await;
        assert_eq!(told.code, code, "{}", told.text);
        assert!(told.body["metadata"]["managedFields"].is_null(), "nobody owns a field");
    }
    assert_eq!(bench.get(&path).await.body["data"]["k"], "Yw==");
    for wrong in [
        json!({}),
        json!([]),
        json!({ "metadata": "b" }),
        named,
        json!({ "kind": "Lease", "metadata": { "name": "b" } }),
    ] {
        assert_eq!(patch(&path, apply, wrong.clone()).await.code, 400, "{wrong}");
    }
}
