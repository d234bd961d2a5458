use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::keep::{CONFIGURATION, Keeping, Present, Scan, keep};
use super::*;
use crate::model::Image;

const POOL: &str = "apiVersion: anweddol.io/v1alpha1
kind: ContainerPool
metadata:
  name: a
spec:
  maxContainers: 3
  template:
    image:
      iso: /i.iso
";

fn read_text(text: &str) -> Read {
    read("file.yaml", text.as_bytes())
}

fn good(text: &str) -> Manifest {
    let mut read = read_text(text);
    assert_eq!(read.problems, []);
    read.manifests.remove(0).manifest
}

fn said(text: &str) -> Vec<String> {
    read_text(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_left_out_has_its_default() {
    let Spec::Pool(spec) = good(POOL).spec else { panic!("no pool") };
    assert_eq!(spec, PoolSpec::of(0, 3, Template::of(Image::Iso("/i.iso".into()))));
    assert_eq!(good(POOL).object_ref().to_string(), "ContainerPool default/a");
}

#[test]
fn an_error_is_told_with_line_field_and_what_would_be_right() {
    let claim = "apiVersion: anweddol.io/v1alpha1\nkind: ContainerClaim\nmetadata: {name: a}\nspec:\n  pool: default\n";
    let container = "apiVersion: anweddol.io/v1alpha1\nkind: Container\nmetadata: {name: a}\nspec:\n  template: {image: {iso: /i}}\n";
    let with = |line: &str| format!("{POOL}{line}\n");
    for (text, line, words) in [
        ("- a", 1, &["apiVersion", "kind"][..]),
        ("kind: ContainerPool", 1, &["apiVersion", "anweddol.io/v1alpha1"]),
        (&POOL.replace("v1alpha1", "v1"), 1, &["apiVersion", "'anweddol.io/v1'", "anweddol.io/v1alpha1"]),
        (&POOL.replace("ContainerPool", "ContainerPol"), 2, &["kind", "did you mean ContainerPool?"]),
        (&POOL.replace("  name: a", "  nam: a"), 4, &["metadata.nam", "did you mean name?"]),
        (&POOL.replace("  name: a", "  name: A_B"), 4, &["metadata.name", "A_B", "lower-case"]),
        (
            &POOL.replace("maxContainers: 3", "maxContainers: three"),
            6,
            &["spec.maxContainers", "'three'", "a whole number"],
        ),
        (&POOL.replace("maxContainers: 3", "maxContainers: -3"), 6, &["spec.maxContainers", "-3", "from 0"]),
        (&POOL.replace("maxContainers: 3", "maxContainers: 99999999999"), 6, &["spec.maxContainers", "4294967295"]),
        (&POOL.replace("maxContainers: 3", "maxContainers: 1.5"), 6, &["spec.maxContainers", "1.5"]),
        (&POOL.replace("maxContainers: 3", "maxContainers: 0"), 6, &["spec.maxContainers", "at least 1"]),
        (&POOL.replace("  maxContainers: 3\n", ""), 5, &["spec.maxContainers", "missing"]),
        (
            &POOL.replace("maxContainers: 3", "maxContainers: 3\n  replicas: 4"),
            7,
            &["spec.replicas", "spec.maxContainers"],
        ),
        (&POOL.replace("/i.iso", "i.iso"), 9, &["spec.template.image.iso", "relative", "'/'"]),
        (&with("    memroy: 1Gi"), 10, &["spec.template.memroy", "did you mean memory?"]),
        (&with("    memory: lots"), 10, &["spec.template.memory", "lots", "256Mi"]),
        (&with("    memory: 63Mi"), 10, &["spec.template.memory", "63Mi", "64Mi"]),
        (&with("    vcpus: 257"), 10, &["spec.template.vcpus", "1 to 256"]),
        (&with("    bootDeadlineSeconds: 4"), 10, &["spec.template.bootDeadlineSeconds", "5 to 3600"]),
        (&with("    domainType: kwm"), 10, &["spec.template.domainType", "auto, kvm, qemu", "did you mean kvm?"]),
        (&with("    network: {mode: user, egress: internet}"), 10, &["spec.template.network.egress", "nat"]),
        (&with("    lifetime: {ttlSeconds: 9, maxTtlSeconds: 8}"), 10, &["spec.template.lifetime.ttlSeconds", "8"]),
        (&with("    readinessProbe: {periodSeconds: 0}"), 10, &["template.readinessProbe.periodSeconds", "1 to 3600"]),
        (&with("    readinessProbe: {timeoutSeconds: 61}"), 10, &["readinessProbe.timeoutSeconds", "1 to 60 seconds"]),
        (&with("    readinessProbe: {failureThreshold: 0}"), 10, &["readinessProbe.failureThreshold", "1 to 100"]),
        (&with("    readinessProbe: {failureTreshold: 3}"), 10, &["did you mean failureThreshold?"]),
        (&with("    lifetime: {idleTimeoutSeconds: 0}"), 10, &["lifetime.idleTimeoutSeconds", "leave it out"]),
        (&with("  updateStrategy: {maxUnavailable: 0}"), 10, &["spec.updateStrategy.maxUnavailable", "at least 1"]),
        (&with("  refill: {maxStarting: 0}"), 10, &["spec.refill.maxStarting"]),
        (&with("  paused: 'yes'"), 10, &["spec.paused", "true or false"]),
        (&with("  maxContainers: 4"), 10, &["maxContainers", "twice"]),
        (&with("      kernel: {path: /k, initrd: /r}"), 8, &["exactly one of iso, kernel and disk"]),
        (&POOL.replace("  name: a", "  name: a\n  labels: {a: 1}"), 5, &["metadata.labels.a", "a text", "in quotes"]),
        (&POOL.replace("  name: a", "  name: a\n  labels: {a: b, a: c}"), 5, &["'a'", "twice"]),
        (
            &POOL.replace("  name: a", "  name: a\n  labels: {e.x/y/z: b}"),
            5,
            &["metadata.labels[e.x/y/z]", "name of a label"],
        ),
        (
            &POOL.replace("  name: a", "  name: a\n  labels: {e.x/y: -b}"),
            5,
            &["metadata.labels[e.x/y]", "value of a label"],
        ),
        (&format!("{claim}  tokenSha256: abc\n"), 6, &["spec.tokenSha256", "the daemon's own"]),
        (&format!("{claim}  accessToken: anna\n"), 6, &["spec.accessToken", "the daemon's own"]),
        (&format!("{claim}  origin: Embedder\n"), 6, &["spec.origin", "the daemon's own"]),
        (&format!("{claim}  ttlSeconds: 0\n"), 6, &["spec.ttlSeconds"]),
        (&format!("{claim}  sshPublicKey: ssh-ed25519 B\n"), 6, &["spec.sshPublicKey", "id_ed25519.pub"]),
        (&format!("{container}  pool: default\n"), 6, &["spec.pool", "the daemon's own"]),
        (&format!("{container}  schedulingGates: []\n"), 6, &["spec.schedulingGates", "the daemon's own"]),
        ("a: [", 2, &["did not find"]),
        ("a: &a {b: *c}", 1, &["anchor"]),
    ] {
        let problems = said(text);
        assert_eq!(problems.len(), 1, "for\n{text}\nit says {problems:#?}");
        let place = format!("file.yaml:{line}: ");
        assert!(problems[0].starts_with(&place), "for\n{text}\nit says {problems:?}, not on line {line}");
        for word in words {
            assert!(problems[0].contains(word), "for\n{text}\nit says {problems:?}, without {word:?}");
        }
    }
}

#[test]
fn all_errors_of_a_file_are_told_at_once() {
    let bad = POOL.replace("maxContainers", "maxContianers").replace("iso:", "isso:") + "    vcpus: many\n";
    let problems = said(&format!("{bad}---\n{}---\n{POOL}---\nkind: 3\n", POOL.replace("name: a", "name: A")));
    let fields = [
        "maxContianers",
        "image.isso",
        "vcpus",
        "document 2: metadata.name",
        "document 4: apiVersion",
        "document 4: kind",
    ];
    assert_eq!(problems.len(), fields.len(), "{problems:#?}");
    for field in fields {
        assert!(problems.iter().any(|problem| problem.contains(field)), "{field} is not in {problems:#?}");
    }
}

#[test]
fn good_documents_of_a_file_are_read_and_empty_ones_skipped() {
    let text = format!("---\n# nothing\n---\n{POOL}---\n---\n{}...\n", POOL.replace("name: a", "name: b"));
    let read = read_text(&text);
    assert_eq!(read.problems, []);
    let places: Vec<_> =
        read.manifests.iter().map(|l| (l.manifest.name.as_str(), l.place.document, l.place.line)).collect();
    assert_eq!(places, [("a", 2, 4), ("b", 4, 15)]);
    assert_eq!(read_text("").manifests, []);
    assert_eq!(read_text("# nothing\n"), Read::default());
}

#[test]
fn json_is_read_as_well() {
    let manifest = good(POOL);
    assert_eq!(good(&manifest.to_json().to_string()), manifest);
    assert_eq!(good(&format!("{:#}", manifest.to_json()).replace("  ", "\t")), manifest);
}

#[test]
fn what_the_daemon_wrote_is_read_and_ignored() {
    let mut shown = good(POOL).to_json();
    shown["metadata"]["uid"] = "0c6e2f9f-6f27-4ac9-92d7-0a0f0b3f4b0e".into();
    shown["metadata"]["generation"] = 3.into();
    shown["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    shown["metadata"]["annotations"] = json!({ "anweddol.io/managed-by": "/elsewhere", "mine": "x" });
    shown["metadata"]["labels"] = json!({ "anweddol.io/template-hash": "0123456789" });
    shown["status"] = json!({ "anything": [1, 2] });
    let manifest = good(&shown.to_string());
    assert_eq!((manifest.spec, manifest.labels.len()), (good(POOL).spec, 0));
    assert_eq!(manifest.annotations, BTreeMap::from([("mine".to_owned(), "x".to_owned())]));
}

#[test]
fn the_same_object_twice_names_both_places() {
    let problems = said(&format!("{POOL}---\n{POOL}"));
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("file.yaml:11: document 2: ") && problems[0].contains("file.yaml:1 already"),
        "{problems:?}"
    );
    // The same name in another namespace, or of another kind, is another object.
    assert_eq!(said(&format!("{POOL}---\n{}", POOL.replace("name: a", "name: a\n  namespace: b"))), [""; 0]);
}

#[test]
fn what_is_too_long_too_deep_or_no_text_is_refused() {
    let too_many = format!("{}---\n", "--- {a: 1}\n".repeat(2));
    assert!(said(&too_many).len() >= 2);
    let documents = "--- null\n".repeat(MAX_DOCUMENTS + 1);
    assert!(said(&documents)[0].contains("more than 1000 documents"));
    assert!(said(&"#".repeat(MAX_SIZE + 1))[0].contains("longer"));
    let bytes = read("file.yaml", b"a: 1\nb: \xff\n");
    assert!(bytes.problems[0].to_string().starts_with("file.yaml:2: it is not UTF-8"));
    assert!(said(&"[".repeat(200))[0].contains("recursion"));
    let mut bomb = "a0: &a0 [x, x]\n".to_owned();
    for level in 1..30 {
        bomb.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}, *a{0}]\n", level - 1));
    }
    assert!(said(&bomb)[0].contains("aliases make too much"), "{:?}", said(&bomb));
    // Every one of many errors needs its line: there is an end to that.
    let many: String = (0..200).map(|n| format!("    x{n}: 1\n")).collect();
    let problems = said(&format!("{POOL}{many}"));
    assert_eq!(problems.len(), 51);
    assert!(problems[50].contains("only its first 50"));
}

