//! The manifests in `deploy/kubernetes` have the form that Kubernetes wants, and agree with each other, with the image and with the
//! node.

use std::{fs, path::Path, process::Command, time::Duration};

use penstock::config::{Config, Sources};
use serde_json::{Value, json};

use crate::{
    dockerfile::{Dockerfile, ROOT},
    node::{On, TestNode},
};

/// The oldest version with all that the manifests use, and a recent one.
const VERSIONS: [&str; 2] = ["1.27", "1.35"];

fn checked(version: &str, files: &[&str]) -> Vec<Value> {
    let package = std::env::var("PENSTOCK_TEST_KUBERNETES").expect("PENSTOCK_TEST_KUBERNETES is not set: run ./test");
    let run = Command::new("python3")
        .arg(Path::new(ROOT).join("tests/packages/kubernetes.py"))
        .args([&package, version])
        .args(files.iter().map(|file| Path::new(ROOT).join("deploy/kubernetes").join(file)))
        .output()
        .expect("python3 is installed by ./test");
    assert!(run.status.success(), "{version}: {}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("JSON")
}

/// The documents of the manifests by their kinds.
struct Manifests(Vec<Value>);

impl Manifests {
    fn read() -> Self {
        Self(checked(VERSIONS[0], &["penstock.yaml", "autoscaling.yaml"]))
    }

    fn of(&self, kind: &str) -> &Value {
        self.0.iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("there is a {kind}"))
    }

    fn pod(&self) -> &Value {
        &self.of("StatefulSet")["spec"]["template"]["spec"]
    }

    fn config(&self) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), self.of("ConfigMap")["data"]["penstock.toml"].as_str().unwrap()).unwrap();
        let secrets = [
            ("DATABASE_URL", "postgres://db/penstock"),
            ("PENSTOCK_ADMIN_KEY", "key"),
            ("S3_ACCESS_KEY", "key"),
            ("S3_SECRET_KEY", "key"),
            ("REDIS_URL", "redis://redis"),
            // Of the image.
            ("PENSTOCK_BIND", "0.0.0.0:8080"),
            ("PENSTOCK_DATA_DIR", "/data"),
        ];
        let env = secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Config::load(&Sources { file: Some(file.path().to_owned()), env, ..Sources::default() }).unwrap()
    }
}

#[test]
fn kubernetes_takes_the_manifests() {
    for version in VERSIONS {
        let kinds: Vec<_> = checked(version, &["penstock.yaml", "autoscaling.yaml"])
            .iter()
            .map(|document| document["kind"].as_str().unwrap().to_owned())
            .collect();
        let expected =
            ["ConfigMap", "Service", "Service", "StatefulSet", "PodDisruptionBudget", "HorizontalPodAutoscaler"];
        assert_eq!(kinds, expected);
    }
}

#[test]
fn every_selector_finds_the_pods_and_every_name_that_is_used_exists() {
    let manifests = Manifests::read();
    let set = &manifests.of("StatefulSet")["spec"];
    let labels = &set["template"]["metadata"]["labels"];
    assert_eq!(set["selector"]["matchLabels"], *labels);
    assert_eq!(manifests.of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], *labels);
    let services: Vec<_> = manifests.0.iter().filter(|document| document["kind"] == "Service").collect();
    for service in &services {
        assert_eq!(service["spec"]["selector"], *labels);
        assert_eq!(
            service["spec"]["ports"][0]["targetPort"],
            set["template"]["spec"]["containers"][0]["ports"][0]["name"]
        );
    }
    assert!(services.iter().any(|service| service["metadata"]["name"] == set["serviceName"]));
    let target = &manifests.of("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"];
    assert_eq!(
        (&target["kind"], &target["name"]),
        (&json!("StatefulSet"), &manifests.of("StatefulSet")["metadata"]["name"])
    );
    assert_eq!(set["replicas"], Value::Null, "the autoscaler alone sets the number");
    assert_eq!(manifests.pod()["volumes"][0]["configMap"]["name"], manifests.of("ConfigMap")["metadata"]["name"]);
}

#[test]
fn the_pod_is_what_the_image_is() {
    let (manifests, dockerfile) = (Manifests::read(), Dockerfile::read());
    let pod = manifests.pod();
    let container = &pod["containers"][0];
    let user = format!("{}:{}", pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]);
    assert_eq!(dockerfile.user(), user);
    assert_eq!(pod["securityContext"]["fsGroup"], pod["securityContext"]["runAsGroup"]);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["volumeMounts"][0]["mountPath"].as_str().unwrap(), dockerfile.volume());
    assert_eq!(container["ports"][0]["containerPort"].to_string(), dockerfile.port());
    assert_eq!(container["args"][0], "serve");
}

#[test]
fn the_configuration_is_valid_and_its_stop_fits_in_the_time_that_kubernetes_gives() {
    let manifests = Manifests::read();
    let server = manifests.config().server;
    assert!(server.drain_notice > Duration::ZERO, "endpoints lose an instance some time after its stop began");
    let stop = server.drain_notice + Duration::from_millis(500) + server.drain_grace + server.drain_settle;
    let given = Duration::from_secs(manifests.pod()["terminationGracePeriodSeconds"].as_u64().unwrap());
    assert!(stop + Duration::from_secs(1) <= given, "{stop:?} of {given:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_answers_the_probes_and_has_the_metric_that_instances_are_scaled_by() {
    let manifests = Manifests::read();
    let container = &manifests.pod()["containers"][0];
    let mut node = TestNode::start(On::Sqlite).await;
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        assert_eq!(node.get(path).send().await.unwrap().status(), 200, "{path}");
    }
    let annotations = &manifests.of("StatefulSet")["spec"]["template"]["metadata"]["annotations"];
    let page = node.get(annotations["prometheus.io/path"].as_str().unwrap()).send().await.unwrap();
    let page = page.text().await.unwrap();
    let metric = &manifests.of("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"];
    let metric = metric.as_str().unwrap();
    assert!(page.lines().any(|line| line.starts_with(&format!("{metric} "))), "{metric} is in /metrics");
    let adapter = fs::read_to_string(Path::new(ROOT).join("deploy/kubernetes/prometheus-adapter.yaml")).unwrap();
    assert!(adapter.contains(&format!("'{metric}{{")), "the adapter has {metric}");
    node.finish().await;
}
