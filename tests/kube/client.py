"""What the Python client of Kubernetes does with pools; prints a line for each step."""

import sys
import threading

import yaml
from kubernetes import client, config, dynamic, watch

config.load_kube_config()
with open(sys.argv[1]) as file:
    pool = yaml.safe_load(file)
name = pool["metadata"]["name"]
api = client.CustomObjectsApi()
kind = ("anweddol.io", "v1alpha1", "default", "containerpools")

made = api.create_namespaced_custom_object(*kind, pool)
print("made", made["spec"]["replicas"])
resource = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="anweddol.io/v1alpha1", kind="ContainerPool")
if name in [item.metadata.name for item in resource.get(namespace="default").items]:
    print("found in discovery")

seen = []


def look():
    stream = watch.Watch()
    begin = made["metadata"]["resourceVersion"]
    for event in stream.stream(api.list_namespaced_custom_object, *kind, resource_version=begin, timeout_seconds=60):
        if event["object"]["metadata"]["name"] == name:
            seen.append(event["type"])
        if seen and seen[-1] == "DELETED":
            stream.stop()


looker = threading.Thread(target=look)
looker.start()
while True:
    now = api.get_namespaced_custom_object(*kind, name)
    now["spec"]["replicas"] = 2
    try:
        print("replaced", api.replace_namespaced_custom_object(*kind, name, now)["spec"]["replicas"])
        break
    except client.ApiException as error:
        # The operator was faster with its counters.
        if error.status != 409:
            raise
try:
    api.replace_namespaced_custom_object(*kind, name, made)
except client.ApiException as error:
    print("conflict", error.status)
print("patched", api.patch_namespaced_custom_object(*kind, name, {"spec": {"replicas": 0}})["spec"]["replicas"])
api.delete_namespaced_custom_object(*kind, name)
looker.join()
print("ended by", seen[-1])

leases = client.CoordinationV1Api()
lease = leases.create_namespaced_lease("default", {"metadata": {"name": "lead"}, "spec": {"holderIdentity": "a"}})
lease.spec.holder_identity = "b"
print("lease", leases.replace_namespaced_lease("lead", "default", lease).spec.holder_identity)
