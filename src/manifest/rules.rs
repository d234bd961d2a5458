//! What types cannot say: the sizes and combinations that can be. The same for manifests, for the API, and for the
//! daemon's own configuration.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{Fault, FaultKind, Spec};
use crate::model::{
    ClaimSpec, Egress, Image, Lifetime, Memory, Network, OwnerReference, PoolSpec, ReadinessProbe, Template, valid_name,
};
use crate::plan::owners::{FOREGROUND, ORPHAN};
use crate::plan::{lifetime, public_key};

/// No guest boots in less.
pub const LEAST_MEMORY: Memory = Memory::mebibytes(64);
/// What libvirt and QEMU take without a topology of their own.
pub const VCPUS: RangeInclusive<u32> = 1..=256;
/// Less no guest makes; more is a guest that does not boot.
pub const BOOT_DEADLINE_SECONDS: RangeInclusive<u32> = 5..=3600;
/// A member is asked at least once an hour.
const PROBE_PERIOD_SECONDS: RangeInclusive<u32> = 1..=3600;
/// Two members are waited for at once: one that is silent keeps others waiting so long.
const PROBE_TIMEOUT_SECONDS: RangeInclusive<u32> = 1..=60;
/// More would be a member that is never replaced.
const PROBE_FAILURES: RangeInclusive<u32> = 1..=100;
/// The kernel's limit for its command line, on x86.
const LONGEST_CMDLINE: usize = 2047;
/// The longest path of the kernel.
const LONGEST_PATH: usize = 4095;
/// The longest name and value of a label, as in Kubernetes.
const LONGEST_LABEL: usize = 63;
/// The longest prefix of a label's or an annotation's name, as in Kubernetes.
const LONGEST_PREFIX: usize = 253;
/// All annotations of an object together, as in Kubernetes.
const LONGEST_ANNOTATIONS: usize = 256 << 10;
/// Waits are a matter of an hour, not of days.
const LONGEST_DEBOUNCE: u32 = 3_600_000;

/// What is wrong with a spec.
pub fn check(spec: &Spec) -> Vec<Fault> {
    match spec {
        Spec::Pool(spec) => pool(spec),
        Spec::Container(spec) => template(spec, "spec.template"),
        Spec::Claim(spec) => claim(spec),
    }
}

/// Collects faults below a path.
struct Faults<'a> {
    path: &'a str,
    faults: Vec<Fault>,
}

impl Faults<'_> {
    fn unless(&mut self, good: bool, field: &str, message: impl Into<String>) {
        if !good {
            self.faults.push(Fault::new(format!("{}.{field}", self.path), message));
        }
    }
}

/// What is wrong with a pool.
pub fn pool(spec: &PoolSpec) -> Vec<Fault> {
    let mut f = Faults { path: "spec", faults: Vec::new() };
    let (replicas, most) = (spec.replicas, spec.max_containers);
    f.unless(most >= 1, "maxContainers", "it is 0: nobody could ever get a container; write at least 1");
    f.unless(replicas <= most, "replicas", format!("{replicas} are more than spec.maxContainers, {most}: lower it"));
    f.unless(spec.update_strategy.max_unavailable >= 1, "updateStrategy.maxUnavailable", "write at least 1");
    f.unless(
        spec.refill.max_starting >= 1,
        "refill.maxStarting",
        "it is 0: no member would ever boot; write at least 1",
    );
    let debounce = spec.refill.debounce_milliseconds;
    f.unless(debounce <= LONGEST_DEBOUNCE, "refill.debounceMilliseconds", format!("write at most {LONGEST_DEBOUNCE}"));
    f.unless(
        spec.refill.per_minute != Some(0),
        "refill.perMinute",
        "it is 0: no member would ever boot; leave it out for any number",
    );
    f.unless(spec.progress_deadline_seconds >= 1, "progressDeadlineSeconds", "write at least 1");
    let mut faults = f.faults;
    faults.extend(template(&spec.template, "spec.template"));
    faults
}