#[test]
fn every_field_of_the_types_is_explained() {
    for kind in Kind::ALL {
        let paths = explain::paths(kind);
        for path in &paths {
            let text = explain::explain(kind, path).unwrap();
            let description = text.split("DESCRIPTION:\n").nth(1).unwrap().lines().next().unwrap().trim();
            assert!(description.len() > 3, "{kind}.{path} is not described:\n{text}");
            assert!(!text.contains("<>"), "{kind}.{path} has no type:\n{text}");
        }
        // What is written has no field beyond those.
        let mut written = Vec::new();
        leaves(&full(kind), "", &mut written);
        for path in written
            .iter()
            .filter(|path| !path.starts_with("metadata.labels.") && !path.starts_with("metadata.annotations."))
        {
            assert!(paths.contains(path), "{kind}.{path} is not explained");
        }
    }
    let text = explain::explain(Kind::ContainerPool, "spec.template.memory").unwrap();
    assert!(text.contains("DEFAULT:\n  256Mi"), "{text}");
    let text = explain::explain(Kind::ContainerPool, "spec.updateStrategy.type").unwrap();
    assert!(text.contains("RollingUpdate|Recreate|OnReplenish") && text.contains("A few at a time"), "{text}");
    let wrong = explain::explain(Kind::ContainerPool, "spec.template.memroy").unwrap_err();
    assert!(wrong.to_string().contains("did you mean memory?"));
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    if let Value::Object(map) = value {
        for (name, value) in map {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            found.push(path.clone());
            leaves(value, &path, found);
        }
    }
}

