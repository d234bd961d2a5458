//! What Prometheus is told, and what is written for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anweddol::wire::{CREATE, Generation, Request};
use serde_json::Value;
use tempfile::tempdir;

use crate::common::ask::{ask, create, destroy, grant, stat};
use crate::common::daemon::{Daemon, Home, finish, program, stderr};
use crate::common::until;
use crate::exposition::{Exposition, promtool};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

fn scrape(daemon: &Daemon) -> Exposition {
    let (status, text) = daemon.http("/metrics");
    assert_eq!(status, 200, "{text}");
    Exposition::parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// Waits until a series has a value.
fn until_value(daemon: &Daemon, name: &str, labels: &[(&str, &str)], value: f64) {
    until(&format!("{name} {labels:?} {value}"), || (scrape(daemon).value(name, labels) == Some(value)).then_some(()));
}

fn run(home: &Home, args: &[&str]) {
    let output = finish(program(args).arg("--state").arg(&home.state));
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
}

/// A daemon with three machines ready, and a pool that keeps none and has room for one.
fn working(dir: &Path) -> (Home, Daemon) {
    let home = Home::new(dir, "container: {warm: 3}").with_vectors_key().simulated("boot=10ms");
    let daemon = home.start();
    let (image, manifest) = (dir.join("i.iso"), dir.join("pool.yaml"));
    fs::write(&image, "an image").unwrap();
    let text = format!(
        "apiVersion: anweddol.io/v1alpha1\nkind: ContainerPool\nmetadata: {{name: cold}}\n\
         spec: {{replicas: 0, maxContainers: 1, template: {{image: {{iso: {}}}}}}}\n",
        image.display()
    );
    fs::write(&manifest, text).unwrap();
    run(&home, &["apply", "-f", manifest.to_str().unwrap()]);
    until_value(&daemon, "anweddol_pool_replicas_ready", &[("pool", "default")], 3.0);
    (home, daemon)
}

fn from_the_cold_pool() -> Request {
    Request::new(CREATE, [("pool".to_owned(), Value::from("cold"))].into_iter().collect())
}

#[test]
fn what_clients_do_is_counted_measured_and_told_as_prometheus_wants_it() {
    let dir = tempdir().unwrap();
    let (home, daemon) = working(dir.path());
    let granted = [(); 3].map(|()| grant(&create(daemon.address)));
    let cold = ask(daemon.address, Generation::Second, &from_the_cold_pool());
    assert!(cold.success, "{}", cold.message);
    let full = ask(daemon.address, Generation::First, &from_the_cold_pool());
    assert_eq!(full.message, "Unavailable");
    assert!(destroy(daemon.address, &granted[0]).success);
    stat(daemon.address);
    let odd = ask(daemon.address, Generation::Second, &Request::bare("DANCE"));
    assert!(!odd.success);
    // Of a writer that is no more.
    let abandoned = home.simulated_state().join(".server.pem.4294967295.new");
    fs::write(&abandoned, "half a file").unwrap();
    run(&home, &["doctor", "--fix", "--only", "records"]);
    assert!(!abandoned.exists());

    for (start, result, count) in [
        ("warm", "bound", 3.0),
        ("cold", "bound", 1.0),
        ("rising", "bound", 0.0),
        ("none", "refused", 1.0),
        ("none", "failed", 0.0),
        ("none", "withdrawn", 0.0),
    ] {
        until_value(&daemon, "anweddol_claims_total", &[("start", start), ("result", result)], count);
    }
    until_value(&daemon, "anweddol_claims_ended_total", &[("reason", "released")], 1.0);
    // Three replace those that were taken, and one was made for its claim.
    until_value(&daemon, "anweddol_stage_duration_seconds_count", &[("stage", "boot")], 7.0);
    until_value(&daemon, "anweddol_pool_containers_bound", &[("pool", "default")], 2.0);
    for (start, count) in [("warm", 3.0), ("cold", 1.0)] {
        until_value(&daemon, "anweddol_claim_duration_seconds_count", &[("start", start)], count);
    }
    // Without addresses of their own.
    let stages =
        [("exchange", 8.0), ("queue", 4.0), ("bind", 4.0), ("ssh", 7.0), ("personalise", 7.0), ("address", 0.0)];
    for (stage, count) in stages {
        until_value(&daemon, "anweddol_stage_duration_seconds_count", &[("stage", stage)], count);
    }
    for (verb, outcome, count) in [
        ("CREATE", "ok", 4.0),
        ("CREATE", "unavailable", 1.0),
        ("DESTROY", "ok", 1.0),
        ("STAT", "ok", 1.0),
        ("other", "bad_request", 1.0),
    ] {
        let labels = [("transport", "wire"), ("verb", verb), ("outcome", outcome)];
        until_value(&daemon, "anweddol_requests_total", &labels, count);
    }
    for (call, count) in [("create", 7.0), ("destroy", 1.0)] {
        until_value(&daemon, "anweddol_hypervisor_call_duration_seconds_count", &[("call", call)], count);
    }
    // What is flushed is counted a moment before the commits.
    let (text, told, flushed) = until("as many commits as were flushed", || {
        let (_, text) = daemon.http("/metrics");
        let told = Exposition::parse(&text).unwrap();
        let commits = told.value("anweddol_store_commits_total", &[("result", "committed")]).unwrap();
        let flushed = told.value("anweddol_store_flush_transactions_sum", &[]).unwrap();
        (flushed > 20.0 && flushed <= commits).then_some((text, told, flushed))
    });
    let value = |name: &str, labels: &[(&str, &str)]| told.value(name, labels);
    assert_eq!(value("anweddol_claims_hit_ratio", &[]), Some(0.75));
    // One waits for its machine longer than the others for none.
    assert!(value("anweddol_claim_duration_seconds_sum", &[("start", "cold")]).unwrap() >= 0.01);
    let leaks = [("kind", "temporary file"), ("outcome", "removed")];
    assert_eq!(value("anweddol_leaks_total", &leaks), Some(1.0));
    assert_eq!(value("anweddol_pool_containers_max", &[("pool", "cold")]), Some(1.0));
    assert_eq!(value("anweddol_pool_replicas_desired", &[("pool", "default")]), Some(3.0));
    assert!(value("anweddol_passes_total", &[("kind", "claim"), ("result", "done")]).unwrap() > 0.0);
    assert!(value("anweddol_store_revision", &[]).unwrap() > flushed);
    assert_eq!((value("anweddol_ready", &[]), value("anweddol_hypervisor_reachable", &[])), (Some(1.0), Some(1.0)));
    assert_eq!(value("anweddol_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert!(value("process_resident_memory_bytes", &[]).unwrap() > 1e6);

    assert_eq!(told.lint(), [""; 0]);
    if let Some(wrong) = promtool(&text) {
        panic!("promtool: {wrong}");
    }
    what_is_written_for_grafana_and_prometheus_names_what_there_is(&told.names());
}

/// Whoever copies them sees no empty panel, and is alarmed.
fn what_is_written_for_grafana_and_prometheus_names_what_there_is(there: &BTreeSet<String>) {
    let read = |name: &str| fs::read_to_string(Path::new(EXAMPLES).join(name)).unwrap();
    let dashboard: Value = serde_json::from_str(&read("grafana/anweddol.json")).unwrap();
    let expressions: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(expressions.len() > 40, "the dashboard is read wrongly");
    let rules: serde_yaml::Value = serde_yaml::from_str(&read("prometheus/anweddol.rules.yaml")).unwrap();
    let rules = rules["groups"][0]["rules"].as_sequence().unwrap();
    let rules: Vec<&str> = rules.iter().map(|rule| rule["expr"].as_str().unwrap()).collect();
    let mut shown = BTreeSet::new();
    for expression in expressions.iter().chain(&rules) {
        for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
            // A recording rule's own name has colons.
            if word.starts_with("anweddol_") || word.starts_with("process_") {
                assert!(there.contains(word), "'{word}' in '{expression}' is not told");
                shown.insert(word.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum"));
            }
        }
    }
    // And all that is told is shown, but for what only another daemon's version has.
    let families =
        there.iter().map(|name| name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum"));
    let hidden: BTreeSet<&str> = families.filter(|name| !shown.contains(name)).collect();
    assert_eq!(hidden, BTreeSet::from(["process_start_time_seconds", "process_virtual_memory_bytes"]));
}

#[test]
fn openmetrics_is_told_to_who_asks_for_it_and_never_less() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("").start();
    let openmetrics = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    // The two write labels in another order, and what happens in between is in one of them alone.
    let series = |text: &str| {
        let mut series = BTreeMap::<String, usize>::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            *series.entry(line.split(['{', ' ']).next().unwrap().to_owned()).or_default() += 1;
        }
        series
    };
    until("both tell the same", || {
        let (head, open) = daemon.get("/metrics", openmetrics);
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        assert!(open.ends_with("# EOF\n") && open.matches("# EOF").count() == 1);
        let (head, text) = daemon.get("/metrics", "*/*");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        let (open, text) = (series(&open), series(&text));
        (text.len() > 40 && open == text).then_some(())
    });
}

/// A client that says nothing on the health port keeps nobody from asking.
#[test]
fn who_says_nothing_holds_up_no_scrape() {
    let dir = tempdir().unwrap();
    let daemon = Home::new(dir.path(), "").with_vectors_key().simulated("").start();
    let silent: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(daemon.health).unwrap()).collect();
    assert_eq!(scrape(&daemon).value("anweddol_ready", &[]), Some(1.0));
    assert_eq!(daemon.http("/healthz").0, 200);
    drop(silent);
}

#[test]
fn every_request_is_one_line_with_its_number_its_client_and_what_came_of_it() {
    let dir = tempdir().unwrap();
    let (home, daemon) = working(dir.path());
    let granted = grant(&create(daemon.address));
    let mut wrong = granted.clone();
    wrong.token = "x".repeat(255);
    assert!(!destroy(daemon.address, &wrong).success);
    assert!(!ask(daemon.address, Generation::First, &Request::bare("DANCE")).success);
    run(&home, &["get", "pools"]);
    let mut lines: Vec<Value> = daemon
        .stop()
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["target"] == "request")
        .map(|line| line["fields"].clone())
        .collect();
    // A client may ask again before the line about its last request is written.
    lines.sort_by_key(|line| line["id"].as_u64());
    let of = |transport: &str| -> Vec<[String; 2]> {
        let its = lines.iter().filter(|line| line["transport"] == transport);
        its.map(|line| ["verb", "outcome"].map(|field| line[field].as_str().unwrap().to_owned())).collect()
    };
    let wire = [["CREATE", "ok"], ["DESTROY", "bad_authentication"], ["DANCE", "bad_request"]];
    assert_eq!(of("wire"), wire.map(|pair| pair.map(str::to_owned)));
    let local = of("local");
    assert!(local.contains(&["list".into(), "200".into()]), "{local:?}");
    let numbers: BTreeSet<u64> = lines.iter().map(|line| line["id"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), lines.len(), "a number twice");
    for line in lines.iter().filter(|line| line["transport"] == "wire") {
        assert_eq!(line["client"].as_str().unwrap().len(), 7, "{line}");
        assert!(line["from"].as_str().unwrap().starts_with("127.0.0.1:") && line["milliseconds"].is_u64(), "{line}");
    }
}