/// What is wrong with a template, which stands at this path.
pub fn template(template: &Template, path: &str) -> Vec<Fault> {
    let mut f = Faults { path, faults: Vec::new() };
    let least = LEAST_MEMORY;
    f.unless(
        template.memory >= least,
        "memory",
        format!("{} is too little: no guest boots in less than {least}", template.memory),
    );
    let (first, last) = (VCPUS.start(), VCPUS.end());
    f.unless(VCPUS.contains(&template.vcpus), "vcpus", format!("write {first} to {last}"));
    let (first, last) = (BOOT_DEADLINE_SECONDS.start(), BOOT_DEADLINE_SECONDS.end());
    let deadline = template.boot_deadline_seconds;
    f.unless(
        BOOT_DEADLINE_SECONDS.contains(&deadline),
        "bootDeadlineSeconds",
        format!("write {first} to {last} seconds"),
    );
    match &template.image {
        Image::Iso(file) => absolute(&mut f, "image.iso", file),
        Image::Disk { path: file, .. } => absolute(&mut f, "image.disk.path", file),
        Image::Kernel { path: file, initrd, cmdline } => {
            absolute(&mut f, "image.kernel.path", file);
            absolute(&mut f, "image.kernel.initrd", initrd);
            let good = cmdline.len() <= LONGEST_CMDLINE && !cmdline.chars().any(char::is_control);
            f.unless(good, "image.kernel.cmdline", format!("write one line of at most {LONGEST_CMDLINE} bytes"));
        }
    }
    let outside = template.network.mode == Network::User && template.network.egress == Egress::Internet;
    f.unless(
        !outside,
        "network.egress",
        "'internet' needs a NAT network, and network.mode is 'user': write 'none' or 'all', or the mode 'nat'",
    );
    limits(&mut f, &template.lifetime);
    readiness_probe(&mut f, template.readiness_probe);
    f.faults
}

fn absolute(f: &mut Faults<'_>, field: &str, file: &Path) {
    let bytes = file.as_os_str().as_encoded_bytes();
    f.unless(
        file.is_absolute(),
        field,
        format!("'{}' is relative, but the daemon has no current directory: begin it with '/'", file.display()),
    );
    let good = bytes.len() <= LONGEST_PATH && !bytes.iter().any(u8::is_ascii_control);
    f.unless(good, field, format!("write a path of at most {LONGEST_PATH} bytes, without control characters"));
}

fn limits(f: &mut Faults<'_>, lifetime: &Lifetime) {
    let Lifetime { ttl_seconds, max_ttl_seconds, idle_timeout_seconds, max_ready_seconds } = *lifetime;
    for (field, seconds) in [
        ("lifetime.ttlSeconds", ttl_seconds),
        ("lifetime.maxTtlSeconds", max_ttl_seconds),
        ("lifetime.idleTimeoutSeconds", idle_timeout_seconds),
        ("lifetime.maxReadySeconds", max_ready_seconds),
    ] {
        f.unless(seconds != Some(0), field, "it is 0: no machine could be used; leave it out for no limit");
    }
    if let (Some(ttl), Some(most)) = (ttl_seconds, max_ttl_seconds) {
        f.unless(
            ttl <= most,
            "lifetime.ttlSeconds",
            format!("{ttl} are more than lifetime.maxTtlSeconds, {most}: lower it"),
        );
    }
}

fn readiness_probe(f: &mut Faults<'_>, probe: ReadinessProbe) {
    let ReadinessProbe { period_seconds, timeout_seconds, failure_threshold } = probe;
    for (field, value, range, unit) in [
        ("readinessProbe.periodSeconds", period_seconds, PROBE_PERIOD_SECONDS, " seconds"),
        ("readinessProbe.timeoutSeconds", timeout_seconds, PROBE_TIMEOUT_SECONDS, " seconds"),
        ("readinessProbe.failureThreshold", failure_threshold, PROBE_FAILURES, ""),
    ] {
        let (first, last) = (range.start(), range.end());
        f.unless(range.contains(&value), field, format!("write {first} to {last}{unit}"));
    }
}

