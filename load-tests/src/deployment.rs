//! What a run starts: a node, or several instances with all that they share, as an operator would set them up.

use std::sync::Arc;

use anyhow::Context;
use futures::future::{try_join, try_join_all};

use crate::{
    address::Address,
    api::Api,
    bench::Bench,
    check::{self, Check},
    client::Target,
    parts::{balancer, pgbouncer, postgres::Postgres, process::Server, redis, s3},
    plan::Part,
    server::{OwnServer, migrate, new_key},
};

/// What the instances share.
struct Shared {
    postgres: Postgres,
    pgbouncer: Server,
    redis: Server,
    s3: Server,
    balancer: Server,
}

/// The nodes of a run and what they use.
pub(crate) struct Deployment {
    nodes: Vec<OwnServer>,
    shared: Option<Shared>,
}

impl Deployment {
    /// Nothing: the node runs already.
    pub(crate) fn none() -> Self {
        Self { nodes: Vec::new(), shared: None }
    }

    /// A node with what the environment names, or with files of its own.
    pub(crate) async fn single(settings: Vec<(String, String)>) -> anyhow::Result<Self> {
        Ok(Self { nodes: vec![OwnServer::start(settings).await?], shared: None })
    }

    /// So many instances on a PostgreSQL behind PgBouncer, a Redis and an S3 of their own, with nginx before them.
    pub(crate) async fn scaled(instances: usize, settings: &[(String, String)]) -> anyhow::Result<Self> {
        let ((postgres, redis), (s3, storage)) =
            try_join(try_join(Postgres::start(&[]), redis::start()), s3::start()).await?;
        let (pgbouncer, database) = pgbouncer::start(&postgres).await?;
        migrate(&postgres.url).await?;
        let mut env = vec![
            ("DATABASE_URL".to_owned(), database),
            ("PENSTOCK_DATABASE__MIGRATE_AT_START".to_owned(), "false".to_owned()),
            ("REDIS_URL".to_owned(), format!("redis://{}", redis.address())),
            ("PENSTOCK_SERVER__TRUSTED_PROXIES".to_owned(), "127.0.0.0/8".to_owned()),
        ];
        env.extend(storage);
        env.extend(settings.iter().cloned());
        let key = new_key()?;
        let nodes = try_join_all((0..instances).map(|_| OwnServer::start_as(key.clone(), env.clone()))).await?;
        let addresses: Vec<Address> = nodes.iter().map(|node| node.address.clone()).collect();
        let balancer = balancer::start(&addresses).await?;
        Ok(Self { nodes, shared: Some(Shared { postgres, pgbouncer, redis, s3, balancer }) })
    }

    /// How scenarios reach it.
    pub(crate) async fn bench(&self) -> anyhow::Result<Bench> {
        let mut instances = Vec::new();
        for node in &self.nodes {
            instances.push(Arc::new(Api::new(Target::new(node.address.clone()).await?, node.key.clone())));
        }
        let first = instances.first().context("a deployment has a node")?;
        let api = match (&self.shared, self.nodes.first()) {
            (Some(shared), Some(node)) => {
                let front = format!("http://{}", shared.balancer.address()).parse()?;
                Arc::new(Api::new(Target::new(front).await?, node.key.clone()))
            }
            _ => first.clone(),
        };
        Ok(Bench { api, pids: self.pids(), instances })
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.pid).collect()
    }

    /// Ends a part, as a crash does. An instance is killed with SIGKILL.
    pub(crate) async fn stop(&mut self, part: Part, instance: usize) -> anyhow::Result<()> {
        if part == Part::Instance {
            return self.node(instance)?.kill().await;
        }
        // It waits for the end of the processes, a moment each.
        let server = self.server(part)?;
        tokio::task::block_in_place(|| server.stop());
        Ok(())
    }

    /// Starts it again, on its data and at its address.
    pub(crate) async fn start_again(&mut self, part: Part, instance: usize) -> anyhow::Result<()> {
        if part == Part::Instance { self.node(instance)?.start_again().await } else { self.server(part)?.boot().await }
    }

    /// A part stands still: its connections stay, and it does not answer.
    pub(crate) fn pause(&mut self, part: Part, instance: usize) -> anyhow::Result<()> {
        if part == Part::Instance {
            self.node(instance)?.pause()
        } else {
            self.server(part).map(|server| server.pause())
        }
    }

    pub(crate) fn resume(&mut self, part: Part, instance: usize) -> anyhow::Result<()> {
        if part == Part::Instance {
            self.node(instance)?.resume()
        } else {
            self.server(part).map(|server| server.resume())
        }
    }

    fn node(&mut self, instance: usize) -> anyhow::Result<&mut OwnServer> {
        let count = self.nodes.len();
        let node = instance.checked_sub(1).and_then(|at| self.nodes.get_mut(at));
        node.with_context(|| format!("there is no instance {instance}: the run has started {count}"))
    }

    fn server(&mut self, part: Part) -> anyhow::Result<&mut Server> {
        let shared = self.shared.as_mut().with_context(|| {
            format!(
                "the run has no {} of its own: start it with --scaled, or with `instances` in the scenario",
                part.name()
            )
        })?;
        Ok(match part {
            Part::Postgres => &mut shared.postgres.server,
            Part::Pgbouncer => &mut shared.pgbouncer,
            Part::Redis => &mut shared.redis,
            Part::S3 => &mut shared.s3,
            Part::Balancer => &mut shared.balancer,
            Part::Instance => anyhow::bail!("an instance is no server of this kind"),
        })
    }

    /// Ends the nodes as an operator does, one after the other, and says whether all ended well; `None` where none was started.
    pub(crate) async fn end(self) -> Option<Check> {
        let mut ended = Ok(());
        let count = self.nodes.len();
        for node in self.nodes {
            ended = ended.and(node.stop().await);
        }
        (count > 0).then(|| check::ended(&ended))
    }
}