/// A manifest with every field.
fn full(kind: Kind) -> Value {
    let template = json!({
        "image": { "kernel": { "path": "/k", "initrd": "/r", "cmdline": "quiet" } },
        "memory": "1Gi", "vcpus": 2, "domainType": "kvm",
        "network": { "mode": "nat", "egress": "internet" },
        "bootDeadlineSeconds": 60,
        "lifetime": { "ttlSeconds": 1, "maxTtlSeconds": 2, "idleTimeoutSeconds": 3, "maxReadySeconds": 4 },
        "readinessProbe": { "periodSeconds": 5, "timeoutSeconds": 6, "failureThreshold": 7 },
    });
    let spec = match kind {
        Kind::ContainerPool => json!({
            "replicas": 1, "maxContainers": 2, "paused": true,
            "updateStrategy": { "type": "Recreate", "maxUnavailable": 2 },
            "refill": { "debounceMilliseconds": 1, "maxStarting": 2, "perMinute": 3 },
            "progressDeadlineSeconds": 5, "template": template,
        }),
        Kind::Container => json!({ "template": template }),
        Kind::ContainerClaim => json!({
            "pool": "a", "ttlSeconds": 1, "timeoutSeconds": 2,
            "sshPublicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me@here",
        }),
    };
    json!({
        "apiVersion": API_VERSION, "kind": kind.to_string(),
        "metadata": { "name": "a", "namespace": "b", "labels": { "c": "d" }, "annotations": { "e": "f" } },
        "spec": spec,
    })
}