/// What is wrong with a claim by itself; [`claim_in`] tells what its pool does not allow.
pub fn claim(spec: &ClaimSpec) -> Vec<Fault> {
    let mut f = Faults { path: "spec", faults: Vec::new() };
    if let Err(error) = valid_name(&spec.pool) {
        f.unless(false, "pool", error.to_string());
    }
    f.unless(spec.ttl_seconds != Some(0), "ttlSeconds", "it is 0; leave it out for what the pool's template says");
    f.unless(spec.timeout_seconds != Some(0), "timeoutSeconds", "it is 0; leave it out to wait as long as it takes");
    if let Some(Err(error)) = spec.ssh_public_key.as_deref().map(public_key::read) {
        f.unless(false, "sshPublicKey", format!("{error}; write the line of a file like ~/.ssh/id_ed25519.pub"));
    }
    // They are no fields of a manifest; whoever builds a spec in code may not set them either.
    let plain = spec.token_sha256.is_none() && spec.access_token.is_none() && spec.origin.is_object();
    f.unless(plain, "origin", "it is the daemon's own to write");
    f.faults
}

/// What is wrong with a claim on a machine of this template.
pub fn claim_in(spec: &ClaimSpec, template: &Template) -> Vec<Fault> {
    let (asked, pool) = (spec.ttl_seconds.unwrap_or_default(), &spec.pool);
    let fault = |most| {
        Fault::new("spec.ttlSeconds", format!("{asked} are more than pool '{pool}' allows: write at most {most}"))
    };
    lifetime::allowed(&template.lifetime, spec.ttl_seconds).err().map(fault).into_iter().collect()
}

/// What is wrong with labels.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> Vec<Fault> {
    let mut faults = keys("labels", labels);
    for (key, value) in labels.iter().filter(|(_, value)| !value.is_empty() && !plain(value)) {
        let right = format!(
            "'{value}' is no value of a label: write at most {LONGEST_LABEL} letters, digits, '-', '_' and '.', with a letter or digit at both ends"
        );
        faults.push(Fault::new(format!("metadata.labels[{key}]"), right));
    }
    faults
}

/// What is wrong with annotations.
pub(crate) fn annotations(annotations: &BTreeMap<String, String>) -> Vec<Fault> {
    let mut faults = keys("annotations", annotations);
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > LONGEST_ANNOTATIONS {
        faults.push(Fault::new(
            "metadata.annotations",
            format!("they have {size} bytes: write at most {LONGEST_ANNOTATIONS}"),
        ));
    }
    faults
}

/// What is wrong with finalizers.
pub(super) fn finalizers(finalizers: &[String]) -> Vec<Fault> {
    let own = |name: &str| name == ORPHAN || name == FOREGROUND || (name.contains('/') && label_key(name));
    let mut faults = Vec::new();
    for (index, name) in finalizers.iter().enumerate().filter(|(_, name)| !own(name)) {
        let right = format!("'{name}' is no name of a finalizer: write it as example.org/name");
        faults.push(Fault::new(format!("metadata.finalizers[{index}]"), right));
    }
    faults
}

/// What is wrong with references to owners.
pub(super) fn owner_references(owners: &[OwnerReference]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, owner) in owners.iter().enumerate() {
        let texts =
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)];
        for (field, _) in texts.into_iter().filter(|(_, text)| text.is_empty()) {
            let fault = Fault::new(format!("metadata.ownerReferences[{index}].{field}"), "it is empty: name the owner");
            faults.push(fault.of(FaultKind::Required));
        }
    }
    if owners.iter().filter(|owner| owner.controller == Some(true)).count() > 1 {
        faults.push(Fault::new("metadata.ownerReferences", "at most one owner can be the controller"));
    }
    faults
}

fn keys(field: &str, map: &BTreeMap<String, String>) -> Vec<Fault> {
    let label = |key: &&String| !label_key(key);
    let right = format!(
        "it is no name of a label: write at most {LONGEST_LABEL} letters, digits, '-', '_' and '.', after a prefix like example.org/ if you want"
    );
    map.keys().filter(label).map(|key| Fault::new(format!("metadata.{field}[{key}]"), right.clone())).collect()
}

/// Whether this can be a label's name: `name` or `example.org/name`.
pub(super) fn label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let domain =
        |prefix: &str| prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(|part| valid_name(part).is_ok());
    plain(name) && prefix.is_none_or(domain)
}

fn plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inside = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    bytes.len() <= LONGEST_LABEL && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inside)
}
