//! `docker-compose.yml` has the form that Compose wants, and says which secrets are missing.

use std::process::{Command, Output};

const SECRETS: [&str; 4] = ["PENSTOCK_ADMIN_KEY", "PG_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"];

fn config(secrets: &[&str]) -> Output {
    let mut command = Command::new("docker-compose");
    command.args(["-f", concat!(env!("CARGO_MANIFEST_DIR"), "/docker-compose.yml"), "config"]);
    for name in SECRETS {
        command.env_remove(name);
    }
    command.envs(secrets.iter().map(|name| (*name, "text")));
    command.output().expect("docker-compose is installed by ./test (on Debian: apt-get install docker-compose)")
}

#[test]
fn compose_takes_the_file() {
    let answer = config(&SECRETS);
    let told = String::from_utf8_lossy(&answer.stdout);
    assert!(answer.status.success(), "{told}{}", String::from_utf8_lossy(&answer.stderr));
    for service in
        ["penstock-1:", "penstock-2:", "penstock-3:", "pgbouncer:", "postgres:", "redis-6:", "s3:", "balancer:"]
    {
        assert!(told.contains(service), "{service} is in {told}");
    }
    assert_eq!(
        told.matches("published").count() + told.matches("8080:80").count(),
        1,
        "only the balancer is published"
    );
}

#[test]
fn a_secret_that_is_missing_is_named() {
    for missing in SECRETS {
        let others: Vec<_> = SECRETS.into_iter().filter(|name| *name != missing).collect();
        let answer = config(&others);
        assert!(!answer.status.success());
        assert!(String::from_utf8_lossy(&answer.stderr).contains(missing), "{missing}");
    }
}
