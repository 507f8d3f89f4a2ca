"""The Helm chart: valid manifests for several values, those of deploy/kubernetes.yaml by default; wrong values are refused."""

import json
import pathlib
import subprocess
import tempfile

import kubernetes_validate
import yaml
from harness import ROOT, check

CHART = ROOT / "deploy/helm/streamgate"
# All that is off by default, on.
EVERYTHING = {
    "image": {"digest": "sha256:" + "1" * 64}, "imagePullSecrets": ["registry"], "env": [{"name": "NO_PROXY", "value": "10.0.0.0/8"}],
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"}, "tlsSecret": "certificate"},
    "autoscaling": {"enabled": True}, "podAnnotations": {"team": "chat"}, "podLabels": {"team": "chat"}, "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}], "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}},
    "volumes": [{"name": "prompts", "configMap": {"name": "prompts"}}], "volumeMounts": [{"name": "prompts", "mountPath": "/etc/prompts"}],
}
# No operators' listener, no secret, no policy.
LITTLE = {"config": {"server": {"admin": None, "admin_networks": None}}, "secret": "", "networkPolicy": {"enabled": False}}
WRONG = {
    "an unknown value": ({"replica": 1}, "replica"),
    "an unknown value inside": ({"image": {"version": "1"}}, "version"),
    "a digest that is none": ({"image": {"digest": "sha256:1"}}, "digest"),
    "a grace period shorter than a shutdown": ({"terminationGracePeriodSeconds": 83}, "up to 84 s"),
    "a drain longer than the grace period": ({"config": {"server": {"drain": "300s"}}}, "up to 324 s"),
    "a configuration without auth": ({"config": {"auth": None}}, "auth"),
}


def template(values: dict) -> subprocess.CompletedProcess:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        # The version is what a `helm` built without its release's flags would not know.
        return subprocess.run(["helm", "template", "streamgate", str(CHART), "--kube-version", "1.30.0", "--values", file.name],
                              capture_output=True, text=True, timeout=60)


def rendered(values: dict) -> dict:
    return {document["kind"]: document for document in yaml.safe_load_all(template(values).stdout) if document}


def same_as_manifest() -> None:
    """What is in both is the same, but for names of labels and the image's registry."""
    ours, chart = ({document["kind"]: document for document in documents} for documents in
                   (yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()), rendered({}).values()))
    check(ours.keys() == chart.keys(), "chart: by default, the kinds of deploy/kubernetes.yaml", ours.keys() ^ chart.keys())

    def comparable(documents: dict) -> dict:
        copy = json.loads(json.dumps(documents))
        pod = copy["Deployment"]["spec"]["template"]["spec"]
        for container in pod["containers"]:
            container["image"] = container["image"].rsplit("/", 1)[-1]
            container["imagePullPolicy"] = "IfNotPresent"
        copy["ConfigMap"]["data"]["streamgate.yaml"] = yaml.safe_load(copy["ConfigMap"]["data"]["streamgate.yaml"])
        copy["Service"]["spec"].setdefault("type", "ClusterIP")
        return json.loads(json.dumps(copy), object_pairs_hook=without_labels)

    def without_labels(pairs: list) -> dict:
        return {key: value for key, value in pairs if key not in ("labels", "matchLabels") and not (key == "selector" and "matchLabels" not in str(value))}

    left, right = comparable(ours), comparable(chart)
    different = [kind for kind in left if left[kind] != right.get(kind)]
    check(not different, "chart: by default, the manifests of deploy/kubernetes.yaml", [(left[kind], right.get(kind)) for kind in different])


def selectors(documents: dict) -> bool:
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    wanted = [documents["Deployment"]["spec"]["selector"]["matchLabels"], documents["Service"]["spec"]["selector"],
              documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]]
    wanted += [documents["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]] if "NetworkPolicy" in documents else []
    return all(selector and selector.items() <= labels.items() for selector in wanted)


def values() -> None:
    """The schema and values.yaml have the same keys, and every value has a comment above it or above its neighbours."""
    schema, given = json.loads((CHART / "values.schema.json").read_text()), yaml.safe_load((CHART / "values.yaml").read_text())
    different = (schema["properties"].keys() - {"global"}) ^ given.keys()
    for key, part in schema["properties"].items():
        if "properties" in part and key != "config":
            different |= {f"{key}.{name}" for name in part["properties"].keys() ^ given[key].keys()}
    check(not different, "chart: values.yaml and its schema have the same values", different)
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    unused = [key for key in given if f".Values.{key}" not in templates]
    check(not unused, "chart: every value is used", unused)


def examine(dist: pathlib.Path, build) -> None:
    lint = subprocess.run(["helm", "lint", "--strict", "--kube-version", "1.30.0", str(CHART)], capture_output=True, text=True, timeout=60)
    check(lint.returncode == 0, "chart: helm lint --strict", lint.stdout + lint.stderr)
    for name, given in (("the defaults", {}), ("everything on", EVERYTHING), ("little", LITTLE)):
        done = template(given)
        if not check(done.returncode == 0, f"chart: rendered with {name}", done.stderr):
            continue
        documents = rendered(given)
        for version in ("1.30", "1.37"):
            errors = []
            for kind, document in documents.items():
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    errors.append(f"{kind}: {error}")
            check(not errors and len(documents) >= 4, f"chart: with {name}, {len(documents)} kinds are valid in {version}", errors)
        check(selectors(documents), f"chart: with {name}, every selector finds the pods")
    everything, little = rendered(EVERYTHING), rendered(LITTLE)
    check({"Ingress", "HorizontalPodAutoscaler"} <= everything.keys() and "replicas" not in everything["Deployment"]["spec"],
          "chart: an autoscaler, and no number of replicas beside it", everything.keys())
    container = everything["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    check(container["image"].endswith("@" + EVERYTHING["image"]["digest"]), "chart: a digest replaces the tag", container["image"])
    pod = little["Deployment"]["spec"]["template"]
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    check(ports == ["http"] and "annotations" not in pod["metadata"] and [volume["name"] for volume in pod["spec"]["volumes"]] == ["config"],
          "chart: without server.admin and secret, no port and no volume for them", pod)
    secure = rendered({"config": {"server": {"tls": {"cert": "${file:/etc/streamgate-secrets/tls.crt}", "key": "${file:/etc/streamgate-secrets/tls.key}"}}}})
    probes = [secure["Deployment"]["spec"]["template"]["spec"]["containers"][0][f"{name}Probe"]["httpGet"]["scheme"] for name in ("readiness", "liveness")]
    check(probes == ["HTTPS", "HTTPS"], "chart: with server.tls the probes use HTTPS", probes)
    for what, (given, word) in WRONG.items():
        done = template(given)
        check(done.returncode != 0 and word in done.stderr, f"chart: {what} is refused", done.stderr)
    same_as_manifest()
    values()
    made = build("chart", dist=dist)
    check(made.returncode == 0 and list(dist.glob("streamgate-chart-*.tgz")), "chart: packaged", made.stdout + made.stderr)


def configuration(program: pathlib.Path) -> None:
    """The program accepts what the chart mounts."""
    with tempfile.TemporaryDirectory() as folder:
        secret, file = pathlib.Path(folder) / "OPENAI_API_KEY", pathlib.Path(folder) / "streamgate.yaml"
        secret.write_text("sk-from-a-mounted-file")
        file.write_text(rendered({})["ConfigMap"]["data"]["streamgate.yaml"].replace("/etc/streamgate-secrets/OPENAI_API_KEY", str(secret)))
        done = subprocess.run([str(program), "check", "--config", str(file)], capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, "chart: its configuration is valid", done.stdout + done.stderr)