#[test]
fn the_schema_and_the_types_agree() {
    for kind in Kind::ALL {
        let full = full(kind);
        let manifest = good(&full.to_string());
        // All that the types write, the schema allows, and it comes back the same.
        assert_eq!(good(&manifest.to_json().to_string()), manifest);
        let mut paths = Vec::new();
        leaves(&full, "", &mut paths);
        for path in paths.iter().filter(|path| path.starts_with("spec.")) {
            for value in
                [json!(null), json!(true), json!(7), json!(-1), json!(1u64 << 33), json!("x"), json!([]), json!({})]
            {
                let mut changed = full.clone();
                *changed.pointer_mut(&format!("/{}", path.replace('.', "/"))).unwrap() = value.clone();
                let allowed = schema::faults(kind, &changed).is_empty();
                let typed = read_text(&changed.to_string()).problems;
                // Both kinds of text have a parser of their own; rules come after types.
                let refined = path.contains("image") || path.ends_with("memory");
                let by_type = typed
                    .iter()
                    .any(|problem| problem.message.contains("invalid") || problem.message.contains("expected"));
                assert!(!(allowed && by_type) || refined, "the schema allows {value} for {kind}.{path}: {typed:?}");
            }
        }
    }
}

#[test]
fn of_what_is_wrong_with_an_object_so_much_is_told_as_somebody_reads() {
    let many =
        |value: serde_json::Value| (0..10_000).map(|n| (format!("-{n}"), value.clone())).collect::<serde_json::Value>();
    for (part, field, wrong) in [
        ("metadata", "labels", many(1.into())),
        ("metadata", "labels", many("".into())),
        ("metadata", "finalizers", vec!["x"; 10_000].into()),
        ("spec", "template", many(1.into())),
    ] {
        let mut document = full(Kind::ContainerPool);
        document[part][field] = wrong;
        let faults = of_value(Kind::ContainerPool, &document).unwrap_err();
        assert!((1..=MAX_PROBLEMS + 1).contains(&faults.len()), "{part}.{field}: {}", faults.len());
    }
    let mut document = json!({ "spec": many(1.into()) });
    assert!(prune(Kind::ContainerPool, &mut document).len() < 100);
    assert_eq!(document, json!({ "spec": {} }));
}

#[test]
fn aliases_make_no_more_of_a_text_than_there_is_room_for() {
    let laughs = (1..9).map(|n| format!("{n}: &{n} [{}]\n", vec![format!("*{}", n - 1); 9].join(", ")));
    let list = format!("- &a [{}]\n{}", "1, ".repeat(2000), "- *a\n".repeat(2000));
    let text = format!("- &a {}\n{}", "a".repeat(10_000), "- *a\n".repeat(1000));
    let keys = format!("- &a {}\n{}", "a".repeat(10_000), "- {*a : }\n".repeat(1000));
    let many = format!("- &a [{}]\n{}---\n", "1, ".repeat(1000), "- *a\n".repeat(100)).repeat(10);
    let laughs = format!("0: &0 [{}]\n{}", ["x"; 9].join(", "), laughs.collect::<String>());
    for bomb in [laughs, list, text, keys, many] {
        assert!(bomb.len() <= MAX_SIZE);
        let found = read_text(&bomb).problems;
        let told = |problem: &&Problem| problem.message.contains("aliases") && problem.place.line > 0;
        assert!(found.iter().any(|problem| told(&problem)), "{:.200}: {found:?}", bomb);
    }
    let pool = serde_yaml::to_string(&full(Kind::ContainerPool)).unwrap();
    let labelled = pool.replacen("  labels:", "  labels: &l\n    more: x", 1);
    assert_ne!(labelled, pool);
    let shared = format!("{labelled}status: {{a: *l, b: *l, c: [*l, *l]}}\n");
    assert_eq!(read_text(&shared).problems, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read("file.yaml", &bytes);
    }

    #[test]
    fn a_manifest_with_any_damage_is_read_or_refused_and_never_panics(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        cut in any::<prop::sample::Index>(),
        length in 0usize..40,
        with in "[a-z:{}\\[\\]&*!|>\"' \n\t#?-]{0,12}",
    ) {
        let text = serde_yaml::to_string(&full(kind)).unwrap();
        let from = cut.index(text.len());
        let to = (from + length).min(text.len());
        let damaged = format!("{}{with}{}", &text[..from], &text[to..]);
        let read = read_text(&damaged);
        for problem in read.problems {
            prop_assert!(problem.place.line <= damaged.lines().count() + 1, "{problem}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_text_that_the_api_gets_comes_back_as_it_was(text in any::<String>(), odd in "[\u{7f}-\u{a0}\u{2027}-\u{202a}\u{feff}\u{fff0}-\u{ffff}\u{1fffe}\u{10ffff}]{0,4}") {
        let mut document = full(Kind::ContainerClaim);
        let text = format!("{text}{odd}");
        document["metadata"]["annotations"]["note"] = text.clone().into();
        prop_assert_eq!(&of_value(Kind::ContainerClaim, &document).unwrap().annotations["note"], &text);
    }
}

// --- keeping a directory ---

fn located(name: &str, file: &str) -> Located {
    let mut manifest = good(POOL);
    manifest.name = name.into();
    Located { manifest, place: Place { file: file.into(), document: 1, line: 1 } }
}

fn file(name: &str, objects: &[&str]) -> Read {
    Read { manifests: objects.iter().map(|object| located(object, name)).collect(), problems: vec![] }
}

fn broken(name: &str, objects: &[&str]) -> Read {
    let place = Place { file: name.into(), document: 1, line: 1 };
    let problem = Problem { place, object: None, field: String::new(), message: "broken".into() };
    Read { problems: vec![problem], ..file(name, objects) }
}

fn present(name: &str, managed_by: Option<&str>) -> Present {
    let managed_by = managed_by.map(str::to_owned);
    Present { object: located(name, "").manifest.object_ref(), managed_by, deleting: false, written: true }
}

fn names(keeping: &Keeping) -> (Vec<&str>, Vec<&str>, usize) {
    let apply = keeping.apply.iter().map(|located| located.manifest.name.as_str()).collect();
    let prune = keeping.prune.iter().map(|object| object.name.as_str()).collect();
    (apply, prune, keeping.problems.len())
}

#[test]
fn a_directory_keeps_what_is_its_own() {
    let scan = |files: Vec<Read>| Scan { files, complete: true };
    let ours =
        || vec![present("a", Some("/d")), present("b", Some("/d")), present("c", Some("/e")), present("d", None)];
    for (what, scan, present, wanted) in [
        ("added", scan(vec![file("1", &["a", "b"]), file("2", &["x"])]), ours(), (vec!["a", "b", "x"], vec![], 0)),
        ("gone", scan(vec![file("1", &["a"])]), ours(), (vec!["a"], vec!["b"], 0)),
        ("all gone", scan(vec![]), ours(), (vec![], vec!["a", "b"], 0)),
        ("another's", scan(vec![file("1", &["a", "b", "c"])]), ours(), (vec!["a", "b"], vec![], 1)),
        ("nobody's is taken over", scan(vec![file("1", &["a", "b", "d"])]), ours(), (vec!["a", "b", "d"], vec![], 0)),
        ("one file is broken", scan(vec![file("1", &["a"]), broken("2", &["b"])]), ours(), (vec!["a"], vec![], 1)),
        ("twice", scan(vec![file("1", &["a", "x"]), file("2", &["x"])]), ours(), (vec!["a"], vec![], 1)),
        ("unreadable", Scan { files: vec![broken("/d", &[])], complete: false }, ours(), (vec![], vec![], 1)),
        (
            "the configuration's is taken over",
            scan(vec![file("1", &["a"])]),
            vec![present("a", Some(CONFIGURATION))],
            (vec!["a"], vec![], 0),
        ),
        (
            "being deleted: made again when it is gone, and deleted once",
            scan(vec![file("1", &["a"])]),
            vec![
                Present { deleting: true, ..present("a", Some("/d")) },
                Present { deleting: true, ..present("b", Some("/d")) },
            ],
            (vec![], vec![], 0),
        ),
        (
            "a pool's member is nobody's",
            scan(vec![file("1", &["a"])]),
            vec![Present { written: false, ..present("a", None) }],
            (vec![], vec![], 1),
        ),
    ] {
        assert_eq!(names(&keep("/d", &scan, &present)), wanted, "{what}");
    }
}

/// A state of the directory: what its files hold, and whether it can be listed.
fn state() -> impl Strategy<Value = (Vec<(bool, BTreeSet<usize>)>, bool)> {
    let file = (prop::bool::weighted(0.8), prop::collection::btree_set(0usize..6, 0..4));
    (prop::collection::vec(file, 0..3), prop::bool::weighted(0.9))
}

proptest! {
    #[test]
    fn any_history_of_a_directory_converges_and_touches_nobody_elses(
        states in prop::collection::vec(state(), 1..8),
        others in prop::collection::btree_set(0usize..6, 0..3),
    ) {
        let name = |n: &usize| ["a", "b", "c", "d", "e", "f"][*n];
        let mut world: BTreeMap<ObjectRef, Present> = others
            .iter()
            .map(|n| present(name(n), Some("/other")))
            .map(|present| (present.object.clone(), present))
            .collect();
        let before: Vec<Present> = world.values().cloned().collect();
        for (files, complete) in states {
            let files: Vec<Read> = files
                .iter()
                .enumerate()
                .map(|(index, (good, objects))| {
                    let objects: Vec<&str> = objects.iter().map(name).collect();
                    if *good { file(&index.to_string(), &objects) } else { broken(&index.to_string(), &objects) }
                })
                .collect();
            let scan = Scan { files, complete };
            let held: BTreeSet<ObjectRef> = world.values().filter(|p| p.managed_by.as_deref() == Some("/d")).map(|p| p.object.clone()).collect();
            let keeping = keep("/d", &scan, &world.values().cloned().collect::<Vec<_>>());
            if !keeping.problems.is_empty() && !scan.complete {
                prop_assert!(keeping.prune.is_empty());
            }
            if scan.files.iter().any(|file| !file.problems.is_empty()) {
                prop_assert!(keeping.prune.is_empty(), "a broken file, and something was deleted");
            }
            for object in &keeping.prune {
                prop_assert!(held.contains(object), "{object} was not ours to delete");
                world.remove(object);
            }
            for located in &keeping.apply {
                let present = present(&located.manifest.name, Some("/d"));
                world.insert(present.object.clone(), present);
            }
            for other in &before {
                prop_assert_eq!(world.get(&other.object), Some(other));
            }
            // The same directory again: nothing more to delete, and the same to keep.
            let again = keep("/d", &scan, &world.values().cloned().collect::<Vec<_>>());
            prop_assert!(again.prune.is_empty());
            prop_assert_eq!(&again.apply, &keeping.apply);
            if scan.complete && again.problems.is_empty() {
                let kept = world.values().filter(|p| p.managed_by.as_deref() == Some("/d")).count();
                prop_assert_eq!(kept, again.apply.len(), "what is kept is what is described");
            }
        }
    }
}

/// Each costs the parser of YAML minutes where it is not refused.
#[test]
fn brackets_without_end_are_refused_before_they_are_parsed() {
    for text in ["a: [", "[?", "{a: ", "["].map(|open| format!("a: {}", open.repeat(131_000 / open.len()))) {
        let problems = read("f.yaml", text.as_bytes()).problems;
        assert!(problems[0].message.contains("more than 1000 brackets"), "{problems:?}");
        assert!(value(text.as_bytes()).unwrap_err().to_string().contains("more than 1000 brackets"));
    }
    let nested = format!("a: {}1{}", "[".repeat(120), "]".repeat(120));
    assert!(value(nested.as_bytes()).is_ok());
}

#[test]
fn what_is_nobodys_to_write_is_not_read_however_long_and_deep_it_is() {
    let deep = (0..200).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let document = serde_json::json!({
        "apiVersion": API_VERSION, "kind": "ContainerClaim", "spec": { "pool": "a" }, "status": [deep.clone()],
        "metadata": { "name": "a", "managedFields": [deep] },
    });
    assert!(of_value(Kind::ContainerClaim, &document).is_ok());
    // What is a value already is as deep as it is, whatever its texts hold.
    let mut told = document;
    told["metadata"]["annotations"] = serde_json::json!({ "a": "[".repeat(2000) });
    assert!(of_value(Kind::ContainerClaim, &told).is_ok());
}
